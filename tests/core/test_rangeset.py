"""
Tests of :mod:`resip.core.rangeset`.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.rangeset import RangeSet

RANGES = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda r: (r[0], r[0] + r[1]))


def make(*ranges: tuple[int, int]) -> RangeSet:
    """
    A set of these ranges.
    """
    numbers = RangeSet()
    for first, last in ranges:
        numbers.add(first, last)
    return numbers


def members(numbers: RangeSet) -> set[int]:
    """
    The same as a plain set.
    """
    return {value for first, last in numbers for value in range(first, last + 1)}


class RangeSetTests(SynchronousTestCase):
    """
    Sets of integers as ranges.
    """

    @given(st.lists(RANGES, max_size=30))
    def test_it_equals_a_plain_set(self, ranges: list[tuple[int, int]]) -> None:
        """
        Whatever is added in whatever order, membership is that of a plain set.
        """
        numbers, plain = RangeSet(), set[int]()
        for first, last in ranges:
            numbers.add(first, last)
            plain.update(range(first, last + 1))
            self.assertEqual(members(numbers), plain)
        self.assertEqual({value for value in range(80) if value in numbers}, plain)
        self.assertEqual(numbers.last, max(plain, default=None))

    @given(st.lists(RANGES, max_size=30))
    def test_ranges_are_sorted_and_never_touch(self, ranges: list[tuple[int, int]]) -> None:
        """
        Between two neighbours at least one integer is missing.
        """
        numbers = make(*ranges)
        listed = list(numbers)
        for (_, last), (first, _) in pairwise(listed):
            self.assertGreater(first, last + 1)
        self.assertEqual(list(reversed(numbers)), listed[::-1])
        self.assertEqual(len(numbers), len(listed))

    @given(st.lists(RANGES, max_size=30), st.integers(0, 80))
    def test_remove_below(self, ranges: list[tuple[int, int]], limit: int) -> None:
        """
        Exactly the members from the limit on remain.
        """
        numbers = make(*ranges)
        expected = {value for value in members(numbers) if value >= limit}
        numbers.remove_below(limit)
        self.assertEqual(members(numbers), expected)

    def test_single_values_join(self) -> None:
        """
        Values that fill a gap make one range of two.
        """
        numbers = make((1, 1), (3, 3))
        numbers.add(2)
        self.assertEqual(list(numbers), [(1, 3)])

    def test_drop_lowest(self) -> None:
        """
        Whole ranges go, the lowest first.
        """
        numbers = make((1, 2), (5, 6), (9, 9))
        numbers.drop_lowest(2)
        self.assertEqual(list(numbers), [(9, 9)])

    def test_clear(self) -> None:
        """
        Nothing is left, not even a last member.
        """
        numbers = make((1, 2))
        numbers.clear()
        self.assertEqual((len(numbers), numbers.last, 1 in numbers), (0, None, False))
