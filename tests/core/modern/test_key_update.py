"""
Tests of :mod:`resip.core.modern.protection`: key updates, by section 2.2 of docs/protocol.md.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import LimitError
from resip.core.modern.protection import KEY_UPDATE_AT, MAX_PACKETS_PER_KEY, DropTrigger, Sealer
from tests.support.protection import (
    AES_GCM,
    SECRET,
    SESSION_ID,
    opened,
    pair,
    reference_packet,
    seal,
)


class KeyUpdateTests(SynchronousTestCase):
    """
    Section 2.2.
    """

    def setUp(self) -> None:
        """
        Make a direction whose first packets were acknowledged.
        """
        self.sealer, self.opener = pair()
        self.opener.open(seal(self.sealer, 3))
        self.sealer.on_acked(2)

    def test_update(self) -> None:
        """
        The receiver follows to the next secret, and numbers go on (M-15, M-16).
        """
        self.sealer.start_key_update()
        self.assertEqual(self.opener.open(seal(self.sealer, 3)), opened(3, 6))
        self.assertEqual((self.sealer.generation, self.opener.generation), (1, 1))

    def test_the_next_secret(self) -> None:
        """
        The key and IV of the next phase come from the next secret, the mask stays (M-15).
        """
        self.sealer.start_key_update()
        (packet,) = self.sealer.seal(SESSION_ID, [b"words"], 3)
        self.assertEqual(packet, reference_packet(AES_GCM, 3, b"words", updates=1))

    def test_not_before_an_acknowledgement(self) -> None:
        """
        A second update waits until a packet of the new phase was acknowledged (M-15).
        """
        self.sealer.start_key_update()
        self.assertRaises(ValueError, self.sealer.start_key_update)
        self.sealer.on_acked(2)
        self.assertFalse(self.sealer.can_update_key)
        seal(self.sealer, 1)
        self.sealer.on_acked(3)
        self.sealer.start_key_update()
        self.assertEqual(self.sealer.generation, 2)

    def test_numbers_are_not_used_again(self) -> None:
        """
        After an update no number of before can be sealed, so no nonce comes twice (M-8).
        """
        self.sealer.start_key_update()
        self.assertRaises(ValueError, self.sealer.seal, SESSION_ID, [b"again"], 2)

    def test_replay_across_an_update(self) -> None:
        """
        A packet of the previous phase opens once, after the update too (M-13, M-16).
        """
        late = seal(self.sealer, 2)
        self.sealer.start_key_update()
        self.opener.open(seal(self.sealer, 1))
        self.assertEqual(self.opener.open(late), opened(3, 5))
        self.assertEqual(self.opener.open(late), [None, None])
        self.assertEqual(self.opener.drops, {DropTrigger.DUPLICATE: 2})

    def test_overtaken_packets(self) -> None:
        """
        Packets of both phases open in any order while the previous key is kept (M-16).
        """
        before = seal(self.sealer, 2)
        self.sealer.start_key_update()
        after = seal(self.sealer, 2)
        result = self.opener.open([after[1], before[1], after[0], before[0]])
        self.assertEqual([one and one[0] for one in result], [6, 4, 5, 3])

    def test_dropping_the_previous_key(self) -> None:
        """
        Once the previous key is gone, its packets are dropped with a reason (M-16).
        """
        late = seal(self.sealer, 1)
        self.sealer.start_key_update()
        self.opener.open(seal(self.sealer, 1))
        self.opener.drop_previous_key()
        self.assertEqual(self.opener.open(late), [None])
        self.assertEqual(self.opener.drops, {DropTrigger.KEY_UNAVAILABLE: 1})

    def test_a_forged_phase(self) -> None:
        """
        Packets with the phase bit flipped do not authenticate and change no phase (M-17).
        """
        for packet in seal(self.sealer, 20):
            forged = packet[:4] + bytes([packet[4] ^ 0x80]) + packet[5:]
            self.assertEqual(self.opener.open([forged]), [None])
        self.assertEqual(self.opener.generation, 0)
        self.assertEqual(self.opener.drops, {DropTrigger.UNDECRYPTABLE: 20})
        self.assertEqual(self.opener.open(seal(self.sealer, 1)), opened(23, 24))

    def test_following_the_peer(self) -> None:
        """
        Our direction follows the peer's without an acknowledgement, once (M-16).
        """
        ours = Sealer(AES_GCM, SECRET[::-1])
        self.sealer.start_key_update()
        self.opener.open(seal(self.sealer, 1))
        for _ in range(2):
            ours.follow(self.opener.generation)
            self.assertEqual(ours.generation, 1)

    def test_many_updates(self) -> None:
        """
        Update follows update, each with a batch in which the phase changes.
        """
        for _ in range(10):
            batch = seal(self.sealer, 2)
            self.sealer.on_acked(self.sealer.next_number - 1)
            self.sealer.start_key_update()
            batch += seal(self.sealer, 2)
            self.assertEqual(len([one for one in self.opener.open(batch) if one]), 4)
        self.assertEqual(self.opener.generation, 10)

    def test_limits(self) -> None:
        """
        After 2^22 packets an update is due, and a key never seals more than 2^23 (M-15).
        """
        self.assertFalse(self.sealer.wants_key_update)
        self.sealer.seal(SESSION_ID, [b"x"], KEY_UPDATE_AT - 1)
        self.assertTrue(self.sealer.wants_key_update)
        self.sealer.seal(SESSION_ID, [b"x"], MAX_PACKETS_PER_KEY - 2)
        self.assertEqual(self.sealer.room, 1)
        end = MAX_PACKETS_PER_KEY - 1
        self.assertRaises(LimitError, self.sealer.seal, SESSION_ID, [b"x", b"x"], end)
        self.sealer.seal(SESSION_ID, [b"x"], end)
        self.assertRaises(LimitError, self.sealer.seal, SESSION_ID, [b"x"], end + 1)
        self.sealer.start_key_update()
        self.assertEqual(self.sealer.room, MAX_PACKETS_PER_KEY)
        self.assertEqual(len(self.sealer.seal(SESSION_ID, [b"x"], end + 1)), 1)
