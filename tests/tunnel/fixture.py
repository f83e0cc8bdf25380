"""
A whole tunnel in one process: listeners, channels in memory, targets, and programs around it.
"""

from __future__ import annotations

import socket
from typing import cast

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from resip.lab.reactor import get_port_number
from resip.tunnel.listener import ForwardService
from resip.tunnel.policy import DEFAULT_PATTERNS, Policy
from resip.tunnel.specification import parse_forward
from resip.tunnel.targets import TargetConnector
from tests.support.channels import ChannelLink, MemoryChannel
from tests.tunnel.programs import (
    DatagramProgram,
    Program,
    Programs,
    ScriptedResolver,
    abort,
    eventually,
    the_reactor,
)


class TunnelTestCase(TestCase):
    """
    Real sockets on loopback on both sides of channels in memory.

    :cvar portion: what one write on a channel accepts at most.
    :cvar host: the loopback address that all sockets use.
    """

    portion = 16 * 1024
    host = "127.0.0.1"

    def setUp(self) -> None:
        """
        Join a connector to a link; listeners come with :meth:`forward`.
        """
        self.reactor = the_reactor()
        self.clock = Clock()
        self.policy = Policy(DEFAULT_PATTERNS)
        self.connector = TargetConnector(self.reactor, clock=self.clock)
        self.link = ChannelLink(self.reactor, on_request=self._request, portion=self.portion)
        self.services: list[ForwardService] = []
        self.messages: list[str] = []
        observer = cast(ILogObserver, self._observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        # Cleanups run last first: the programs go before the tunnel.
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        """
        Stop everything; each part must become quiet by itself.
        """
        for service in self.services:
            await service.stopService()
        await self.connector.stop()
        self.link.close()

    def _observe(self, event: LogEvent) -> None:
        if str(event.get("log_namespace", "")).startswith("resip."):
            self.messages.append(formatEvent(event))

    def _request(self, channel: MemoryChannel) -> None:
        self.connector.channel_requested(channel, self.policy, "key laptop")

    def use_names(self, **answers: list[list[str]]) -> ScriptedResolver:
        """
        Let the reactor resolve by a script.
        """
        resolver = ScriptedResolver(**answers)
        before = self.reactor.installNameResolver(resolver)
        self.addCleanup(self.reactor.installNameResolver, before)
        return resolver

    def forward(self, port: int, *, protocol: str = "tcp", host: str | None = None) -> int:
        """
        Start a forward to ``port`` and return the port it listens on.
        """
        near, far = (
            f"[{each}]" if ":" in each else each for each in (self.host, host or self.host)
        )
        service = ForwardService(
            self.reactor,
            parse_forward(f"{protocol}:{near}:0:{far}:{port}"),
            self.link,
            clock=self.clock,
        )
        service.startService()
        self.services.append(service)
        return service.ports[0][1]

    def serve(self, *, echoes: bool = False) -> tuple[Programs, int]:
        """
        A TCP server program and its port.
        """
        programs = Programs(echoes=echoes)
        port = self.reactor.listenTCP(0, programs, interface=self.host)
        self.addCleanup(self._close, port, programs)
        return programs, get_port_number(port)

    def serve_datagrams(self, *, echoes: bool = False) -> tuple[DatagramProgram, int]:
        """
        A UDP program and its port.
        """
        program = DatagramProgram(echoes=echoes)
        port = self.reactor.listenUDP(0, program, interface=self.host, maxPacketSize=65535)
        self.addCleanup(self._close, port)
        return program, get_port_number(port)

    async def connect(self, port: int) -> Program:
        """
        A program that connects to ``port``.
        """
        endpoint = TCP6ClientEndpoint if ":" in self.host else TCP4ClientEndpoint
        program: Program = await connectProtocol(endpoint(self.reactor, self.host, port), Program())
        self.addCleanup(abort, [program])
        return program

    async def pair(self) -> tuple[Program, Program]:
        """
        A client program and the server program it reached through the tunnel.
        """
        programs, port = self.serve()
        client = await self.connect(self.forward(port))
        await eventually(lambda: programs.connections and programs.connections[0].is_connected)
        return client, programs.connections[0]

    def unused_port(self) -> int:
        """
        A port where nobody listens.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family) as unused:
            unused.bind((self.host, 0))
            return int(unused.getsockname()[1])

    async def _close(self, port: IListeningPort, programs: Programs | None = None) -> None:
        await maybeDeferred(port.stopListening)
        await abort(programs.connections if programs else [])
