"""
Tests of :mod:`resip.lab.tcp_relay`, over real sockets on the loopback interface.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from resip.lab import tcp_relay
from resip.lab.line_service import LineServerFactory, fetch_file, run_dialogue
from resip.lab.reactor import ILabReactor, IStreamTransport, get_port_number
from resip.lab.tcp_relay import TCPRelay

reactor = cast(ILabReactor, installed_reactor)
HOST = "127.0.0.1"


@implementer(IHalfCloseableProtocol)
class Caller(Protocol):
    """
    A connection that records what happens to it.
    """

    transport: IStreamTransport

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[None] = Deferred()
        self.lost: Deferred[object] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.received += data

    def readConnectionLost(self) -> None:
        """
        The peer sends no more.
        """
        self.ended.callback(None)

    def writeConnectionLost(self) -> None:
        """
        The peer is told that no more comes.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Keep the reason.
        """
        self.lost.callback(type(reason.value))


class CountAtEnd(Caller):
    """
    A server that answers the end of the stream with the number of its bytes, and ends.
    """

    def readConnectionLost(self) -> None:
        """
        Answer.
        """
        self.transport.write(b"%d" % len(self.received))
        self.transport.loseConnection()


@asynccontextmanager
async def relaying(factory: ServerFactory, **options: Any) -> AsyncIterator[TCPRelay]:
    """
    A server, and a relay to it.
    """
    factory.noisy = False
    port: IListeningPort = reactor.listenTCP(0, factory, interface=HOST)
    relay = TCPRelay(reactor, (HOST, 0), (HOST, get_port_number(port)), **options)
    relay.startService()
    try:
        yield relay
    finally:
        await relay.stopService()
        closing = port.stopListening()
        if closing is not None:
            await closing


async def connect(relay: TCPRelay) -> Caller:
    """
    Connect to the relay.
    """
    caller = Caller()
    await connectProtocol(TCP4ClientEndpoint(reactor, HOST, relay.port), caller)
    return caller


def make_counting_factory() -> ServerFactory:
    """
    A factory of servers that count.
    """
    factory = ServerFactory()
    factory.protocol = CountAtEnd
    return factory


def find_closed_port() -> int:
    """
    A TCP port on which nobody listens.
    """
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        port: int = closed.getsockname()[1]
        return port


async def wait(seconds: float) -> None:
    """
    Let the sockets work.
    """
    await deferLater(reactor, seconds)


class TCPRelayTests(TestCase):
    """
    A proxy that breaks connections.
    """

    timeout = 20

    def test_carries_a_dialogue_and_a_file(self) -> Deferred[None]:
        """
        Left alone, the relay changes nothing.
        """

        async def body() -> None:
            async with relaying(LineServerFactory(reactor)) as relay:
                dialogue = await run_dialogue(reactor, HOST, relay.port)
                result = await fetch_file(reactor, HOST, relay.port, 5_000_000)
                self.assertEqual(dialogue[2], ("QUIT", "Bye."))
                self.assertTrue(result.is_intact)
                self.assertGreater(relay.carried, 5_000_000)
                self.assertEqual((relay.accepted, relay.cuts), (2, 0))

        return Deferred.fromCoroutine(body())

    def test_half_closed_connections(self) -> Deferred[None]:
        """
        The end of one direction is passed on while the other goes on.
        """

        async def body() -> None:
            async with relaying(make_counting_factory()) as relay:
                caller = await connect(relay)
                caller.transport.write(bytes(300_000))
                caller.transport.loseWriteConnection()
                await caller.ended
                self.assertEqual(caller.received, b"300000")
                caller.transport.loseConnection()
                self.assertIs(await caller.lost, ConnectionDone)
                await wait(0.05)
                self.assertEqual(relay.connection_count, 0)

        return Deferred.fromCoroutine(body())

    def test_cut_resets_both_sides(self) -> Deferred[None]:
        """
        A cut ends every connection with a reset, and new ones are carried.
        """

        async def body() -> None:
            async with relaying(make_counting_factory()) as relay:
                callers = [await connect(relay) for _ in range(3)]
                await wait(0.05)
                self.assertEqual(relay.cut(), 3)
                for caller in callers:
                    self.assertIs(await caller.lost, ConnectionLost)
                await wait(0.02)
                self.assertEqual((relay.connection_count, relay.cuts), (0, 3))
                await connect(relay)
                await wait(0.02)
                self.assertEqual(relay.connection_count, 1)

        return Deferred.fromCoroutine(body())

    def test_regular_cuts(self) -> Deferred[None]:
        """
        With ``cut_every`` no connection lives longer than that.
        """

        async def body() -> None:
            async with relaying(make_counting_factory(), cut_every=0.1) as relay:
                for _ in range(2):
                    caller = await connect(relay)
                    self.assertIs(await caller.lost, ConnectionLost)
                self.assertEqual(relay.cuts, 2)

        return Deferred.fromCoroutine(body())

    def test_byte_limit(self) -> Deferred[None]:
        """
        A connection is reset when it has carried the limit, also in the middle of a file.
        """

        async def body() -> None:
            async with relaying(LineServerFactory(reactor), byte_limit=200_000) as relay:
                seen = [0]
                with self.assertRaises(ConnectionLost):
                    await fetch_file(reactor, HOST, relay.port, 1_000_000, seen.append)
                self.assertLess(seen[-1], 400_000)
                self.assertEqual(relay.cuts, 1)
                relay.byte_limit = None
                self.assertTrue((await fetch_file(reactor, HOST, relay.port, 1_000_000)).is_intact)

        return Deferred.fromCoroutine(body())

    def test_refuses(self) -> Deferred[None]:
        """
        A refusing relay resets new connections and leaves the old ones alone.
        """

        async def body() -> None:
            async with relaying(make_counting_factory()) as relay:
                old = await connect(relay)
                await wait(0.02)
                relay.is_refusing = True
                new = await connect(relay)
                self.assertIs(await new.lost, ConnectionLost)
                self.assertEqual((relay.refused, relay.connection_count), (1, 1))
                self.assertFalse(old.lost.called)

        return Deferred.fromCoroutine(body())

    def test_connections_are_bounded(self) -> Deferred[None]:
        """
        One connection more than the limit is refused.
        """

        async def body() -> None:
            self.patch(tcp_relay, "MAX_CONNECTIONS", 2)
            async with relaying(make_counting_factory()) as relay:
                for _ in range(2):
                    await connect(relay)
                self.assertIs(await (await connect(relay)).lost, ConnectionLost)
                self.assertEqual(relay.refused, 1)

        return Deferred.fromCoroutine(body())

    def test_target_that_is_not_there(self) -> Deferred[None]:
        """
        When nobody listens at the target the client is reset.
        """

        async def body() -> None:
            relay = TCPRelay(reactor, (HOST, 0), (HOST, find_closed_port()))
            self.assertRaises(RuntimeError, lambda: relay.port)
            relay.startService()
            caller = await connect(relay)
            self.assertIs(await caller.lost, ConnectionLost)
            await relay.stopService()
            self.assertEqual(relay.connection_count, 0)

        return Deferred.fromCoroutine(body())

    def test_sleeping_reader_stops_the_sender(self) -> Deferred[None]:
        """
        The relay holds no more than the sockets' buffers for a client that does not read.
        """

        async def body() -> None:
            async with relaying(LineServerFactory(reactor)) as relay:
                caller = await connect(relay)
                caller.transport.pauseProducing()
                caller.transport.write(b"FILE 100000000\n")
                while relay.carried < 100_000:
                    await wait(0.05)
                before = -1
                while relay.carried != before:
                    before = relay.carried
                    await wait(0.2)
                self.assertLess(relay.carried, 50_000_000)

        return Deferred.fromCoroutine(body())
