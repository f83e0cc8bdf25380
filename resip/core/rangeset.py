"""
Sets of integers that come mostly in runs: numbers received, offsets acknowledged.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """
    A set of non-negative integers, kept as sorted ranges that neither touch nor overlap.

    Both ends of a range belong to it. Memory and the cost of an insertion in the middle grow
    with the number of ranges; adding at the upper end is constant.
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __len__(self) -> int:
        """
        How many ranges there are, not how many integers.
        """
        return len(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """
        The ranges as (first, last), in ascending order.
        """
        return zip(self._firsts, self._lasts, strict=True)

    def __reversed__(self) -> Iterator[tuple[int, int]]:
        """
        The ranges as (first, last), in descending order.
        """
        return zip(reversed(self._firsts), reversed(self._lasts), strict=True)

    def __contains__(self, value: int) -> bool:
        """
        Whether ``value`` is in one of the ranges.
        """
        at = bisect_right(self._firsts, value) - 1
        return at >= 0 and value <= self._lasts[at]

    @property
    def last(self) -> int | None:
        """
        The largest member, ``None`` when empty.
        """
        return self._lasts[-1] if self._lasts else None

    def add(self, first: int, last: int | None = None) -> None:
        """
        Add ``first`` to ``last``, both included; without ``last`` only ``first``.
        """
        if last is None:
            last = first
        firsts, lasts = self._firsts, self._lasts
        if not lasts or first > lasts[-1] + 1:
            firsts.append(first)
            lasts.append(last)
            return
        if first >= firsts[-1]:  # extends the newest range: the usual case
            if last > lasts[-1]:
                lasts[-1] = last
            return
        low = bisect_left(lasts, first - 1)
        high = bisect_right(firsts, last + 1)
        if low < high:
            first = min(first, firsts[low])
            last = max(last, lasts[high - 1])
        firsts[low:high] = [first]
        lasts[low:high] = [last]

    def remove_below(self, value: int) -> None:
        """
        Forget every member smaller than ``value``.
        """
        at = bisect_left(self._lasts, value)
        del self._firsts[:at], self._lasts[:at]
        if self._firsts and self._firsts[0] < value:
            self._firsts[0] = value

    def drop_lowest(self, count: int) -> None:
        """
        Forget the ``count`` lowest ranges.
        """
        del self._firsts[:count], self._lasts[:count]

    def clear(self) -> None:
        """
        Forget all members.
        """
        self._firsts.clear()
        self._lasts.clear()
