"""
Listener, channels and targets together: what programs see on both sides of a tunnel.
"""

from __future__ import annotations

import hashlib
import random
import socket
from typing import cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater

from resip.tunnel.datagram_listener import UDP_IDLE_TIMEOUT as CLIENT_UDP_IDLE_TIMEOUT
from resip.tunnel.policy import Policy
from resip.tunnel.targets import UDP_IDLE_TIMEOUT
from tests.tunnel.fixture import TunnelTestCase
from tests.tunnel.programs import DatagramProgram, Program, eventually

BULK = random.Random(1).randbytes(5_000_000)


class StreamTests(TunnelTestCase):
    """
    TCP through a tunnel.
    """

    async def test_echo(self) -> None:
        """
        A program talks to a server through the tunnel as it would directly.
        """
        _, port = self.serve(echoes=True)
        client = await self.connect(self.forward(port))
        client.tcp.write(b"hello")
        await eventually(lambda: client.received == b"hello")
        self.assertIn(f"tcp:{client.tcp.getHost().host}", self.messages[0].replace("[", ""))

    async def test_bulk_both_ways(self) -> None:
        """
        5 MB in each direction at once arrive complete and unchanged, and end.
        """
        client, server = await self.pair()
        for program in (client, server):
            program.tcp.write(BULK)
            program.end()
        await eventually(lambda: client.has_heard_end and server.has_heard_end, seconds=60)
        for program in (client, server):
            self.assertEqual(len(program.received), len(BULK))
            self.assertEqual(
                hashlib.sha256(program.received).digest(), hashlib.sha256(BULK).digest()
            )
        await eventually(lambda: not self.link.live)
        await eventually(lambda: client.lost_reason and server.lost_reason)

    async def test_a_slow_reader_stops_the_writer(self) -> None:
        """
        When a program does not read, the other's data stays in its own socket, not in memory.
        """
        client, server = await self.pair()
        await self.check_slow_reader(client, server)
        client, server = await self.pair()
        await self.check_slow_reader(server, client)

    async def check_slow_reader(self, sender: Program, reader: Program) -> None:
        """
        Send much to a reader that pauses.
        """
        source = cast(IPushProducer, reader.transport)
        source.pauseProducing()
        near = self.link.opened[-1]
        ends = (near, near.peer)
        sender.tcp.write(BULK * 8)
        written, before = 0, -1
        while written != before:  # the sockets take some, and their buffers grow meanwhile
            await self.pass_time()
            before, written = written, sum(end.total_written for end in ends)
        self.assertEqual(max(end.outstanding for end in ends), self.link.window)
        self.assertLess(written, len(BULK) * 8)
        source.resumeProducing()
        await eventually(lambda: len(reader.received) == len(BULK) * 8, seconds=60)

    async def pass_time(self) -> None:
        """
        Give the reactor many turns.
        """
        await deferLater(self.reactor, 0.05)

    async def test_half_close_by_either_side(self) -> None:
        """
        Each side may end first and still receive all that the other says.
        """
        client, server = await self.pair()
        await self.check_half_close(client, server)
        client, server = await self.pair()
        await self.check_half_close(server, client)
        await eventually(lambda: not self.link.live)

    async def check_half_close(self, first: Program, second: Program) -> None:
        """
        End one side, then speak on the other.
        """
        first.tcp.write(b"question")
        first.end()
        await eventually(lambda: second.has_heard_end)
        self.assertEqual(second.received, b"question")
        second.tcp.write(BULK)
        second.end()
        await eventually(lambda: first.has_heard_end)
        self.assertEqual(len(first.received), len(BULK))
        await eventually(lambda: first.lost_reason)
        self.assertFalse(first.was_reset)

    async def test_a_reset_by_either_side_passes(self) -> None:
        """
        A connection that one side resets is reset for the other too.
        """
        client, server = await self.pair()
        client.tcp.abortConnection()
        await eventually(lambda: server.was_reset)
        client, server = await self.pair()
        server.tcp.abortConnection()
        await eventually(lambda: client.was_reset)
        await eventually(lambda: not self.link.live)

    async def test_a_lost_session_resets_both_sides(self) -> None:
        """
        When the session is gone both programs see a reset, and nothing is left.
        """
        client, server = await self.pair()
        self.link.lose()
        await eventually(lambda: client.was_reset and server.was_reset)
        self.assertEqual((self.services[0].connections, self.connector.connections), (0, 0))

    async def test_refused(self) -> None:
        """
        A target that the server does not allow is a reset; both logs tell the cure.
        """
        programs, port = self.serve()
        self.policy = Policy(["192.0.2.1"])
        client = await self.connect(self.forward(port))
        await eventually(lambda: client.was_reset)
        self.assertEqual(programs.connections, [])
        host = f"[{self.host}]" if ":" in self.host else self.host
        cures = [each for each in self.messages if f"--allow {host}:{port}" in each]
        self.assertEqual(len(cures), 2)

    async def test_connect_failure(self) -> None:
        """
        A target where nobody listens is a reset; the server's log tells the system's reason.
        """
        client = await self.connect(self.forward(self.unused_port()))
        await eventually(lambda: client.was_reset)
        self.assertTrue(any("Connection refused" in each for each in self.messages))

    async def test_a_port_scan_does_not_fill_the_log(self) -> None:
        """
        Of many refusals the first few are logged.
        """
        self.policy = Policy([])
        port = self.forward(9)
        for _ in range(20):
            await self.connect(port)
        await eventually(lambda: self.services[0].connections == 0)
        told = [each for each in self.messages if "no channel to" in each]
        refused = [each for each in self.messages if "refused:" in each]
        self.assertEqual((len(told), len(refused)), (5, 5))

    async def test_many_connections(self) -> None:
        """
        A hundred programs talk at the same time without disturbing each other.
        """
        _, port = self.serve(echoes=True)
        listening = self.forward(port)
        clients: list[Program] = await gatherResults(
            [Deferred.fromCoroutine(self.connect(listening)) for _ in range(100)]
        )
        for number, client in enumerate(clients):
            client.tcp.write(b"%d " % number * 5000)
            client.end()
        await eventually(lambda: all(each.lost_reason for each in clients), seconds=60)
        for number, client in enumerate(clients):
            self.assertEqual(client.received, b"%d " % number * 5000)
        await eventually(lambda: self.connector.connections == 0)
        await eventually(lambda: self.services[0].connections == 0)

    async def test_stopping_resets_what_is_connected(self) -> None:
        """
        ``stopService`` and ``stop`` fire when the sockets are closed, and both programs notice.
        """
        client, server = await self.pair()
        await self.services[0].stopService()
        await self.connector.stop()
        self.assertEqual((self.services[0].connections, self.connector.connections), (0, 0))
        self.assertEqual(self.services[0].ports, ())
        await eventually(lambda: client.was_reset and server.was_reset)


