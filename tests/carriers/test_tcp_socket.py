"""
Tests of :mod:`resip.carriers.tcp_socket`, with the carrier that uses it, on loopback.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, cast
from unittest import skipUnless

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.trial.unittest import TestCase

from resip.carriers.framing import PrefixFraming
from resip.carriers.tcp import TCPCarrier, TCPConnection
from resip.carriers.tcp_socket import (
    MAX_PARTS,
    READ_SIZE,
    TCP_NOTSENT_LOWAT,
    UNSENT_LIMIT,
    enlarge_calls,
    limit_unsent,
    write_at_once,
)
from resip.core.types import Path
from tests.tunnel.programs import MemoryTransport, eventually, the_reactor

PACKET = b"good" + bytes(60_000)
SMALL = b"good" + bytes(60)


class SocketTests(TestCase):
    """
    Two carriers with one connection.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Join them.
        """
        self.received: list[bytes] = []
        self.writable: list[Path] = []
        self.paths: list[Path] = []
        self.far = self.make_carrier([])
        self.near = self.make_carrier(self.paths)
        listening = the_reactor().listenTCP(0, cast(Any, self.far), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.addCleanup(self.shut_down)
        address = listening.getHost()
        assert isinstance(address, IPv4Address)
        endpoint = TCP4ClientEndpoint(the_reactor(), "127.0.0.1", address.port)
        connection = await endpoint.connect(self.near)
        assert isinstance(connection, TCPConnection)
        self.transport = connection.transport
        await eventually(lambda: self.far.connection_count)

    def make_carrier(self, paths: list[Path]) -> TCPCarrier:
        """
        A carrier that keeps what comes.
        """
        return TCPCarrier(
            self.receive,
            framing=PrefixFraming,
            clock=Clock(),  # nothing here may need a timeout
            on_connected=paths.append,
            on_closed=lambda path: None,
            on_writable=self.writable.append,
            requires_introduction=False,
        )

    def receive(self, packets: Sequence[bytes], path: Path) -> bool:
        """
        Keep them.
        """
        self.received += packets
        return True

    async def shut_down(self) -> None:
        """
        End the connection: both have seen its end when this returns.
        """
        ends = [self.near.shut_down(), self.far.shut_down()]
        for end in ends:
            await end

    async def test_no_more_than_the_kernel_takes(self) -> None:
        """
        A path takes no more while the kernel has not taken all of a burst, and tells when it has.
        """
        (path,) = self.paths
        self.writable.clear()
        sent = 0
        for number in (1, 2):
            while self.near.is_writable(path):
                self.near.send(path, [PACKET] * 3)
                sent += 3
            self.assertEqual(len(self.writable), number - 1)
            await eventually(partial(self.count_writable, number))
        await eventually(lambda: len(self.received) == sent)
        self.assertEqual(set(self.received), {PACKET})

    async def test_few_bytes_are_with_the_kernel_at_once(self) -> None:
        """
        A small packet does not wait for the reactor, and the path takes more.
        """
        (path,) = self.paths
        self.writable.clear()
        for _ in range(3):
            self.near.send(path, [SMALL])
            self.assertTrue(self.near.is_writable(path))
            self.assertNotIn(self.transport, cast(Any, the_reactor()).getWriters())
        await eventually(lambda: len(self.received) == 3)
        self.assertEqual(self.writable, [])

    async def test_packets_of_which_the_kernel_takes_a_part(self) -> None:
        """
        A burst that is cut somewhere within a packet arrives as it is.
        """
        (path,) = self.paths
        packets = [bytes([number]) * (30_000 + number) for number in range(200)]
        self.near.send(path, packets)
        self.assertFalse(self.near.is_writable(path))
        await eventually(lambda: len(self.received) == len(packets))
        self.assertEqual(self.received, packets)

    async def test_few_bytes_stay_behind_many(self) -> None:
        """
        What waits for the socket goes first, in full.
        """
        (path,) = self.paths
        self.near.send(path, [PACKET] * 40)
        self.near.send(path, [SMALL])
        await eventually(lambda: len(self.received) == 41)
        self.assertEqual(self.received, [PACKET] * 40 + [SMALL])

    def count_writable(self, number: int) -> bool:
        """
        Whether the path became writable so often.
        """
        return len(self.writable) == number

    async def test_what_was_written_arrives_before_the_end(self) -> None:
        """
        A connection that is ended while it is full says everything first.
        """
        (path,) = self.paths
        self.near.send(path, [PACKET] * 40)
        await self.near.shut_down()
        self.assertEqual(len(self.received), 40)

    @skipUnless(sys.platform == "linux", "only Linux has the option everywhere")
    async def test_little_waits_in_the_kernel(self) -> None:
        """
        The limit is set at both ends.
        """
        assert isinstance(self.transport, Connection)
        handle = self.transport.getHandle()
        limit = handle.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT)
        self.assertEqual(limit, UNSENT_LIMIT)

    async def test_large_reads(self) -> None:
        """
        One call reads several packets of the largest size.
        """
        assert isinstance(self.transport, Connection)
        self.assertEqual(self.transport.bufferSize, READ_SIZE)

    async def test_more_parts_than_one_call_takes(self) -> None:
        """
        The first of them leave at once, the rest in their order.
        """
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        endpoint = TCP4ClientEndpoint(the_reactor(), *listening.getsockname())
        near = cast(Protocol, await endpoint.connect(Factory.forProtocol(Protocol)))
        assert isinstance(near.transport, Connection)
        self.addCleanup(near.transport.abortConnection)
        far, _ = listening.accept()
        self.addCleanup(far.close)
        far.settimeout(10)
        parts = [number.to_bytes(2) for number in range(3 * MAX_PARTS)]
        self.assertFalse(write_at_once(near.transport, parts))
        received = bytearray(far.recv(1 << 20))
        self.assertEqual(len(received), 2 * MAX_PARTS)
        far.setblocking(False)

        def has_all() -> bool:
            with contextlib.suppress(BlockingIOError):
                received.extend(far.recv(1 << 20))
            return len(received) == 2 * len(parts)

        await eventually(has_all)
        self.assertEqual(received, b"".join(parts))

    def test_what_is_no_socket(self) -> None:
        """
        Transports of other kinds are left alone; they tell when they are full.
        """
        transport = MemoryTransport()
        enlarge_calls(transport)
        self.assertFalse(limit_unsent(transport))
