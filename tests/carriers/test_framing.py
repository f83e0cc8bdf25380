"""
Tests of :mod:`resip.carriers.framing`, alone and on the connections of a carrier.
"""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.framing import (
    MAX_BAD_PACKETS,
    MAX_PACKET_SIZE,
    PREAMBLE_SIZE,
    BlockFraming,
    Framing,
    PrefixFraming,
)
from resip.carriers.tcp import INTRODUCTION_TIMEOUT, MAX_STRANGER_BYTES, TCPCarrier
from resip.core.errors import ProtocolError
from resip.core.trains import MIN_PACKET_SIZE
from tests.carriers.fixture import BAD, GOOD, SIZE, MemoryConnection, TCPCarrierTestCase

SESSION_ID = b"\x8a\x01\x02\x03"
MODERN_GOOD = b"good, modern, and of any size it likes"
MODERN_BAD = b"bad, modern, and of any size it likes"
#: The length of the largest packet, and no end of it.
ENDLESS = b"\xff\xff" + bytes(65_000)


def feed_in_cuts(framing: Framing, stream: bytes, cut: int) -> list[bytes]:
    """
    The packets of a stream that arrives in pieces of ``cut`` bytes.
    """
    packets = []
    for start in range(0, len(stream), cut):
        packets += framing.feed(stream[start : start + cut])
    return packets


class BlockFramingTests(SynchronousTestCase):
    """
    Packets of one size.
    """

    @given(st.lists(st.binary(min_size=7, max_size=7)), st.integers(1, 40))
    def test_round_trip(self, packets: list[bytes], cut: int) -> None:
        """
        However the stream is cut, the packets are the same and nothing stays.
        """
        framing = BlockFraming(7)
        self.assertEqual(feed_in_cuts(framing, b"".join(framing.wrap(packets)), cut), packets)
        self.assertEqual(framing.kept, 0)

    def test_less_than_a_packet_is_kept(self) -> None:
        """
        What stays of any number of bytes is the beginning of one packet.
        """
        framing = BlockFraming(7)
        for _ in range(20):
            framing.feed(bytes(6))
            self.assertLess(framing.kept, 7)

    def test_sizes(self) -> None:
        """
        Packets of another size are the caller's mistake, and so is a size below 1.
        """
        for packet in (b"", bytes(6), bytes(8)):
            self.assertRaises(ValueError, BlockFraming(7).wrap, [bytes(7), packet])
        self.assertRaises(ValueError, BlockFraming, 0)


class PrefixFramingTests(SynchronousTestCase):
    """
    Packets of any size.
    """

    @given(st.lists(st.binary(min_size=MIN_PACKET_SIZE, max_size=400)), st.integers(1, 900))
    def test_round_trip(self, packets: list[bytes], cut: int) -> None:
        """
        However the stream is cut, the packets are the same and nothing stays.
        """
        framing = PrefixFraming()
        self.assertEqual(feed_in_cuts(framing, b"".join(framing.wrap(packets)), cut), packets)
        self.assertEqual(framing.kept, 0)

    @given(st.lists(st.binary(max_size=80)))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """
        Whatever arrives gives packets or a protocol error, and keeps at most one packet.
        """
        framing = PrefixFraming()
        for piece in pieces:
            try:
                packets = framing.feed(piece)
            except ProtocolError:
                return
            self.assertTrue(all(len(packet) >= MIN_PACKET_SIZE for packet in packets))
            self.assertLess(framing.kept, 2 + MAX_PACKET_SIZE)

    def test_one_byte_at_a_time(self) -> None:
        """
        A packet is there with its last byte, and not before.
        """
        framing = PrefixFraming()
        stream = b"".join(framing.wrap([MODERN_GOOD]))
        self.assertEqual(stream, bytes([0, len(MODERN_GOOD)]) + MODERN_GOOD)
        self.assertEqual(feed_in_cuts(framing, stream[:-1], 1), [])
        self.assertEqual(framing.kept, len(stream) - 1)
        self.assertEqual(framing.feed(stream[-1:]), [MODERN_GOOD])

    def test_limits(self) -> None:
        """
        The smallest and the largest packet pass; none beyond them is wrapped.
        """
        packets = [bytes(MIN_PACKET_SIZE), bytes(MAX_PACKET_SIZE)]
        framing = PrefixFraming()
        self.assertEqual(framing.feed(b"".join(framing.wrap(packets))), packets)
        for size in (0, MIN_PACKET_SIZE - 1, MAX_PACKET_SIZE + 1):
            self.assertRaises(ValueError, framing.wrap, [bytes(size)])

    def test_a_length_that_no_packet_has(self) -> None:
        """
        Nothing and too little are refused as soon as the length is there.
        """
        for size in (0, 1, MIN_PACKET_SIZE - 1):
            framing = PrefixFraming()
            framing.feed(b"\0")
            self.assertRaises(ProtocolError, framing.feed, bytes([size]))

    def test_at_most_one_packet_is_kept(self) -> None:
        """
        The largest packet that lacks a byte is all that a peer can have kept.
        """
        framing = PrefixFraming()
        stream = b"".join(framing.wrap([bytes(MAX_PACKET_SIZE)]))
        framing.feed(stream * 3 + stream[:-1])
        self.assertEqual(framing.kept, len(stream) - 1)
        framing.feed(stream[-1:] + stream[:-1])
        self.assertEqual(framing.kept, len(stream) - 1)


