"""
Tests of :mod:`resip.lab.simulator`.
"""

from __future__ import annotations

import time
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from resip.lab.simulator import Simulator


class SimulatorTests(SynchronousTestCase):
    """
    Virtual time.
    """

    def test_runs_in_the_order_of_time(self) -> None:
        """
        Events run when they are due; those of equal time in the order of their calls.
        """
        simulator = Simulator(0.0)
        seen: list[tuple[float, str]] = []

        def note(name: str) -> None:
            seen.append((simulator.now, name))

        for when, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (3.0, "late")):
            simulator.call_at(when, partial(note, name))
        simulator.run_until(2.0)
        self.assertEqual(seen, [(1.0, "a"), (1.0, "b"), (2.0, "c")])
        self.assertEqual(simulator.next_time, 3.0)

    def test_past_is_now(self) -> None:
        """
        What is due already runs next, and time never goes back.
        """
        simulator = Simulator(10.0)
        simulator.call_at(5.0, lambda: None)
        self.assertTrue(simulator.step())
        self.assertEqual(simulator.now, 10.0)
        self.assertFalse(simulator.step())

    def test_run_until_reaches_its_time(self) -> None:
        """
        Without events the clock jumps to the end.
        """
        simulator = Simulator(10.0)
        simulator.run_until(20.0)
        simulator.run_until(15.0)
        self.assertEqual(simulator.now, 20.0)

    def test_run_while_stops_with_its_condition(self) -> None:
        """
        The run ends at the event that ends the condition, or at the limit.
        """
        simulator = Simulator(0.0)
        seen: list[float] = []
        for when in range(1, 10):
            simulator.call_at(when, lambda: seen.append(simulator.now))
        self.assertTrue(simulator.run_while(lambda: len(seen) < 3, 100.0))
        self.assertEqual(simulator.now, 3.0)
        self.assertFalse(simulator.run_while(lambda: len(seen) < 99, 5.5))
        self.assertEqual((simulator.now, len(seen)), (5.5, 5))

    def test_many_events(self) -> None:
        """
        A hundred thousand events take well under two seconds, even on a slow machine.
        """
        simulator = Simulator(0.0)
        left = 100_000

        def tick() -> None:
            nonlocal left
            left -= 1
            if left > 0:
                simulator.call_at(simulator.now + 0.001, tick)

        start = time.perf_counter()
        simulator.call_at(0.0, tick)
        self.assertTrue(simulator.run_while(lambda: left > 0, 1000.0))
        self.assertLess(time.perf_counter() - start, 2.0)
