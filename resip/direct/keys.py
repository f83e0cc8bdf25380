"""
The keys of those who send and receive directly: a private one in a file, public ones as text.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from resip.bootstrap.credentials import decode_base64url, encode_base64url
from resip.core.modern.noise import KEY_SIZE, public_key_of
from resip.core.types import RandomBytes
from resip.direct.errors import KeyFileError

#: The file in the state directory, where none is named.
KEY_FILE = "direct.key"

_CONTENT = re.compile(rb"([0-9a-f]{%d})\n?" % (2 * KEY_SIZE))


def make_key(random_bytes: RandomBytes) -> X25519PrivateKey:
    """
    A new key. The text of its public half does not look like an option of a command.
    """
    while True:
        key = X25519PrivateKey.from_private_bytes(random_bytes(KEY_SIZE))
        if not public_text(key).startswith("-"):
            return key


def public_text(key: X25519PrivateKey) -> str:
    """
    The public half: 43 letters, digits, dashes and underscores.
    """
    return encode_base64url(public_key_of(key))


def parse_public_key(text: str) -> bytes:
    """
    The reverse of :func:`public_text`.

    :raises KeyFileError: when it is none.
    """
    try:
        key = decode_base64url(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        raise KeyFileError(
            f"{text.strip()!r} is no public key: it has 43 letters, digits, dashes and "
            "underscores, as 'resip keygen' prints them on the peer's machine"
        )
    return key


def write_key(path: Path, key: X25519PrivateKey) -> None:
    """
    Write a new file that its user alone may read.

    :raises KeyFileError: when there is one, or it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        with open(descriptor, "wb") as file:
            file.write(key.private_bytes_raw().hex().encode("ascii") + b"\n")
            file.flush()
            os.fsync(descriptor)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise KeyFileError(
            f"cannot write {path} ({error.strerror}): name another file with --out"
        ) from error


def read_key(path: Path) -> X25519PrivateKey:
    """
    The key in a file.

    :raises KeyFileError: when it is not there, not private, or none.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(4096)
    except FileNotFoundError:
        raise KeyFileError(
            f"there is no key in {path}: make one with 'resip keygen', or name its file with --key"
        ) from None
    except OSError as error:
        raise KeyFileError(
            f"cannot read {path} ({error.strerror}): name the file of your key with --key"
        ) from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise KeyFileError(f"others may read {path}: forbid it with 'chmod 600 {path}'")
    match = _CONTENT.fullmatch(content)
    if match is None:
        raise KeyFileError(
            f"{path} holds no key: restore it from a backup, or remove it, make another with "
            "'resip keygen' and tell its public key to your peers"
        )
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(match[1].decode("ascii")))


def _exists(path: Path) -> KeyFileError:
    try:
        known = f"its public key is {public_text(read_key(path))}"
    except KeyFileError:
        known = "which is none of ours"
    return KeyFileError(
        f"there is a file {path} already, {known}: use that, or name another with --out"
    )
