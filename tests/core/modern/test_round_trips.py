"""
Tests of :mod:`resip.core.modern.recovery`: what it learns of the round trip.
"""

from __future__ import annotations

from itertools import pairwise

from resip.core.modern.frames import CLOCK_RANGE
from tests.core.modern.test_recovery import RTT, START, RecoveryTestCase


class RoundTripTests(RecoveryTestCase):
    """
    When an acknowledgement is a sample of the round trip.
    """

    def test_the_largest_newly_acknowledged_is_a_sample(self) -> None:
        """
        The report has it without the peer's delay, at most the 25 ms that M-33 allows.
        """
        for delay, expected in ((0.0, RTT), (0.01, RTT - 0.01), (9.0, RTT - 0.025), (-1.0, RTT)):
            run = self.send()
            self.now += RTT
            report = self.ack((run.first, run.first), delay=delay)
            assert report.rtt is not None
            self.assertAlmostEqual(report.rtt, expected)
        self.assertAlmostEqual(self.recovery.rtt.minimum, RTT)

    def test_an_older_packet_is_not_a_sample(self) -> None:
        """
        A packet that was overtaken, or a largest that is not new, gives no sample.
        """
        self.send(3)
        self.now += RTT
        self.assertIsNotNone(self.ack((2, 2)).rtt)
        self.now += RTT
        self.assertIsNone(self.ack((2, 2), (0, 0)).rtt)
        self.assertIsNone(self.ack((1, 1)).rtt)

    def test_transits_follow_each_other(self) -> None:
        """
        M-73: what two clocks tell of the way there grows and shrinks with it, also when the
        peer's begins again, and comes with a round trip only.
        """
        transits = []
        for number in range(8):
            run = self.send(2)
            arrived_at = (self.now - START + 0.01 * number - 3 * RTT) % CLOCK_RANGE
            self.now += RTT
            transit = self.ack((run.first + 1, run.first + 1), arrived_at=arrived_at).transit
            transits.append(transit or 0.0)
            self.assertIsNone(self.ack((run.first, run.first + 1), arrived_at=0.0).transit)
        for earlier, later in pairwise(transits):
            self.assertAlmostEqual(later - earlier, 0.01, places=5)

    def test_a_round_trip_beyond_the_timeout_is_learnt(self) -> None:
        """
        An answer to a packet that a timeout gave up is a sample: the number says which it was.
        """
        self.measure()
        run = self.send()
        self.fire()
        self.fire()
        self.now = run.time + 3.0
        report = self.ack((run.first, run.first))
        self.assertAlmostEqual(report.rtt or 0.0, 3.0)
        self.assertEqual((report.spurious_packets, self.recovery.pto_count), (0, 0))

    def test_an_answer_held_up_for_hours_is_none(self) -> None:
        """
        The peer slept with the packet in its socket: timers stay short, and the controller hears of
        no such delay.
        """
        self.measure()
        before = self.recovery.base_probe_timeout
        run = self.send()
        self.now += 8 * 3600
        self.assertIsNone(self.ack((run.first, run.first)).rtt)
        self.assertLess(self.recovery.base_probe_timeout, 3 * before)

    def test_half_a_minute_is_learnt_in_steps(self) -> None:
        """
        Should a round trip really become that long.
        """
        self.measure()
        for _ in range(20):
            run = self.send()
            self.now += 30.0
            self.ack((run.first, run.first))
        self.assertGreater(self.recovery.rtt.smoothed, 20.0)
