"""
Tests of :mod:`resip.core.modern.reset`.
"""

from __future__ import annotations

import hashlib
import random

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.reset import (
    MAX_RESETS_PER_SECOND,
    MIN_TRIGGER_SIZE,
    ResetSender,
    derive_reset_key,
    is_own_id,
    is_reset,
    make_id,
    reset_token,
)
from resip.core.trains import MIN_PACKET_SIZE

KEY = derive_reset_key(X25519PrivateKey.from_private_bytes(bytes(31) + b"k"))
SESSION_ID = make_id(KEY, random.Random(5).randbytes)
TRIGGER = SESSION_ID.to_bytes(4) + bytes(60)


def sender(seed: int = 1) -> ResetSender:
    """
    A sender that is the same in every run.
    """
    return ResetSender(KEY, random.Random(seed).randbytes)


class ResetTests(SynchronousTestCase):
    """
    The server's resets, and how clients know them.
    """

    def test_token(self) -> None:
        """
        A token is the keyed BLAKE2s of the id, cut to 16 bytes (M-41).
        """
        expected = hashlib.blake2s(SESSION_ID.to_bytes(4), key=KEY).digest()[:16]
        self.assertEqual(reset_token(KEY, SESSION_ID), expected)

    def test_the_key_survives_a_restart(self) -> None:
        """
        The reset key depends on nothing but the server's static key (M-41).
        """
        self.assertEqual(
            derive_reset_key(X25519PrivateKey.from_private_bytes(bytes(31) + b"k")), KEY
        )
        other = X25519PrivateKey.from_private_bytes(bytes(31) + b"l")
        self.assertNotEqual(derive_reset_key(other), KEY)

    def test_a_reset_is_recognised(self) -> None:
        """
        A client knows the reset of an id that it uses, and no other (M-42).
        """
        reset = sender().answer(TRIGGER, now=0.0)
        assert reset is not None
        token = reset_token(KEY, SESSION_ID)
        self.assertTrue(is_reset(reset, [b"x" * 16, token]))
        self.assertTrue(is_reset(reset, [token, b"x" * 16]))
        self.assertFalse(is_reset(reset, [reset_token(KEY, SESSION_ID + 1)]))
        self.assertFalse(is_reset(reset, []))

    def test_forged_resets(self) -> None:
        """
        A reset with any bit of its token changed, or too short for a packet, is none.
        """
        reset = sender().answer(TRIGGER, now=0.0)
        assert reset is not None
        token = reset_token(KEY, SESSION_ID)
        for at in range(1, 17):
            forged = bytearray(reset)
            forged[-at] ^= 1
            self.assertFalse(is_reset(bytes(forged), [token]))
        self.assertFalse(is_reset(bytes(8) + token, [token]))
        self.assertFalse(is_reset(reset + b"\0", [token]))

    def test_small_packets_are_not_answered(self) -> None:
        """
        Packets of less than 43 bytes get silence (M-41).
        """
        self.assertIsNone(sender().answer(TRIGGER[: MIN_TRIGGER_SIZE - 1], now=0.0))
        self.assertIsNotNone(sender().answer(TRIGGER[:MIN_TRIGGER_SIZE], now=0.0))

    def test_sizes(self) -> None:
        """
        A reset is smaller than any trigger, so it never causes one itself, and never looks
        too short for a packet (M-41).
        """
        resets = [sender(seed).answer(TRIGGER, now=0.0) for seed in range(300)]
        sizes = {len(reset) for reset in resets if reset is not None}
        self.assertEqual(min(sizes), MIN_PACKET_SIZE)
        self.assertEqual(max(sizes), MIN_TRIGGER_SIZE - 1)

    def test_the_rest_is_random(self) -> None:
        """
        Two resets of one id have nothing but their tokens in common (M-41).
        """
        resets = sender()
        first, second = resets.answer(TRIGGER, now=0.0), resets.answer(TRIGGER, now=0.0)
        assert first is not None and second is not None
        self.assertEqual(first[-16:], second[-16:])
        self.assertNotEqual(first[:9], second[:9])

    def test_ids_are_known_again(self) -> None:
        """
        The same key knows its ids after a restart, all bits but the check's are random, and of
        the ids that a stranger makes up hardly one in 4,096 is answered (M-41).
        """
        dice = random.Random(3)
        made = [make_id(KEY, dice.randbytes) for _ in range(2000)]
        self.assertTrue(all(is_own_id(KEY, session_id) for session_id in made))
        self.assertEqual({session_id >> 24 for session_id in made}, set(range(256)))
        guesses = [dice.getrandbits(32) for _ in range(100_000)]
        right = sum(is_own_id(KEY, session_id) for session_id in guesses)
        self.assertLess(right, 50)
        stranger = next(guess for guess in guesses if not is_own_id(KEY, guess))
        self.assertIsNone(sender().answer(stranger.to_bytes(4) + bytes(60), now=0.0))

    def test_an_id_is_never_zero(self) -> None:
        """
        0 means something else (section 2.1).
        """
        draws = iter([bytes(4), bytes(4), b"\1\2\3\4"])
        keys = (number.to_bytes(32) for number in range(100_000))
        key = next(key for key in keys if is_own_id(key, 0))
        self.assertEqual(make_id(key, lambda size: next(draws)) >> 12, 0x1020)

    def test_rate(self) -> None:
        """
        In no second do more than 100 resets go out (M-43).
        """
        resets = sender()
        times = [n / 300 for n in range(3000) if resets.answer(TRIGGER, now=n / 300) is not None]
        self.assertGreaterEqual(len(times), 900)
        for start in times:
            within = [time for time in times if start <= time < start + 0.999]
            self.assertLessEqual(len(within), MAX_RESETS_PER_SECOND)
