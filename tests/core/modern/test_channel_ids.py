"""
Tests of :mod:`resip.core.modern.channel_ids`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ProtocolError
from resip.core.modern.channel_ids import ID_LEAD, MAX_USED_RANGES, ChannelIds


class IdTests(SynchronousTestCase):
    """
    :class:`ChannelIds`.
    """

    def test_each_id_is_used_once(self) -> None:
        """
        Ours by taking, the peer's by its frames (M-25).
        """
        ids = ChannelIds(is_client=False)
        self.assertEqual([ids.take(), ids.take()], [2, 4])
        self.assertTrue(ids.claim(7))
        self.assertFalse(ids.claim(7))
        self.assertTrue(ids.claim(1))

    def test_ours_cannot_be_claimed(self) -> None:
        """
        Of channels that are over nothing is wanted; others were never there.
        """
        ids = ChannelIds(is_client=True)
        ids.take()
        self.assertFalse(ids.claim(1))
        with self.assertRaises(ProtocolError):
            ids.claim(3)

    def test_far_ahead(self) -> None:
        """
        Packets overtake each other, but not thousands of channels.
        """
        ids = ChannelIds(is_client=False)
        with self.assertRaises(ProtocolError):
            ids.claim(2 * ID_LEAD + 3)
        self.assertTrue(ids.claim(2 * ID_LEAD + 1))

    def test_gaps_are_bounded(self) -> None:
        """
        A peer that leaves every other id out loses the oldest of them.
        """
        ids = ChannelIds(is_client=False)
        for number in range(2 * MAX_USED_RANGES):
            self.assertTrue(ids.claim(4 * number + 1))
        self.assertFalse(ids.claim(3))
        self.assertTrue(ids.claim(4 * (2 * MAX_USED_RANGES - 2) + 3))
