"""
Tests of :mod:`resip.lab.line_service`, over real sockets on the loopback interface.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from resip.lab.line_service import (
    FAREWELL,
    GREETING,
    MAX_FILE_SIZE,
    MAX_LINE,
    READINGS,
    LineClient,
    LineServerFactory,
    fetch_file,
    run_dialogue,
)
from resip.lab.payload import SeededBytes
from resip.lab.reactor import ILabReactor, get_port_number

reactor = cast(ILabReactor, installed_reactor)


@asynccontextmanager
async def listening(factory: ServerFactory) -> AsyncIterator[int]:
    """
    Listen on a free port of the loopback interface.
    """
    port: IListeningPort = reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        yield get_port_number(port)
    finally:
        closing = port.stopListening()
        if closing is not None:
            await closing


class Garbler(Protocol):
    """
    A server that sends a wrong file, or one that is too short.
    """

    answer = b""

    def dataReceived(self, data: bytes) -> None:
        """
        Answer anything.
        """
        assert self.transport is not None
        self.transport.write(self.answer)
        self.transport.loseConnection()


def make_garbler(answer: bytes) -> ServerFactory:
    """
    A factory of garblers with that answer.
    """
    factory = ServerFactory()
    factory.protocol = type("GarblerWithAnswer", (Garbler,), {"answer": answer})
    factory.noisy = False
    return factory


class LineServerTests(SynchronousTestCase):
    """
    The server's answers.
    """

    def setUp(self) -> None:
        """
        Connect a server to a string.
        """
        self.clock = Clock()
        self.transport = StringTransport()
        protocol = LineServerFactory(self.clock, seed=4).buildProtocol(None)
        assert protocol is not None
        self.protocol = protocol
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> list[bytes]:
        """
        Send something and return the lines of the answer.
        """
        self.transport.clear()
        self.protocol.dataReceived(data)
        answer: bytes = self.transport.value()
        return answer.splitlines()

    def test_login(self) -> None:
        """
        A login always succeeds; the end of the line may have a carriage return.
        """
        self.assertEqual(self.send(b"LOGIN\n"), [GREETING])
        self.assertEqual(self.send(b"LOGIN\r\n"), [b"Logged in.  Fantastic."])

    def test_data(self) -> None:
        """
        The data are lines of numbers, and a dot behind them.
        """
        lines = self.send(b"DATA\n")
        self.assertEqual(len(lines), len(READINGS) + 1)
        self.assertEqual((lines[0], lines[-1]), (b"reading 1: 3.14159", b"."))

    def test_quit(self) -> None:
        """
        After the farewell the server closes the connection.
        """
        self.assertEqual(self.send(b"QUIT\n"), [FAREWELL])
        self.assertTrue(self.transport.disconnecting)

    def test_mistakes(self) -> None:
        """
        Wrong commands and sizes get an error line, and the connection goes on.
        """
        too_big = f"FILE {MAX_FILE_SIZE + 1}\n".encode()
        for wrong in (
            b"HELP\n",
            b"\n",
            b"\xff\xfe\n",
            b"DATA 1\n",
            b"FILE\n",
            b"FILE -1\n",
            too_big,
        ):
            (line,) = self.send(wrong)
            self.assertTrue(line.startswith(b"Error: "), line)
        self.assertFalse(self.transport.disconnecting)

    def test_long_line(self) -> None:
        """
        A line without end is not collected for ever.
        """
        (line,) = self.send(bytes(MAX_LINE + 2))
        self.assertEqual(line, b"Error: a line has at most 200 bytes")
        self.assertTrue(self.transport.disconnecting)

    def test_commands_wait_for_the_file(self) -> None:
        """
        What is asked for behind a file is answered behind it.
        """
        self.assertEqual(self.send(b"FILE 5\nLOGIN\n"), [])
        self.clock.pump([1.0] * 3)
        for _ in range(2):
            assert self.transport.producer is not None
            self.transport.producer.resumeProducing()
        header, rest = self.transport.value().split(b"\n", 1)
        self.assertTrue(header.startswith(b"5 "))
        self.assertEqual(rest, SeededBytes(4).read(5) + GREETING + b"\n")

    def test_client_that_leaves_stops_the_work(self) -> None:
        """
        A large file is computed in many turns, and no longer than its client stays.
        """
        self.assertEqual(self.send(f"FILE {MAX_FILE_SIZE}\n".encode()), [])
        self.clock.pump([1.0] * 3)
        self.assertNotEqual(self.clock.getDelayedCalls(), [])
        self.protocol.connectionLost()
        self.clock.advance(1.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LineClientTests(SynchronousTestCase):
    """
    What the client's side reads, and when.
    """

    def setUp(self) -> None:
        """
        Connect a client to a string.
        """
        self.client = LineClient()
        self.transport = StringTransport()
        self.client.makeConnection(self.transport)

    def test_reads_only_what_it_is_asked_for(self) -> None:
        """
        Until the next request the transport is paused, and what has arrived waits.
        """
        self.assertEqual(self.transport.producerState, "paused")
        line = self.client.read_line()
        self.assertEqual(self.transport.producerState, "producing")
        self.client.dataReceived(b"one\ntwo\n")
        self.assertEqual(self.successResultOf(line), b"one")
        self.assertEqual(self.transport.producerState, "paused")
        self.assertEqual(self.successResultOf(self.client.read_line()), b"two")

    def test_lines_follow_blocks(self) -> None:
        """
        A block ends at its limit, and a line may follow in the same packet.
        """
        first = self.client.read_line()
        self.client.dataReceived(b"size\nabcdeline\n")
        self.assertEqual(self.successResultOf(first), b"size")
        self.assertEqual(self.successResultOf(self.client.read_block(3)), b"abc")
        self.assertEqual(self.successResultOf(self.client.read_block(2)), b"de")
        self.assertEqual(self.successResultOf(self.client.read_line()), b"line")

    def test_lost_connection(self) -> None:
        """
        Whoever waits when the connection ends, or asks after it, is told.
        """
        self.failureResultOf(self.read_and_lose(), ConnectionLost)
        self.assertRaises(ConnectionLost, self.client.read_line)
        self.successResultOf(self.client.disconnect())

    def read_and_lose(self) -> Deferred[bytes]:
        """
        Ask for a line and lose the connection.
        """
        line = self.client.read_line()
        self.client.connectionLost()
        return line


class ClientTests(TestCase):
    """
    The client with a real server.
    """

    timeout = 20

    def test_dialogue(self) -> Deferred[None]:
        """
        The dialogue is recorded, command by command.
        """

        async def run() -> None:
            async with listening(LineServerFactory(reactor)) as port:
                dialogue = await run_dialogue(reactor, "127.0.0.1", port)
            self.assertEqual([sent for sent, _ in dialogue], ["LOGIN", "DATA", "QUIT"])
            self.assertEqual(dialogue[0][1], GREETING.decode())
            self.assertEqual(len(dialogue[1][1].splitlines()), 6)
            self.assertEqual(dialogue[2][1], FAREWELL.decode())

        return Deferred.fromCoroutine(run())

    def test_file(self) -> Deferred[None]:
        """
        A file of any size arrives intact, and progress is reported up to its size.
        """

        async def run() -> None:
            async with listening(LineServerFactory(reactor, seed=9)) as port:
                for size in (0, 1, 65_536, 3_000_001):
                    seen = [0]
                    result = await fetch_file(reactor, "127.0.0.1", port, size, seen.append)
                    self.assertTrue(result.is_intact)
                    self.assertEqual(seen[-1], size)
                    self.assertEqual(seen, sorted(seen))

        return Deferred.fromCoroutine(run())

    def test_wrong_file_is_noticed(self) -> Deferred[None]:
        """
        A single wrong byte makes the hashes differ.
        """

        async def run() -> None:
            answer = b"4 " + b"0" * 64 + b"\n" + SeededBytes(0).read(4)
            async with listening(make_garbler(answer)) as port:
                result = await fetch_file(reactor, "127.0.0.1", port, 4)
            self.assertFalse(result.is_intact)

        return Deferred.fromCoroutine(run())

    def test_connection_that_ends_early(self) -> Deferred[None]:
        """
        A server that goes away in the middle is an error, as is one that refuses.
        """

        async def run() -> None:
            async with listening(make_garbler(b"9 00\nxx")) as port:
                with self.assertRaises(ConnectionLost):
                    await fetch_file(reactor, "127.0.0.1", port, 9)
            async with listening(make_garbler(b"Error: no\n")) as port:
                with self.assertRaisesRegex(ValueError, "does not send the file: Error: no"):
                    await fetch_file(reactor, "127.0.0.1", port, 9)
            async with listening(make_garbler(b"hello\n")) as port:
                with self.assertRaises(ConnectionLost):
                    await run_dialogue(reactor, "127.0.0.1", port)

        return Deferred.fromCoroutine(run())
