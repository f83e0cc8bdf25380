"""
Tests of :mod:`resip.core.modern.time_threshold`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.sent import SentRun
from resip.core.modern.time_threshold import TimeThreshold
from resip.core.rtt import RttEstimator

RTT = 0.08


def packet(number: int, time: float) -> SentRun:
    """
    A run of one packet.
    """
    return SentRun(first=number, end=number + 1, time=time, size=100, last_size=100)


class TimeThresholdTests(SynchronousTestCase):
    """
    A path of one round trip that does not vary.
    """

    def setUp(self) -> None:
        """
        Measure until the variation is gone.
        """
        self.threshold = TimeThreshold()
        self.rtt = RttEstimator()
        for _ in range(100):
            self.rtt.update(RTT, now=0.0)

    def observe(self, oldest: SentRun, late_lost: list[SentRun], *, path_start: int = 0) -> None:
        """
        An acknowledgement came at 1.0 seconds.
        """
        self.threshold.observe(oldest, late_lost, self.rtt, path_start=path_start, now=1.0)

    def test_nothing_is_lost_that_nothing_overtook(self) -> None:
        """
        There is no deadline for packets above the highest that was acknowledged.
        """
        self.assertIsNone(self.threshold.get_time(packet(0, 0.0), self.rtt))
        self.threshold.on_acked(packet(3, 0.5))
        self.assertIsNone(self.threshold.get_time(packet(4, 0.5), self.rtt))
        self.assertIsNone(self.threshold.get_time(None, self.rtt))

    def test_an_eighth_of_a_round_trip_at_first(self) -> None:
        """
        M-34: by the order of sending, or by time alone a round trip later.
        """
        self.threshold.on_acked(packet(3, 0.5))
        due = self.threshold.get_time(packet(2, 0.5), self.rtt)
        assert due is not None
        self.assertAlmostEqual(due, 0.5 + RTT * 9 / 8)
        self.assertAlmostEqual(self.threshold.sent_by(self.rtt, now=0.5), 0.5 - RTT / 8)
        self.assertAlmostEqual(self.threshold.sent_by(self.rtt, now=1.0), 1.0 - RTT * 9 / 8)

    def test_an_older_acknowledgement_changes_nothing(self) -> None:
        """
        The highest number stays the measure.
        """
        self.threshold.on_acked(packet(3, 0.5))
        self.threshold.on_acked(packet(1, 0.1))
        self.assertEqual(self.threshold.largest_acked, 3)

    def test_it_learns_from_what_comes_late(self) -> None:
        """
        A packet that comes after one sent 40 ms later widens the window to more than that.
        """
        self.threshold.on_acked(packet(3, 0.54))
        self.observe(packet(2, 0.5), [])
        self.assertGreater(self.threshold.reordering.get(self.rtt, now=1.0), 0.04)

    def test_it_learns_from_what_was_called_lost(self) -> None:
        """
        How late that came is known from the time of its answer.
        """
        late = packet(2, 1.0 - RTT - 0.05)
        self.observe(late, [late])
        self.assertGreater(self.threshold.reordering.get(self.rtt, now=1.0), 0.05)

    def test_packets_of_another_network_teach_nothing(self) -> None:
        """
        They may have overtaken each other there.
        """
        late = packet(2, 0.5)
        self.threshold.on_acked(packet(3, 0.54))
        self.observe(late, [late], path_start=3)
        self.assertAlmostEqual(self.threshold.reordering.get(self.rtt, now=1.0), RTT / 8)
