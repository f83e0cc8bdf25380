"""
Tests of :mod:`resip.core.pacer`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.pacer import CATCH_UP_TIME, Pacer


class PacerTests(SynchronousTestCase):
    """
    A token bucket.
    """

    def test_a_burst_goes_at_once(self) -> None:
        """
        After a pause the burst is available, and no more however long the pause was.
        """
        pacer = Pacer(rate=100, burst=10)
        self.assertEqual(pacer.available(now=1000), 10)

    def test_tokens_come_back_at_the_rate(self) -> None:
        """
        After spending everything, a unit comes every 1/rate seconds.
        """
        pacer = Pacer(rate=100, burst=10)
        pacer.available(now=1000)
        pacer.spend(10)
        self.assertEqual(pacer.available(now=1000), 0)
        self.assertEqual(pacer.available(now=1000.03), 3)
        self.assertAlmostEqual(pacer.ready_at(), 1000.03)
        self.assertAlmostEqual(pacer.ready_at(wanted=5), 1000.05)

    def test_overspending_is_paid_back(self) -> None:
        """
        What was sent beyond the tokens delays what follows.
        """
        pacer = Pacer(rate=100, burst=10)
        pacer.available(now=1000)
        pacer.spend(20)
        self.assertAlmostEqual(pacer.ready_at(), 1000.11)
        self.assertEqual(pacer.available(now=1000.05), 0)

    def test_overspending_may_be_forgiven(self) -> None:
        """
        Then it is as if just all had been spent; what is left stays.
        """
        pacer = Pacer(rate=100, burst=10)
        pacer.available(now=1000)
        pacer.spend(1000)
        pacer.forgive()
        self.assertEqual(pacer.available(now=1000.03), 3)
        pacer.forgive()
        self.assertEqual(pacer.available(now=1000.03), 3)

    def test_more_than_a_burst_is_not_waited_for(self) -> None:
        """
        Somebody who wants more than a burst is called when the burst is there.
        """
        pacer = Pacer(rate=100, burst=10)
        pacer.available(now=1000)
        pacer.spend(10)
        self.assertAlmostEqual(pacer.ready_at(wanted=1000), 1000.1)

    def test_a_late_wake_up_misses_nothing(self) -> None:
        """
        What became available between the promised time and the wake-up may be sent, too.
        """
        pacer = Pacer(rate=1000, burst=10)
        pacer.available(now=1000)
        pacer.spend(10)
        due = pacer.ready_at(wanted=10)
        self.assertEqual(pacer.available(now=due + 0.008), 18)

    def test_only_so_much_lateness_is_caught_up(self) -> None:
        """
        Who was away for long finds a burst and the catch-up time.
        """
        pacer = Pacer(rate=1000, burst=10)
        pacer.available(now=1000)
        pacer.spend(10)
        pacer.ready_at(wanted=10)
        self.assertEqual(pacer.available(now=1060), 10 + round(1000 * CATCH_UP_TIME))

    def test_idleness_is_not_caught_up(self) -> None:
        """
        Who waited for nothing finds a burst, however much time went by.
        """
        pacer = Pacer(rate=1000, burst=10)
        pacer.available(now=1000)
        pacer.spend(10)
        self.assertEqual(pacer.available(now=1060), 10)

    @given(st.lists(st.tuples(st.floats(0, 0.1), st.integers(0, 50)), max_size=50))
    def test_the_rate_is_never_exceeded(self, steps: list[tuple[float, int]]) -> None:
        """
        Whoever spends only what is available never gets more than the burst and the rate.
        """
        pacer, now, spent = Pacer(rate=200, burst=10), 1000.0, 0
        for pause, wanted in steps:
            now += pause
            units = min(wanted, pacer.available(now=now))
            pacer.spend(units)
            spent += units
        self.assertLessEqual(spent, 10 + 200 * (now - 1000) + 1e-3)

    def test_time_that_runs_backwards_is_ignored(self) -> None:
        """
        An earlier time adds no tokens and takes none.
        """
        pacer = Pacer(rate=100, burst=10)
        pacer.available(now=1000)
        pacer.spend(4)
        self.assertEqual(pacer.available(now=900), 6)
