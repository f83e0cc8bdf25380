"""
The sending half of a stream: nothing is lost, nothing is kept too long, nothing is quadratic.
"""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ProtocolError
from resip.core.modern.send_stream import GROWN_SIZE, MAX_BLOCK_SIZE, EndMark, SendStream
from resip.core.modern.sent import Control, SentRun, SentStream

MANY = 1 << 40
MIB = 1 << 20


def payload(size: int) -> bytes:
    """
    Bytes of which no two neighbourhoods are alike.
    """
    return random.Random(size).randbytes(size)


def sent(size: int, *, step: int = 10) -> SendStream:
    """
    A stream of which ``size`` bytes were written and sent.
    """
    stream = SendStream()
    stream.write(payload(size))
    while stream.unsent:
        stream.cut(1000, step, credit=MANY)
    return stream


class CutTests(SynchronousTestCase):
    """
    New data in pieces.
    """

    def test_large_pieces_are_views(self) -> None:
        """
        Large pieces of a block are not copied, and say the same, also across two blocks.
        """
        stream = SendStream()
        data = payload(2 * MAX_BLOCK_SIZE + 5)
        stream.write(data)
        offset, pieces = stream.cut(100, 60_000, credit=MANY)
        self.assertEqual((offset, b"".join(pieces)), (0, data))
        self.assertIsInstance(pieces[0], memoryview)

    def test_pieces_are_equal_but_the_last(self) -> None:
        """
        A burst has pieces of one size; only the one at the end of the data is shorter.
        """
        stream = SendStream()
        stream.write(b"abcdefgh")
        self.assertEqual(stream.cut(10, 3, credit=MANY), (0, [b"abc", b"def", b"gh"]))
        self.assertEqual(stream.cut(10, 3, credit=MANY), (8, []))

    def test_the_count_is_kept(self) -> None:
        """
        No more pieces come than were asked for, and the next ones follow them.
        """
        stream = SendStream()
        stream.write(b"abcdefgh")
        self.assertEqual(stream.cut(2, 2, credit=MANY), (0, [b"ab", b"cd"]))
        self.assertEqual(stream.cut(1, 2, credit=MANY), (4, [b"ef"]))
        self.assertEqual((stream.unsent, stream.outstanding), (2, 6))

    def test_credit_ends_the_data(self) -> None:
        """
        M-31: not a byte is cut beyond the credit, even in the middle of a piece.
        """
        stream = SendStream()
        stream.write(b"abcdefgh")
        self.assertEqual(stream.cut(10, 3, credit=5), (0, [b"abc", b"de"]))
        self.assertEqual(stream.cut(10, 3, credit=0), (5, []))
        self.assertEqual(stream.cut(10, 3, credit=MANY), (5, [b"fgh"]))

    @given(
        st.lists(st.integers(1, 3 * GROWN_SIZE), max_size=8),
        st.integers(1, 64),
        st.integers(400, 65_535),
    )
    def test_all_data_comes_in_order(self, sizes: list[int], count: int, step: int) -> None:
        """
        Whatever is written in whatever portions is cut once, in order, in equal pieces.
        """
        stream = SendStream()
        data = payload(sum(sizes))
        written = 0
        for size in sizes:
            written += stream.write(data[written : written + size])
        out = bytearray()
        while stream.unsent:
            offset, pieces = stream.cut(count, step, credit=MANY)
            self.assertEqual(offset, len(out))
            self.assertEqual({len(piece) for piece in pieces[:-1]} - {step}, set())
            out += b"".join(pieces)
            if stream.unsent:
                self.assertEqual(len(pieces[-1]), step)
        self.assertEqual(out, data)


