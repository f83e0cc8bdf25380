"""
Tests of :mod:`resip.core.rtt`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.rtt import GRANULARITY, INITIAL_RTT, MINIMUM_LIFETIME, RttEstimator


class RttEstimatorTests(SynchronousTestCase):
    """
    The estimate of RFC 9002 section 5.
    """

    def test_before_any_sample(self) -> None:
        """
        The RFC's initial values hold, and the first probe waits about a second.
        """
        rtt = RttEstimator()
        self.assertFalse(rtt.has_sample)
        self.assertEqual((rtt.smoothed, rtt.variation), (INITIAL_RTT, INITIAL_RTT / 2))
        self.assertAlmostEqual(rtt.probe_timeout(0), 0.999)

    def test_the_first_sample_replaces_the_initial_values(self) -> None:
        """
        smoothed_rtt = latest_rtt, rttvar = latest_rtt / 2; the delay is not subtracted.
        """
        rtt = RttEstimator()
        rtt.update(0.1, now=1, ack_delay=0.05)
        self.assertTrue(rtt.has_sample)
        self.assertEqual((rtt.latest, rtt.minimum), (0.1, 0.1))
        self.assertEqual((rtt.smoothed, rtt.variation), (0.1, 0.05))

    def test_later_samples_are_weighted(self) -> None:
        """
        Smoothed moves by an eighth, rttvar by a quarter of |smoothed - adjusted|, the old one.
        """
        rtt = RttEstimator()
        rtt.update(0.1, now=1)
        rtt.update(0.2, now=2, ack_delay=0.02)
        self.assertAlmostEqual(rtt.variation, 3 / 4 * 0.05 + 1 / 4 * abs(0.1 - 0.18))
        self.assertAlmostEqual(rtt.smoothed, 7 / 8 * 0.1 + 1 / 8 * 0.18)
        self.assertEqual((rtt.latest, rtt.minimum), (0.2, 0.1))

    def test_an_implausible_delay_is_not_subtracted(self) -> None:
        """
        A delay that would bring the sample below the minimum is ignored.
        """
        rtt = RttEstimator()
        rtt.update(0.1, now=1)
        rtt.update(0.11, now=2, ack_delay=0.05)
        self.assertAlmostEqual(rtt.smoothed, 7 / 8 * 0.1 + 1 / 8 * 0.11)

    def test_the_probe_timeout(self) -> None:
        """
        Smoothed + 4 rttvar + max_ack_delay, and the variation counts at least a granule.
        """
        rtt = RttEstimator()
        rtt.update(0.1, now=1)
        self.assertAlmostEqual(rtt.probe_timeout(0.025), 0.1 + 4 * 0.05 + 0.025)
        for _ in range(200):
            rtt.update(0.1, now=1)
        self.assertAlmostEqual(rtt.probe_timeout(0), 0.1 + GRANULARITY)

    def test_a_sample_of_nothing_counts_as_a_microsecond(self) -> None:
        """
        A clock that stood still, or ran backwards, makes no zero and no negative estimate.
        """
        for sample in (0.0, -5.0):
            rtt = RttEstimator()
            rtt.update(sample, now=1)
            self.assertEqual(rtt.smoothed, 1e-6)

    def test_an_old_minimum_is_forgotten(self) -> None:
        """
        Minutes after a path became longer, its old minimum does not count any more.
        """
        rtt = RttEstimator()
        rtt.update(0.01, now=0)
        for now in range(0, 3 * int(MINIMUM_LIFETIME), 10):
            rtt.update(0.2, now=now)
        self.assertEqual(rtt.minimum, 0.2)
