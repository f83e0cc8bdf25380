"""
The client's ways to its server: each keeps one carrier going for as long as a session lives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from resip.carriers import tcp, udp
from resip.carriers.framing import Framing
from resip.carriers.interfaces import Carrier
from resip.carriers.tcp import TCPCarrier, redialling_service
from resip.carriers.udp import UDPCarrier
from resip.carriers.udp_socket import listen_udp
from resip.core.types import Path
from resip.tunnel.hosts import IPAddress
from resip.tunnel.resolution import ResolutionError, resolve


class LinkUser(Protocol):
    """
    Hears what a link offers, and decides what it is used for.
    """

    def path_open(self, path: Path, carrier: Carrier) -> None:
        """
        Packets may go by ``path``, which is one of ``carrier``'s. Told once for each path, and
        again after :meth:`path_closed`; the ones told first are to be preferred.
        """

    def path_closed(self, path: Path) -> None:
        """
        No packet goes by ``path`` any more. What was inside is lost.
        """

    def path_writable(self, path: Path) -> None:
        """
        A path that was full takes more.
        """

    def preamble(self, path: Path) -> bytes:
        """
        What a connection begins with, so that the server knows whose it is (M-47). Ask anew for
        each connection, after :meth:`path_closed` for the one before.
        """

    def receive_datagrams(self, packets: Sequence[bytes], path: Path) -> bool:
        """
        Packets arrived; returns whether any was authentic.
        """


class Link(Protocol):
    """
    One kind of carrier to one server. It offers paths and never chooses among them.
    """

    def start(self, user: LinkUser) -> None:
        """
        Find paths to the server and tell ``user``, from now on.
        """

    def renew(self) -> None:
        """
        The server does not answer: look it up again, and dial again what was dialled.
        """

    def stop(self) -> Deferred[None]:
        """
        Close every socket, and tell nobody; fires when it is done.
        """


class UDPLink:
    """
    A UDP socket for each family of the server's addresses, and a path for each address.
    """

    _log = Logger()

    def __init__(self, reactor: Any, host: str, port: int, *, is_quiet: bool = False) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._user: LinkUser | None = None
        self._paths: list[Path] = []
        self._sockets: dict[int, tuple[IListeningPort, UDPCarrier]] = {}
        self._resolving: Deferred[None] | None = None
        self._is_quiet = is_quiet
        self._trouble = ""

    def start(self, user: LinkUser) -> None:
        """
        See :class:`Link`.
        """
        self._user = user
        self._resolve()

    def renew(self) -> None:
        """
        See :class:`Link`.
        """
        if self._user is not None:
            self._resolve()

    def stop(self) -> Deferred[None]:
        """
        See :class:`Link`.
        """
        self._user = None
        if self._resolving is not None:
            self._resolving.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        while self._sockets:
            _, (listening, _carrier) = self._sockets.popitem()
            await maybeDeferred(listening.stopListening)

    def _resolve(self) -> None:
        if self._resolving is None:
            self._resolving = Deferred.fromCoroutine(self._use_addresses())
            self._resolving.addErrback(self._failed)
            self._resolving.addBoth(self._resolved)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("resolving failed", failure)

    def _resolved(self, _: object) -> None:
        self._resolving = None

    async def _use_addresses(self) -> None:
        try:
            addresses = await resolve(self._reactor, self._host)
        except ResolutionError as error:
            self._report_trouble(str(error))
            return
        if self._user is None:
            return
        addresses = [address for address in addresses if self._can_send_to(address)]
        if not addresses:
            self._report_trouble(
                f"{self._host} has only addresses of a kind that this machine has not: ask for an "
                "invitation with another host ('resip invite --host')"
            )
            return
        self._trouble = ""
        self._offer(self._user, addresses)

    def _offer(self, user: LinkUser, addresses: list[IPAddress]) -> None:
        before, self._paths = self._paths, []
        for address in addresses:
            carrier = self._carrier_for(address.version)
            path = Path(carrier.name, (str(address), self._port))
            self._paths.append(path)
            if path not in before:
                user.path_open(path, carrier)
        for path in before:
            if path not in self._paths:
                user.path_closed(path)

    def _report_trouble(self, trouble: str) -> None:
        # An outage of days asks often; only what is new is said.
        if trouble != self._trouble and not self._is_quiet:
            self._trouble = trouble
            self._log.warn("{trouble}", trouble=trouble)

    def _can_send_to(self, address: IPAddress) -> bool:
        try:
            self._carrier_for(address.version)
        except CannotListenError:
            return False
        return True

    def _carrier_for(self, version: int) -> UDPCarrier:
        if version not in self._sockets:
            name = udp.CARRIER_NAME if version == 4 else f"{udp.CARRIER_NAME}6"
            carrier = UDPCarrier(self._receive, name, on_writable=self._writable)
            interface = "0.0.0.0" if version == 4 else "::"
            listening = listen_udp(self._reactor, 0, carrier, interface)
            self._sockets[version] = (listening, carrier)
        return self._sockets[version][1]

    def _receive(self, packets: Sequence[bytes], path: Path) -> bool:
        return self._user is not None and self._user.receive_datagrams(packets, path)

    def _writable(self, path: Path) -> None:
        if self._user is not None:
            self._user.path_writable(path)


class StreamLink:
    """
    A connection that is dialled again whenever it is gone.

    :param endpoint: dials. :param name: of the carrier.
    :param has_preamble: whether a connection begins with the id of its session, as on TCP; else
        the endpoint names the session in its own way.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        *,
        make_framing: Callable[[], Framing],
        name: str = tcp.CARRIER_NAME,
        has_preamble: bool = True,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._user: LinkUser | None = None
        self._carrier = TCPCarrier(
            self._receive,
            framing=make_framing,
            preamble=self.preamble if has_preamble else None,
            clock=reactor,
            on_connected=self._connected,
            on_closed=self._closed,
            on_writable=self._writable,
            requires_introduction=False,
            name=name,
        )
        self._service: ClientService | None = None

    def start(self, user: LinkUser) -> None:
        """
        See :class:`Link`.
        """
        self._user = user
        self._service = redialling_service(self._endpoint, self._carrier, self._reactor)
        self._service.startService()

    def renew(self) -> None:
        """
        See :class:`Link`.
        """
        if self._carrier.connection_count:
            self._carrier.close_all()
        elif self._user is not None and self._service is not None:
            # A dial may hang for half a minute, and the pause before the next one be long.
            self._service.stopService()
            self._service.startService()

    def stop(self) -> Deferred[None]:
        """
        See :class:`Link`.
        """
        self._user = None
        if self._service is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._close(self._service))

    async def _close(self, service: ClientService) -> None:
        await self._carrier.shut_down()
        await maybeDeferred(service.stopService)

    def _receive(self, packets: Sequence[bytes], path: Path) -> bool:
        return self._user is not None and self._user.receive_datagrams(packets, path)

    def preamble(self, path: Path) -> bytes:
        """
        What names the session to the server on a new path.
        """
        return b"" if self._user is None else self._user.preamble(path)

    def _connected(self, path: Path) -> None:
        if self._user is not None:
            self._user.path_open(path, self._carrier)

    def _closed(self, path: Path) -> None:
        if self._user is not None:
            self._user.path_closed(path)

    def _writable(self, path: Path) -> None:
        if self._user is not None:
            self._user.path_writable(path)


class TCPLink(StreamLink):
    """
    A TCP connection, with nothing in between.
    """

    def __init__(
        self, reactor: Any, host: str, port: int, *, make_framing: Callable[[], Framing]
    ) -> None:
        super().__init__(reactor, HostnameEndpoint(reactor, host, port), make_framing=make_framing)
