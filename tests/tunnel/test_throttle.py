"""
Tests for :mod:`resip.tunnel.throttle`.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from resip.tunnel.throttle import Throttle


class ThrottleTests(SynchronousTestCase):
    """
    Telling some of many events.
    """

    def test_the_first_few_of_each_period_are_admitted(self) -> None:
        """
        Beyond the burst events are withheld, and the next admitted one tells how many.
        """
        clock = Clock()
        throttle = Throttle(clock, burst=2, period=60)
        self.assertEqual([throttle.admit() for _ in range(5)], [0, 0, None, None, None])
        clock.advance(60)
        self.assertEqual([throttle.admit() for _ in range(3)], [3, 0, None])
