"""
A token bucket: spreads packets over time at a given rate, in bursts a timer can keep up with.
"""

from __future__ import annotations

#: Reactors wake up a millisecond late or more; up to this much of the rate may be caught up.
CATCH_UP_TIME = 0.002


class Pacer:
    """
    Says how much may be sent now and when the next burst may go.

    Units are whatever the caller counts: packets or bytes.

    :ivar rate: units a second, above 0.
    :ivar burst: how many units may go at once after a pause, at least 1.
    """

    __slots__ = ("_tokens", "_updated_at", "burst", "rate")

    def __init__(self, *, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._updated_at = 0.0

    def available(self, *, now: float) -> int:
        """
        How many units may be sent now, 0 or more.
        """
        if now > self._updated_at:
            limit = max(self.burst, self.rate * CATCH_UP_TIME)
            self._tokens = min(limit, self._tokens + (now - self._updated_at) * self.rate)
            self._updated_at = now
        return max(0, int(self._tokens + 1e-6))

    def spend(self, units: float) -> None:
        """
        Units were sent; more than were available is allowed and paid back by waiting.
        """
        self._tokens -= units

    def ready_at(self, *, wanted: float = 1) -> float:
        """
        When ``wanted`` units will be available, at most a full burst.
        """
        missing = min(wanted, self.burst) - self._tokens
        return self._updated_at + max(0.0, missing / self.rate)