class SmallPortionTests(StreamTests):
    """
    The same through channels that take their data in small bites.
    """

    portion = 1499


class Ipv6StreamTests(StreamTests):
    """
    The same over IPv6.
    """

    host = "::1"


class DatagramTests(TunnelTestCase):
    """
    UDP through a tunnel.
    """

    def program(self, port: int) -> DatagramProgram:
        """
        A program that sends to ``port``.
        """
        program = DatagramProgram()
        listening = self.reactor.listenUDP(0, program, interface=self.host, maxPacketSize=65535)
        self.addCleanup(self._close, listening)
        assert program.transport is not None
        program.transport.connect(self.host, port)
        return program

    def send(self, program: DatagramProgram, *datagrams: bytes) -> None:
        """
        Send by a program.
        """
        assert program.transport is not None
        for datagram in datagrams:
            program.transport.write(datagram, None)

    async def test_boundaries_both_ways(self) -> None:
        """
        Datagrams arrive whole, whatever their size, and so do the answers.
        """
        server, port = self.serve_datagrams(echoes=True)
        program = self.program(self.forward(port, protocol="udp"))
        datagrams = [b"a", b"bb" * 600, b"c" * 20000, b""]
        self.send(program, *datagrams)
        await eventually(lambda: len(program.received) == 4)
        self.assertEqual(program.received, datagrams)
        self.assertEqual(server.received, datagrams)

    async def test_each_program_has_its_own_socket_at_the_target(self) -> None:
        """
        The target tells the programs apart, and each gets its own answers.
        """
        server, port = self.serve_datagrams(echoes=True)
        listening = self.forward(port, protocol="udp")
        programs = [self.program(listening) for _ in range(3)]
        for number, program in enumerate(programs):
            self.send(program, b"%d" % number)
        await eventually(lambda: all(program.received for program in programs))
        self.assertEqual([program.received for program in programs], [[b"0"], [b"1"], [b"2"]])
        self.assertEqual(len(server.sources), 3)

    async def test_strangers_are_not_heard(self) -> None:
        """
        Only the target may answer: datagrams from elsewhere to its socket are dropped.
        """
        server, port = self.serve_datagrams()
        program = self.program(self.forward(port, protocol="udp"))
        self.send(program, b"question")
        await eventually(lambda: server.received)
        source = next(iter(server.sources))
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"forged", source)
        assert server.transport is not None
        server.transport.write(b"answer", source)
        await eventually(lambda: program.received)
        self.assertEqual(program.received, [b"answer"])

    async def test_silence_ends_both_sides(self) -> None:
        """
        After two silent minutes the client gives up the channel, and the server its socket.
        """
        server, port = self.serve_datagrams()
        program = self.program(self.forward(port, protocol="udp"))
        self.send(program, b"hello")
        await eventually(lambda: server.received)
        self.clock.advance(CLIENT_UDP_IDLE_TIMEOUT)
        await eventually(lambda: self.services[0].connections == 0)
        await eventually(lambda: self.connector.connections == 0)
        self.assertGreater(UDP_IDLE_TIMEOUT, CLIENT_UDP_IDLE_TIMEOUT)

    async def test_stopping_closes_the_sockets(self) -> None:
        """
        With live peers ``stopService`` and ``stop`` fire when nothing is left.
        """
        server, port = self.serve_datagrams()
        program = self.program(self.forward(port, protocol="udp"))
        self.send(program, b"hello")
        await eventually(lambda: server.received)
        await self.services[0].stopService()
        await self.connector.stop()
        self.assertEqual((self.services[0].connections, self.connector.connections), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Ipv6DatagramTests(DatagramTests):
    """
    The same over IPv6.
    """

    host = "::1"
