"""
The two ends of one direction of packet protection, and packets made step by step.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from resip.core.modern.packet_keys import CipherSuite, expand
from resip.core.modern.protection import Opener, Sealer

AES_GCM = CipherSuite.AES_128_GCM
SECRET = bytes(range(32))
SESSION_ID = 0xF1020304


def pair(suite: CipherSuite = AES_GCM) -> tuple[Sealer, Opener]:
    """
    The two ends of one direction.
    """
    return Sealer(suite, SECRET), Opener(suite, SECRET)


def numbered(first: int, end: int) -> list[bytes]:
    """
    A plaintext for each number, from which the number can be told.
    """
    return [b"plaintext %d" % number for number in range(first, end)]


def seal(sealer: Sealer, count: int) -> list[bytes]:
    """
    The next ``count`` packets, with :func:`numbered` plaintexts.
    """
    first = sealer.next_number
    return sealer.seal(SESSION_ID, numbered(first, first + count), first)


def opened(first: int, end: int) -> list[tuple[int, bytes] | None]:
    """
    What opening the packets ``first`` up to ``end`` gives.
    """
    return list(zip(range(first, end), numbered(first, end), strict=True))


def reference_packet(suite: CipherSuite, number: int, plaintext: bytes, updates: int = 0) -> bytes:
    """
    A packet made step by step as sections 1.1 and 2.1 say.
    """
    size, secret = suite.key_size, SECRET
    mask_key = expand(secret, b"resip hp", size)
    for _ in range(updates):
        secret = expand(secret, b"resip ku", 32)
    key = expand(secret, b"resip key", size)
    nonce = int.from_bytes(expand(secret, b"resip iv", 12)) ^ number
    word = (updates & 1) << 31 | number & 0x3FFFFFFF
    header = SESSION_ID.to_bytes(4) + word.to_bytes(4)
    aead = AESGCM(key) if suite is AES_GCM else ChaCha20Poly1305(key)
    body = aead.encrypt(nonce.to_bytes(12), plaintext, header)
    block = Cipher(AES(mask_key), ECB()).encryptor().update(body[-16:])
    return header[:4] + (word ^ int.from_bytes(block[:4])).to_bytes(4) + body
