"""
Tests of :mod:`resip.services.link_group`.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from resip.core.types import Path
from resip.services.choice import ADDRESS_HEAD_START
from resip.services.link_group import LinkGroup
from tests.services.link_user import RecordingLinkUser
from tests.services.scripted_link import ScriptedLink

FIRST, SECOND, SHARED = (Path("udp", (f"192.0.2.{host}", 31266)) for host in (1, 2, 3))


class LinkGroupTests(SynchronousTestCase):
    """
    Two members and a user that writes down what it hears.
    """

    def setUp(self) -> None:
        """
        Start a group.
        """
        self.clock = Clock()
        self.members = [ScriptedLink(), ScriptedLink()]
        self.one, self.two = self.members
        self.group = LinkGroup(self.clock, self.members)
        self.user = RecordingLinkUser()
        self.group.start(self.user)

    def test_head_start(self) -> None:
        """
        The preferred member begins, the next follows.
        """
        self.assertIsNotNone(self.one.user)
        self.assertIsNone(self.two.user)
        self.clock.advance(ADDRESS_HEAD_START)
        self.assertIsNotNone(self.two.user)

    def test_each_path_has_its_carrier(self) -> None:
        """
        What is sent by a path goes to the member that opened it, and so does the question
        whether it takes more. A path that is gone takes nothing.
        """
        self.clock.advance(ADDRESS_HEAD_START)
        self.one.open(FIRST)
        self.two.open(SECOND)
        self.two.carrier.is_full = True
        carrier = self.user.carriers[FIRST]
        self.assertIs(carrier, self.user.carriers[SECOND])
        carrier.send(FIRST, [b"1"])
        carrier.send(SECOND, [b"2"])
        self.assertEqual((self.one.carrier.sent, self.two.carrier.sent), ([b"1"], [b"2"]))
        self.assertTrue(carrier.is_writable(FIRST))
        self.assertFalse(carrier.is_writable(SECOND))
        self.one.close(FIRST)
        carrier.send(FIRST, [b"3"])
        self.assertFalse(carrier.is_writable(FIRST))
        self.assertEqual(self.one.carrier.sent, [b"1"])
        self.assertEqual(self.user.calls, [("open", FIRST), ("open", SECOND), ("closed", FIRST)])

    def test_two_names_of_one_address(self) -> None:
        """
        The user hears of the path once; when the member that had it loses it, the other takes over.
        """
        self.clock.advance(ADDRESS_HEAD_START)
        for member in self.members:
            member.open(SHARED)
        self.assertEqual(self.user.calls, [("open", SHARED)])
        self.user.carriers[SHARED].send(SHARED, [b"0"])
        self.assertEqual(self.one.carrier.sent, [b"0"])
        self.one.close(SHARED)
        self.assertEqual(self.user.calls[1:], [("closed", SHARED), ("open", SHARED)])
        self.user.carriers[SHARED].send(SHARED, [b"1"])
        self.assertEqual(self.two.carrier.sent, [b"1"])
        self.one.open(SHARED)
        self.one.close(SHARED)
        self.assertEqual(len(self.user.calls), 3)

    def test_what_all_members_are_told(self) -> None:
        """
        To renew and to stop; one that has not begun by then never begins.
        """
        self.group.renew()
        self.successResultOf(self.group.stop())
        self.clock.advance(ADDRESS_HEAD_START)
        self.assertEqual([(link.renewals, link.stops) for link in self.members], [(1, 1)] * 2)
        self.assertIsNone(self.two.user)
        self.assertEqual(self.clock.getDelayedCalls(), [])
