"""
Tests for :mod:`resip.core.congestion.queue_delay`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.queue_delay import MINIMUM_LIFETIME, QueueDelay


def feed(delay: QueueDelay, rtt: float, *, now: float, count: int = 10) -> None:
    """
    A round of equal samples.
    """
    for _ in range(count):
        delay.update(rtt, now=now)
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
