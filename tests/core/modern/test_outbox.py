"""
Tests of :mod:`resip.core.modern.outbox`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.frames import PING_FRAME, opened_frame
from resip.core.modern.outbox import CreditSource, Outbox

ROOM = 1000


class Value:
    """
    What a credit says; its frame is the number.
    """

    def __init__(self) -> None:
        self.value = 0

    def build(self) -> tuple[bytes, int]:
        """
        The frame and its number.
        """
        return bytes([self.value]), self.value


class OutboxTests(SynchronousTestCase):
    """
    Frames that wait.
    """

    def setUp(self) -> None:
        """
        An empty one.
        """
        self.outbox = Outbox()

    def test_a_frame_said_once_is_not_repeated(self) -> None:
        """
        Nobody hears of its loss.
        """
        self.outbox.say_once(PING_FRAME)
        self.assertEqual(self.outbox.take(ROOM), ([PING_FRAME], []))
        self.assertFalse(self.outbox)

    def test_many_pings_are_one(self) -> None:
        """
        An outage without any path does not pile them up.
        """
        for _ in range(1000):
            self.outbox.say_once(PING_FRAME)
        self.assertEqual(self.outbox.take(ROOM), ([PING_FRAME], []))

    def test_a_lost_frame_is_said_again(self) -> None:
        """
        Before anything new.
        """
        first, second = opened_frame(1), opened_frame(3)
        self.outbox.say(first)
        _, owners = self.outbox.take(ROOM)
        self.outbox.say(second)
        owners[0].on_lost()
        self.assertEqual(self.outbox.take(ROOM)[0], [first, second])

    def test_copies_that_are_lost_count_once(self) -> None:
        """
        Two packets with the same frame bring it back once, and not at all once one arrived.
        """
        self.outbox.say(opened_frame(1))
        _, (owner,) = self.outbox.take(ROOM)
        owner.on_lost()
        owner.on_lost()
        self.assertEqual(self.outbox.take(ROOM)[0], [opened_frame(1)])
        owner.on_acked()
        owner.on_lost()
        self.assertFalse(self.outbox)

    def test_it_knows_how_much_is_not_acknowledged(self) -> None:
        """
        Waiting or in flight, until the first acknowledgement.
        """
        self.outbox.say(opened_frame(1))
        self.outbox.say(opened_frame(3))
        _, owners = self.outbox.take(ROOM)
        owners[0].on_acked()
        owners[0].on_acked()
        self.assertEqual(self.outbox.unacked, 1)

    def test_room(self) -> None:
        """
        Frames that do not fit wait.
        """
        for number in range(1, 7, 2):
            self.outbox.say(opened_frame(number))
        self.assertEqual(len(self.outbox.take(11)[0]), 2)
        self.assertEqual(len(self.outbox.take(4)[0]), 0)
        self.assertEqual(len(self.outbox.take(ROOM)[0]), 1)


class CreditTests(SynchronousTestCase):
    """
    Of a credit only the newest state is said.
    """

    def setUp(self) -> None:
        """
        One source.
        """
        self.outbox = Outbox()
        self.value = Value()
        self.source = CreditSource(self.outbox, self.value.build)

    def say(self, value: int) -> None:
        """
        Let the source say a value.
        """
        self.value.value = value
        self.source.say()

    def test_the_newest_value_is_said(self) -> None:
        """
        Values that were not fetched are skipped.
        """
        self.say(1)
        self.say(2)
        self.assertEqual(self.outbox.take(ROOM)[0], [b"\x02"])

    def test_an_old_value_that_is_lost(self) -> None:
        """
        It is not repeated; the newest is (M-32).
        """
        self.say(1)
        _, (old,) = self.outbox.take(ROOM)
        self.say(2)
        _, (new,) = self.outbox.take(ROOM)
        old.on_lost()
        self.assertFalse(self.outbox)
        new.on_lost()
        self.assertEqual(self.outbox.take(ROOM)[0], [b"\x02"])

    def test_the_peer_knows_only_what_arrived(self) -> None:
        """
        Neither what is in flight nor what still waits behind an older state that arrived.
        """
        self.assertFalse(self.source.is_known)
        self.say(1)
        _, (credit,) = self.outbox.take(ROOM)
        self.assertFalse(self.source.is_known)
        credit.on_acked()
        self.assertTrue(self.source.is_known)
        self.say(2)
        self.assertFalse(self.source.is_known)

    def test_a_copy_that_is_lost_after_another_arrived(self) -> None:
        """
        Nothing is said again.
        """
        self.say(1)
        _, (credit,) = self.outbox.take(ROOM)
        credit.on_acked()
        credit.on_lost()
        self.assertFalse(self.outbox)

    def test_a_closed_source_is_silent(self) -> None:
        """
        A channel that is gone says no credit, whatever gets lost later.
        """
        self.say(1)
        _, (credit,) = self.outbox.take(ROOM)
        self.say(2)
        self.source.close()
        credit.on_lost()
        self.source.say()
        self.assertFalse(self.outbox)
