"""
Tests of :mod:`resip.core.modern.path_probes` and :mod:`resip.core.modern.path_memory`.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.loss import LossMeter, ReorderingWindow
from resip.core.modern.mtu import PathMtuSearch
from resip.core.modern.path_memory import (
    MAX_MEMORIES,
    MEMORY_LIFETIME,
    WORKING_LIFETIME,
    Measured,
    PathMemories,
)
from resip.core.modern.path_memory import PathMemory as Memory
from resip.core.modern.path_probes import MAX_CHALLENGES, MAX_PROBES, PathProbes
from resip.core.rtt import RttEstimator
from resip.core.types import Path

UDP, TCP = Path("udp", ("192.0.2.1", 1)), Path("tcp", ("192.0.2.1", 1), is_reliable=True)


class PathProbesTests(SynchronousTestCase):
    """
    Questions by script.
    """

    def setUp(self) -> None:
        """
        None so far.
        """
        self.probes = PathProbes(Random(1).randbytes)
        self.now = 0.0

    def run_until_quiet(self) -> list[tuple[float, Path, bytes]]:
        """
        Every question from now on.
        """
        asked = []
        while (timer := self.probes.get_timer()) is not None:
            self.now = max(self.now, timer)
            due = self.probes.get_challenges(now=self.now)
            asked += [(round(self.now, 3), path, challenge) for path, challenge in due]
        return asked

    def test_repetition(self) -> None:
        """
        A path without an answer is asked five times within three seconds, each time anew.
        """
        self.probes.ask(UDP, probe_timeout=0.2, now=0.0)
        asked = self.run_until_quiet()
        self.assertEqual([at for at, _, _ in asked], [0, 0.2, 0.6, 1.4, 3.0])
        self.assertEqual(len({challenge for _, _, challenge in asked}), MAX_CHALLENGES)

    def test_the_interval_is_bounded(self) -> None:
        """
        Whatever is known of the path in use, another one is asked at a sensible pace.
        """
        for probe_timeout, interval in ((0.001, 0.1), (30.0, 0.4)):
            self.now = 0.0
            self.probes.ask(UDP, probe_timeout=probe_timeout, now=0.0)
            self.assertEqual(self.run_until_quiet()[1][0], interval)

    def test_answers(self) -> None:
        """
        The answer to any of the last questions counts, once, and ends them.
        """
        self.probes.ask(UDP, probe_timeout=0.2, now=0.0)
        self.probes.ask(TCP, probe_timeout=0.2, now=0.0)
        (_, first), _ = self.probes.get_challenges(now=0.0)
        self.probes.get_challenges(now=0.2)
        self.assertIsNone(self.probes.on_response(b"12345678"))
        self.assertEqual(self.probes.on_response(first), UDP)
        self.assertIsNone(self.probes.on_response(first))
        self.assertEqual({path for _, path, _ in self.run_until_quiet()}, {TCP})

    def test_asking_again(self) -> None:
        """
        It begins anew, and an answer to what was asked before still counts.
        """
        self.probes.ask(UDP, probe_timeout=0.2, now=0.0)
        ((_, first),) = self.probes.get_challenges(now=0.0)
        self.probes.ask(UDP, probe_timeout=0.2, now=1.0)
        self.assertEqual(self.probes.get_timer(), 1.0)
        self.assertEqual(self.probes.on_response(first), UDP)

    def test_bounds(self) -> None:
        """
        However many paths are to be asked, some are; those forgotten are not.
        """
        for number in range(2 * MAX_PROBES):
            self.probes.ask(Path(f"carrier {number}"), probe_timeout=0.2, now=0.0)
        self.probes.forget(Path("carrier 0"))
        self.assertEqual(len(self.probes.get_challenges(now=0.0)), MAX_PROBES - 1)


class PathMemoriesTests(SynchronousTestCase):
    """
    What is kept of carriers.
    """

    def setUp(self) -> None:
        """
        None so far.
        """
        self.memories = PathMemories()

    def memory(self) -> Memory:
        """
        Something learnt.
        """
        measured = Measured(RttEstimator(0.1), LossMeter(), ReorderingWindow(), None)
        return Memory(measured, PathMtuSearch())

    def change(
        self,
        before: Path | None,
        memory: Memory,
        path: Path | None,
        *,
        is_working: bool = False,
        now: float,
    ) -> Memory | None:
        """
        Packets take another path.
        """
        return self.memories.change(before, memory, path, is_working=is_working, now=now)

    def test_one_that_worked(self) -> None:
        """
        After more than a moment only the size of packets is taken to hold.
        """
        of_udp = self.memory()
        self.change(UDP, of_udp, TCP, is_working=True, now=0)
        self.assertIs(self.change(TCP, self.memory(), UDP, now=WORKING_LIFETIME), of_udp)
        self.change(UDP, of_udp, TCP, is_working=True, now=20)
        known = self.change(TCP, self.memory(), UDP, now=21 + WORKING_LIFETIME)
        self.assertEqual(known, Memory(None, of_udp.mtu))

    def test_there_and_back(self) -> None:
        """
        What was learnt of a carrier is there when it is in use again, and not after ten minutes.
        """
        of_udp, of_tcp = self.memory(), self.memory()
        self.assertIsNone(self.change(UDP, of_udp, TCP, now=0))
        self.assertIs(self.change(TCP, of_tcp, UDP, now=1), of_udp)
        self.assertIs(self.change(UDP, of_udp, TCP, now=2), of_tcp)
        later = 2 + MEMORY_LIFETIME + 1
        self.assertIsNone(self.change(TCP, of_tcp, UDP, now=later))

    def test_by_way_of_none(self) -> None:
        """
        The last carrier may go before the next one comes.
        """
        of_udp = self.memory()
        self.assertIsNone(self.change(UDP, of_udp, None, now=0))
        self.assertIs(self.change(None, self.memory(), UDP, now=1), of_udp)

    def test_another_address(self) -> None:
        """
        It is the same carrier: nothing is kept.
        """
        other = Path("udp", ("192.0.2.2", 1))
        self.assertIsNone(self.change(UDP, self.memory(), other, now=0))
        self.assertIsNone(self.change(other, self.memory(), UDP, now=0))

    def test_bounds(self) -> None:
        """
        The carriers left first are forgotten.
        """
        paths = [Path(f"carrier {number}") for number in range(MAX_MEMORIES + 2)]
        for before, after in pairwise(paths):
            self.change(before, self.memory(), after, now=0)
        self.assertIsNone(self.change(paths[-1], self.memory(), paths[0], now=0))
        self.assertIsNotNone(self.change(paths[0], self.memory(), paths[-1], now=0))
