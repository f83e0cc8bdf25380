"""
Tests for :mod:`resip.core.congestion.queue_delay`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.queue_delay import MINIMUM_LIFETIME, QueueDelay

#: What the peer's clock is ahead by.
AHEAD = 1e4


def feed(
    delay: QueueDelay, rtt: float, *, transit: float | None = None, now: float, count: int = 10
) -> None:
    """
    A round of equal samples.
    """
    for _ in range(count):
        delay.update(rtt, transit=transit, now=now)
    delay.end_round(now=now)


class QueueDelayTests(SynchronousTestCase):
    """
    The signal.
    """

    def test_delay_is_counted_from_the_shortest_round_trip(self) -> None:
        """
        30 ms more than the minimum are 30 ms in the queue.
        """
        delay = QueueDelay()
        feed(delay, 0.1, now=0.0)
        self.assertEqual(delay.current, 0.0)
        feed(delay, 0.13, now=0.1)
        self.assertAlmostEqual(delay.current, 0.03)

    def test_one_late_sample_is_not_a_queue(self) -> None:
        """
        The smallest sample of a round counts.
        """
        delay = QueueDelay()
        feed(delay, 0.1, now=0.0)
        delay.update(0.3, now=0.1)
        self.assertEqual(delay.current, 0.0)

    def test_a_longer_route_is_believed_after_its_lifetime(self) -> None:
        """
        When nothing came near the minimum for 15 seconds, the present one is taken.
        """
        delay = QueueDelay()
        feed(delay, 0.1, now=0.0)
        feed(delay, 0.2, now=1.0)
        self.assertEqual(delay.minimum, 0.1)
        feed(delay, 0.2, now=1.0 + MINIMUM_LIFETIME)
        self.assertEqual(delay.minimum, 0.2)

    def test_an_unconfirmed_minimum_asks_for_room(self) -> None:
        """
        After some seconds above the minimum the sender should look for it.
        """
        delay = QueueDelay()
        feed(delay, 0.1, now=0.0)
        self.assertFalse(delay.needs_confirmation(now=5.0))
        self.assertTrue(delay.needs_confirmation(now=9.0))
        feed(delay, 0.1, now=9.0)
        self.assertFalse(delay.needs_confirmation(now=9.0))

    def test_jitter_widens_the_thresholds(self) -> None:
        """
        A jittered path must wait longer before it calls a delay a queue.
        """
        calm, jittered = QueueDelay(), QueueDelay()
        for n in range(50):
            calm.update(0.1, now=0.0)
            jittered.update(0.1 + 0.02 * (n % 2), now=0.0)
        self.assertGreater(jittered.low(0.0005), calm.low(0.0005))
        self.assertGreater(jittered.high(0.0005), calm.high(0.0005))


class TransitTests(SynchronousTestCase):
    """
    The peer says when packets arrived (docs/protocol.md, M-73).
    """

    def setUp(self) -> None:
        """
        A path of 50 ms each way, without a queue.
        """
        self.delay = QueueDelay()
        feed(self.delay, 0.1, transit=AHEAD + 0.05, now=0.0)

    def test_a_queue_on_the_way_there_is_one(self) -> None:
        """
        Both ways of measuring see it.
        """
        feed(self.delay, 0.13, transit=AHEAD + 0.08, now=0.1)
        self.assertAlmostEqual(self.delay.current, 0.03)
        self.assertAlmostEqual(self.delay.recent, 0.03)
        self.assertAlmostEqual(self.delay.way_back, 0.0)

    def test_a_queue_on_the_way_back_is_none_of_ours(self) -> None:
        """
        Only acknowledgements wait in it: it is no queue delay, and no reason to look for another
        minimum, but answers take that much longer.
        """
        for number in range(100):
            feed(self.delay, 0.4, transit=AHEAD + 0.05, now=0.1 * number)
        self.assertAlmostEqual(self.delay.current, 0.0)
        self.assertAlmostEqual(self.delay.way_back, 0.3)
        self.assertFalse(self.delay.needs_confirmation(now=10.0))

    def test_a_clock_that_is_set_makes_no_queue(self) -> None:
        """
        Whatever it is set to, there is no more queue than the round trip says, and at the latest
        after a lifetime the queue is seen as before.
        """
        for step in (5.0, 0.06, -0.06, -5.0):
            self.setUp()
            feed(self.delay, 0.1, transit=AHEAD + step + 0.05, now=1.0)
            self.assertAlmostEqual(self.delay.current, 0.0, msg=f"step {step}")
            feed(self.delay, 0.1, transit=AHEAD + step + 0.05, now=1.1 + MINIMUM_LIFETIME)
            feed(self.delay, 0.13, transit=AHEAD + step + 0.08, now=1.2 + MINIMUM_LIFETIME)
            self.assertAlmostEqual(self.delay.current, 0.03, msg=f"step {step}")

    def test_a_clock_that_drifts_hides_no_queue(self) -> None:
        """
        At 200 ppm either way, for an hour in which the queue was empty once a second.
        """
        for drift in (2e-4, -2e-4):
            self.setUp()
            for second in range(3600):
                feed(self.delay, 0.1, transit=AHEAD + 0.05 + drift * second, now=float(second))
                self.assertAlmostEqual(self.delay.current, 0.0)
            feed(self.delay, 0.13, transit=AHEAD + 0.08 + drift * 3600, now=3600.0)
            self.assertGreater(self.delay.current, 0.029)

    def test_a_peer_that_tells_no_times_is_measured_as_well(self) -> None:
        """
        Then round trips alone count, also after a while with times.
        """
        feed(self.delay, 0.13, now=0.1)
        self.assertAlmostEqual(self.delay.current, 0.03)

    def test_another_path_has_another_transit(self) -> None:
        """
        A longer path is not a queue, and what is one on its way back is known at once.
        """
        self.delay.restart()
        feed(self.delay, 0.3, transit=AHEAD + 0.15, now=1.0)
        self.assertEqual(self.delay.current, 0.0)
        feed(self.delay, 0.5, transit=AHEAD + 0.15, now=1.5)
        self.assertLess(self.delay.current, 0.1)
        self.assertEqual(self.delay.minimum, 0.3)

    def test_jitter_on_the_way_back_changes_nothing(self) -> None:
        """
        The thresholds allow for it already, so it stays in the queue delay.
        """
        for number in range(50):
            rtt = 0.12 + 0.04 * (number % 2)
            self.delay.update(rtt, transit=AHEAD + 0.05, now=0.1)
        self.delay.end_round(now=0.2)
        self.assertAlmostEqual(self.delay.current, 0.02)
        self.assertAlmostEqual(self.delay.recent, 0.02)