class DialectsTestCase(TCPCarrierTestCase):
    """
    A listening carrier for both dialects, of which one modern session is known.
    """

    def make_carrier(self) -> TCPCarrier:
        """
        Make it.
        """
        self.openings: list[bytes] = []
        return TCPCarrier(
            self.receive,
            choose_framing=self.choose,
            clock=self.clock,
            on_closed=self.closed.append,
            on_writable=self.writable.append,
        )

    def choose(self, opening: bytes) -> Framing:
        """
        By the session's id.
        """
        self.openings.append(opening)
        return PrefixFraming() if opening == SESSION_ID else BlockFraming(SIZE)

    def modern(self, port: int = 1, *, packets: tuple[bytes, ...] = ()) -> MemoryConnection:
        """
        A modern connection on which packets arrived.
        """
        connection = self.connect(port)
        connection.protocol.dataReceived(SESSION_ID + b"".join(PrefixFraming().wrap(list(packets))))
        return connection

    def packets(self) -> list[bytes]:
        """
        What was handed on.
        """
        return [data for data, _ in self.received]


class DialectTests(DialectsTestCase):
    """
    Which dialect a connection speaks.
    """

    def test_both_on_one_port(self) -> None:
        """
        A block begins with the bytes that were looked at, a modern packet behind them; each
        connection is answered in its own way.
        """
        classic, modern = self.connect(1), self.modern(2, packets=(MODERN_GOOD,))
        classic.protocol.dataReceived(GOOD)
        self.assertEqual(self.received, [(MODERN_GOOD, modern.path), (GOOD, classic.path)])
        self.carrier.send(classic.path, [GOOD, GOOD])
        self.carrier.send(modern.path, [MODERN_GOOD])
        self.assertEqual(classic.transport.value(), GOOD + GOOD)
        self.assertEqual(modern.transport.value(), b"".join(PrefixFraming().wrap([MODERN_GOOD])))

    def test_however_it_is_cut(self) -> None:
        """
        The dialect is chosen once, as soon as enough bytes are there.
        """
        streams = (SESSION_ID + b"".join(PrefixFraming().wrap([MODERN_GOOD] * 3)), GOOD * 3)
        for stream in streams:
            for cut in (1, 2, 3, PREAMBLE_SIZE, PREAMBLE_SIZE + 1, len(stream)):
                self.openings.clear()
                connection = self.connect(cut)
                for start in range(0, len(stream), cut):
                    connection.protocol.dataReceived(stream[start : start + cut])
                self.assertEqual(self.openings, [stream[:PREAMBLE_SIZE]])
        self.assertEqual(self.packets(), [MODERN_GOOD] * 18 + [GOOD] * 18)

    def test_an_unknown_id(self) -> None:
        """
        A modern connection for a session that nobody knows ends with its first block.
        """
        connection = self.connect()
        connection.protocol.dataReceived(
            b"none" + b"".join(PrefixFraming().wrap([MODERN_GOOD] * 2))
        )
        self.assertTrue(connection.is_aborted)

    def test_nothing_is_said_to_the_silent(self) -> None:
        """
        While a connection's dialect is open, what is sent there is lost.
        """
        connection = self.connect()
        self.carrier.send(connection.path, [GOOD])
        self.assertEqual(connection.transport.value(), b"")

    def test_a_full_connection_takes_nothing(self) -> None:
        """
        Back-pressure is the same in both dialects.
        """
        connection = self.modern(packets=(MODERN_GOOD,))
        producer = cast(IPushProducer, connection.transport.producer)
        producer.pauseProducing()
        self.assertFalse(self.carrier.is_writable(connection.path))
        producer.resumeProducing()
        self.assertEqual(self.writable, [connection.path])

    def test_the_framing_is_said_once(self) -> None:
        """
        A carrier without a framing, or with two, is the caller's mistake.
        """
        for framings in ({}, {"packet_size": SIZE, "choose_framing": self.choose}):
            with self.assertRaises(ValueError):
                TCPCarrier(
                    self.receive,
                    clock=self.clock,
                    on_closed=self.closed.append,
                    on_writable=self.writable.append,
                    **framings,  # type: ignore[arg-type]
                )


