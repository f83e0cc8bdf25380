"""
Tests of :mod:`resip.services.clock`.
"""

from __future__ import annotations

import time

from twisted.internet.base import ReactorBase
from twisted.trial.unittest import SynchronousTestCase

from resip.services.clock import Clocks, use_monotonic_time


class ClockTests(SynchronousTestCase):
    """
    Two clocks, and the reactor's.
    """

    def test_defaults(self) -> None:
        """
        The one that people read is Unix time, the other one only grows.
        """
        clocks = Clocks()
        self.assertLess(abs(clocks.wall() - time.time()), 5)
        self.assertLessEqual(clocks.monotonic(), clocks.monotonic())

    def test_the_reactors_timers(self) -> None:
        """
        After the change a reactor's delayed calls are due by the clock that never jumps.
        """

        class Reactor(ReactorBase):
            def installWaker(self) -> None:
                pass

        reactor = Reactor()
        self.patch(time, "monotonic", lambda: 50.0)
        use_monotonic_time(reactor)
        call = reactor.callLater(5, lambda: None)
        self.assertEqual(call.getTime(), 55.0)
