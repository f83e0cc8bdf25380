"""
A token bucket: spreads packets over time at a given rate, in bursts a timer can keep up with.
"""

from __future__ import annotations

#: Reactors wake up late, by a millisecond or, on a busy machine, by ten. What a late wake-up
#: missed, up to so many seconds of it, is caught up: otherwise less is sent than the rate says,
#: and a rate model that is fed by what arrives would follow that down.
CATCH_UP_TIME = 0.015


class Pacer:
    """
    Says how much may be sent now and when the next burst may go.

    Units are whatever the caller counts: packets or bytes.

    :ivar rate: units a second, above 0.
    :ivar burst: how many units may go at once after a pause, at least 1.
    """

    __slots__ = ("_due_at", "_tokens", "_updated_at", "burst", "rate")

    def __init__(self, *, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._updated_at = 0.0
        self._due_at: float | None = None

    def available(self, *, now: float) -> int:
        """
        How many units may be sent now, 0 or more.
        """
        if now > self._updated_at:
            late = 0.0 if self._due_at is None else max(0.0, now - self._due_at)
            limit = self.burst + min(late, CATCH_UP_TIME) * self.rate
            self._tokens = min(limit, self._tokens + (now - self._updated_at) * self.rate)
            self._updated_at = now
            self._due_at = None
        return max(0, int(self._tokens + 1e-6))

    def spend(self, units: float) -> None:
        """
        Units were sent; more than were available is allowed and paid back by waiting.
        """
        self._tokens -= units

    def forgive(self) -> None:
        """
        What was spent beyond the available is not to be paid back.
        """
        self._tokens = max(0.0, self._tokens)

    def ready_at(self, *, wanted: float = 1) -> float:
        """
        When ``wanted`` units will be available, at most a full burst. Somebody waits for them:
        what is asked for later than that is not lost.
        """
        missing = min(wanted, self.burst) - self._tokens
        self._due_at = self._updated_at + max(0.0, missing / self.rate)
        return self._due_at
