"""
Tests of :mod:`resip.core.classic.receiver`.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.packet import Flag, InnerPacket
from resip.core.classic.receiver import Arrival, ChannelReceiver, inflate
from resip.core.errors import ProtocolError

SMALL = ClassicConfiguration(
    reorder_window=10, receive_buffer=100, max_message=1000, max_fragments=4
)


def make_receiver(
    *,
    is_datagram: bool = False,
    compress: bool = False,
    configuration: ClassicConfiguration = SMALL,
) -> ChannelReceiver:
    """
    A receiver with small limits.
    """
    return ChannelReceiver(configuration, is_datagram=is_datagram, compress=compress)


def receive(receiver: ChannelReceiver, number: int, data: bytes = b"", flags: int = 0) -> Arrival:
    """
    Let a packet arrive.
    """
    return receiver.receive(InnerPacket(flags, 1, number, data), is_crowded=False)


def deflate(data: bytes, window_bits: int = -zlib.MAX_WBITS, flush: int = zlib.Z_FINISH) -> bytes:
    """
    A deflate stream, raw unless told otherwise.
    """
    stream = zlib.compressobj(6, zlib.DEFLATED, window_bits)
    return stream.compress(data) + stream.flush(flush)


class OrderTests(SynchronousTestCase):
    """
    Numbers decide the order.
    """

    @given(st.permutations(range(1, 11)), st.lists(st.integers(1, 10)))
    def test_any_order_is_put_in_order(self, order: list[int], again: list[int]) -> None:
        """
        Packets in any order, some of them twice, are handed out in order and once.
        """
        receiver, taken = make_receiver(), b""
        for number in [*order, *again]:
            receive(receiver, number, b"%d," % number)
            taken += b"".join(receiver.take())
        self.assertEqual(taken, b"1,2,3,4,5,6,7,8,9,10,")

    def test_a_duplicate_is_known(self) -> None:
        """
        A packet that waits, and one that was handed out, are duplicates.
        """
        receiver = make_receiver()
        self.assertIs(receive(receiver, 2), Arrival.NEW)
        self.assertIs(receive(receiver, 2), Arrival.DUPLICATE)
        self.assertIs(receive(receiver, 1), Arrival.NEW)
        receiver.take()
        self.assertIs(receive(receiver, 1), Arrival.DUPLICATE)

    def test_the_highest_number(self) -> None:
        """
        It is known whether the packet waits, was handed out, or never came.
        """
        receiver = make_receiver()
        self.assertEqual(receiver.highest, 0)
        receive(receiver, 3)
        self.assertEqual(receiver.highest, 3)
        receive(receiver, 1)
        receive(receiver, 2)
        receiver.take()
        self.assertEqual(receiver.highest, 3)


class LimitTests(SynchronousTestCase):
    """
    What the peer can fill is bounded.
    """

    def test_the_window(self) -> None:
        """
        A number that is too far ahead is refused, and accepted when the gap before is closed.
        """
        receiver = make_receiver()
        self.assertIs(receive(receiver, 11), Arrival.REFUSED)
        self.assertTrue(receiver.has_refused)
        self.assertIs(receive(receiver, 10), Arrival.NEW)
        self.assertIs(receive(receiver, 1), Arrival.NEW)
        receiver.take()
        self.assertIs(receive(receiver, 11), Arrival.NEW)

    def test_no_flood_holds_more_than_the_window(self) -> None:
        """
        Whatever arrives, there are never more packets than the window.
        """
        receiver = make_receiver()
        for number in range(2, 1000):
            receive(receiver, number, b"x" * 474)
        self.assertEqual(receiver.pending_count, 9)

    def test_a_crowded_session_takes_only_the_next(self) -> None:
        """
        The next number always enters, so that a crowd dissolves.
        """
        receiver = make_receiver()
        packets = [InnerPacket(0, 1, number, b"x") for number in (2, 1)]
        arrivals = [receiver.receive(packet, is_crowded=True) for packet in packets]
        self.assertEqual(arrivals, [Arrival.REFUSED, Arrival.NEW])

    def test_an_application_that_does_not_consume(self) -> None:
        """
        Beyond its buffer packets stay packed, until it consumes.
        """
        receiver = make_receiver()
        for number in range(1, 8):
            receive(receiver, number, bytes(40))
        self.assertEqual(len(receiver.take()), 3)
        self.assertEqual((receiver.take(), receiver.is_readable), ([], False))
        self.assertEqual((receiver.unconsumed, receiver.pending_count), (120, 4))
        receiver.consume(40)
        self.assertTrue(receiver.is_readable)
        self.assertEqual(len(receiver.take()), 1)

    def test_consuming_more_than_was_received(self) -> None:
        """
        It counts as everything.
        """
        receiver = make_receiver()
        receiver.consume(1000)
        self.assertEqual(receiver.unconsumed, 0)

    def test_too_many_fragments(self) -> None:
        """
        A message that never ends is not collected for ever.
        """
        receiver = make_receiver(is_datagram=True)
        for number in range(1, 6):
            receive(receiver, number, b"x", Flag.MORE)
        self.assertRaises(ProtocolError, receiver.take)


class EndTests(SynchronousTestCase):
    """
    The last number.
    """

    def test_it_is_finished_when_all_was_handed_out(self) -> None:
        """
        Complete is when all is here, finished when all was taken.
        """
        receiver = make_receiver()
        receive(receiver, 1, b"a")
        self.assertFalse(receiver.is_complete)
        receiver.last = 2
        self.assertFalse(receiver.is_complete)
        receive(receiver, 2, b"b")
        self.assertEqual((receiver.is_complete, receiver.is_finished), (True, False))
        receiver.take()
        self.assertTrue(receiver.is_finished)

    def test_an_end_without_data(self) -> None:
        """
        Last 0 is finished at once.
        """
        receiver = make_receiver()
        receiver.last = 0
        self.assertTrue(receiver.is_finished)

    def test_what_came_before_the_end_was_announced(self) -> None:
        """
        Packets beyond it are never handed out, and do not make the rest complete.
        """
        receiver = make_receiver()
        for number in (1, 3, 4):
            receive(receiver, number, b"%d" % number)
        receiver.last = 2
        self.assertFalse(receiver.is_complete)
        receive(receiver, 2, b"2")
        self.assertTrue(receiver.is_complete)
        self.assertEqual(receiver.take(), [b"1", b"2"])
        self.assertFalse(receiver.is_readable)
        self.assertEqual(receiver.take(), [])

    def test_nothing_comes_after_the_last(self) -> None:
        """
        A higher number is refused, and no reason to announce room.
        """
        receiver = make_receiver()
        receiver.last = 2
        self.assertIs(receive(receiver, 3), Arrival.REFUSED)
        self.assertFalse(receiver.has_refused)


class MessageTests(SynchronousTestCase):
    """
    From fragments to what was written.
    """

    def test_a_stream_does_not_wait_for_the_end_of_a_message(self) -> None:
        """
        Without compression a fragment is readable by itself.
        """
        receiver = make_receiver()
        receive(receiver, 1, b"first", Flag.MORE)
        self.assertEqual(receiver.take(), [b"first"])

    def test_empty_packets_are_nothing(self) -> None:
        """
        A push hands out nothing, on a stream and on datagrams, compressed or not.
        """
        for is_datagram in (False, True):
            for compress in (False, True):
                receiver = make_receiver(is_datagram=is_datagram, compress=compress)
                receive(receiver, 1, b"", Flag.MORE)
                receive(receiver, 2)
                self.assertEqual((receiver.take(), receiver.next_number), ([], 3))

    def test_datagrams_are_whole(self) -> None:
        """
        One message is one datagram, and nothing is handed out before its end.
        """
        receiver = make_receiver(is_datagram=True)
        receive(receiver, 1, b"one ", Flag.MORE)
        self.assertEqual(receiver.take(), [])
        receive(receiver, 2, b"datagram")
        receive(receiver, 3, b"another")
        self.assertEqual(receiver.take(), [b"one datagram", b"another"])

    def test_compressed_fragments(self) -> None:
        """
        A message is inflated when it is whole; of its flags the last one counts.
        """
        receiver = make_receiver(compress=True)
        stream = deflate(b"text " * 20)
        receive(receiver, 1, stream[:5], Flag.MORE)
        receive(receiver, 2, stream[5:], Flag.COMPRESSED)
        self.assertEqual(receiver.take(), [b"text " * 20])

    def test_an_unflagged_message_on_a_compressed_channel(self) -> None:
        """
        It is taken as it is.
        """
        receiver = make_receiver(compress=True)
        receive(receiver, 1, b"plain ", Flag.MORE)
        receive(receiver, 2, b"text")
        self.assertEqual(receiver.take(), [b"plain text"])

    def test_compression_that_was_not_agreed_on(self) -> None:
        """
        It is refused before it takes any room.
        """
        receiver = make_receiver()
        self.assertIs(receive(receiver, 1, deflate(b"x"), Flag.COMPRESSED), Arrival.REFUSED)
        self.assertEqual(receiver.pending_count, 0)

    def test_compressed_datagrams(self) -> None:
        """
        Each inflates by itself.
        """
        receiver = make_receiver(is_datagram=True, compress=True)
        receive(receiver, 1, deflate(b"one"), Flag.COMPRESSED)
        receive(receiver, 2, deflate(b"two"), Flag.COMPRESSED)
        self.assertEqual(receiver.take(), [b"one", b"two"])


class InflateTests(SynchronousTestCase):
    """
    What counts as a compressed message.
    """

    def test_the_forms(self) -> None:
        """
        Raw, with zlib's wrapper, and either of them flushed instead of finished.
        """
        data = b"some text, some text, some text"
        for window_bits in (-zlib.MAX_WBITS, zlib.MAX_WBITS):
            for flush in (zlib.Z_FINISH, zlib.Z_SYNC_FLUSH):
                self.assertEqual(inflate(deflate(data, window_bits, flush), 1000), data)

    def test_an_empty_message(self) -> None:
        """
        It inflates to nothing.
        """
        self.assertIsNone(inflate(deflate(b""), 1000))
        self.assertIsNone(inflate(deflate(b"", zlib.MAX_WBITS), 1000))

    def test_a_bomb(self) -> None:
        """
        A message may inflate to the limit, not to a byte more.
        """
        self.assertEqual(inflate(deflate(bytes(1000)), 1000), bytes(1000))
        self.assertRaises(ProtocolError, inflate, deflate(bytes(1001)), 1000)
        self.assertRaises(ProtocolError, inflate, deflate(bytes(50_000_000)), 1000)

    def test_a_bomb_resets_before_it_bursts(self) -> None:
        """
        A receiver raises for it, as its session expects.
        """
        receiver = make_receiver(compress=True)
        receive(receiver, 1, deflate(bytes(1_000_000))[:474], Flag.COMPRESSED)
        self.assertRaises(ProtocolError, receiver.take)

    def test_garbage(self) -> None:
        """
        What is no deflate stream is refused.
        """
        for message in (b"", b"\xff", b"\xff" * 100, b"\x78"):
            self.assertRaises(ProtocolError, inflate, message, 1000)

    @given(st.binary(max_size=300))
    def test_any_bytes_inflate_or_raise_protocol_errors(self, message: bytes) -> None:
        """
        There is no other exception, and never more than the limit.
        """
        try:
            plain = inflate(message, 1000)
        except ProtocolError:
            return
        self.assertLessEqual(len(plain or b""), 1000)


class FuzzTests(SynchronousTestCase):
    """
    Any packets in any order.
    """

    @given(st.integers(0, 10_000), st.booleans(), st.booleans())
    def test_limits_hold(self, seed: int, is_datagram: bool, compress: bool) -> None:
        """
        Whatever arrives, limits hold and only protocol errors are raised.
        """
        random = Random(seed)
        configuration = replace(SMALL, receive_buffer=50)
        receiver = make_receiver(
            is_datagram=is_datagram, compress=compress, configuration=configuration
        )
        for _ in range(60):
            flags = random.choice([0, Flag.MORE, Flag.COMPRESSED])
            receive(receiver, random.randrange(1, 25), random.randbytes(30), flags)
            receiver.consume(random.randrange(40))
            try:
                receiver.take()
            except ProtocolError:
                return
            self.assertLess(receiver.unconsumed, 50 + 4 * 30 + 1000)
            self.assertLessEqual(receiver.pending_count, configuration.reorder_window)
