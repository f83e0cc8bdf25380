"""
Which carrier a session uses: the best that delivers (docs/decisions/carrier-choice.md).

Paths to one server come and go, each of a *kind* such as UDP or TCP; kinds have an order. The
path in use is *doubted* until it has answered, and again when it stops to. While it is, the other
kinds are started, one after the other as in RFC 8305, and their paths are probed: the first that
answers is used. A better kind that was left is probed again and again, and used when it answers.
While the path in use is what limits a transfer, another kind is tried now and then: see
:mod:`resip.services.trials`.

No I/O and no clock here: what happens comes in with ``now``, what to do goes out as actions.
"""

from __future__ import annotations

from collections.abc import Sequence

from resip.core.events import PathDelivered
from resip.core.types import Path
from resip.services.candidate import FIRST_RETURN, FIRST_ROUND, Candidate
from resip.services.path_actions import (
    Action,
    ProbePath,
    Reason,
    RenewKind,
    StartKind,
    StopKind,
    UsePath,
)
from resip.services.trials import ANSWER_TIME, Trials

#: Seconds between the addresses of one kind in a race (RFC 8305 section 5 recommends 250 ms).
ADDRESS_HEAD_START = 0.25
#: Seconds for which an address is given a chance where nothing but use can tell whether it
#: answers, as in the classic dialect.
ADDRESS_TRIAL = 1.0
#: Seconds at most between two probes of a better kind that was left: that keeps the way back below
#: 30 s with room for a probe that gets lost.
MAX_RETURN = 20.0
#: Seconds after which a kind that was returned to counts as good again. One that fails sooner,
#: time and again, is probed at longer and longer intervals, else traffic would move all the time.
TRUSTED_AFTER = 60.0
#: Seconds at most between probes of all paths while the one in use is doubted.
MAX_ROUND = 20.0
#: Seconds between the probes that keep a spare connection known to NATs and proxies. They forget
#: idle ones after 30 s or more.
WARM_INTERVAL = 25.0
#: Seconds without trouble after which spares are let go, all but those of the next kind: a server's
#: places for connections are limited, and what cannot be reached need not be dialled for ever.
CALM = 300.0
#: Kinds that are tried at once when a path that has worked goes silent. Two seconds are not enough
#: for one after the other.
HASTY_KINDS = 3
#: Seconds of doubt in which a spare connection has to answer before it is dialled again.
SPARE_PATIENCE = 1.0


