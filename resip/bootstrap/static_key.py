"""
The server's static key of the modern dialect, whose public half stands in invitations.
"""

from __future__ import annotations

import re

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from resip.bootstrap.errors import StateError
from resip.bootstrap.state import StateDirectory
from resip.core.modern.noise import KEY_SIZE
from resip.core.types import RandomBytes

STATIC_KEY_FILE = "static.key"

_CONTENT = re.compile(rb"([0-9a-f]{%d})\n?" % (2 * KEY_SIZE))


def load_or_create_static_key(state: StateDirectory, random_bytes: RandomBytes) -> X25519PrivateKey:
    """
    The key in the state directory; it is made when there is none. A damaged one is never
    replaced silently, for that would orphan every invitation.

    :param random_bytes: where a new key comes from.
    :raises StateError: when the file is damaged, or cannot be read or written.
    """
    with state.locked():
        key = load_static_key(state)
        if key is None:
            key = X25519PrivateKey.from_private_bytes(random_bytes(KEY_SIZE))
            state.write(STATIC_KEY_FILE, key.private_bytes_raw().hex().encode("ascii") + b"\n")
    return key


def load_static_key(state: StateDirectory) -> X25519PrivateKey | None:
    """
    The key in the state directory, ``None`` when no server has made one yet.

    :raises StateError: when the file is damaged or cannot be read.
    """
    content = state.read(STATIC_KEY_FILE)
    if content is None:
        return None
    match = _CONTENT.fullmatch(content)
    if match is None:
        raise StateError(
            f"{state.path_of(STATIC_KEY_FILE)} is damaged: restore it from a backup, or remove it "
            "and invite every client again"
        )
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(match[1].decode("ascii")))
