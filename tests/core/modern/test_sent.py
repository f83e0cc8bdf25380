"""
Tests of :mod:`resip.core.modern.sent`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.sent import CopyGroup, SentRun


class RecordingStream:
    """
    A stream that remembers what it heard.
    """

    def __init__(self) -> None:
        self.acked: list[tuple[int, int]] = []
        self.lost: list[tuple[int, int]] = []

    def on_acked(self, start: int, end: int) -> None:
        """
        Remember.
        """
        self.acked.append((start, end))

    def has_arrived(self, start: int, end: int) -> bool:
        """
        Whether one packet brought all of the range.
        """
        return any(first <= start and end <= last for first, last in self.acked)

    def on_lost(self, start: int, end: int) -> None:
        """
        Remember.
        """
        self.lost.append((start, end))


class RecordingControl:
    """
    A control frame's owner that counts what it heard.
    """

    def __init__(self) -> None:
        self.acked = 0
        self.lost = 0

    def on_acked(self) -> None:
        """
        Count.
        """
        self.acked += 1

    def on_lost(self) -> None:
        """
        Count.
        """
        self.lost += 1


def burst(stream: RecordingStream, *controls: RecordingControl) -> SentRun:
    """
    Packets 10 to 13 with bytes 5000 to 8299 of a stream: three of 1000 and one of 300.
    """
    return SentRun(
        first=10,
        end=14,
        time=1.0,
        size=1030,
        last_size=330,
        stream=stream,
        offset=5000,
        step=1000,
        length=3300,
        controls=controls,
    )


class SentRunTests(SynchronousTestCase):
    """
    A run stands for its packets, whole or in parts.
    """

    def test_counts_packets_and_bytes(self) -> None:
        """
        The last packet may be shorter than the others.
        """
        run = burst(RecordingStream())
        self.assertEqual((run.count, run.wire_bytes), (4, 3 * 1030 + 330))

    def test_reports_to_the_stream_and_to_every_control(self) -> None:
        """
        All owners hear of the fate of the whole run.
        """
        stream, first, second = RecordingStream(), RecordingControl(), RecordingControl()
        run = burst(stream, first, second)
        run.report_lost()
        run.report_acked()
        self.assertEqual((stream.lost, stream.acked), ([(5000, 8300)], [(5000, 8300)]))
        self.assertEqual([(c.lost, c.acked) for c in (first, second)], [(1, 1), (1, 1)])

    def test_without_data_no_stream_hears_anything(self) -> None:
        """
        A packet of control frames alone reports to their owners only.
        """
        control = RecordingControl()
        run = SentRun(first=0, end=1, time=0.0, size=40, last_size=40, controls=[control])
        run.report_acked()
        self.assertEqual(control.acked, 1)

    def test_the_controls_stay_with_the_first_packet(self) -> None:
        """
        A split leaves the control frames where they rode.
        """
        control = RecordingControl()
        run = burst(RecordingStream(), control)
        tail = run.split(11)
        tail.report_lost()
        self.assertEqual((control.lost, control.acked), (0, 0))
        run.report_acked()
        self.assertEqual((control.lost, control.acked), (0, 1))

    def test_nobody_waits_for_what_arrived_in_others(self) -> None:
        """
        A run is not wanted any more when its data, or a copy of it, was acknowledged.
        """
        stream = RecordingStream()
        run, again = burst(stream), burst(stream)
        self.assertTrue(run.is_wanted)
        again.report_acked()
        self.assertFalse(run.is_wanted)
        run = burst(RecordingStream())
        run.group = CopyGroup()
        self.assertTrue(run.is_wanted)
        run.group.is_acked = True
        self.assertFalse(run.is_wanted)

    @given(st.sets(st.integers(min_value=11, max_value=13)))
    def test_a_split_loses_nothing(self, cuts: set[int]) -> None:
        """
        However a run is cut, the parts follow each other and have its packets, bytes and data.
        """
        stream = RecordingStream()
        parts = [burst(stream)]
        for cut in sorted(cuts):
            parts.append(parts[-1].split(cut))
        numbers = [number for part in parts for number in range(part.first, part.end)]
        self.assertEqual(numbers, [10, 11, 12, 13])
        self.assertEqual(sum(part.wire_bytes for part in parts), 3420)
        for part in parts:
            part.report_acked()
        starts, ends = zip(*stream.acked, strict=True)
        self.assertEqual((starts[0], *ends), (*starts, 8300))
        self.assertEqual({(part.time, part.size, part.asks) for part in parts}, {(1.0, 1030, True)})
