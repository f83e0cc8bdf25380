"""
Readings of a run: how much arrived when, and how round trips were distributed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


class Progress:
    """
    How many bytes had arrived at which time.

    :ivar total: bytes, so far.
    """

    def __init__(self) -> None:
        self.total = 0
        self._times: list[float] = []
        self._totals: list[int] = []

    @property
    def first_time(self) -> float | None:
        """
        When the first bytes arrived, ``None`` when none did.
        """
        return self._times[0] if self._times else None

    @property
    def last_time(self) -> float | None:
        """
        When the latest bytes arrived, ``None`` when none did.
        """
        return self._times[-1] if self._times else None

    def add(self, count: int, *, now: float) -> None:
        """
        ``count`` more bytes arrived.
        """
        self.total += count
        if self._times and self._times[-1] == now:
            self._totals[-1] = self.total
        else:
            self._times.append(now)
            self._totals.append(self.total)

    def get_total_at(self, when: float) -> int:
        """
        How many bytes had arrived up to and at ``when``.
        """
        index = bisect_right(self._times, when)
        return self._totals[index - 1] if index else 0

    def get_goodput(self, start: float, end: float) -> float:
        """
        Bits per second that arrived after ``start`` and up to ``end``, where end > start.
        """
        return (self.get_total_at(end) - self.get_total_at(start)) * 8 / (end - start)

    def get_longest_pause(self) -> float:
        """
        The longest time in seconds between two arrivals; 0 with less than two.
        """
        pairs = zip(self._times, self._times[1:], strict=False)
        return max((later - earlier for earlier, later in pairs), default=0.0)


def percentile(values: Sequence[float], percent: float) -> float:
    """
    The smallest of ``values`` that ``percent`` of them do not exceed (nearest rank).

    :param percent: 0 to 100.
    :raises ValueError: when there are no values, or for a percentage out of its range.
    """
    if not values:
        raise ValueError("a percentile of no values was asked for")
    if not 0 <= percent <= 100:
        raise ValueError(f"the percentage is {percent}, but must be from 0 to 100")
    rank = -(-len(values) * percent // 100)
    return sorted(values)[max(0, int(rank) - 1)]
