"""
Tests of what :mod:`resip.core.modern.recovery` tells the congestion controller: each loss once,
and taken back only when it was told.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from resip.core.congestion.rate import AckReport
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.sent import SentRun
from tests.core.modern.test_recovery import RTT, FixedWindow, RecoveryTestCase, numbers_of


class Ledger(FixedWindow):
    """
    A controller that books what it is told, as the real one does in its phases.

    :ivar flying: packets whose fate is unknown. :ivar lost: those that were declared lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flying: set[int] = set()
        self.lost: set[int] = set()

    def on_sent(self, run: SentRun, *, bytes_in_flight: int, now: float) -> None:
        """
        Its packets are on their way.
        """
        if not run.is_probe:
            self.flying.update(range(run.first, run.end))

    def on_ack(self, report: AckReport, *, now: float) -> None:
        """
        Move packets; a ``KeyError`` when they are not where they are said to be.
        """
        for run in report.acked:
            if run.is_probe:
                continue
            for number in range(run.first, run.end):
                (self.lost if run.is_lost else self.flying).remove(number)
        self._book_losses(report.lost)

    def on_losses(self, lost: Sequence[SentRun], *, bytes_in_flight: int, now: float) -> None:
        """
        See :meth:`on_ack`.
        """
        self._book_losses(lost)

    def on_path_changed(self, *, is_known: bool, now: float) -> None:
        """
        Another path knows nothing of what the one before did.
        """
        if not is_known:
            self.flying.clear()
            self.lost.clear()

    def _book_losses(self, lost: Sequence[SentRun]) -> None:
        for number in numbers_of(lost):
            self.flying.remove(number)
            self.lost.add(number)


class BookkeepingTests(RecoveryTestCase):
    """
    A controller whose books are wrong takes its own error for the path's.
    """

    def setUp(self) -> None:
        """
        A recovery whose controller keeps books.
        """
        super().setUp()
        self.ledger = Ledger()
        self.recovery = LossRecovery(self.ledger)

    def test_what_an_outage_held_up_takes_no_loss_back(self) -> None:
        """
        Packets of an outage are not declared lost, so those that arrive after all are not news.
        """
        self.measure()
        held_up = self.send(50)
        for _ in range(5):
            self.fire()
            self.send()
        self.now += RTT
        newest = self.recovery.next_number - 1
        self.ack((newest, newest))
        self.assertEqual(self.ledger.lost, set())
        report = self.ack((newest, newest), (held_up.first, held_up.end - 1))
        self.assertEqual(numbers_of(report.acked)[0], held_up.first)
        self.assertEqual((report.spurious_packets, self.recovery.stats.spurious_losses), (0, 0))

    def test_each_loss_is_told_once_and_taken_back_once(self) -> None:
        """
        Whatever arrives when, times out, and however often the path changes.
        """
        for seed in range(100):
            with self.subTest(seed=seed):
                self.setUp()
                self._live(random.Random(seed))

    def _live(self, dice: random.Random) -> None:
        for _ in range(120):
            what = dice.choices(("send", "ack", "fire", "pause", "move"), (8, 8, 3, 3, 0.5))[0]
            if what == "send":
                self.send(dice.randint(1, 12), is_probe=dice.random() < 0.05)
            elif what == "ack" and self.recovery.next_number:
                self.ack(*self._some_ranges(dice))
            elif what == "fire" and self.recovery.get_timer() is not None:
                self.fire()
            elif what == "move":
                self.recovery.on_path_changed(is_known=dice.random() < 0.5, now=self.now)
            self.now += dice.random() * (2.0 if what == "pause" else RTT / 4)

    def _some_ranges(self, dice: random.Random) -> list[tuple[int, int]]:
        ranges: list[tuple[int, int]] = []
        last = dice.randint(max(0, self.recovery.next_number - 40), self.recovery.next_number - 1)
        while last >= 0 and len(ranges) < 5:
            first = max(0, last - dice.randint(0, 10))
            ranges.append((first, last))
            last = first - dice.randint(2, 10)
        return ranges
