"""
Tests of :mod:`resip.core.modern.replay`.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.replay import MAX_RANGES, REPLAY_WINDOW, HelloFilter, ReplayWindow


class ReplayWindowTests(SynchronousTestCase):
    """
    Each packet number once (M-13).
    """

    def test_once(self) -> None:
        """
        A number is accepted the first time and refused ever after.
        """
        window = ReplayWindow()
        self.assertEqual([window.accept(n) for n in (0, 0, 5, 3, 5, 3, 4)], [1, 0, 1, 1, 0, 0, 1])
        self.assertEqual(window.next_number, 6)

    def test_runs(self) -> None:
        """
        All numbers of a run are accepted, each of them once.
        """
        window = ReplayWindow()
        window.accept_run(2, 6)
        self.assertEqual([window.accept(n) for n in range(8)], [1, 1, 0, 0, 0, 0, 1, 1])

    def test_a_run_must_be_new(self) -> None:
        """
        A run that is empty, or reaches below the next number, is an error of the caller.
        """
        window = ReplayWindow()
        window.accept_run(0, 4)
        for first, end in ((3, 6), (5, 5), (6, 5)):
            self.assertRaises(ValueError, window.accept_run, first, end)

    def test_the_edge_of_the_window(self) -> None:
        """
        A number 65,536 below the highest is still accepted, one more is not.
        """
        window = ReplayWindow()
        window.accept(REPLAY_WINDOW + 10)
        self.assertTrue(window.accept(10))
        self.assertFalse(window.accept(9))
        self.assertTrue(window.is_too_old(9))
        self.assertFalse(window.is_too_old(10))

    def test_memory_is_bounded(self) -> None:
        """
        A peer that uses every second number makes no more ranges than the limit, and what was
        forgotten is refused, not accepted again.
        """
        window = ReplayWindow()
        for number in range(0, 20_000, 2):
            self.assertTrue(window.accept(number))
            self.assertLessEqual(len(window.ranges), MAX_RANGES)
        self.assertGreater(len(window.ranges), MAX_RANGES // 2)
        self.assertFalse(any(window.accept(number) for number in range(0, 20_000, 2)))
        self.assertTrue(window.accept(19_997))

    @given(st.lists(st.integers(0, 60), max_size=200), st.integers(0, 2**62))
    def test_like_a_set(self, numbers: list[int], base: int) -> None:
        """
        Within the window it answers as a plain set of all numbers would.
        """
        window, seen = ReplayWindow(), set[int]()
        for number in numbers:
            self.assertEqual(window.accept(base + number), number not in seen)
            seen.add(number)

    @settings(max_examples=30)
    @given(st.integers(0, 2**32), st.sampled_from([0.1, 0.5, 0.9]))
    def test_never_twice(self, seed: int, loss: float) -> None:
        """
        Under loss, reordering, duplication, runs and jumps, no number is accepted twice.
        """
        dice, window = random.Random(seed), ReplayWindow()
        seen: set[int] = set()
        for _ in range(300):
            first = max(0, window.next_number + dice.choice([0, 1, 9, REPLAY_WINDOW, -3, -5000]))
            if first >= window.next_number and dice.random() < 0.3:
                window.accept_run(first, first + 5)
                self.assertFalse(seen & set(range(first, first + 5)))
                seen.update(range(first, first + 5))
            for number in range(first, first + 40):
                if dice.random() > loss and window.accept(number):
                    self.assertNotIn(number, seen)
                    seen.add(number)


class HelloFilterTests(SynchronousTestCase):
    """
    Each hello once (M-7).
    """

    def test_newer_only(self) -> None:
        """
        Of one key only a later time is accepted; keys do not disturb each other.
        """
        hellos = HelloFilter()
        answers = [hellos.accept(b"a", 5), hellos.accept(b"a", 5), hellos.accept(b"a", 4)]
        self.assertEqual(answers, [True, False, False])
        self.assertTrue(hellos.accept(b"b", 4))
        self.assertTrue(hellos.accept(b"a", 6))

    def test_a_recording_from_before_the_start(self) -> None:
        """
        With the time of its start a server refuses what was recorded in an earlier run.
        """
        hellos = HelloFilter(floor_ms=1000)
        self.assertFalse(hellos.accept(b"a", 1000))
        self.assertTrue(hellos.accept(b"a", 1001))

    def test_memory_is_bounded(self) -> None:
        """
        Beyond its limit the filter forgets keys, and still accepts no hello twice.
        """
        hellos = HelloFilter(limit=10)
        everything = [(b"%d" % n, 100 + n) for n in range(50)]
        for key, time_ms in everything:
            self.assertTrue(hellos.accept(key, time_ms))
            self.assertLessEqual(len(hellos), 10)
        for key, time_ms in everything:
            self.assertFalse(hellos.accept(key, time_ms))

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30))), st.integers(1, 4))
    def test_never_twice(self, hellos: list[tuple[int, int]], limit: int) -> None:
        """
        Whatever is forgotten, no key gets in with a time that is not later than all before.
        """
        hello_filter = HelloFilter(limit=limit)
        newest: dict[int, int] = {}
        for key, time_ms in hellos:
            if hello_filter.accept(bytes([key]), time_ms):
                self.assertGreater(time_ms, newest.get(key, 0))
                newest[key] = time_ms