class CarrierChoice:
    """
    Decides for one session; :meth:`take_actions` says what to do after every call.

    :param head_starts: of each kind, best first: the seconds that those before it have.
    :param can_probe: whether paths can be asked without using them.
    """

    def __init__(self, head_starts: Sequence[float], *, can_probe: bool, now: float) -> None:
        self._head_starts = head_starts
        self._can_probe = can_probe
        self._started: set[int] = set()
        self._candidates: dict[Path, Candidate] = {}
        self._current: Candidate | None = None
        #: When the race among the kinds began that goes on while there is doubt.
        self._race_start: float | None = now
        self._renew_time: float | None = None
        self._calm_time: float | None = None
        self._closed_path: Path | None = None
        self._trials = Trials(len(head_starts))
        self._actions: list[Action] = []
        self._start_kinds(now)

    @property
    def is_doubted(self) -> bool:
        """
        Whether the path in use has yet to answer, or there is none.
        """
        return self._race_start is not None

    def take_actions(self) -> list[Action]:
        """
        What to do now, in this order.
        """
        actions, self._actions = self._actions, []
        return actions

    # What happens.

    def path_open(self, kind: int, path: Path, *, now: float) -> None:
        """
        Packets may go by a path.
        """
        siblings = sum(other.kind == kind for other in self._candidates.values())
        candidate = self._candidates[path] = Candidate(path, kind)
        current = self._current
        if current is None:
            self._use(candidate, Reason.NEEDED, now=now)
        elif self._can_probe:
            is_better = self._rank(kind, now) < self._rank(current.kind, now)
            is_wanted = self.is_doubted or is_better
            candidate.next_probe = now + (
                siblings * ADDRESS_HEAD_START if is_wanted else WARM_INTERVAL
            )
            self._probe_due(now)

    def path_closed(self, path: Path, *, now: float) -> None:
        """
        A path is gone.
        """
        candidate = self._candidates.pop(path, None)
        if candidate is None or candidate is not self._current:
            return
        if self._trials.trial is not None and self._end_trial(has_won=False, now=now):
            return
        self._current = None
        self._closed_path = path
        self._doubt(now)
        self._use_fresh(Reason.CLOSED, now=now)

    def path_answered(self, path: Path, *, now: float) -> None:
        """
        The server answered by a path: what was sent there, or a probe.
        """
        candidate = self._candidates.get(path)
        if candidate is None:
            return
        candidate.answered_time = now
        candidate.round_interval = FIRST_ROUND
        current = self._current
        if candidate is current:
            self._trust(now)
        elif current is None:
            self._use(candidate, Reason.CLOSED, now=now)
        elif self.is_doubted:
            self._use(candidate, Reason.SILENT, now=now)
        elif self._trials.trial is not None:
            pass
        elif self._trials.get_wanted(current.kind, now=now) == candidate.kind:
            self._begin_trial(candidate, now=now)
        elif self._rank(candidate.kind, now) < self._rank(current.kind, now):
            self._use(candidate, Reason.BETTER, now=now)

    def path_silent(self, path: Path, *, now: float) -> None:
        """
        The path in use owes an answer for longer than it ever takes.
        """
        current = self._current
        if current is not None and current.path == path and not self.is_doubted:
            current.answered_time = float("-inf")
            if self._trials.trial is not None and self._end_trial(has_won=False, now=now):
                return
            self._doubt(now)
            self._use_fresh(Reason.SILENT, now=now)

    def path_delivered(self, delivery: PathDelivered, *, now: float) -> None:
        """
        The path in use carried something.
        """
        current, trials = self._current, self._trials
        if current is None or current.path != delivery.path or not self._can_probe:
            return
        if trials.trial is not None:
            if trials.trial.count(delivery.size, now=now):
                self._end_trial(has_won=trials.trial.has_won(now=now), now=now)
            return
        trials.on_delivered(delivery, now=now)
        if not self.is_doubted:
            self._look_for_more(current, now)

    def retry(self, *, now: float) -> None:
        """
        Something changed outside: probe everything now. Where the path in use is doubted, start
        all other kinds, too; where it is not, the session asks at once whether it should be.
        """
        if self.is_doubted:
            for kind in range(len(self._head_starts)):
                self._start(kind)
        for other in self._others():
            other.return_interval = FIRST_RETURN
        self._probe_all(now)

    # Time.

    def get_timer(self) -> float | None:
        """
        When :meth:`handle_timer` has something to do.
        """
        times = [other.next_probe for other in self._candidates.values()]
        times += [self._renew_time, self._calm_time, self._address_trial_end]
        if self._trials.trial is not None:
            times.append(self._trials.trial.deadline)
        if self._race_start is not None:
            for kind, head_start in enumerate(self._head_starts):
                if kind not in self._started:
                    times.append(self._race_start + head_start)
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, *, now: float) -> None:
        """
        Do what is due.
        """
        self._start_kinds(now)
        self._probe_due(now)
        if self._renew_time is not None and now >= self._renew_time:
            self._renew_time = None
            self._renew_spares(now)
        if self._calm_time is not None and now >= self._calm_time:
            self._calm_time = None
            self._stop_spares(now)
        if self._address_trial_end is not None and now >= self._address_trial_end:
            self._use_next(now)
        trial = self._trials.trial
        if trial is not None and now >= trial.deadline:
            self._end_trial(has_won=trial.has_won(now=now), now=now)

    @property
    def _address_trial_end(self) -> float | None:
        current = self._current
        if self._can_probe or current is None or not self.is_doubted or len(self._candidates) < 2:
            return None
        return current.used_time + ADDRESS_TRIAL

    def _use_next(self, now: float) -> None:
        # Where there are no probes the addresses take turns until one answers.
        assert self._current is not None
        path = self._current.path
        self._candidates[path] = self._candidates.pop(path)
        self._use(next(iter(self._candidates.values())), Reason.SILENT, now=now)

    def _rank(self, kind: int, now: float) -> int:
        # What was beaten comes after all others.
        return kind + (len(self._head_starts) if self._trials.is_slow(kind, now=now) else 0)

    def _look_for_more(self, current: Candidate, now: float) -> None:
        kind = self._trials.get_wanted(current.kind, now=now)
        if kind is None:
            return
        if kind not in self._started:
            self._start(kind)
            self._calm_time = now + CALM
        for other in self._others():
            if other.kind != kind:
                continue
            if other.is_fresh(now=now):
                self._begin_trial(other, now=now)
                return
            if other.next_probe is None or other.next_probe > now + ANSWER_TIME:
                other.next_probe = now + ANSWER_TIME
                self._actions.append(ProbePath(other.path))

    def _begin_trial(self, candidate: Candidate, *, now: float) -> None:
        before = self._current
        assert before is not None, "nothing is tried without need"
        self._trials.begin(candidate.kind, before.kind, before.path, now=now)
        self._use(candidate, Reason.TRIAL, now=now)

    def _end_trial(self, *, has_won: bool, now: float) -> bool:
        # Returns whether the path before is in use again.
        trial = self._trials.trial
        assert trial is not None, "one goes on"
        before = self._candidates.get(trial.before)
        self._trials.end(has_won=has_won, now=now)
        if not has_won and before is not None:
            self._use(before, Reason.SLOWER, now=now)
        for other in self._others():
            if self._trials.is_slow(other.kind, now=now):
                other.next_probe = self._trials.slow_until(other.kind)
        return not has_won and before is not None

    # Doubt, and its end.

    def _doubt(self, now: float) -> None:
        if not self.is_doubted:
            self._race_start = now - max(self._head_starts[:HASTY_KINDS])
        self._calm_time = None
        self._start_kinds(now)
        if self._can_probe:
            self._renew_time = now + SPARE_PATIENCE
        self._probe_all(now)

    def _trust(self, now: float) -> None:
        current = self._current
        assert current is not None, "an answer came by it"
        self._race_start = self._renew_time = None
        self._calm_time = now + CALM
        for other in self._others():
            if self._trials.is_slow(other.kind, now=now):
                other.next_probe = self._trials.slow_until(other.kind)
            elif other.kind > current.kind:
                other.next_probe = now + WARM_INTERVAL if other.path.is_reliable else None

    def _use_fresh(self, reason: Reason, *, now: float) -> None:
        fresh = [other for other in self._others() if other.is_fresh(now=now)]
        if fresh:
            self._use(min(fresh, key=lambda other: self._rank(other.kind, now)), reason, now=now)

    def _use(self, candidate: Candidate, reason: Reason, *, now: float) -> None:
        before, self._current = self._current, candidate
        path = self._closed_path if before is None else before.path
        self._closed_path = None
        self._actions.append(UsePath(candidate.path, reason, path))
        self._trials.on_used()
        candidate.used_time = now
        candidate.next_probe = None
        if before is not None:
            self._leave(before, candidate, now=now)
        if candidate.is_fresh(now=now):
            self._trust(now)

    def _leave(self, before: Candidate, current: Candidate, *, now: float) -> None:
        if self._trials.trial is not None or not self._can_probe:
            return
        if now - before.used_time > TRUSTED_AFTER:
            before.return_interval = FIRST_RETURN
        rank = self._rank(current.kind, now)
        for other in self._others():
            if self._rank(other.kind, now) >= rank:
                continue
            if rank < self._rank(before.kind, now) and other.next_probe is not None:
                # What was blocked with the way that is free again may be free as well.
                other.next_probe = min(other.next_probe, now + FIRST_RETURN)
            else:
                other.next_probe = now + other.return_interval

    # Kinds and probes.

    def _others(self) -> list[Candidate]:
        return [other for other in self._candidates.values() if other is not self._current]

    def _start_kinds(self, now: float) -> None:
        if self._race_start is not None:
            for kind, head_start in enumerate(self._head_starts):
                if now >= self._race_start + head_start:
                    self._start(kind)

    def _start(self, kind: int) -> None:
        if kind not in self._started:
            self._started.add(kind)
            self._actions.append(StartKind(kind))

    def _renew_spares(self, now: float) -> None:
        # A connection that was quiet for long may have died without anybody noticing.
        silent = {
            other.kind
            for other in self._others()
            if other.path.is_reliable and not other.is_fresh(now=now)
        }
        self._actions += [RenewKind(kind) for kind in sorted(silent)]

    def _stop_spares(self, now: float) -> None:
        # Of those that are worse than the one in use the next is kept, unless it cannot be reached.
        assert self._current is not None, "calm is over with doubt"
        ranks = {self._rank(kind, now): kind for kind in self._started}
        worse = sorted(rank for rank in ranks if rank > self._rank(self._current.kind, now))
        for kind in map(ranks.__getitem__, worse):
            paths = [other.path for other in self._candidates.values() if other.kind == kind]
            if paths and kind == ranks[worse[0]]:
                continue
            self._started.remove(kind)
            for path in paths:
                del self._candidates[path]
            self._actions.append(StopKind(kind, tuple(paths)))

    def _probe_all(self, now: float) -> None:
        if self._can_probe:
            for other in self._others():
                other.next_probe = now
                other.round_interval = FIRST_ROUND
            self._probe_due(now)

    def _probe_due(self, now: float) -> None:
        for other in self._others():
            if other.next_probe is not None and now >= other.next_probe:
                self._actions.append(ProbePath(other.path))
                other.next_probe = now + self._probe_interval(other, now)

    def _probe_interval(self, other: Candidate, now: float) -> float:
        current = self._current
        if current is not None and self._rank(other.kind, now) < self._rank(current.kind, now):
            interval = other.return_interval = min(2 * other.return_interval, MAX_RETURN)
        elif self.is_doubted:
            interval = other.round_interval
            other.round_interval = min(2 * interval, MAX_ROUND)
        else:
            interval = WARM_INTERVAL
        return interval
