"""
Tests of :mod:`resip.services.https_links`: whole services that have nothing but the HTTPS port.
"""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from resip.carriers.proxy import Proxy
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.noise import public_key_of
from resip.core.modern.session import ModernSession
from resip.lab.relay import TCPRelay
from resip.services import hello, starters
from resip.services.link_kinds import AUTO
from tests.services.fixture import HOST, ServiceTestCase
from tests.tunnel.programs import Program, eventually

BLOCK = bytes(range(256)) * 256


class WebSocketTests(ServiceTestCase):
    """
    Over the WebSocket carrier.
    """

    carrier = "websocket"
    #: What the server calls it, if that is something else.
    server_carrier = ""

    async def begin(self, *, echoes: bool = True) -> None:
        """
        Start both services, with something that can cut their connections in between.
        """
        self.server = self.start_server()
        self.relay = TCPRelay(self.lab_reactor, (HOST, 0), (HOST, self.server.https_port))
        self.relay.startService()
        self.addCleanup(maybeDeferred, self.relay.stopService)
        self.programs, port = self.serve(echoes=echoes)
        # Nobody listens where packets would go without HTTPS.
        invitation = self.invitation(https_port=self.relay.port, port=9)
        self.client = self.start_client(port, carrier=self.carrier, invitation=invitation)

    async def received(self, program: Program, data: bytes) -> None:
        """
        Wait until a program has just this.
        """
        await eventually(lambda: bytes(program.received) == data)

    async def test_a_tunnel(self) -> None:
        """
        One open port is enough, for data in both directions and for the end.
        """
        await self.begin()
        program = await self.echo(self.client, BLOCK)
        await self.logged(f"client is at {self.server_carrier or self.carrier} ")
        self.assertEqual(self.lines("packets go by")[-1].split()[3], self.carrier)
        program.tcp.loseWriteConnection()
        await eventually(lambda: program.has_heard_end)
        self.assertEqual(self.tracebacks, [])

    async def test_a_proxy_for_one_address(self) -> None:
        """
        Where the proxy is down, an address that is reached without it serves both the start and
        the packets.
        """
        server = self.start_server(http_port=0)
        _, port = self.serve(echoes=True)
        direct = self.invitation(port=9)
        client = self.start_client(
            port,
            carrier=self.carrier,
            invitation=dataclasses.replace(direct, host="localhost"),
            others=[direct],
            http_port=server.http_port,
            proxies={"localhost": Proxy(HOST, 9)},
        )
        await self.echo(client, BLOCK)
        await self.logged(f"packets go by {self.carrier} {HOST}:")
        self.assertEqual(self.tracebacks, [])

    async def test_cut_connections(self) -> None:
        """
        Whatever resets the connections, again and again: the programs do not notice.
        """
        await self.begin()
        program = await self.connect(self.client)
        for count in range(1, 6):
            program.tcp.write(BLOCK)
            await eventually(lambda: self.relay.connection_count)
            self.relay.cut()
            await self.received(program, BLOCK * count)
        self.assertGreaterEqual(self.relay.cuts, 5)
        self.assertEqual(self.tracebacks, [])

    async def test_an_outage(self) -> None:
        """
        When connections are refused for a while, the client goes on where it was.
        """
        await self.begin()
        program = await self.echo(self.client)
        self.relay.is_refusing = True
        self.relay.cut()
        program.tcp.write(BLOCK)
        await self.pass_time(0.5)
        self.relay.is_refusing = False
        await self.received(program, b"hello" + BLOCK)
        self.assertEqual(self.tracebacks, [])

    async def test_the_certificate_is_verified(self) -> None:
        """
        A server with another root gets no request, not even for the carrier.
        """
        self.start_server()
        _, port = self.serve(echoes=True)
        self.start_client(port, carrier=self.carrier, invitation=self.invitation(pin=bytes(32)))
        await self.logged("is not the one the invitation is for")
        await self.pass_time(0.3)
        self.assertEqual(self.lines("started for key"), [])

    async def test_a_client_stops_in_the_middle(self) -> None:
        """
        Stopping leaves nothing behind, whatever is under way; the server hears of it.
        """
        await self.begin(echoes=False)
        program = await self.connect(self.client)
        program.tcp.write(BLOCK * 20)
        await eventually(
            lambda: self.programs.connections and self.programs.connections[0].received
        )
        await self.stop(self.client)
        await self.logged("the peer ended it")
        self.assertEqual(self.tracebacks, [])


