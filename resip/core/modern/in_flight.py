"""
The runs that were sent and not resolved yet, and a short memory of those given up.

Numbers are given out in the order of sending and packets are given up from the oldest on.
So whatever was given up is older than whatever is in flight, and every list here stays sorted
by appending. What an acknowledgement costs grows with the runs that it resolves and the
logarithm of those that it does not, never with the numbers that it names.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter

from resip.core.modern.sent import SentRun

#: Runs given up that may still turn out to have arrived, of each kind. A peer that acknowledges
#: every other packet makes a run of each lost one; this bounds what it can have us keep.
MEMORY_LIMIT = 256
#: The same while nothing is in flight: an idle session must stay small.
IDLE_MEMORY_LIMIT = 8

#: From so many ranges on, those that the acknowledgement before named too are skipped.
MANY_RANGES = 4

#: One for all: an empty one has 216 bytes.
_NO_RANGES: frozenset[tuple[int, int]] = frozenset()
#: Above every packet number.
_ANY_NUMBER = 1 << 63
_first = attrgetter("first")
_end = attrgetter("end")


class RunList:
    """
    Runs in the order of their numbers. Numbers may be missing between them.
    """

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: list[SentRun] = []

    def __len__(self) -> int:
        """
        How many runs there are, not how many packets.
        """
        return len(self._runs)

    @property
    def oldest(self) -> SentRun | None:
        """
        The run with the lowest numbers.
        """
        return self._runs[0] if self._runs else None

    @property
    def newest(self) -> SentRun | None:
        """
        The run with the highest numbers.
        """
        return self._runs[-1] if self._runs else None

    def __iter__(self) -> Iterator[SentRun]:
        """
        The runs, lowest first.
        """
        return iter(self._runs)

    def between(self, first: int, below: int) -> list[SentRun]:
        """
        The runs that begin at ``first`` or above and below ``below``; they stay.
        """
        low = bisect_left(self._runs, first, key=_first)
        return self._runs[low : bisect_left(self._runs, below, low, key=_first)]

    def append(self, run: SentRun) -> None:
        """
        Add a run whose numbers are higher than all that are here.
        """
        self._runs.append(run)

    def extend(self, runs: list[SentRun]) -> None:
        """
        Add runs, lowest first, whose numbers are higher than all that are here.
        """
        self._runs.extend(runs)

    def take(self, first: int, last: int) -> list[SentRun]:
        """
        Remove the packets ``first`` to ``last``, both included, and return them, lowest first.

        Runs that are only partly inside are split; the rest of them stays.
        """
        runs = self._runs
        if not runs or last < runs[0].first or first >= runs[-1].end:
            return []
        low = bisect_right(runs, first, key=_end) if first >= runs[0].end else 0
        high = bisect_right(runs, last, low, key=_first) if last < runs[-1].first else len(runs)
        if low == high:
            return []
        taken = runs[low:high]
        kept = []
        if taken[0].first < first:
            kept.append(taken[0])
            taken[0] = taken[0].split(first)
        if taken[-1].end > last + 1:
            kept.append(taken[-1].split(last + 1))
        runs[low:high] = kept
        return taken

    def take_older(self, *, below: int, sent_by: float) -> list[SentRun]:
        """
        Remove the oldest runs as long as they start below a number and were sent by a time.
        """
        count = 0
        for run in self._runs:
            if run.first >= below or run.time > sent_by:
                break
            count += 1
        return self._take_oldest_runs(count)

    def take_packets(self, count: int) -> list[SentRun]:
        """
        Remove the ``count`` oldest packets, or as many as there are.
        """
        runs = self._runs
        whole = 0
        while whole < len(runs) and runs[whole].count <= count:
            count -= runs[whole].count
            whole += 1
        taken = self._take_oldest_runs(whole)
        if count and runs:
            partly = runs[0]
            runs[0] = partly.split(partly.first + count)
            taken.append(partly)
        return taken

    def trim(self, limit: int) -> None:
        """
        Forget the oldest runs beyond ``limit``.
        """
        if len(self._runs) > limit:
            del self._runs[: len(self._runs) - limit]

    def _take_oldest_runs(self, count: int) -> list[SentRun]:
        if not count:
            return []
        taken = self._runs[:count]
        del self._runs[:count]
        return taken


class InFlight:
    """
    Everything that was sent, asks for an acknowledgement, and is neither acknowledged nor
    given up.

    Packets are given up in two ways. A *lost* one was overtaken by one that arrived. An
    *expired* one was not answered in time, which says nothing about its fate yet. Of both the
    newest are remembered, because an acknowledgement may still come.

    :ivar packets: how many are in flight.
    :ivar bytes: on the wire, in flight.
    """

    __slots__ = ("_expired", "_flying", "_known_ranges", "_lost", "bytes", "packets")

    def __init__(self) -> None:
        self.packets = 0
        self.bytes = 0
        self._flying = RunList()
        self._lost = RunList()
        self._expired = RunList()
        self._known_ranges = _NO_RANGES

    @property
    def oldest(self) -> SentRun | None:
        """
        The run in flight with the lowest numbers, ``None`` when nothing is in flight.
        """
        return self._flying.oldest

    @property
    def oldest_wanted(self) -> SentRun | None:
        """
        The same of those that somebody waits for: what arrived in others left out.
        """
        oldest = self._flying.oldest
        if oldest is None or oldest.is_wanted:
            return oldest
        return next((run for run in self._flying if run.is_wanted), None)

    @property
    def remembered_runs(self) -> int:
        """
        How many runs that were given up are still remembered.
        """
        return len(self._lost) + len(self._expired)

    @property
    def newest_expired(self) -> int:
        """
        The highest number that is remembered as expired, -1 without any.
        """
        newest = self._expired.newest
        return newest.end - 1 if newest is not None else -1

    def add(self, run: SentRun) -> None:
        """
        A run leaves. Its numbers are higher than all before.
        """
        self._flying.append(run)
        self.packets += run.count
        self.bytes += run.wire_bytes

    def resolve(
        self, ranges: Sequence[tuple[int, int]]
    ) -> tuple[list[SentRun], list[SentRun], list[SentRun]]:
        """
        Remove what an acknowledgement names.

        :param ranges: (first, last), both included, highest first, not overlapping.
        :return: the runs, lowest first: lost before, expired before, in flight.
        """
        is_anything_given_up = self.remembered_runs > 0
        lost: list[SentRun] = []
        expired: list[SentRun] = []
        arrived: list[SentRun] = []
        known = self._known_ranges
        fresh = [range_ for range_ in ranges if range_ not in known]
        for range_ in reversed(fresh):
            arrived += self.take_acked(*range_)
            if is_anything_given_up:
                lost += self.recall_lost(*range_)
                expired += self.recall_expired(*range_)
        if len(ranges) > MANY_RANGES:
            self._known_ranges = frozenset(ranges)
        return lost, expired, arrived

    def take_acked(self, first: int, last: int) -> list[SentRun]:
        """
        Remove what is in flight of the numbers ``first`` to ``last``, both included.

        :return: the runs, oldest first; a run that the range cuts was split.
        """
        return self._left(self._flying.take(first, last))

    def take_lost(self, *, below: int, sent_by: float) -> list[SentRun]:
        """
        Give up as lost the runs that start below ``below`` and were sent by ``sent_by``.

        :return: the runs, oldest first. They are remembered, so they may be split later.
        """
        lost = self._left(self._flying.take_older(below=below, sent_by=sent_by))
        if lost:
            self._lost.extend(lost)
            self._lost.trim(MEMORY_LIMIT)
        return lost

    def take_expired(
        self, *, sent_by: float, below: int = _ANY_NUMBER, at_least: int = 0
    ) -> list[SentRun]:
        """
        Give up what was sent at ``sent_by`` or before, without calling it lost.

        :param below: runs that begin with this number or a higher one stay.
        :param at_least: packets to give up whenever they were sent, oldest first.
        :return: the runs, oldest first. They are remembered, so they may be split later.
        """
        expired = self._flying.take_older(below=below, sent_by=sent_by)
        missing = at_least - sum(run.count for run in expired)
        if missing > 0:
            expired += self._flying.take_packets(missing)
        self._left(expired)
        self._expired.extend(expired)
        self._expired.trim(MEMORY_LIMIT)
        return expired

    def recent_expired(self, *, first: int, below: int) -> list[SentRun]:
        """
        The runs remembered as expired that begin between ``first`` and ``below - 1``.
        """
        return self._expired.between(first, below)

    def recall_lost(self, first: int, last: int) -> list[SentRun]:
        """
        What is remembered as lost of the numbers ``first`` to ``last``; then it is forgotten.
        """
        return self._lost.take(first, last)

    def recall_expired(self, first: int, last: int) -> list[SentRun]:
        """
        What is remembered as expired of the numbers ``first`` to ``last``; then it is forgotten.
        """
        return self._expired.take(first, last)

    def shrink_memory(self) -> None:
        """
        Nothing is in flight: remember only the newest of what was given up.
        """
        self._lost.trim(IDLE_MEMORY_LIMIT)
        self._expired.trim(IDLE_MEMORY_LIMIT)
        self._known_ranges = _NO_RANGES

    def _left(self, runs: list[SentRun]) -> list[SentRun]:
        for run in runs:
            self.packets -= run.count
            self.bytes -= run.wire_bytes
        return runs
