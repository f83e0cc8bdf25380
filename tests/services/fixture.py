"""
Both services in one process, with real sockets on loopback and programs on both sides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from resip.bootstrap.invitation import Invitation
from resip.bootstrap.servers import find_invitation
from resip.bootstrap.state import StateDirectory
from resip.carriers.proxy import Proxy
from resip.core import liveness
from resip.lab.reactor import ILabReactor, get_port_number
from resip.services import client as client_module
from resip.services import hello
from resip.services import server as server_module
from resip.services.client import ClientConfiguration, ClientService
from resip.services.clock import Clocks
from resip.services.server import ServerConfiguration, ServerService
from resip.tunnel.specification import parse_forward
from tests.tunnel.programs import Program, Programs, abort, eventually, the_reactor

HOST = "127.0.0.1"
#: Seconds of patience with a silent server, instead of ten.
PATIENCE = 0.3
#: Seconds in which a change of the keys is seen, instead of one.
KEY_CHECK_INTERVAL = 0.1


class ServiceTestCase(TestCase):
    """
    Starts services, stops them, and keeps what they log.

    Trial fails a test that leaves a socket or a delayed call behind.
    """

    #: The dialect of both sides.
    is_classic = False
    #: Where traces go.
    qlog: Path | None = None

    def setUp(self) -> None:
        """
        Be impatient, and listen to the log.
        """
        self.reactor = the_reactor()
        self.state = StateDirectory(Path(self.mktemp()))
        self.events: list[LogEvent] = []
        self.running: list[ServerService | ClientService] = []
        self.patch(liveness, "PATIENCE", PATIENCE)
        self.patch(client_module, "FIRST_RETRY", 0.05)
        self.patch(client_module, "MAX_RETRY", 0.2)
        self.patch(client_module, "HOPELESS_RETRY", 0.2)
        self.patch(hello, "LAST_CHANCE", 0.2)
        self.patch(server_module, "KEY_CHECK_INTERVAL", KEY_CHECK_INTERVAL)
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        # Cleanups run last first: programs end before the services that carry them.
        self.addCleanup(self.stop_all)

    async def stop_all(self) -> None:
        """
        Stop what runs, the last started first.
        """
        while self.running:
            await self.stop(self.running[-1])

    async def stop(self, service: ServerService | ClientService) -> None:
        """
        Stop a service and wait until it is quiet.
        """
        self.running.remove(service)
        await service.stopService()

    @property
    def lab_reactor(self) -> ILabReactor:
        """
        The reactor, as relays want it.
        """
        return cast(ILabReactor, self.reactor)

    # The log.

    @property
    def messages(self) -> list[str]:
        """
        What our own code has logged, as text.
        """
        return [
            formatEvent(event)
            for event in self.events
            if str(event.get("log_namespace", "")).startswith("resip.")
        ]

    @property
    def tracebacks(self) -> list[str]:
        """
        What anybody has logged with a traceback.
        """
        return [formatEvent(event) for event in self.events if event.get("log_failure")]

    def lines(self, *parts: str) -> list[str]:
        """
        The messages that have all these parts.
        """
        return [text for text in self.messages if all(part in text for part in parts)]

    async def logged(self, *parts: str, count: int = 1, seconds: float = 10.0) -> str:
        """
        Wait until so many messages have these parts, and return the last one.
        """
        try:
            await eventually(lambda: len(self.lines(*parts)) >= count, seconds=seconds)
        except AssertionError:
            raise AssertionError(f"no message with {parts} in {self.messages}") from None
        return self.lines(*parts)[-1]

    # The services.

    def start_server(
        self,
        *,
        state: StateDirectory | None = None,
        https_port: int = 0,
        port: int = 0,
        http_port: int | None = None,
        clocks: Clocks | None = None,
        allow: tuple[str, ...] = ("127.0.0.0/8",),
    ) -> ServerService:
        """
        A server on loopback.
        """
        configuration = ServerConfiguration(
            state=state or self.state,
            listen=(HOST,),
            https_port=https_port,
            port=port,
            http_port=http_port,
            allow=allow,
            is_classic=self.is_classic,
            qlog=self.qlog,
        )
        service = ServerService(self.reactor, configuration, clocks=clocks)
        service.privilegedStartService()
        self.running.append(service)
        service.startService()
        return service

    async def restart(self, server: ServerService, *, seconds_later: float = 100) -> ServerService:
        """
        Stop a server and start it again on the same ports, at a later time of the wall clock.
        """
        https_port, port, http_port = server.https_port, server.port, server.http_port or None
        await self.stop(server)
        ordinary = Clocks()
        clocks = Clocks(wall=lambda: ordinary.wall() + seconds_later)
        return self.start_server(
            https_port=https_port, port=port, http_port=http_port, clocks=clocks
        )

    def invitation(self, **changes: Any) -> Invitation:
        """
        The server's invitation to its own machine, with changes.
        """
        return dataclasses.replace(find_invitation(None, self.state), **changes)

    def start_client(
        self,
        *targets: int | str,
        carrier: str = "udp",
        invitation: Invitation | None = None,
        others: Sequence[Invitation] = (),
        clocks: Clocks | None = None,
        compress: bool = False,
        http_port: int | None = None,
        proxies: Mapping[str, Proxy | None] | None = None,
    ) -> ClientService:
        """
        A client with one forward for each target: a port of this machine, or a specification.
        """
        forwards = [
            parse_forward(target if isinstance(target, str) else f"0:{HOST}:{target}")
            for target in targets
        ]
        configuration = ClientConfiguration(
            invitation=invitation or self.invitation(),
            others=others,
            forwards=forwards,
            carrier=carrier,
            compress=compress,
            http_port=http_port,
            proxies=proxies or {},
            is_classic=self.is_classic,
            qlog=self.qlog,
        )
        service = ClientService(self.reactor, configuration, clocks=clocks)
        service.privilegedStartService()
        self.running.append(service)
        service.startService()
        return service

    # The programs.

    def serve(self, *, echoes: bool = False) -> tuple[Programs, int]:
        """
        A TCP server program and its port.
        """
        programs = Programs(echoes=echoes)
        port = self.reactor.listenTCP(0, programs, interface=HOST)
        self.addCleanup(self._close, port, programs.connections)
        return programs, get_port_number(port)

    async def connect(self, client: ClientService, forward: int = 0) -> Program:
        """
        A program that uses a forward.
        """
        endpoint = TCP4ClientEndpoint(self.reactor, *client.forwards[forward].ports[0])
        program: Program = await connectProtocol(endpoint, Program())
        self.addCleanup(abort, [program])
        return program

    async def echo(self, client: ClientService, text: bytes = b"hello") -> Program:
        """
        A new connection through the first forward, by which ``text`` comes back.
        """
        program = await self.connect(client)
        program.tcp.write(text)
        await eventually(lambda: program.received == text)
        return program

    async def pass_time(self, seconds: float) -> None:
        """
        Let things that must not happen have their chance.
        """
        await deferLater(self.reactor, seconds, lambda: None)

    async def _close(self, port: IListeningPort, programs: Sequence[Program]) -> None:
        await maybeDeferred(port.stopListening)
        await abort(programs)
