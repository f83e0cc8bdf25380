"""
Tests of :mod:`resip.core.modern.in_flight`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.in_flight import IDLE_MEMORY_LIMIT, MEMORY_LIMIT, InFlight
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.sent import SentRun
from tests.core.modern.test_recovery import FixedWindow


def run_of(first: int, count: int, *, time: float = 0.0) -> SentRun:
    """
    Packets of 100 bytes, the last one of 60.
    """
    return SentRun(first=first, end=first + count, time=time, size=100, last_size=60)


def numbers_of(runs: Sequence[SentRun]) -> list[int]:
    """
    The numbers of all packets of the runs.
    """
    return [number for run in runs for number in range(run.first, run.end)]


def lines_run(function: Callable[[], object]) -> int:
    """
    How many lines of Python are executed by ``function``.
    """
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


class NaiveFlight:
    """
    What :class:`InFlight` should do, a dictionary entry for each packet.
    """

    def __init__(self) -> None:
        self.flying: dict[int, tuple[float, int]] = {}
        self.lost: set[int] = set()
        self.expired: set[int] = set()

    def add(self, run: SentRun) -> None:
        """
        The packets of a run leave.
        """
        for number in range(run.first, run.end):
            is_last = number == run.end - 1
            self.flying[number] = (run.time, run.last_size if is_last else run.size)

    def take(self, first: int, last: int) -> tuple[list[int], list[int], list[int]]:
        """
        What of a range is in flight, lost, expired; all of it is gone then.
        """
        flying = [number for number in self.flying if first <= number <= last]
        for number in flying:
            del self.flying[number]
        lost = sorted(number for number in self.lost if first <= number <= last)
        expired = sorted(number for number in self.expired if first <= number <= last)
        self.lost -= set(lost)
        self.expired -= set(expired)
        return flying, lost, expired

    def older(self, below: int, sent_by: float) -> list[int]:
        """
        What is in flight below a number and sent by a time.
        """
        return [
            number
            for number, (time, _) in self.flying.items()
            if number < below and time <= sent_by
        ]

    def give_up(self, numbers: Sequence[int], memory: set[int]) -> None:
        """
        Move packets to one of the memories.
        """
        for number in numbers:
            del self.flying[number]
        memory |= set(numbers)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 9), st.integers(0, 3)),
        st.tuples(st.just("ack"), st.integers(-30, 5), st.integers(0, 20)),
        st.tuples(st.just("lose"), st.integers(-30, 0), st.integers(0, 8)),
        st.tuples(st.just("expire"), st.integers(0, 12), st.integers(0, 8)),
    ),
    max_size=60,
)


class InFlightTests(SynchronousTestCase):
    """
    Runs are split where a range cuts them, and counted rightly.
    """

    @settings(max_examples=300)
    @given(steps)
    def test_agrees_with_a_dictionary_of_packets(self, script: list[tuple[str, int, int]]) -> None:
        """
        Sending, acknowledging, losing and expiring in any order give what a naive table gives.
        """
        flight, naive = InFlight(), NaiveFlight()
        number, time = 0, 0.0
        for verb, one, two in script:
            time += 1.0
            if verb == "send":
                flight.add(run_of(number, one, time=time))
                naive.add(run_of(number, one, time=time))
                number += one + two
            elif verb == "ack":
                first = max(0, number + one)
                taken = (
                    numbers_of(flight.take_acked(first, first + two)),
                    numbers_of(flight.recall_lost(first, first + two)),
                    numbers_of(flight.recall_expired(first, first + two)),
                )
                self.assertEqual(taken, naive.take(first, first + two))
            elif verb == "lose":
                expected = naive.older(number + one, time - two)
                naive.give_up(expected, naive.lost)
                lost = flight.take_lost(below=number + one, sent_by=time - two)
                # A run is given up whole when it starts below the number.
                self.assertEqual(numbers_of(lost)[: len(expected)], expected)
                naive.give_up(numbers_of(lost)[len(expected) :], naive.lost)
            else:
                expected = naive.older(number, time - two)
                expected = list(naive.flying)[: max(len(expected), one)]
                naive.give_up(expected, naive.expired)
                expired = flight.take_expired(sent_by=time - two, at_least=one)
                self.assertEqual(numbers_of(expired), expected)
            self.assertEqual(flight.packets, len(naive.flying))
            self.assertEqual(flight.bytes, sum(size for _, size in naive.flying.values()))
            oldest = flight.oldest.first if flight.oldest else None
            self.assertEqual(oldest, min(naive.flying, default=None))

    def test_a_range_cuts_a_run_at_both_ends(self) -> None:
        """
        What is outside of the range stays in flight, in order.
        """
        flight = InFlight()
        flight.add(run_of(0, 10))
        self.assertEqual(numbers_of(flight.take_acked(3, 5)), [3, 4, 5])
        self.assertEqual((flight.packets, flight.bytes), (7, 6 * 100 + 60))
        self.assertEqual(numbers_of(flight.take_acked(0, 1 << 62)), [0, 1, 2, 6, 7, 8, 9])
        self.assertEqual((flight.packets, flight.bytes), (0, 0))

    def test_an_acknowledgement_resolves_all_three(self) -> None:
        """
        What was lost, what expired and what is in flight, each lowest first, and only once.
        """
        flight = InFlight()
        for number in range(20):
            flight.add(run_of(number, 1, time=float(number)))
        flight.take_lost(below=4, sent_by=20.0)
        flight.take_expired(sent_by=0.0, at_least=4)
        ranges = [(first, first) for first in range(18, -1, -2)]
        resolved = [numbers_of(runs) for runs in flight.resolve(ranges)]
        self.assertEqual(resolved, [[0, 2], [4, 6], [8, 10, 12, 14, 16, 18]])
        self.assertEqual(flight.resolve(ranges), ([], [], []))
        resolved = [numbers_of(runs) for runs in flight.resolve([(0, 19)])]
        self.assertEqual(resolved, [[1, 3], [5, 7], [9, 11, 13, 15, 17, 19]])

    def test_the_memory_of_lost_runs_is_bounded(self) -> None:
        """
        However many packets are given up, the newest of them are remembered and no more.
        """
        flight = InFlight()
        for number in range(4 * MEMORY_LIMIT):
            flight.add(run_of(2 * number, 1))
            flight.take_lost(below=1 << 62, sent_by=0.0)
            flight.add(run_of(2 * number + 1, 1))
            flight.take_expired(sent_by=0.0)
        self.assertEqual(flight.remembered_runs, 2 * MEMORY_LIMIT)
        self.assertEqual(flight.recall_lost(0, 0), [])
        newest = 8 * MEMORY_LIMIT - 1
        self.assertEqual(numbers_of(flight.recall_expired(newest, newest)), [newest])

    def test_remembers_less_when_told_that_it_is_idle(self) -> None:
        """
        An idle session keeps a few of the newest runs only.
        """
        flight = InFlight()
        for number in range(100):
            flight.add(run_of(number, 1))
            flight.take_lost(below=1 << 62, sent_by=0.0)
        flight.shrink_memory()
        self.assertEqual(flight.remembered_runs, IDLE_MEMORY_LIMIT)

    def test_naming_all_numbers_costs_what_is_in_flight(self) -> None:
        """
        M-24: after a million packets a range over all of them takes as many steps as one over
        those that are in flight.
        """
        costs = []
        for first in (0, 999_990):
            recovery = LossRecovery(FixedWindow())
            for start, end, asks in ((0, 999_990, False), (999_990, 1_000_000, True)):
                run = SentRun(first=start, end=end, time=0.0, size=50, last_size=50, asks=asks)
                recovery.on_sent(run, now=0.0)
            on_ack = partial(recovery.on_ack, 999_999, 0.0, [(first, 999_999)], now=1.0)
            costs.append(lines_run(on_ack))
            self.assertEqual(recovery.in_flight.packets, 0)
        self.assertEqual(costs[0], costs[1])
        self.assertLess(costs[0], 200)
