"""
Acknowledgements: when they are due, what they name, and how they are read.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ProtocolError
from resip.core.modern import acks
from resip.core.modern.acks import AckState, ack_frame, acknowledged_ranges, repeats_for
from resip.core.modern.frame_parser import parse_frames
from resip.core.modern.frames import ACK_TIME_UNIT, CLOCK_RANGE, MAX_ACK_PAIRS
from resip.core.rangeset import RangeSet
from tests.core.modern.test_frames import RecordingSink


def read(frame: bytes, *, next_number: int = 1 << 20) -> tuple[float, list[tuple[int, int]]]:
    """
    The delay and the ranges of an ACK frame.
    """
    sink = RecordingSink()
    parse_frames(frame, sink)
    [(_, largest, delay, counts, _)] = sink.calls
    return delay, acknowledged_ranges(largest, counts, next_number=next_number)


def read_clock(frame: bytes) -> float | None:
    """
    When the largest arrived by the clock of who wrote the frame, ``None`` when it does not say.
    """
    sink = RecordingSink()
    parse_frames(frame, sink)
    [(_, _, _, _, arrived_at)] = sink.calls
    assert isinstance(arrived_at, float | None)
    return arrived_at


class Receiver:
    """
    An AckState with its numbers.
    """

    def __init__(self) -> None:
        self.numbers = RangeSet()
        self.acks = AckState(self.numbers)

    def receive(
        self,
        first: int,
        last: int | None = None,
        *,
        now: float = 0.0,
        asks: bool = True,
        is_news: bool = True,
    ) -> None:
        """
        Packets arrive.
        """
        last = first if last is None else last
        self.numbers.add(first, last)
        self.acks.add(first, last, asks=asks, is_news=is_news, now=now)

    def ranges(self, *, now: float = 0.0) -> list[tuple[int, int]]:
        """
        What the next acknowledgement names.
        """
        frames = self.acks.take(now=now)
        return [named for frame in frames for named in read(frame, next_number=1 << 20)[1]]


class TimingTests(SynchronousTestCase):
    """
    M-33: when an acknowledgement is due.
    """

    def test_a_single_packet_waits_a_little(self) -> None:
        """
        One packet is acknowledged after ACK_DELAY, which is below the 25 ms allowed.
        """
        receiver = Receiver()
        receiver.receive(0, now=1.0)
        self.assertEqual(receiver.acks.due_time, 1.0 + acks.ACK_DELAY)
        self.assertLess(acks.ACK_DELAY, 0.025)

    def test_the_second_packet_is_answered_at_once(self) -> None:
        """
        Two packets that ask are acknowledged together, without delay.
        """
        receiver = Receiver()
        receiver.receive(0, now=1.0)
        receiver.receive(1, now=1.001)
        self.assertEqual(receiver.acks.due_time, 1.001)

    def test_a_sender_that_does_not_wait(self) -> None:
        """
        Of who does not wait, many more packets are acknowledged together, but none later.
        """
        receiver = Receiver()
        receiver.acks.threshold = acks.PATIENT_THRESHOLD
        receiver.receive(0, acks.PATIENT_THRESHOLD - 2, now=1.0)
        self.assertEqual(receiver.acks.due_time, 1.0 + acks.ACK_DELAY)
        receiver.receive(acks.PATIENT_THRESHOLD - 1, now=1.001)
        self.assertEqual(receiver.acks.due_time, 1.001)

    def test_a_loss_is_told_sooner(self) -> None:
        """
        Where many packets are acknowledged together, one is enough when another is missing.
        """
        for first, due in ((1, 1.0 + acks.ACK_DELAY), (2, 1.0)):
            receiver = Receiver()
            receiver.acks.threshold = acks.FRAGMENTED_THRESHOLD
            receiver.receive(0, now=0.5)
            receiver.acks.take(now=0.6)
            receiver.receive(first, now=1.0)
            self.assertEqual(receiver.acks.due_time, due)

    def test_copies_get_no_answer_of_their_own(self) -> None:
        """
        What brings nothing new within 25 ms after news is a copy of that; the next
        acknowledgement names it.
        """
        receiver = Receiver()
        receiver.receive(0, now=1.0)
        receiver.ranges(now=1.0)
        receiver.receive(1, 2, is_news=False, now=1.024)
        self.assertIsNone(receiver.acks.due_time)
        self.assertFalse(receiver.acks.is_waiting)
        receiver.receive(3, now=1.1)
        self.assertEqual(receiver.ranges(now=1.1), [(0, 3)])

    def test_what_was_sent_again_for_want_of_an_answer_gets_one(self) -> None:
        """
        A packet without news that comes later than 25 ms after news is acknowledged like any.
        """
        receiver = Receiver()
        receiver.receive(0, now=1.0)
        receiver.ranges(now=1.0)
        receiver.receive(1, is_news=False, now=1.026)
        self.assertEqual(receiver.acks.due_time, 1.026 + acks.ACK_DELAY)

    def test_what_leaves_soon_may_take_it_along(self) -> None:
        """
        A packet that leaves within so many seconds of its time asks whether one is due.
        """
        receiver = Receiver()
        self.assertFalse(receiver.acks.is_due(within=1.0, now=1.0))
        receiver.receive(0, now=1.0)
        self.assertFalse(receiver.acks.is_due(now=1.0))
        self.assertFalse(receiver.acks.is_due(within=0.002, now=1.0))
        self.assertTrue(receiver.acks.is_due(within=0.002, now=1.004))
        self.assertTrue(receiver.acks.is_due(now=1.006))

    def test_what_does_not_ask_gets_no_answer(self) -> None:
        """
        Acknowledgements alone are never acknowledged; their numbers ride along later.
        """
        receiver = Receiver()
        receiver.receive(0, 5, asks=False)
        self.assertIsNone(receiver.acks.due_time)
        self.assertFalse(receiver.acks.is_waiting)
        receiver.receive(6)
        self.assertTrue(receiver.acks.is_waiting)
        self.assertEqual(receiver.ranges(), [(0, 6)])
        self.assertFalse(receiver.acks.is_waiting)

    def test_nothing_received_is_nothing_to_say(self) -> None:
        """
        Before the first packet there is no frame.
        """
        self.assertEqual(Receiver().acks.take(now=1.0), [])


class FrameTests(SynchronousTestCase):
    """
    What the frames name.
    """

    def test_ranges_and_delay(self) -> None:
        """
        A frame names what arrived, and how long ago the largest did.
        """
        receiver = Receiver()
        receiver.receive(0, 3, now=1.0)
        receiver.receive(7, now=1.0)
        [frame] = receiver.acks.take(now=1.008)
        delay, ranges = read(frame)
        self.assertLess(abs(delay - 0.008), 2 * ACK_TIME_UNIT)
        self.assertEqual(ranges, [(7, 7), (0, 3)])

    def test_old_numbers_are_dropped(self) -> None:
        """
        A number that stood in as many acknowledgements as the loss asks for is not said again:
        frames stay small.
        """
        receiver = Receiver()
        for number in range(0, 200, 2):
            receiver.receive(number)
            ranges = receiver.ranges()
        self.assertEqual(len(ranges), acks.reports_for(0.5))
        self.assertEqual(ranges[0], (198, 198))

    def test_how_often_a_number_is_said(self) -> None:
        """
        So often that 2 in 1,000 stay unsaid, 4 to 32 times.
        """
        rates = [0.0, 0.1, 0.3, 0.5, 0.9, 1.0]
        self.assertEqual([acks.reports_for(rate) for rate in rates], [4, 4, 6, 9, 32, 32])

    def test_bursts_ask_for_more(self) -> None:
        """
        Where acknowledgements are lost in a row, a number stands in more of them.
        """
        counts = [acks.reports_for(0.3, burst=burst) for burst in (1.0, 1.4, 5.0, 50.0)]
        self.assertEqual(counts, [6, 6, 24, 32])

    def test_bursts_are_measured(self) -> None:
        """
        The gaps in the numbers show how long bursts are.
        """
        receiver = Receiver()
        for number in range(4000):
            if number % 20 < 10:
                receiver.receive(number)
                ranges = receiver.ranges()
        named = sum(last - first + 1 for first, last in ranges)
        self.assertGreaterEqual(named, acks.REPORTS)

    def test_while_the_loss_is_unknown_everything_is_said(self) -> None:
        """
        The first acknowledgements may all be lost.
        """
        receiver = Receiver()
        for number in range(0, acks.LOSS_SAMPLE, 2):
            receiver.receive(number)
            ranges = receiver.ranges()
        self.assertEqual(ranges[-1], (0, 0))

    def test_a_late_number_is_said(self) -> None:
        """
        A number below all that is still said is named as often as any other.
        """
        receiver = Receiver()
        for number in [*range(1, 100), *range(101, 200)]:
            receiver.receive(number)
            receiver.ranges()
        self.assertEqual(receiver.ranges(), [(101, 199)])
        receiver.receive(200)
        receiver.receive(0)
        self.assertEqual(receiver.ranges(), [(101, 200), (0, 99)])
        receiver.receive(202)
        self.assertEqual(receiver.ranges(), [(202, 202), (101, 200), (0, 99)])

    def test_many_gaps_at_once_take_more_frames(self) -> None:
        """
        A batch with more gaps than one frame can name is acknowledged in several.
        """
        receiver = Receiver()
        for number in range(0, 300, 2):
            receiver.receive(number)
        frames = receiver.acks.take(now=0.0)
        self.assertEqual(len(frames), 3)
        named = [one for frame in frames for one in read(frame, next_number=1 << 20)[1]]
        self.assertEqual(named, [(number, number) for number in range(298, -1, -2)])
        receiver.receive(301)
        self.assertEqual(len(receiver.acks.take(now=0.0)), 1)

    def test_the_answer_is_bounded(self) -> None:
        """
        However many gaps there are, an answer has MAX_FRAMES frames of bounded size.
        """
        receiver = Receiver()
        for number in range(0, 4000, 2):
            receiver.receive(number)
        frames = receiver.acks.take(now=0.0)
        self.assertEqual(len(frames), acks.MAX_FRAMES)
        self.assertLessEqual(max(map(len, frames)), 14 + 4 * MAX_ACK_PAIRS)

    def test_counts_are_clipped(self) -> None:
        """
        Ranges, gaps and delays beyond 16 bits lose what does not fit, never more.
        """
        delay, ranges = read(ack_frame([(5, 200_000)], delay=60.0))
        self.assertEqual(ranges, [(200_000 - 65_535, 200_000)])
        self.assertAlmostEqual(delay, 65_535 * ACK_TIME_UNIT)
        _, ranges = read(ack_frame([(200_000, 200_000), (5, 10)], delay=0.0))
        self.assertEqual(ranges, [(200_000, 200_000)])
        below = [(10, 199_990), (1, 5)]
        _, ranges = read(ack_frame([(200_000, 200_000), *below], delay=0.0))
        self.assertEqual(ranges, [(200_000, 200_000), (199_990 - 65_534, 199_990)])

    def test_the_clock(self) -> None:
        """
        M-73: when the largest arrived is said, however late and often, in 32 bits that wrap around.
        """
        receiver = Receiver()
        receiver.receive(6, now=123.446)
        receiver.receive(7, now=123.456)
        receiver.receive(3, now=123.5)
        for frames in (receiver.acks.take(now=123.6), receiver.acks.repeat(now=200.0)):
            arrived_at = read_clock(frames[0])
            assert arrived_at is not None
            self.assertAlmostEqual(arrived_at, 123.456, delta=ACK_TIME_UNIT)
        arrived_at = read_clock(ack_frame([(5, 5)], delay=0.0, arrived_at=5 * CLOCK_RANGE + 42.0))
        assert arrived_at is not None
        self.assertAlmostEqual(arrived_at, 42.0, delta=2 * ACK_TIME_UNIT)

    def test_thin_traffic_is_told_no_times(self) -> None:
        """
        It fills no queue. As soon as packets follow each other closely, times are told.
        """
        receiver = Receiver()
        for number, now, is_told in ((0, 1.0, False), (1, 1.1, False), (2, 1.11, True)):
            receiver.receive(number, now=now)
            [frame] = receiver.acks.take(now=now)
            self.assertEqual(read_clock(frame) is not None, is_told)
        receiver.receive(3, 9, now=5.0)
        self.assertIsNotNone(read_clock(receiver.acks.take(now=5.0)[0]))

    @given(st.sets(st.integers(0, 400), min_size=1, max_size=60), st.integers(0, 2**40))
    def test_round_trip(self, members: set[int], base: int) -> None:
        """
        Any set of numbers, however large, is read as it was written.
        """
        numbers = RangeSet()
        for member in members:
            numbers.add(base + member)
        ranges = list(reversed(numbers))
        frame = ack_frame(ranges, delay=0.0)
        self.assertEqual(read(frame, next_number=base + 401)[1], ranges)


class RepetitionTests(SynchronousTestCase):
    """
    Acknowledgements are repeated on a bad path.
    """

    def test_how_often(self) -> None:
        """
        So that three in four get through, 8 times at most, and not at all up to 20 % of loss.
        """
        rates = [0.0, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0]
        self.assertEqual([repeats_for(rate) for rate in rates], [0, 0, 1, 1, 3, 8, 8])

    def lossy_receiver(self) -> Receiver:
        """
        A receiver that got every fourth number and acknowledged each.
        """
        receiver = Receiver()
        for number in range(0, 100, 4):
            receiver.receive(number, now=1.0)
            receiver.ranges(now=1.0)
        return receiver

    def test_repetitions_end(self) -> None:
        """
        At 75 % loss an acknowledgement is said five times within 15 ms, and then no more.
        """
        receiver = self.lossy_receiver()
        self.assertAlmostEqual(receiver.acks.loss, 0.75)
        times = []
        while receiver.acks.due_time is not None:
            times.append(round(receiver.acks.due_time - 1.0, 6))
            receiver.ranges(now=receiver.acks.due_time)
        self.assertEqual(times, [0.00375, 0.0075, 0.01125, 0.015])

    def test_acknowledgements_do_not_start_them_anew(self) -> None:
        """
        Two sides that repeat theirs to each other fall silent.
        """
        receiver = self.lossy_receiver()
        for number in range(100, 104):
            now = receiver.acks.due_time
            assert now is not None
            receiver.receive(number, now=now, asks=False)
            receiver.ranges(now=now)
        self.assertIsNone(receiver.acks.due_time)

    def test_neither_do_copies(self) -> None:
        """
        A packet that came again is acknowledged once.
        """
        receiver = self.lossy_receiver()
        receiver.acks.take(now=1.0)
        while receiver.acks.due_time is not None:
            receiver.ranges(now=receiver.acks.due_time)
        receiver.receive(100, is_news=False, now=2.0)
        receiver.ranges(now=2.005)
        self.assertIsNone(receiver.acks.due_time)


class AcknowledgedRangesTests(SynchronousTestCase):
    """
    The sender's reading of an ACK frame.
    """

    def test_a_number_never_sent_is_an_error(self) -> None:
        """
        M-23: the next number cannot have been acknowledged, nor one below 0.
        """
        self.assertEqual(acknowledged_ranges(9, (9,), next_number=10), [(0, 9)])
        self.assertRaises(ProtocolError, acknowledged_ranges, 10, (0,), next_number=10)
        self.assertRaises(ProtocolError, acknowledged_ranges, 9, (10,), next_number=10)
        self.assertRaises(ProtocolError, acknowledged_ranges, 9, (0, 5, 9), next_number=10)

    def test_empty_ranges_are_left_out(self) -> None:
        """
        A length of 0 only widens the gap.
        """
        ranges = acknowledged_ranges(100, (0, 10, 0, 10, 3), next_number=200)
        self.assertEqual(ranges, [(100, 100), (77, 79)])

    def test_numbers_beyond_32_bits(self) -> None:
        """
        The low bits are completed with what was sent last.
        """
        sent = 7 * 2**32 + 3
        self.assertEqual(
            acknowledged_ranges(0xFFFFFFFE, (1,), next_number=sent),
            [(7 * 2**32 - 3, 7 * 2**32 - 2)],
        )