class BadPacketTests(DialectsTestCase):
    """
    Modern packets that do not authenticate.
    """

    def test_duplicates_are_tolerated(self) -> None:
        """
        After an authentic packet some that are not do no harm but are counted, and the next
        authentic one forgives them.
        """
        some = [MODERN_BAD] * (MAX_BAD_PACKETS - 1)
        connection = self.modern(packets=(MODERN_GOOD,))
        for packets in (some, [MODERN_GOOD], some, [MODERN_GOOD]):
            connection.protocol.dataReceived(b"".join(PrefixFraming().wrap(packets)))
        self.assertFalse(connection.is_aborted)
        self.assertEqual(self.packets().count(MODERN_GOOD), 3)
        self.assertEqual(self.carrier.unauthentic, 2 * len(some))

    def test_too_many_in_a_row(self) -> None:
        """
        A stream of nothing else is cut, and the rest is not looked at.
        """
        connection = self.modern(packets=(MODERN_GOOD,))
        bad = [MODERN_BAD] * (MAX_BAD_PACKETS + 5)
        connection.protocol.dataReceived(b"".join(PrefixFraming().wrap(bad)))
        self.assertTrue(connection.is_aborted)
        self.assertEqual(self.packets(), [MODERN_GOOD] + [MODERN_BAD] * MAX_BAD_PACKETS)

    def test_the_first_one(self) -> None:
        """
        Who begins with a packet that is not authentic is cut at once.
        """
        connection = self.modern(packets=(MODERN_BAD, MODERN_GOOD))
        self.assertTrue(connection.is_aborted)
        self.assertEqual(self.packets(), [MODERN_BAD])

    def test_a_length_that_no_packet_has(self) -> None:
        """
        The stream is broken for friends, too.
        """
        connection = self.modern(packets=(MODERN_GOOD,))
        connection.protocol.dataReceived(b"\0\0" + MODERN_GOOD)
        self.assertTrue(connection.is_aborted)

    def test_classic_forgives_nothing(self) -> None:
        """
        A classic connection on the same port is cut at its first bad block.
        """
        connection = self.connect()
        connection.protocol.dataReceived(GOOD + BAD)
        self.assertTrue(connection.is_aborted)


class StrangerTests(DialectsTestCase):
    """
    What those who have shown nothing can make the carrier keep.
    """

    def test_a_trickle(self) -> None:
        """
        A stranger who does not say enough to choose by is cut off in time.
        """
        connection = self.connect()
        for byte in SESSION_ID[:-1]:
            connection.protocol.dataReceived(bytes([byte]))
        self.assertEqual(connection.protocol.kept, PREAMBLE_SIZE - 1)
        self.assertEqual(self.openings, [])
        self.clock.advance(INTRODUCTION_TIMEOUT)
        self.assertTrue(connection.is_aborted)

    def test_bytes_are_limited(self) -> None:
        """
        Strangers who learned a session's id and never end a packet push out one another, the
        greediest first; a small stranger and a friend stay.
        """
        friend, small = self.modern(1, packets=(MODERN_GOOD,)), self.modern(2)
        friend.protocol.dataReceived(ENDLESS)
        small.protocol.dataReceived(ENDLESS[:1000])
        greedy = [self.modern(port) for port in range(3, 33)]
        for connection in greedy:
            connection.protocol.dataReceived(ENDLESS)
        stay = [connection for connection in greedy if not connection.is_aborted]
        self.assertEqual(len(stay), MAX_STRANGER_BYTES // len(ENDLESS))
        self.assertFalse(friend.is_aborted or small.is_aborted)


class PreambleTests(TCPCarrierTestCase):
    """
    The side that dials a modern session.
    """

    requires_introduction = False
    preamble = SESSION_ID

    def make_carrier(self) -> TCPCarrier:
        """
        One that knows its dialect, and sends as soon as it can.
        """
        return TCPCarrier(
            self.receive,
            framing=PrefixFraming,
            preamble=lambda path: self.preamble,
            clock=self.clock,
            on_connected=lambda path: self.carrier.send(path, [MODERN_GOOD]),
            on_closed=self.closed.append,
            on_writable=self.writable.append,
            requires_introduction=False,
        )

    def test_every_connection_begins_with_it(self) -> None:
        """
        The session's id goes before any packet, and the next connection says the newest.
        """
        sent = b"".join(PrefixFraming().wrap([MODERN_GOOD]))
        self.assertEqual(self.connect(1).transport.value(), SESSION_ID + sent)
        self.preamble = b"next"
        self.assertEqual(self.connect(2).transport.value(), b"next" + sent)

    def test_answers_have_none(self) -> None:
        """
        What the other side sends begins with a packet.
        """
        self.connect().protocol.dataReceived(b"".join(PrefixFraming().wrap([MODERN_GOOD])))
        self.assertEqual([data for data, _ in self.received], [MODERN_GOOD])
