"""
Tests of :mod:`resip.core.modern.copies`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.copies import CopySchedule, SmallPacket
from resip.core.modern.redundancy import Copies, CopyBudget
from resip.core.modern.sent import CopyGroup

THREE = Copies(3, 0.006)


def make_packet() -> SmallPacket:
    """
    A packet of no stream.
    """
    return SmallPacket(b"text", [], CopyGroup(), None, 0, 0)


class CopyScheduleTests(SynchronousTestCase):
    """
    Copies at their times.
    """

    def setUp(self) -> None:
        """
        A schedule with one packet of three copies.
        """
        self.budget = CopyBudget()
        self.schedule = CopySchedule(self.budget)
        self.packet = make_packet()
        self.schedule.add(self.packet, THREE, now=1.0)

    def test_copies_are_some_milliseconds_apart(self) -> None:
        """
        The first went out already (M-45).
        """
        self.assertEqual(self.schedule.next_time, 1.006)
        self.assertEqual(self.schedule.take_due(overhead=24, limit=9, now=1.005), [])
        self.assertEqual(self.schedule.take_due(overhead=24, limit=9, now=1.006), [self.packet])
        self.assertEqual(self.schedule.take_due(overhead=24, limit=9, now=2.0), [self.packet])
        self.assertIsNone(self.schedule.next_time)

    def test_what_arrived_needs_no_copies(self) -> None:
        """
        They are dropped.
        """
        self.packet.group.is_acked = True
        self.assertEqual(self.schedule.take_due(overhead=24, limit=9, now=2.0), [])

    def test_dropped_copies_are_refunded(self) -> None:
        """
        The next message has their budget.
        """
        rate = 1e6
        everything = self.budget.grant(Copies(1000, 0.006), 28, rate=rate, now=1.0)
        self.assertGreater(everything.count, 100)
        self.assertEqual(self.budget.grant(THREE, 28, rate=rate, now=1.0).count, 1)
        self.packet.group.is_acked = True
        self.schedule.take_due(overhead=24, limit=9, now=2.0)
        self.assertEqual(self.budget.grant(THREE, 28, rate=rate, now=1.0).count, 3)
