"""
Tests of :mod:`resip.core.classic.inbox`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.inbox import COMMAND_WINDOW, REMEMBERED_SIGNATURES, CommandInbox
from resip.core.classic.receiver import Arrival


class OrderedCommandTests(SynchronousTestCase):
    """
    Commands with a number.
    """

    @given(st.permutations(range(1, 11)))
    def test_any_order_is_put_in_order(self, order: list[int]) -> None:
        """
        Commands are handed out once and by their numbers.
        """
        inbox, taken = CommandInbox(), []
        for number in [*order, *order]:
            inbox.receive(number, b"%d" % number)
            taken += [int(data) for data in inbox.take()]
        self.assertEqual(taken, list(range(1, 11)))
        self.assertEqual(inbox.pending_count, 0)

    def test_arrivals(self) -> None:
        """
        A command is new once, whether it waits or was handed out.
        """
        inbox = CommandInbox()
        arrivals = [inbox.receive(number, b".") for number in (2, 2, 1)]
        self.assertEqual(arrivals, [Arrival.NEW, Arrival.DUPLICATE, Arrival.NEW])
        self.assertEqual(len(list(inbox.take())), 2)
        self.assertIs(inbox.receive(1, b"."), Arrival.DUPLICATE)

    def test_the_window(self) -> None:
        """
        However many come before the first, no more wait than the window holds.
        """
        inbox = CommandInbox()
        for number in range(2, 2 * COMMAND_WINDOW):
            inbox.receive(number, b".")
        self.assertEqual(inbox.pending_count, COMMAND_WINDOW - 1)
        self.assertIs(inbox.receive(COMMAND_WINDOW + 1, b"."), Arrival.REFUSED)


class UnorderedCommandTests(SynchronousTestCase):
    """
    Commands without a number.
    """

    def test_a_replay_is_known(self) -> None:
        """
        A signature is new once, for at least as many others as are remembered.
        """
        inbox = CommandInbox()
        self.assertTrue(inbox.is_first_sight(b"first"))
        for index in range(REMEMBERED_SIGNATURES):
            self.assertTrue(inbox.is_first_sight(b"%d" % index))
        self.assertFalse(inbox.is_first_sight(b"first"))

    def test_memory_is_bounded(self) -> None:
        """
        However many arrive, two generations of them are kept.
        """
        inbox = CommandInbox()
        for index in range(5 * REMEMBERED_SIGNATURES):
            inbox.is_first_sight(b"%d" % index)
        self.assertLess(inbox.signature_count, 2 * REMEMBERED_SIGNATURES)
