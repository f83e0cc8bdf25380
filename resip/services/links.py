"""
The client's ways to its server: each keeps one carrier going for as long as a session lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from resip.carriers import tcp, udp
from resip.carriers.driver import SessionDriver
from resip.carriers.framing import Framing
from resip.carriers.interfaces import Carrier
from resip.carriers.tcp import TCPCarrier, redialling_service
from resip.carriers.udp import UDPCarrier
from resip.core.types import Path
from resip.tunnel.hosts import IPAddress
from resip.tunnel.resolution import ResolutionError, resolve

#: Seconds for which one address of a server's name is given a chance before the next.
ADDRESS_TRIAL = 1.0
#: No UDP datagram is longer.
MAX_DATAGRAM = 65_535


class Link(Protocol):
    """
    One kind of carrier to one server.

    """

    @property
    def carriers(self) -> Mapping[str, Carrier]:
        """
        What the session's driver sends with, by name.
        """

    def start(self, driver: SessionDriver, host: str, port: int) -> None:
        """
        Carry the packets of a session to ``host`` and ``port`` from now on.
        """

    def renew(self) -> None:
        """
        The server does not answer: look it up again, and dial again what was dialled.
        """

    def stop(self) -> Deferred[None]:
        """
        Close every socket; fires when it is done.
        """


class UDPLink:
    """
    A UDP socket of the server's address family; tries the addresses of a name in turn.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._driver: SessionDriver | None = None
        self._host = ""
        self._port = 0
        self._addresses: list[IPAddress] = []
        self._sockets: dict[int, tuple[IListeningPort, str]] = {}
        self._trial = LoopingCall(self._try_next)
        self._trial.clock = reactor
        self._resolving: Deferred[None] | None = None
        self._trouble = ""
        self.carriers: dict[str, Carrier] = {}

    def start(self, driver: SessionDriver, host: str, port: int) -> None:
        """
        See :class:`Link`.
        """
        self._driver, self._host, self._port = driver, host, port
        self._resolve()

    def renew(self) -> None:
        """
        See :class:`Link`.
        """
        if self._driver is not None:
            self._resolve()

    def stop(self) -> Deferred[None]:
        """
        See :class:`Link`.
        """
        self._driver = None
        if self._trial.running:
            self._trial.stop()
        if self._resolving is not None:
            self._resolving.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        while self._sockets:
            _, (listening, name) = self._sockets.popitem()
            del self.carriers[name]
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
        if self._driver is None:
            return
        addresses = [address for address in addresses if self._can_send_to(address)]
        if not addresses:
            self._report_trouble(
                f"{self._host} has only addresses of a kind that this machine has not: ask for an "
                "invitation with another host ('resip invite --host')"
            )
            return
        self._trouble = ""
        if addresses == self._addresses:
            return
        self._addresses = addresses
        if self._trial.running:
            self._trial.stop()
        self._use_first()
        if len(addresses) > 1:
            self._started = self._driver.session.last_received_time
            self._trial.start(ADDRESS_TRIAL, now=False)

    def _use_first(self) -> None:
        assert self._driver is not None
        address = self._addresses[0]
        path = Path(self._carrier_for(address.version), (str(address), self._port))
        self._driver.use_path(path)

    def _try_next(self) -> None:
        driver = self._driver
        if driver is None or driver.session.last_received_time > self._started:
            self._trial.stop()
            return
        self._addresses.append(self._addresses.pop(0))
        self._use_first()

    def _report_trouble(self, trouble: str) -> None:
        # An outage of days asks often; only what is new is said.
        if trouble != self._trouble:
            self._trouble = trouble
            self._log.warn("{trouble}", trouble=trouble)

    def _can_send_to(self, address: IPAddress) -> bool:
        try:
            self._carrier_for(address.version)
        except CannotListenError:
            return False
        return True

    def _carrier_for(self, version: int) -> str:
        if version not in self._sockets:
            name = udp.CARRIER_NAME if version == 4 else f"{udp.CARRIER_NAME}6"
            carrier = UDPCarrier(self._receive, name)
            interface = "0.0.0.0" if version == 4 else "::"
            listening = self._reactor.listenUDP(0, carrier, interface, MAX_DATAGRAM)
            self._sockets[version] = (listening, name)
            self.carriers[name] = carrier
        return self._sockets[version][1]

    def _receive(self, data: bytes, path: Path) -> bool:
        return self._driver is not None and self._driver.receive_datagram(data, path)


class TCPLink:
    """
    A TCP connection that is dialled again whenever it is gone.
    """

    def __init__(
        self, reactor: Any, *, make_framing: Callable[[], Framing], preamble: bytes = b""
    ) -> None:
        self._reactor = reactor
        self._driver: SessionDriver | None = None
        self._carrier = TCPCarrier(
            self._receive,
            framing=make_framing,
            preamble=preamble,
            clock=reactor,
            on_connected=self._connected,
            on_closed=self._closed,
            on_writable=self._writable,
            requires_introduction=False,
        )
        self._service: ClientService | None = None
        self.carriers: Mapping[str, Carrier] = {tcp.CARRIER_NAME: self._carrier}

    def start(self, driver: SessionDriver, host: str, port: int) -> None:
        """
        See :class:`Link`.
        """
        self._driver = driver
        endpoint = HostnameEndpoint(self._reactor, host, port)
        self._service = redialling_service(endpoint, self._carrier, self._reactor)
        self._service.startService()

    def renew(self) -> None:
        """
        See :class:`Link`.
        """
        self._carrier.close_all()

    def stop(self) -> Deferred[None]:
        """
        See :class:`Link`.
        """
        self._driver = None
        if self._service is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._close(self._service))

    async def _close(self, service: ClientService) -> None:
        await self._carrier.shut_down()
        await maybeDeferred(service.stopService)

    def _receive(self, data: bytes, path: Path) -> bool:
        return self._driver is not None and self._driver.receive_datagram(data, path)

    def _connected(self, path: Path) -> None:
        if self._driver is not None:
            self._driver.use_path(path)

    def _closed(self, path: Path) -> None:
        if self._driver is not None:
            self._driver.path_closed(path)

    def _writable(self, path: Path) -> None:
        if self._driver is not None:
            self._driver.turn_soon()
