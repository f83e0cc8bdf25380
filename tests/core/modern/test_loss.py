"""
Tests of :mod:`resip.core.modern.loss`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.loss import LossMeter, ReorderingWindow
from resip.core.rtt import RttEstimator


class LossMeterTests(SynchronousTestCase):
    """
    The measured loss and its burstiness.
    """

    def test_starts_without_loss(self) -> None:
        """
        Nothing is lost before anything is known, and one early loss is not all.
        """
        meter = LossMeter()
        self.assertEqual((meter.rate, meter.burst_length), (0.0, 1.0))
        meter.count(lost=[(0, 1)])
        self.assertLess(meter.rate, 0.1)

    def test_fears_loss_until_it_is_known(self) -> None:
        """
        Half of the packets at first, less than half a percent after 200 that arrived, and never
        less than what is measured.
        """
        meter = LossMeter()
        self.assertEqual(meter.feared, 0.5)
        meter.count(acked=10)
        self.assertLess(meter.feared, 0.1)
        meter.count(acked=190)
        self.assertLess(meter.feared, 0.005)
        meter.count(acked=50, lost=[(250, 300)])
        self.assertEqual(meter.feared, meter.rate)

    def test_some_losses_in_a_row_are_no_bursts(self) -> None:
        """
        It takes more than three to tell bursts from chance.
        """
        meter = LossMeter()
        meter.count(acked=7, lost=[(7, 10)])
        self.assertLess(meter.burst_length, 1.5)

    def test_follows_the_loss(self) -> None:
        """
        After some hundred packets the rate is that of the newest.
        """
        meter = LossMeter()
        for number in range(0, 2000, 10):
            meter.count(acked=7, lost=[(number, number + 3)])
        self.assertAlmostEqual(meter.rate, 0.3, places=2)
        meter.count(acked=2000)
        self.assertLess(meter.rate, 0.001)

    def test_measures_how_many_are_lost_in_a_row(self) -> None:
        """
        Ranges that touch are one burst, even when they were declared lost one after the other.
        """
        meter = LossMeter()
        for number in range(0, 100_000, 100):
            meter.count(acked=90, lost=[(number, number + 3), (number + 50, number + 52)])
            meter.count(lost=[(number + 52, number + 54)])
        self.assertAlmostEqual(meter.burst_length, 3.5, places=1)


class ReorderingWindowTests(SynchronousTestCase):
    """
    The window follows what is seen, within bounds.
    """

    def setUp(self) -> None:
        """
        A path of 80 ms.
        """
        self.rtt = RttEstimator()
        self.rtt.update(0.08, now=0.0)
        self.window = ReorderingWindow()

    def test_starts_with_an_eighth_of_the_round_trip(self) -> None:
        """
        RFC 9002 section 6.1.2: 9/8 of a round trip, and never less than a millisecond.
        """
        self.assertAlmostEqual(self.window.get(self.rtt, now=0.0), 0.01)
        loopback = RttEstimator()
        loopback.update(0.0001, now=0.0)
        self.assertEqual(self.window.get(loopback, now=0.0), 0.001)

    def test_has_a_limit(self) -> None:
        """
        However late a packet comes, the window is two round trips at most, and shrinks from there.
        """
        self.window.observe(50.0, self.rtt, now=0.0)
        self.assertAlmostEqual(self.window.get(self.rtt, now=0.0), 0.16)
        self.assertAlmostEqual(self.window.get(self.rtt, now=10.0), 0.16 * 0.7)

    def test_shrinks_when_the_reordering_stops(self) -> None:
        """
        Every ten seconds it loses three tenths; smaller reordering does not keep it up.
        """
        self.window.observe(0.08, self.rtt, now=0.0)
        self.window.observe(0.02, self.rtt, now=9.0)
        self.assertAlmostEqual(self.window.get(self.rtt, now=9.9), 0.1)
        self.assertAlmostEqual(self.window.get(self.rtt, now=10.1), 0.07)
        self.assertAlmostEqual(self.window.get(self.rtt, now=3600.0), 0.01)
