"""
The receiving half of a stream: the bytes that were sent, once, in order, within bounds.
"""

from __future__ import annotations

import random
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ProtocolError
from resip.core.modern import receive_stream
from resip.core.modern.flow_control import FlowControlError
from resip.core.modern.receive_stream import ReceiveStream

DATA = random.Random(1).randbytes(2000)
CHUNKS = st.lists(st.tuples(st.integers(0, 1999), st.integers(0, 300)), max_size=60)


class ReceiveTests(SynchronousTestCase):
    """
    Pieces in any order.
    """

    def test_in_order(self) -> None:
        """
        Pieces in order are handed out joined, and charged in full.
        """
        stream = ReceiveStream(limit=100)
        self.assertEqual(stream.receive(0, [b"abc"]), 3)
        self.assertEqual(stream.receive(3, [b"de"]), 2)
        self.assertEqual((stream.ready, stream.highest), (5, 5))
        self.assertEqual(stream.take(), b"abcde")
        self.assertEqual(stream.take(), b"")

    def test_a_gap_holds_back_what_follows(self) -> None:
        """
        Nothing beyond a gap is handed out before the gap is filled; the credit is charged at
        once.
        """
        stream = ReceiveStream(limit=100)
        self.assertEqual(stream.receive(3, [b"def"]), 6)
        self.assertEqual((stream.take(), stream.highest, stream.next_offset), (b"", 6, 0))
        self.assertEqual(stream.receive(0, [b"abc"]), 0)
        self.assertEqual(stream.take(), b"abcdef")

    def test_duplicates_are_ignored(self) -> None:
        """
        M-45: copies of what arrived, taken or not, change nothing.
        """
        stream = ReceiveStream(limit=100)
        stream.receive(0, [b"abc"])
        stream.receive(6, [b"ghi"])
        for offset, copy in ((0, b"abc"), (6, b"ghi"), (1, b"b")):
            self.assertEqual(stream.receive(offset, [copy]), 0)
        self.assertEqual(stream.take(), b"abc")
        self.assertEqual(stream.receive(0, [b"abc"]), 0)
        self.assertEqual(stream.take(), b"")

    def test_overlaps_are_cut(self) -> None:
        """
        A piece that overlaps others on both sides adds only what lies between.
        """
        stream = ReceiveStream(limit=100)
        stream.receive(2, [b"cd"])
        stream.receive(6, [b"gh"])
        self.assertEqual(stream.receive(0, [b"abcdefghij"]), 2)
        self.assertEqual(stream.take(), b"abcdefghij")

    @given(CHUNKS, st.integers(1, 400))
    def test_any_pieces(self, chunks: list[tuple[int, int]], portion: int) -> None:
        """
        However pieces overlap and repeat, what is handed out is the stream, as far as it is
        complete, and the charges add up to the highest offset.
        """
        stream = ReceiveStream(limit=len(DATA))
        out = bytearray()
        arrived: set[int] = set()
        charged = 0
        for start, size in chunks:
            data = DATA[start : start + size]
            charged += stream.receive(start, [data])
            arrived.update(range(start, start + len(data)))
            self.assertEqual(stream.highest, max(arrived, default=-1) + 1)
            out += stream.take(portion)
            complete = next(at for at in range(len(DATA) + 1) if at not in arrived)
            self.assertEqual((stream.next_offset, len(out) + stream.ready), (complete, complete))
        self.assertEqual(charged, stream.highest)
        self.assertEqual(out + stream.take(), DATA[: stream.next_offset])

    @given(st.randoms(use_true_random=False))
    def test_shuffled_packets(self, dice: random.Random) -> None:
        """
        Packets in any order, each perhaps twice, make the whole stream.
        """
        packets = [(at, DATA[at : at + 70]) for at in range(0, len(DATA), 70)] * 2
        dice.shuffle(packets)
        stream = ReceiveStream(limit=len(DATA))
        charged = sum(stream.receive(at, [data]) for at, data in packets)
        self.assertEqual((stream.take(), charged), (DATA, len(DATA)))

    def test_truncated_offsets(self) -> None:
        """
        M-27: of an offset 32 bits are enough, before and after 2^32, early and late.
        """
        stream = ReceiveStream(limit=1 << 40)
        stream.next_offset = (1 << 32) - 2
        stream.receive_truncated(1, [b"def"])
        stream.receive_truncated(0xFFFFFFFE, [b"abc"])
        stream.receive_truncated(0xFFFFFFFE, [b"abc"])
        self.assertEqual(stream.take(), b"abcdef")
        self.assertEqual(stream.next_offset, (1 << 32) + 4)

    def test_portions(self) -> None:
        """
        A reader may take less than there is, across and within pieces.
        """
        stream = ReceiveStream(limit=100)
        stream.receive(0, [b"abc"])
        stream.receive(3, [b"defg"])
        taken = [stream.take(size) for size in (2, 1, 3, 0, 9)]
        self.assertEqual(taken, [b"ab", b"c", b"def", b"", b"g"])


