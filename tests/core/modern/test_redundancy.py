"""
Copies of thin traffic: how many, within which budget, and what they bring.
"""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern import redundancy
from resip.core.modern.redundancy import (
    MAX_COPIES,
    ONE_COPY,
    Copies,
    CopyBudget,
    ThinTraffic,
    copies_for,
)

#: Bytes a second of a path on which no message is too much.
FAST = 10_000_000.0


class CopiesTests(SynchronousTestCase):
    """
    What a path's loss asks for.
    """

    def test_counts(self) -> None:
        """
        Copies grow with the loss: none below half a percent, never more than eight.
        """
        losses = [0.0, 0.004, 0.005, 0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 1.0]
        counts = [copies_for(loss).count for loss in losses]
        self.assertEqual(counts, [1, 1, 2, 2, 3, 4, 5, 6, 8, 8, 8])

    def test_bursts_are_outlasted(self) -> None:
        """
        When losses come in runs, longer than chance makes them, copies are further apart.
        """
        self.assertEqual(copies_for(0.3, mean_run=1.43).spacing, redundancy.SPACING)
        self.assertEqual(copies_for(0.3, mean_run=3.0).spacing, redundancy.BURST_SPACING)

    @given(st.floats(0, 1), st.floats(1, 100))
    def test_bounds(self, loss: float, mean_run: float) -> None:
        """
        M-45: never more than eight packets, whatever was measured.
        """
        self.assertIn(copies_for(loss, mean_run=mean_run).count, range(1, MAX_COPIES + 1))
        self.assertEqual(MAX_COPIES, 8)


class ThinTrafficTests(SynchronousTestCase):
    """
    Which channels are thin.
    """

    def test_keystrokes_are_thin(self) -> None:
        """
        Ten small messages a second are thin on a path of 1 Mbit/s.
        """
        channel = ThinTraffic()
        for tenth in range(100):
            now = tenth / 10
            self.assertTrue(channel.is_thin(64, rate=125_000, now=now))
            channel.on_sent(64, now=now)

    def test_bulk_is_not_thin(self) -> None:
        """
        Neither is a large message, nor a small one at the end of a transfer; a second of
        silence later it is.
        """
        channel = ThinTraffic()
        self.assertFalse(channel.is_thin(601, rate=FAST, now=0.0))
        channel.on_sent(20_000, now=0.0)
        self.assertFalse(channel.is_thin(64, rate=125_000, now=0.1))
        self.assertTrue(channel.is_thin(64, rate=125_000, now=1.1))


class CopyBudgetTests(SynchronousTestCase):
    """
    M-46: what copies may cost.
    """

    def spent(self, *, rate: float, seconds: int) -> float:
        """
        Bytes a second spent on copies by somebody who wants six of 100 bytes all the time.
        """
        budget = CopyBudget()
        copies = 0
        for millisecond in range(seconds * 1000):
            wanted = Copies(6, 0.006)
            copies += budget.grant(wanted, 100, rate=rate, now=millisecond / 1000).count - 1
        return copies * 100 / seconds

    def test_no_more_than_64_kbit(self) -> None:
        """
        On a fast path copies take 64 kbit/s, and nearly all of it when they are wanted.
        """
        spent = self.spent(rate=FAST, seconds=30)
        self.assertLess(spent, 8000 * 31 / 30 + 1)
        self.assertGreater(spent, 7900)

    def test_no_more_than_a_tenth(self) -> None:
        """
        On a slow path copies take a tenth of what it carries.
        """
        self.assertLess(self.spent(rate=20_000, seconds=30), 2000 * 31 / 30 + 1)

    def test_copies_are_granted_in_part(self) -> None:
        """
        When the budget is nearly spent, fewer copies are granted, and at last one.
        """
        budget = CopyBudget()
        wanted = Copies(6, 0.006)
        granted = [budget.grant(wanted, 1000, rate=FAST, now=0.0).count for _ in range(4)]
        self.assertEqual(granted, [6, 4, 1, 1])
        self.assertEqual(budget.grant(wanted, 1000, rate=FAST, now=0.25), Copies(3, 0.006))
        self.assertEqual(budget.grant(ONE_COPY, 1000, rate=FAST, now=9.0), ONE_COPY)

    def test_a_refund(self) -> None:
        """
        Copies that were dropped because the message was acknowledged cost nothing.
        """
        budget = CopyBudget()
        budget.grant(Copies(6, 0.006), 1600, rate=FAST, now=0.0)
        budget.refund(2, 1600)
        self.assertEqual(budget.grant(Copies(6, 0.006), 1600, rate=FAST, now=0.0).count, 3)


class EchoTests(SynchronousTestCase):
    """
    A 64-byte message every 100 ms and its echo, at a round trip of 100 ms, both ways lossy.
    """

    def one_way(self, dice: random.Random, loss: float, copies: Copies) -> tuple[float, int]:
        """
        Seconds until the first copy arrives, and packets spent. After copies that are all
        lost, the probe timeout of M-35 sends as many again.
        """
        probe_timeout = 0.100 + 0.001 + 0.025
        start, packets = 0.0, 0
        while True:
            packets += copies.count
            for copy in range(copies.count):
                if dice.random() >= loss:
                    return start + copy * copies.spacing + 0.050, packets
            start += (copies.count - 1) * copies.spacing + probe_timeout

    def echoes(self, loss: float) -> tuple[float, int, int]:
        """
        Packets for each message, and the 95th and 99th percentile of the round trip, ms.
        """
        dice = random.Random(7)
        budgets = CopyBudget(), CopyBudget()
        times, packets, count = [], 0, 20_000
        for message in range(count):
            elapsed = 0.0
            for budget in budgets:
                wanted = copies_for(loss)
                copies = budget.grant(wanted, 104, rate=FAST, now=message / 10)
                taken, spent = self.one_way(dice, loss, copies)
                elapsed += taken
                packets += spent
            times.append(elapsed)
        times.sort()
        p95, p99 = (round(1000 * times[int(share * count)]) for share in (0.95, 0.99))
        return packets / (2 * count), p95, p99

    def test_thirty_percent(self) -> None:
        """
        At 30 % loss each way, 95 % of the echoes take at most 130 ms and 99 % at most 210 ms,
        for five packets a message.
        """
        packets, p95, p99 = self.echoes(0.3)
        self.assertLessEqual(p95, 130)
        self.assertLessEqual(p99, 210)
        self.assertLess(abs(packets - 5.0), 0.1)

    def test_other_losses(self) -> None:
        """
        Without loss nothing is repeated; the cost and the time grow with the loss.
        """
        losses = (0.0, 0.02, 0.1, 0.3, 0.4)
        table = {loss: self.echoes(loss) for loss in losses}
        self.assertEqual(table[0.0], (1.0, 100, 100))
        for loss, (packets, p95, p99) in {
            0.02: (2.0, 100, 106),
            0.1: (3.0, 106, 112),
            0.4: (6.0, 124, 136),
        }.items():
            self.assertLess(abs(table[loss][0] - packets), 0.1)
            self.assertLessEqual(table[loss][1:], (p95, p99))
        self.assertTrue(all(table[low] <= table[high] for low, high in pairwise(losses)))