class WriteTests(SynchronousTestCase):
    """
    What is accepted, and what it costs to keep.
    """

    def test_the_limit_is_kept(self) -> None:
        """
        M-30: as many bytes are accepted as the limit allows, sent or not, until some are
        delivered.
        """
        stream = SendStream(limit=10)
        self.assertEqual(stream.write(b"abcdefg"), 7)
        stream.cut(1, 5, credit=MANY)
        stream.on_acked(0, 5)
        self.assertEqual(stream.write(b"hijklmn"), 3)
        self.assertEqual(stream.room, 0)
        stream.on_delivered(5)
        self.assertEqual(stream.room, 5)

    def test_a_compressor_may_pass_the_limit(self) -> None:
        """
        Appended bytes are all kept.
        """
        stream = SendStream(limit=4)
        stream.append(b"abcdefgh")
        self.assertEqual((stream.unsent, stream.room), (8, 0))

    def test_single_bytes_cost_little(self) -> None:
        """
        Memory is bounded in bytes, not in writes: 100,000 writes of one byte, every other one
        sent at once, take less than 400 kB.
        """
        stream = SendStream()
        tracemalloc.start()
        for at in range(100_000):
            stream.write(b"%c" % (at & 0xFF))
            if at % 2:
                stream.cut(1, 1200, credit=MANY)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(used, 400_000)
        self.assertEqual(stream.read(600, 602), b"XY")

    def test_delivered_blocks_are_freed(self) -> None:
        """
        Of a long stream no more is in memory than what is not delivered, and a few blocks.
        """
        stream = SendStream()
        data = payload(MIB)
        tracemalloc.start()
        for _ in range(16):
            stream.write(bytes(memoryview(data)))
            while stream.unsent:
                stream.cut(44, 1200, credit=MANY)
            stream.on_delivered(stream.next_offset - 1000)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(used, 2 * MAX_BLOCK_SIZE)

    def test_nothing_is_kept_when_all_is_delivered(self) -> None:
        """
        An idle stream is as small as a new one.
        """
        tracemalloc.start()
        stream = sent(100_000, step=1200)
        stream.on_delivered(100_000)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(used, 2_000)


class RepairTests(SynchronousTestCase):
    """
    What was lost is sent again, and nothing else.
    """

    def test_a_lost_range_is_cut_again(self) -> None:
        """
        A lost range comes back once, with its offset, in pieces of any size.
        """
        stream = sent(100)
        stream.on_lost(20, 45)
        self.assertTrue(stream.has_lost)
        offset, pieces = stream.cut_lost(2, 10)
        self.assertEqual((offset, b"".join(pieces)), (20, payload(100)[20:40]))
        self.assertEqual(stream.cut_lost(2, 10), (40, [payload(100)[40:45]]))
        self.assertFalse(stream.has_lost)
        self.assertEqual(stream.cut_lost(2, 10)[1], [])

    def test_what_another_copy_brought_is_not_lost(self) -> None:
        """
        The loss of one copy of a range matters only where no other one arrived, before or
        after.
        """
        stream = sent(100)
        stream.on_acked(30, 40)
        stream.on_lost(20, 50)
        stream.on_acked(40, 45)
        self.assertEqual(stream.cut_lost(9, 10), (20, [payload(100)[20:30]]))
        self.assertEqual(stream.cut_lost(9, 10), (45, [payload(100)[45:50]]))
        self.assertFalse(stream.has_lost)

    def test_what_is_delivered_is_not_lost(self) -> None:
        """
        A delivery report settles the fate of everything below it.
        """
        stream = sent(100)
        stream.on_lost(0, 60)
        stream.on_delivered(50)
        self.assertEqual(stream.cut_lost(9, 10), (50, [payload(100)[50:60]]))
        stream.on_lost(0, 50)
        self.assertFalse(stream.has_lost)

    def test_what_has_arrived(self) -> None:
        """
        A range has when all of it was acked or delivered.
        """
        stream = sent(90)
        stream.on_acked(30, 60)
        self.assertTrue(stream.has_arrived(30, 60))
        self.assertFalse(stream.has_arrived(29, 60))
        self.assertFalse(stream.has_arrived(50, 61))
        stream.on_delivered(30)
        self.assertTrue(stream.has_arrived(0, 60))

    def test_unacked_ranges(self) -> None:
        """
        M-36: probes are told the oldest bytes that are not acknowledged, and can read them.
        """
        stream = sent(100)
        stream.on_acked(10, 20)
        stream.on_acked(90, 100)
        self.assertEqual(stream.unacked_ranges(MANY), [(0, 10), (20, 90)])
        self.assertEqual(stream.unacked_ranges(15), [(0, 10), (20, 25)])
        self.assertEqual(stream.read(20, 90), payload(100)[20:90])
        stream.on_delivered(20)
        self.assertEqual(stream.unacked_ranges(1), [(20, 21)])
        self.assertRaises(ValueError, stream.read, 19, 30)
        self.assertRaises(ValueError, stream.read, 90, 101)

    def test_a_delivery_of_unsent_bytes_is_an_error(self) -> None:
        """
        The peer cannot have taken what was not sent.
        """
        stream = sent(100)
        stream.write(b"more")
        self.assertRaises(ProtocolError, stream.on_delivered, 101)

    def test_runs_report_to_it(self) -> None:
        """
        A stream and its end mark are what a sent run reports to.
        """
        stream: SentStream = sent(100)
        mark = EndMark()
        controls: list[Control] = [mark]
        run = SentRun(first=0, end=10, time=0.0, size=50, last_size=50, stream=stream, step=10)
        run.length, run.controls = 100, controls
        run.report_acked()
        self.assertTrue(mark.is_acked)


