"""
The server's sockets: HTTPS on one port, UDP and TCP together on another.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTCP, IReactorUDP
from twisted.internet.protocol import DatagramProtocol

from resip.carriers.udp_socket import listen_udp
from resip.services.errors import ServiceError

#: Where Linux says whether a socket on ``::`` leaves IPv4 alone (RFC 3493 section 5.3).
IPV6_ONLY_SWITCH = FilePath("/proc/sys/net/ipv6/bindv6only")
#: UDP and TCP on one number that the system chooses: the number that it gives for TCP may be
#: taken for UDP. So many tries fail together only on a machine without free ports.
PORT_TRIES = 32
BACKLOG = 512

_Open = Callable[[str, int], IListeningPort]
#: A protocol factory for connections; Twisted's own annotations disagree about their type.
StreamFactory = Any


class ISocketReactor(IReactorTCP, IReactorUDP):
    """
    What listening needs of a reactor.
    """


def default_addresses(switch: FilePath = IPV6_ONLY_SWITCH) -> tuple[tuple[str, ...], ...]:
    """
    The sets of addresses to try, in order, when none is configured.

    One socket on ``::`` takes IPv6 and IPv4, where the system lets it.
    """
    try:
        is_ipv6_only = switch.read_text().strip() == "1"
    except OSError:
        is_ipv6_only = False
    both = ("::", "0.0.0.0") if is_ipv6_only else ("::",)
    return (both, ("0.0.0.0",))


class Listeners:
    """
    Opens sockets and closes them again.

    :param addresses: where to listen; empty means everywhere.
    """

    def __init__(self, reactor: ISocketReactor, addresses: tuple[str, ...] = ()) -> None:
        self._reactor = reactor
        self._choices = (addresses,) if addresses else default_addresses()
        self._ports: list[IListeningPort] = []

    @property
    def ports(self) -> list[IListeningPort]:
        """
        What was opened.
        """
        return list(self._ports)

    def listen_tcp(self, port: int, factory: StreamFactory, option: str) -> int:
        """
        Listen for connections.

        :param port: 0 lets the system choose.
        :param option: the option that sets the port, for the message.
        :return: the port number.
        :raises ServiceError: when the port is not to be had.
        """
        return self._listen(port, [partial(self._open_tcp, factory)], option)

    def listen_udp(
        self, port: int, make_datagram_protocol: Callable[[], DatagramProtocol], option: str
    ) -> int:
        """
        Listen for datagrams; see :meth:`listen_both`.
        """
        return self._listen(port, [partial(self._open_udp, make_datagram_protocol)], option)

    def listen_both(
        self,
        port: int,
        make_datagram_protocol: Callable[[], DatagramProtocol],
        factory: StreamFactory,
        option: str,
    ) -> int:
        """
        Listen on UDP and TCP under one number; see :meth:`listen_tcp`.

        :param make_datagram_protocol: called for each socket, since one serves one.
        """
        kinds = [partial(self._open_tcp, factory), partial(self._open_udp, make_datagram_protocol)]
        return self._listen(port, kinds, option)

    def close(self) -> Deferred[None]:
        """
        Close all; fires when it is done.
        """
        closing = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports.clear()
        return gatherResults(closing).addCallback(lambda _: None)

    def _open_tcp(self, factory: StreamFactory, address: str, port: int) -> IListeningPort:
        return self._reactor.listenTCP(port, factory, backlog=BACKLOG, interface=address)

    def _open_udp(
        self, make_protocol: Callable[[], DatagramProtocol], address: str, port: int
    ) -> IListeningPort:
        return listen_udp(self._reactor, port, make_protocol(), address)

    def _listen(self, port: int, kinds: Sequence[_Open], option: str) -> int:
        tries = 1 if port else PORT_TRIES
        failures: list[CannotListenError] = []
        for addresses in self._choices:
            for _ in range(tries):
                opened: list[IListeningPort] = []
                try:
                    return self._listen_on(addresses, port, kinds, opened)
                except CannotListenError as error:
                    failures.append(error)
                    for listening in opened:
                        listening.stopListening()
                if _error_number(failures[-1]) != errno.EADDRINUSE:
                    break
            if _error_number(failures[-1]) not in _NO_SUCH_ADDRESS:
                break
        raise ServiceError(_explain(failures[-1], option))

    def _listen_on(
        self,
        addresses: tuple[str, ...],
        port: int,
        kinds: Sequence[_Open],
        opened: list[IListeningPort],
    ) -> int:
        for address in addresses:
            for listen in kinds:
                listening = listen(address, port)
                opened.append(listening)
                address_in_use = listening.getHost()
                assert isinstance(address_in_use, IPv4Address | IPv6Address)
                port = address_in_use.port
        self._ports += opened
        return port


def _error_number(error: CannotListenError) -> int | None:
    number = getattr(error.socketError, "errno", None)
    return number if isinstance(number, int) else None


_NO_SUCH_ADDRESS = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _explain(error: CannotListenError, option: str) -> str:
    host = error.interface or "any address"
    where = f"port {error.port} on {host}"
    match _error_number(error):
        case errno.EADDRINUSE:
            return (
                f"{where} is taken: stop the program that listens there (ss -lntup shows it), "
                f"or choose another with {option}; 0 takes any"
            )
        case errno.EACCES:
            return f"{where} needs privileges: use {option} with 1024 or more, or start as root"
        case errno.EADDRNOTAVAIL:
            return (
                f"{host} is not an address of this machine: correct --listen (ip addr shows them)"
            )
        case _:
            return f"cannot listen on {where}: {error.socketError}; see --listen and {option}"
