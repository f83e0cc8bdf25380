"""
Keeps a flood of equal events from filling the log.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime


class Throttle:
    """
    Admits the first few of many events in each period, and counts the others.

    :param clock: tells the time.
    :param burst: how many are admitted per period.
    :param period: seconds.
    """

    def __init__(self, clock: IReactorTime, *, burst: int = 5, period: float = 60.0) -> None:
        self._clock = clock
        self._burst = burst
        self._period = period
        self._started_at: float | None = None
        self._admitted = 0
        self._withheld = 0

    def admit(self) -> int | None:
        """
        Whether this event is to be told.

        :return: how many were withheld since the last admitted one, or ``None``: withhold it.
        """
        now = self._clock.seconds()
        if self._started_at is None or abs(now - self._started_at) >= self._period:
            self._started_at, self._admitted = now, 0
        if self._admitted == self._burst:
            self._withheld += 1
            return None
        self._admitted += 1
        withheld, self._withheld = self._withheld, 0
        return withheld
