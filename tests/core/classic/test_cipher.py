"""
Tests of :mod:`resip.core.classic.cipher`.
"""

from __future__ import annotations

import hashlib
import hmac
from random import Random

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.cipher import CipherKeys, DoubleCipher, HashName, SessionKeys, Signer
from tests.support.classic import make_ciphers

KEYS = make_ciphers(Random(1))
MESSAGES = st.integers(1, 6).flatmap(
    lambda blocks: st.binary(min_size=16 * blocks, max_size=16 * blocks)
)


def cbc(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """
    One CBC pass on a context of its own.
    """
    return Cipher(AES(key), CBC(iv)).encryptor().update(plaintext)


def encrypt_afresh(keys: CipherKeys, plaintext: bytes) -> bytes:
    """
    The published construction, word by word.
    """
    once = cbc(keys.key1, keys.iv1, plaintext)
    return cbc(keys.key2, keys.iv2, once[-1:] + once[:-1])


class DoubleCipherTests(SynchronousTestCase):
    """
    Two CBC passes with a rotation between.
    """

    @given(st.lists(MESSAGES, min_size=1, max_size=8))
    def test_one_context_equals_a_fresh_one_for_each_message(self, messages: list[bytes]) -> None:
        """
        However many messages a cipher has seen, each starts from the IVs.
        """
        cipher = DoubleCipher(KEYS)
        for message in messages:
            self.assertEqual(cipher.encrypt(message), encrypt_afresh(KEYS, message))

    @given(st.lists(st.tuples(MESSAGES, st.booleans()), min_size=1, max_size=8))
    def test_round_trip_in_any_order(self, messages: list[tuple[bytes, bool]]) -> None:
        """
        Messages decrypt although garbage was decrypted between them.
        """
        cipher = DoubleCipher(KEYS)
        for message, is_garbage in messages:
            if is_garbage:
                cipher.decrypt(message)
            else:
                self.assertEqual(cipher.decrypt(cipher.encrypt(message)), message)


class SignerTests(SynchronousTestCase):
    """
    The HMAC.
    """

    def test_both_hashes(self) -> None:
        """
        A key of 20 bytes signs with SHA-1, one of 16 with MD5.
        """
        for size, name in ((20, HashName.SHA1), (16, HashName.MD5)):
            keys = SessionKeys(KEYS, bytes(range(size)))
            signer = Signer(keys)
            self.assertIs(keys.hash_name, name)
            self.assertEqual(signer.digest_size, size)
            for inner in (b"one", b"two"):
                expected = hmac.new(keys.sign, inner, getattr(hashlib, name)).digest()
                self.assertEqual(signer.sign(inner), expected)
                self.assertTrue(signer.verify(inner, expected))
                self.assertFalse(signer.verify(inner + b".", expected))


class KeyTests(SynchronousTestCase):
    """
    What is a key, and who sees it.
    """

    def test_wrong_sizes_are_refused(self) -> None:
        """
        The error names the key and both sizes, and not the key itself.
        """
        error = self.assertRaises(
            ValueError, CipherKeys, bytes(32), bytes(16), b"secret", bytes(16)
        )
        self.assertEqual(str(error), "key2 has 6 bytes, not 32")
        error = self.assertRaises(ValueError, SessionKeys, KEYS, b"secret")
        self.assertEqual(str(error), "sign has 6 bytes, neither 20 (sha1) nor 16 (md5)")

    def test_keys_do_not_show(self) -> None:
        """
        The representation of keys is without any.
        """
        self.assertEqual(repr(SessionKeys(KEYS, bytes(20))), "SessionKeys(ciphers=CipherKeys())")
