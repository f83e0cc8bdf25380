"""
A forward at work: a listening socket whose traffic goes through channels.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger

from resip.carriers.channels import ChannelOpener
from resip.core.errors import ResipError
from resip.core.types import Protocol
from resip.tunnel.datagram import MAX_DATAGRAM_SIZE
from resip.tunnel.datagram_listener import DatagramListener
from resip.tunnel.dialing import Dialer
from resip.tunnel.hosts import host_and_port
from resip.tunnel.reactor import ITunnelReactor
from resip.tunnel.specification import ALL_INTERFACES, Forward
from resip.tunnel.stream_listener import StreamListener

#: Connections that may wait to be accepted.
BACKLOG = 128

# An IPv6 socket on all interfaces takes IPv4 too (RFC 3493 section 3.7); a machine without
# IPv6 has only the other.
_ALL_INTERFACES = ("::", "0.0.0.0")

_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class ListenError(ResipError):
    """
    A forward cannot listen where it was told to. The message names cause and cure.
    """


class ForwardService(Service):
    """
    Listens as one :class:`~resip.tunnel.specification.Forward` says while it runs.

    :param reactor: listens and resolves.
    :param forward: where to listen and where to lead.
    :param opener: the session that carries the channels.
    :param compress: ask for compressed channels.
    :param clock: runs the timeouts of UDP; the reactor when not given.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: ITunnelReactor,
        forward: Forward,
        opener: ChannelOpener,
        *,
        compress: bool = False,
        clock: IReactorTime | None = None,
    ) -> None:
        self._reactor = reactor
        self._forward = forward
        self._port: IListeningPort | None = None
        dialer = Dialer(reactor, opener, forward.target, compress=compress)
        self._listener: StreamListener | DatagramListener
        if forward.protocol is Protocol.UDP:
            self._listener = DatagramListener(dialer, reactor if clock is None else clock)
        else:
            self._listener = StreamListener(dialer)

    @property
    def forward(self) -> Forward:
        """
        What it was told to do.
        """
        return self._forward

    @property
    def ports(self) -> tuple[tuple[str, int], ...]:
        """
        The addresses and real port numbers it listens on; none while it does not run.
        """
        if self._port is None:
            return ()
        address = cast(IPv4Address | IPv6Address, self._port.getHost())
        return ((address.host, address.port),)

    @property
    def connections(self) -> int:
        """
        How many local connections, or UDP peers, it serves now.
        """
        if isinstance(self._listener, StreamListener):
            return self._listener.connections
        return self._listener.peers

    @property
    def dropped_datagrams(self) -> int:
        """
        How many datagrams of programs found no room; always 0 for TCP.
        """
        return 0 if isinstance(self._listener, StreamListener) else self._listener.dropped

    def privilegedStartService(self) -> None:
        """
        Listen while the process still may use ports below 1024.

        :raises ListenError: when the system does not let it.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._listen()

    def startService(self) -> None:
        """
        Listen, unless it does already.

        :raises ListenError: when the system does not let it.
        """
        if self._port is None:
            self._listen()
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """
        Stop listening and reset what is connected.

        :return: fires when every socket is closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        await self._listener.stop()

    def _listen(self) -> None:
        bind = self._forward.bind
        self._port = self._listen_on(_ALL_INTERFACES if bind == ALL_INTERFACES else (bind,))
        host, port = self.ports[0]
        self._log.info(
            "{listening} -> {target}",
            listening=host_and_port(host, port),
            target=str(self._forward.target),
        )

    def _listen_on(self, interfaces: Sequence[str]) -> IListeningPort:
        for interface in interfaces:
            try:
                return self._open_port(interface)
            except (CannotListenError, OSError) as error:
                cause = error.socketError if isinstance(error, CannotListenError) else error
                if interface == interfaces[-1] or cause.errno not in _NO_SUCH_FAMILY:
                    raise ListenError(_explain(self._forward, cause)) from None
        raise AssertionError("no interface to listen on")

    def _open_port(self, interface: str) -> IListeningPort:
        if isinstance(self._listener, StreamListener):
            return self._reactor.listenTCP(
                self._forward.port, self._listener, backlog=BACKLOG, interface=interface
            )
        return self._reactor.listenUDP(
            self._forward.port,
            self._listener,
            interface=interface,
            maxPacketSize=MAX_DATAGRAM_SIZE,
        )


def _explain(forward: Forward, error: OSError) -> str:
    """
    Cause and cure.
    """
    port, bind = forward.port, forward.bind
    if error.errno == errno.EADDRINUSE:
        reason = f"port {port} is taken; stop the program that has it, or choose another port"
    elif error.errno in (errno.EACCES, errno.EPERM):
        reason = f"this user may not use port {port}; choose one from 1024 up, or start as root"
    elif error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        reason = f"this machine has no address {bind}; use 127.0.0.1, or * for all interfaces"
    else:
        reason = error.strerror or str(error)
    return f"cannot listen on {host_and_port(bind, port)} ({forward}): {reason}"
