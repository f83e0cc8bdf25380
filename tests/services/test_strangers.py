"""
Random bytes at a server's ports: nothing changes, and nothing is logged for them.
"""

from __future__ import annotations

import contextlib
import random
import socket
from functools import partial
from typing import cast

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from resip.core.classic.packet import DEFAULT_PACKET_SIZE
from resip.core.modern.reset import MIN_TRIGGER_SIZE
from tests.services.fixture import HOST, ServiceTestCase
from tests.tunnel.programs import Program, abort, eventually

DICE = random.Random(7)
#: Ways to begin a conversation that this is not.
GREETINGS = (
    b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + DICE.randbytes(505),
    b"\x00" * 2000,
    DICE.randbytes(5000),
)


class StrangerTests(ServiceTestCase):
    """
    With a client at work.
    """

    async def begin(self) -> None:
        """
        Start both services and let a program talk.
        """
        self.server = self.start_server()
        _, port = self.serve(echoes=True)
        self.client = self.start_client(port)
        self.program = await self.echo(self.client)
        await self.logged("client is at udp")
        self.log_size = len(self.events)

    async def check(self) -> None:
        """
        Nothing was logged, by anybody, and the program still talks.
        """
        await self.pass_time(0.1)
        ours = [
            event
            for event in self.events[self.log_size :]
            # What the test's own clients log.
            if "OneShotFactory" not in str(event) and "closed" not in str(event).lower()
        ]
        self.assertEqual(ours, [])
        self.program.received.clear()
        self.program.tcp.write(b"still here")
        await eventually(lambda: self.program.received == b"still here")
        self.assertEqual(len(self.server.sessions), 1)

    async def test_udp(self) -> None:
        """
        Datagrams of every size, forged ones among them, change nothing. All that a stranger
        hears are resets, fewer bytes than it sent (M-41).
        """
        await self.begin()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((HOST, 0))
            for size in (0, 1, 16, 511, 512, 513, 528, 1472, 65_000):
                for _ in range(20):
                    stranger.sendto(DICE.randbytes(size), (HOST, self.server.port))
            await self.check()
            stranger.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.assertLess(len(stranger.recv(2048)), MIN_TRIGGER_SIZE)

    async def test_tcp(self) -> None:
        """
        Connections that begin with anything but a packet are cut, at their first block.
        """
        await self.begin()
        for greeting in GREETINGS:
            stranger = await self.dial(self.server.port)
            stranger.tcp.write(greeting.ljust(DEFAULT_PACKET_SIZE))
            await eventually(partial(is_ended, stranger))
            self.assertEqual(stranger.received, b"")
        await self.check()

    async def test_https(self) -> None:
        """
        What is no TLS, or no HTTP in TLS, ends its own connection and nothing else.
        """
        await self.begin()
        for greeting in GREETINGS:
            stranger = await self.dial(self.server.https_port)
            stranger.tcp.write(greeting)
            if greeting is not GREETINGS[2]:  # an unfinished hello may still go on
                await eventually(partial(is_ended, stranger))
        await self.check()

    async def dial(self, port: int) -> Program:
        """
        A stranger's connection.
        """
        endpoint = TCP4ClientEndpoint(self.reactor, HOST, port)
        program = cast(Program, await connectProtocol(endpoint, Program()))
        self.addCleanup(abort, [program])
        return program


def is_ended(program: Program) -> bool:
    """
    Whether the other side has ended or cut the connection.
    """
    return program.has_heard_end or program.lost_reason is not None
