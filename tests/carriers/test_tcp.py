"""
Tests of :mod:`resip.carriers.tcp`, over transports in memory.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IPushProducer, ITCPTransport
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from resip.carriers.tcp import (
    CLOSE_TIMEOUT,
    EARLY_REDIALS,
    FIRST_REDIAL,
    INTRODUCTION_TIMEOUT,
    MAX_LATE_REDIAL,
    MAX_REDIAL,
    MAX_STRANGERS,
    TCPConnection,
    redial_delay,
    redialling_service,
)
from resip.core.types import Path
from tests.carriers.fixture import BAD, GOOD, SIZE, TCPCarrierTestCase
from tests.tunnel.programs import MemoryTransport


class BlockTests(TCPCarrierTestCase):
    """
    From stream to packets and back.
    """

    def test_one_byte_at_a_time(self) -> None:
        """
        A packet is handed on when its last byte is there, and not before.
        """
        connection = self.connect()
        for position in range(SIZE):
            self.assertEqual(self.received, [])
            connection.protocol.dataReceived(GOOD[position : position + 1])
        self.assertEqual(self.received, [(GOOD, connection.path)])

    def test_several_at_once(self) -> None:
        """
        However the stream is cut, the packets are the same.
        """
        stream = b"".join(b"good%d" % number + bytes(SIZE - 5) for number in range(9))
        for cut in (1, SIZE - 1, SIZE, SIZE + 1, 3 * SIZE + 5, 9 * SIZE):
            self.received.clear()
            connection = self.connect(cut)
            for start in range(0, len(stream), cut):
                connection.protocol.dataReceived(stream[start : start + cut])
            self.assertEqual(b"".join(data for data, _ in self.received), stream)
            self.assertEqual({len(data) for data, _ in self.received}, {SIZE})

    def test_the_path_is_reliable(self) -> None:
        """
        The session leaves loss detection to the connection.
        """
        connection = self.connect()
        self.assertEqual(connection.path, Path("tcp", ("192.0.2.7", 1), is_reliable=True))
        self.assertEqual(self.connected, [connection.path])
        self.assertTrue(connection.transport.noDelay)

    def test_garbage_first(self) -> None:
        """
        A stranger whose first block is no packet is cut off, and the rest is not looked at.
        """
        connection = self.connect()
        connection.protocol.dataReceived(BAD + GOOD)
        self.assertTrue(connection.is_aborted)
        self.assertEqual([data for data, _ in self.received], [BAD])

    def test_garbage_later(self) -> None:
        """
        Once the blocks are out of step nothing useful can follow, so the connection is cut.
        """
        connection = self.connect()
        connection.protocol.dataReceived(GOOD + BAD)
        self.assertTrue(connection.is_aborted)

    def test_packets_are_sent_back_to_back(self) -> None:
        """
        What is sent on a path goes out on its connection alone.
        """
        one, two = self.connect(1), self.connect(2)
        self.carrier.send(two.path, [GOOD, BAD])
        self.assertEqual(two.transport.value(), GOOD + BAD)
        self.assertEqual(one.transport.value(), b"")

    def test_a_full_connection_takes_nothing(self) -> None:
        """
        Between pause and resume the path is not writable; then its owner is called back.
        """
        connection = self.connect()
        producer = cast(IPushProducer, connection.transport.producer)
        producer.pauseProducing()
        self.assertFalse(self.carrier.is_writable(connection.path))
        self.assertEqual(self.writable, [])
        producer.resumeProducing()
        self.assertTrue(self.carrier.is_writable(connection.path))
        self.assertEqual(self.writable, [connection.path])
        producer.stopProducing()
        self.assertFalse(self.carrier.is_writable(connection.path))

    def test_a_lost_connection_is_reported_once(self) -> None:
        """
        Its path is gone: not writable, silent, and nothing of half a packet stays.
        """
        connection = self.connect()
        connection.protocol.dataReceived(GOOD + b"half")
        connection.lose()
        self.assertEqual(self.closed, [connection.path])
        self.assertFalse(self.carrier.is_writable(connection.path))
        self.carrier.send(connection.path, [GOOD])
        self.carrier.close(connection.path)
        self.assertEqual(self.carrier.connection_count, 0)
        self.assertEqual(connection.transport.ends, [])

    def test_close_all(self) -> None:
        """
        Every connection is cut.
        """
        connections = [self.connect(port) for port in (1, 2, 3)]
        self.carrier.close_all()
        self.assertTrue(all(connection.is_aborted for connection in connections))


class ShutDownTests(TCPCarrierTestCase):
    """
    The end of a carrier, which the goodbye of its sessions must not be lost in.
    """

    def test_it_waits_for_the_peers(self) -> None:
        """
        Connections are ended, not cut, and what still arrives is thrown away.
        """
        connection = self.connect()
        connection.protocol.dataReceived(GOOD)
        self.received.clear()
        closed = self.carrier.shut_down()
        self.assertEqual(connection.transport.ends, ["end"])
        connection.protocol.dataReceived(BAD)
        self.assertEqual(self.received, [])
        self.assertNoResult(closed)
        connection.lose()
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_does_not_wait_for_ever(self) -> None:
        """
        A peer that does not end its side in time is cut off.
        """
        connection = self.connect()
        connection.protocol.dataReceived(GOOD)
        closed = self.carrier.shut_down()
        self.clock.advance(CLOSE_TIMEOUT)
        self.assertEqual(connection.transport.ends, ["end", "abort"])
        connection.lose()
        self.successResultOf(closed)

    def test_strangers_are_cut(self) -> None:
        """
        There is nothing to say to a stranger, nor to one that comes now.
        """
        stranger = self.connect(1)
        closed = self.carrier.shut_down()
        late = self.connect(2)
        self.assertEqual(stranger.transport.ends, ["abort"])
        self.assertEqual(late.transport.ends, ["abort"])
        stranger.lose()
        self.successResultOf(closed)

    def test_nothing_to_close(self) -> None:
        """
        Without connections it is done at once.
        """
        self.successResultOf(self.carrier.shut_down())


class StrangerTests(TCPCarrierTestCase):
    """
    Connections that have not shown an authentic packet.
    """

    def test_a_silent_stranger_is_cut_off(self) -> None:
        """
        Without a packet in time the connection ends; half a packet does not help.
        """
        connection = self.connect()
        connection.protocol.dataReceived(GOOD[:-1])
        self.clock.advance(INTRODUCTION_TIMEOUT - 1)
        self.assertFalse(connection.is_aborted)
        self.clock.advance(1)
        self.assertTrue(connection.is_aborted)

    def test_an_authentic_packet_is_enough(self) -> None:
        """
        After one packet the connection stays as long as it likes.
        """
        connection = self.connect()
        connection.protocol.dataReceived(GOOD)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1e6)
        self.assertFalse(connection.is_aborted)

    def test_a_stranger_that_leaves_is_forgotten(self) -> None:
        """
        No timer outlives its connection.
        """
        self.connect().lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_number_of_strangers_is_limited(self) -> None:
        """
        One more than the limit takes the place of the oldest; friends do not count.
        """
        friend = self.connect(1)
        friend.protocol.dataReceived(GOOD)
        strangers = [self.connect(port) for port in range(2, MAX_STRANGERS + 2)]
        self.assertFalse(any(stranger.is_aborted for stranger in strangers))
        last = self.connect(MAX_STRANGERS + 2)
        self.assertEqual(
            [each.is_aborted for each in (friend, *strangers, last)],
            [False, True] + [False] * MAX_STRANGERS,
        )

    def test_a_crowd_in_one_turn(self) -> None:
        """
        Connections that come before those that were cut are gone push out one each.
        """
        strangers = [self.connect(port) for port in range(MAX_STRANGERS + 3)]
        self.assertEqual([s.is_aborted for s in strangers[:4]], [True, True, True, False])
        self.assertEqual(strangers[0].transport.ends, ["abort"])


class DiallingSideTests(TCPCarrierTestCase):
    """
    The side that knows whom it dialled.
    """

    requires_introduction = False

    def test_nobody_has_to_introduce_himself(self) -> None:
        """
        A server that says nothing for a while is not cut off.
        """
        connection = self.connect()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        connection.protocol.dataReceived(GOOD)
        self.assertFalse(connection.is_aborted)


class RedialTests(TCPCarrierTestCase):
    """
    When a lost connection is dialled again.
    """

    requires_introduction = False

    def test_redial_delay(self) -> None:
        """
        Soon at first, then every two seconds, after an hour every ten; never an overflow.
        """
        self.assertEqual(redial_delay(0), FIRST_REDIAL)
        self.assertEqual(redial_delay(1), 2 * FIRST_REDIAL)
        self.assertEqual(redial_delay(20), MAX_REDIAL)
        self.assertEqual(redial_delay(EARLY_REDIALS), MAX_REDIAL)
        self.assertEqual(redial_delay(EARLY_REDIALS + 1), MAX_LATE_REDIAL)
        self.assertEqual(redial_delay(10**9), MAX_LATE_REDIAL)

    def redial(self, reactor: MemoryReactorClock) -> None:
        """
        Keep a connection of the carrier.
        """
        endpoint = TCP4ClientEndpoint(reactor, "192.0.2.7", 31266)
        service = redialling_service(endpoint, self.carrier, reactor)
        service.startService()
        self.addCleanup(lambda: self.successResultOf(service.stopService()))

    def test_redialling(self) -> None:
        """
        A refused attempt is repeated after its delay, without a line in the log for each.
        """
        reactor = MemoryReactorClock()
        lines: list[LogEvent] = []
        observer = cast(ILogObserver, lines.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.redial(reactor)
        for attempt in range(1, 6):
            self.assertEqual(len(reactor.tcpClients), attempt)
            factory = reactor.tcpClients[-1][2]
            factory.clientConnectionFailed(
                reactor.connectors[-1], Failure(ConnectionRefusedError())
            )
            reactor.advance(redial_delay(attempt - 1))
        self.assertEqual(lines, [])

    def test_a_server_that_cuts_every_connection(self) -> None:
        """
        Connections that were of no use are dialled again more and more slowly; after one that
        was of use it begins anew.
        """
        reactor = MemoryReactorClock()
        self.redial(reactor)
        for delay in (0.2, 0.4, 0.8, 1.6, MAX_REDIAL, MAX_REDIAL):
            self.accept(reactor).connectionLost(Failure(ConnectionDone()))
            dialled = len(reactor.tcpClients)
            reactor.advance(delay - 0.01)
            self.assertEqual(len(reactor.tcpClients), dialled)
            reactor.advance(0.01)
            self.assertEqual(len(reactor.tcpClients), dialled + 1)
        useful = self.accept(reactor)
        useful.dataReceived(GOOD)
        self.assertEqual(self.carrier.fruitless, 0)
        useful.connectionLost(Failure(ConnectionDone()))
        reactor.advance(FIRST_REDIAL)
        self.assertEqual(len(reactor.tcpClients), dialled + 2)

    def test_a_connection_that_was_of_use(self) -> None:
        """
        It is dialled again at once, unless it was gone at once: that may go on for ever.
        """
        reactor = MemoryReactorClock()
        self.redial(reactor)
        for life, is_at_once in ((FIRST_REDIAL, True), (FIRST_REDIAL / 2, False)):
            connection = self.accept(reactor)
            connection.dataReceived(GOOD)
            self.clock.advance(life)
            dialled = len(reactor.tcpClients)
            connection.connectionLost(Failure(ConnectionDone()))
            reactor.advance(0)
            self.assertEqual(len(reactor.tcpClients), dialled + is_at_once)
            reactor.advance(FIRST_REDIAL)
            self.assertEqual(len(reactor.tcpClients), dialled + 1)

    def accept(self, reactor: MemoryReactorClock) -> IProtocol:
        """
        Let the last attempt succeed, and return what the transport would call.
        """
        address = IPv4Address("TCP", "192.0.2.7", 31266)
        protocol = reactor.tcpClients[-1][2].buildProtocol(address)
        assert protocol is not None
        transport = MemoryTransport()
        transport.peerAddr = address
        protocol.makeConnection(cast(ITCPTransport, transport))
        return cast(IProtocol, protocol)

    def test_protocols(self) -> None:
        """
        Every connection has a protocol of its own.
        """
        self.assertIsInstance(self.carrier.buildProtocol(None), TCPConnection)