class LimitTests(SynchronousTestCase):
    """
    What the peer cannot make us keep.
    """

    def test_beyond_the_credit(self) -> None:
        """
        M-31: a byte beyond the limit is an error, early or in order, until the limit is raised.
        """
        stream = ReceiveStream(limit=10)
        self.assertRaises(FlowControlError, stream.receive, 0, [bytes(11)])
        self.assertRaises(FlowControlError, stream.receive, 10, [b"x"])
        self.assertEqual(stream.highest, 0)
        stream.limit = 11
        self.assertEqual(stream.receive(0, [bytes(11)]), 11)

    def test_scattered_pieces(self) -> None:
        """
        A peer that sends every other byte is stopped at MAX_EARLY_PIECES; the piece that fills
        the first gap is still taken.
        """
        self.patch(receive_stream, "MAX_EARLY_PIECES", 100)
        stream = ReceiveStream(limit=1 << 30)
        for at in range(100):
            stream.receive(2 * at + 1, [b"x"])
        self.assertRaises(ProtocolError, stream.receive, 201, [b"x"])
        stream.receive(0, [b"x"])
        self.assertEqual(stream.ready, 2)

    def test_small_early_pieces_are_joined(self) -> None:
        """
        Single bytes behind a gap cost no object each: 100,000 take less than 400 kB.
        """
        stream = ReceiveStream(limit=1 << 30)
        self.assertLess(self.memory_of(stream, start=1), 400_000)
        stream.receive(0, [b"x"])
        self.assertEqual(stream.take(), b"x" * 100_001)

    def test_small_pieces_are_joined(self) -> None:
        """
        The same for bytes in order that nobody takes.
        """
        stream = ReceiveStream(limit=1 << 30)
        self.assertLess(self.memory_of(stream, start=0), 400_000)
        self.assertEqual(stream.take(), b"x" * 100_000)

    def memory_of(self, stream: ReceiveStream, *, start: int) -> int:
        """
        Bytes of memory for 100,000 pieces of a byte.
        """
        tracemalloc.start()
        for at in range(start, start + 100_000):
            stream.receive(at, [b"x"])
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return used


class EndTests(SynchronousTestCase):
    """
    M-28: the final size.
    """

    def test_finished_is_complete_and_taken(self) -> None:
        """
        A stream is finished when everything up to its final size arrived and was taken.
        """
        stream = ReceiveStream(limit=100)
        stream.receive(0, [b"abc"])
        stream.end(5)
        self.assertFalse(stream.is_finished)
        stream.take()
        self.assertFalse(stream.is_finished)
        stream.receive(3, [b"de"])
        self.assertFalse(stream.is_finished)
        stream.take()
        self.assertTrue(stream.is_finished)

    def test_an_empty_stream(self) -> None:
        """
        A stream of no bytes is finished at once.
        """
        stream = ReceiveStream(limit=100)
        stream.end(0)
        self.assertTrue(stream.is_finished)

    def test_the_final_size_is_final(self) -> None:
        """
        END may be repeated, not changed, and nothing may lie beyond it.
        """
        stream = ReceiveStream(limit=100)
        stream.receive(0, [b"abc"])
        self.assertRaises(ProtocolError, stream.end, 2)
        stream.end(5)
        stream.end(5)
        self.assertRaises(ProtocolError, stream.end, 6)
        self.assertRaises(ProtocolError, stream.receive, 3, [b"def"])
        self.assertRaises(ProtocolError, stream.receive, 5, [b"f"])
        self.assertEqual(stream.receive(3, [b"de"]), 2)

    def test_an_end_beyond_the_credit(self) -> None:
        """
        M-31: a final size that the credit does not cover is an error.
        """
        self.assertRaises(FlowControlError, ReceiveStream(limit=10).end, 11)