class EndTests(SynchronousTestCase):
    """
    M-28: the end of a stream.
    """

    def test_the_end_is_said_until_it_is_heard(self) -> None:
        """
        END is due at first and after each loss, and is settled by one acknowledgement.
        """
        stream = sent(100)
        self.assertIsNone(stream.final_size)
        stream.end()
        mark = stream.end_mark
        assert mark is not None
        self.assertEqual((stream.final_size, stream.room), (100, 0))
        self.assertTrue(mark.is_due)
        mark.on_sent()
        self.assertFalse(mark.is_due)
        mark.on_lost()
        self.assertTrue(mark.is_due)
        mark.on_acked()
        mark.on_lost()
        self.assertFalse(mark.is_due)

    def test_done_is_delivered_and_heard(self) -> None:
        """
        M-30: a stream is done when all was delivered, not merely acknowledged, and the peer
        knows the end.
        """
        stream = sent(100)
        stream.end()
        stream.end()
        assert stream.end_mark is not None
        stream.on_acked(0, 100)
        stream.end_mark.on_acked()
        self.assertFalse(stream.is_done)
        stream.on_delivered(100)
        self.assertTrue(stream.is_done)
        empty = SendStream()
        empty.end()
        self.assertFalse(empty.is_done)


class LinearTimeTests(SynchronousTestCase):
    """
    The cost of a byte does not grow with the number of bytes behind it.
    """

    def send_all(self, portions: list[bytes]) -> None:
        """
        Write everything, then cut it into packets.
        """
        stream = SendStream(limit=MANY)
        for portion in portions:
            stream.write(portion)
        while stream.unsent:
            stream.cut(44, 1200, credit=MANY)
            stream.on_acked(stream.next_offset - 1, stream.next_offset)
            stream.on_delivered(stream.next_offset - 1)

    def calls(self, function: Callable[[], None]) -> int:
        """
        How many Python and C functions a function calls.
        """
        count = 0

        def profile(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(profile)
        try:
            function()
        finally:
            sys.setprofile(None)
        return count

    def test_calls(self) -> None:
        """
        64 MiB written at once take as many calls as 64 writes of 1 MiB, and 64 times those of
        1 MiB.
        """
        data = bytes(64 * MIB)
        at_once = self.calls(lambda: self.send_all([data]))
        in_portions = self.calls(lambda: self.send_all([data[:MIB]] * 64))
        small = self.calls(lambda: self.send_all([data[:MIB]]))
        self.assertLess(abs(at_once - in_portions), at_once * 0.1)
        self.assertLess(at_once, 64 * small * 1.1)

    def test_copies(self) -> None:
        """
        Cutting never copies what it leaves behind: beyond the data itself, no more than some
        blocks are allocated at any time.
        """
        stream = SendStream(limit=MANY)
        stream.write(bytes(64 * MIB))
        tracemalloc.start()
        while stream.unsent:
            stream.cut(44, 1200, credit=MANY)
            stream.on_delivered(stream.next_offset)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(peak, 4 * MAX_BLOCK_SIZE)
