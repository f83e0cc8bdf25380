"""
Whether another kind of carrier delivers more than the one in use: when to try one, and whether
to stay with it (docs/decisions/carrier-choice.md).

Rates tell something only while there is more to send than the path takes. After a minute of that
another kind is used for about one second. The faster one is kept; a kind that was beaten ranks
behind the others for ten minutes, or until another trial says otherwise. So all trials together
cost no transfer more than a sixtieth of its time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from resip.core.events import PathDelivered
from resip.core.types import Path

#: Round trips that a trial lasts, and seconds at least and at most: long enough for a TCP
#: connection to find its speed.
TRIAL_ROUND_TRIPS = 8
MIN_TRIAL = 1.0
MAX_TRIAL = 4.0
#: Measurements come a few times a second; a trial that has one waits so long for the last, seconds.
TRIAL_GRACE = 0.5
#: The following times are for the shortest trial, seconds; longer ones stretch them.
#: Demand before a trial: at most a sixtieth of the time is spent on them. Pauses count against it.
TRIAL_INTERVAL = 60.0
#: The same for trials of one kind: twice as long each time, up to this.
MAX_TRIAL_INTERVAL = 600.0
#: A kind that was beaten counts as slow for so many seconds.
VERDICT_LIFETIME = 600.0
#: A kind is kept when it delivers so many times as much as the one before; one that comes
#: earlier in the order of kinds, when it delivers this share. The distance between the two is
#: more than networks vary within a second or two.
GAIN = 1.5
PREFERRED_SHARE = 0.8
#: Bytes a second that are enough: nobody throttles to that, and processors are the limit.
ENOUGH = 25e6
#: Measurements that make a rate, some seconds of demand.
MEASUREMENTS = 12
#: Seconds in which a kind has to open a path that answers before its trial is put off.
ANSWER_TIME = 3.0


@dataclass(slots=True)
class Trial:
    """
    A path that is used for a moment.

    :ivar before: the path to return to. :ivar rate: what that delivers, bytes a second.
    :ivar middle: from then on what is delivered counts. :ivar end: when the trial is over.
    """

    kind: int
    before_kind: int
    before: Path
    rate: float
    middle: float
    end: float
    counted_from: float | None = None
    size: int = 0

    @property
    def deadline(self) -> float:
        """
        When it is over, whatever comes.
        """
        return self.end if self.counted_from is None else self.end + TRIAL_GRACE

    def count(self, size: int, *, now: float) -> bool:
        """
        So much was delivered; returns whether the trial is over.
        """
        if self.counted_from is not None:
            self.size += size
        elif now >= self.middle:
            self.counted_from = now
        return now >= self.end

    def has_won(self, *, now: float) -> bool:
        """
        Whether the path is to be kept.
        """
        if self.counted_from is None or now <= self.counted_from:
            return False
        share = PREFERRED_SHARE if self.kind < self.before_kind else GAIN
        return self.size / (now - self.counted_from) >= share * self.rate


class Trials:
    """
    Knows the demand, the rate of the path in use, and what earlier trials showed.

    :param kinds: how many there are.
    :ivar trial: the one that goes on.
    """

    def __init__(self, kinds: int) -> None:
        self._kinds = range(kinds)
        self._measurements: deque[tuple[int, float]] = deque(maxlen=MEASUREMENTS)
        self._latest = float("-inf")
        self._demand = 0.0
        self._length = MIN_TRIAL
        #: Of each kind: when it may be tried, and the pause after that.
        self._next: dict[int, float] = {}
        self._intervals: dict[int, float] = {}
        self._slow_until: dict[int, float] = {}
        #: The kind that is asked for an answer so that it can be tried, and until when.
        self._asked: tuple[int, float] | None = None
        self.trial: Trial | None = None

    def is_slow(self, kind: int, *, now: float) -> bool:
        """
        Whether a kind was beaten by another.
        """
        return now < self.slow_until(kind)

    def slow_until(self, kind: int) -> float:
        """
        When a kind that was beaten no longer counts as slow.
        """
        return self._slow_until.get(kind, float("-inf"))

    def on_used(self) -> None:
        """
        Another path is in use, about which nothing is known yet.
        """
        self._measurements.clear()
        self._asked = None

    def on_delivered(self, delivery: PathDelivered, *, now: float) -> None:
        """
        The path in use carried something.
        """
        seconds = delivery.seconds
        idle = max(0.0, now - self._latest - seconds)
        self._latest = now
        self._length = min(MAX_TRIAL, max(MIN_TRIAL, TRIAL_ROUND_TRIPS * delivery.rtt))
        if delivery.is_full:
            self._measurements.append((delivery.size, seconds))
        # Capped, so that demand which is over is soon forgotten.
        change = seconds if delivery.is_full else -seconds
        self._demand = min(self._needed, max(0.0, self._demand + change - idle))

    def get_wanted(self, current: int, *, now: float) -> int | None:
        """
        The kind to try now, if it answers.

        :param current: the kind in use.
        """
        is_measured = len(self._measurements) == MEASUREMENTS and self._rate < ENOUGH
        if self.trial is not None or self._demand < self._needed or not is_measured:
            return None
        if self._asked is not None:
            kind, until = self._asked
            if now < until:
                return kind
            self._put_off(kind, now)
            self._asked = None
        # Better kinds are returned to when they answer, unless they were beaten.
        due = [
            kind
            for kind in self._kinds
            if now >= self._next.get(kind, now)
            and kind != current
            and (kind > current or self.is_slow(kind, now=now))
        ]
        if not due:
            return None
        kind = min(due, key=lambda kind: (self._next.get(kind, 0.0), kind))
        self._asked = (kind, now + ANSWER_TIME)
        return kind

    def begin(self, kind: int, before_kind: int, before: Path, *, now: float) -> None:
        """
        A path of the wanted kind is in use from now on.
        """
        middle, end = now + self._length / 2, now + self._length
        self.trial = Trial(kind, before_kind, before, self._rate, middle, end)
        self._put_off(kind, now)
        self._demand = 0.0

    def end(self, *, has_won: bool, now: float) -> None:
        """
        The trial is over.
        """
        trial, self.trial = self.trial, None
        assert trial is not None, "one goes on"
        beaten = trial.before_kind if has_won else trial.kind
        if has_won or beaten in self._slow_until:
            self._slow_until[beaten] = now + VERDICT_LIFETIME
        if has_won:
            self._slow_until.pop(trial.kind, None)

    @property
    def _rate(self) -> float:
        seconds = sum(seconds for _, seconds in self._measurements)
        return sum(size for size, _ in self._measurements) / seconds if seconds else 0.0

    @property
    def _stretch(self) -> float:
        return self._length / MIN_TRIAL

    @property
    def _needed(self) -> float:
        return TRIAL_INTERVAL * self._stretch

    def _put_off(self, kind: int, now: float) -> None:
        last = self._next.get(kind)
        if last is None or now - last > MAX_TRIAL_INTERVAL:
            self._intervals[kind] = TRIAL_INTERVAL
        interval = self._intervals[kind]
        self._next[kind] = now + interval * self._stretch
        self._intervals[kind] = min(2 * interval, MAX_TRIAL_INTERVAL)