class HTTPTests(WebSocketTests):
    """
    Over the HTTP carrier.
    """

    carrier = "http"


class PlainHTTPTests(WebSocketTests):
    """
    Over plain HTTP, with HTTPS out of reach.
    """

    carrier = "plain-http"
    server_carrier = "http"

    async def begin(self, *, echoes: bool = True, **changes: Any) -> None:
        """
        The same, where only the port for plain HTTP can be reached.
        """
        self.server = self.start_server(http_port=0)
        self.relay = TCPRelay(self.lab_reactor, (HOST, 0), (HOST, self.server.http_port))
        self.relay.startService()
        self.addCleanup(maybeDeferred, self.relay.stopService)
        self.programs, port = self.serve(echoes=echoes)
        invitation = self.invitation(https_port=9, port=9, **changes)
        self.client = self.start_client(
            port, carrier=self.carrier, invitation=invitation, http_port=self.relay.port
        )

    async def test_the_certificate_is_verified(self) -> None:
        """
        There is none; a server without the key of the invitation starts nothing.
        """
        stranger = public_key_of(X25519PrivateKey.generate())
        await self.begin(server_key=stranger)
        await self.logged("refuses connections")
        await eventually(lambda: self.relay.accepted)
        await self.pass_time(0.3)
        self.assertEqual(self.lines("started for key"), [])

    async def test_the_handshake_goes_the_same_way(self) -> None:
        """
        The session starts without HTTPS (M-53), which the log tells.
        """
        await self.begin()
        await self.echo(self.client)
        self.assertEqual(len(self.lines("started with", "in packets; HTTPS: ")), 1)

    async def test_automatic(self) -> None:
        """
        It is the last that is tried, and found where nothing else works.
        """
        self.carrier = AUTO
        self.patch(hello, "NEXT_CARRIER_DELAY", 0.05)
        await self.begin()
        await self.echo(self.client)
        await self.logged("packets go by plain-http ")

    async def test_the_server_is_started_anew(self) -> None:
        """
        The client finds out by another handshake, and starts another session.
        """
        often = ModernConfiguration(keep_alive_interval=0.5)
        self.patch(starters, "ModernSession", partial(ModernSession, configuration=often))
        await self.begin()
        await self.echo(self.client)
        self.relay.is_refusing = True  # or the server could say that it stops
        self.relay.cut()
        await self.restart(self.server, seconds_later=0)
        self.relay.is_refusing = False
        await self.logged("was started anew and has lost session", seconds=20.0)
        await self.echo(self.client)
        self.assertEqual(self.tracebacks, [])

    async def test_nothing_else_is_served(self) -> None:
        """
        No session API (M-68), and no sign of carriers for strangers (M-55).
        """
        await self.begin()
        await self.echo(self.client)
        answers = set()
        for path in ("/", "/session/start", "/resip/v2/carrier", "/resip/v2/handshake"):
            for method in ("GET", "POST"):
                endpoint = TCP4ClientEndpoint(self.reactor, HOST, self.server.http_port)
                stranger: Program = await connectProtocol(endpoint, Program())
                stranger.tcp.write(
                    f"{method} {path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n".encode()
                )
                await eventually(lambda: stranger.has_heard_end)  # noqa: B023
                head = bytes(stranger.received)
                answers.add(re.sub(rb"Date: .*\r\n", b"", head))
        (answer,) = answers
        self.assertIn(b" 404 ", answer)
