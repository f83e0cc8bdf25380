"""
What packets are encrypted with, from the secrets of the handshake on (docs/protocol.md, 1.1).

Cipher contexts take kilobytes, so they are built on first use and an idle session can put them
away (``park``); only the raw secrets stay.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from enum import IntEnum
from itertools import chain
from struct import Struct

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

SECRET_SIZE = 32
IV_SIZE = 12

_MASK = Struct("!I12x")  # the first four bytes of each block


class CipherSuite(IntEnum):
    """
    How packets are encrypted, by the numbers of the handshake's CIPHERS.
    """

    AES_128_GCM = 1
    CHACHA20_POLY1305 = 2

    @property
    def key_size(self) -> int:
        """
        Bytes of the key, and of the mask's key.
        """
        return 16 if self is CipherSuite.AES_128_GCM else 32


def expand(secret: bytes, label: bytes, size: int) -> bytes:
    """
    HKDF-Expand with SHA-256 for at most 32 bytes, which are its first block.

    Source: RFC 5869 section 2.3.
    """
    return hmac.digest(secret, label + b"\x01", "sha256")[:size]


class PacketKeys:
    """
    The AEAD and IV of one direction in one phase, from one secret (section 1.1).

    :param secret: 32 bytes.
    """

    __slots__ = ("_aead", "_iv", "_secret", "suite")

    def __init__(self, suite: CipherSuite, secret: bytes) -> None:
        if len(secret) != SECRET_SIZE:
            raise ValueError(f"a secret has {SECRET_SIZE} bytes, not {len(secret)}")
        self.suite = suite
        self._secret = secret
        self._aead: AESGCM | ChaCha20Poly1305 | None = None
        self._iv = 0

    def contexts(self) -> tuple[AESGCM | ChaCha20Poly1305, int]:
        """
        The cipher and the IV as a number, built when they are not there.
        """
        if self._aead is None:
            key = expand(self._secret, b"resip key", self.suite.key_size)
            is_aes = self.suite is CipherSuite.AES_128_GCM
            self._aead = AESGCM(key) if is_aes else ChaCha20Poly1305(key)
            self._iv = int.from_bytes(expand(self._secret, b"resip iv", IV_SIZE))
        return self._aead, self._iv

    def following(self) -> PacketKeys:
        """
        The keys of the next phase.
        """
        return PacketKeys(self.suite, expand(self._secret, b"resip ku", SECRET_SIZE))

    def park(self) -> None:
        """
        Put the cipher away until it is needed again.
        """
        self._aead = None
        self._iv = 0


class HeaderMask:
    """
    The mask over the second word of the headers of one direction (M-10), the same in all phases.

    :param first_secret: the direction's secret from the handshake.
    """

    __slots__ = ("_context", "_key")

    def __init__(self, suite: CipherSuite, first_secret: bytes) -> None:
        self._key = expand(first_secret, b"resip hp", suite.key_size)
        self._context: CipherContext | None = None

    def masks(self, tags: Iterable[bytes]) -> Iterator[int]:
        """
        What to XOR each word with, in one cipher call for all of them.
        """
        if self._context is None:
            self._context = Cipher(AES(self._key), ECB()).encryptor()
        return chain.from_iterable(_MASK.iter_unpack(self._context.update(b"".join(tags))))

    @property
    def has_cipher(self) -> bool:
        """
        Whether :meth:`masks` was called since the last :meth:`park`.
        """
        return self._context is not None

    def park(self) -> None:
        """
        Put the cipher away until it is needed again.
        """
        self._context = None
