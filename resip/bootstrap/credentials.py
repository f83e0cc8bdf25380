"""
The secret of a key, and what is derived from it.

An invitation carries one secret per key. Each dialect derives what it needs from it, so that
one dialect's credential tells nothing about another's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: Bytes of the secret of a key.
SECRET_SIZE = 32

#: The HKDF ``info`` that separates the classic API key from everything else derived.
CLASSIC_API_KEY_INFO = b"resip classic api key"

#: Bytes of the classic API key before it is written in hex.
CLASSIC_API_KEY_SIZE = 32


def derive_api_key(secret: bytes) -> str:
    """
    The classic API key of a secret: HKDF-SHA256 without salt, in lower-case hex.

    :param secret: 32 bytes.
    :raises ValueError: when the secret has another size.

    Source: RFC 5869.
    """
    if len(secret) != SECRET_SIZE:
        raise ValueError(f"a secret has {SECRET_SIZE} bytes, not {len(secret)}")
    derivation = HKDF(
        algorithm=hashes.SHA256(), length=CLASSIC_API_KEY_SIZE, salt=None, info=CLASSIC_API_KEY_INFO
    )
    return derivation.derive(secret).hex()


def hash_api_key(api_key: str) -> bytes:
    """
    What a server stores of an API key: its SHA-256. The key has 256 random bits, so no salt
    and no slow hash are needed.
    """
    return hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).digest()


def encode_base64url(data: bytes) -> str:
    """
    Base64 with the URL-safe alphabet and without padding (RFC 4648 section 5).
    """
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """
    The reverse of :func:`encode_base64url`; exactly one text is accepted for any bytes.

    :raises ValueError: for anything else.
    """
    try:
        data = base64.b64decode(
            text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
        )
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error
    if encode_base64url(data) != text:
        raise ValueError("not base64url")
    return data
