"""
The named keys of a server, of which it knows only hashes and public keys (M-1).
"""

from __future__ import annotations

import hmac
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from resip.bootstrap.credentials import SECRET_SIZE, derive_api_key, hash_api_key
from resip.bootstrap.errors import KeyStoreError
from resip.bootstrap.state import FileVersion, StateDirectory
from resip.core.modern.handshake import derive_static_key
from resip.core.modern.noise import KEY_SIZE, public_key_of
from resip.core.types import RandomBytes

KEYS_FILE = "keys.json"

#: The version of the file's layout that this code reads and writes.
FORMAT_VERSION = 1

#: Every request compares with every key, so their number is bounded.
MAX_KEYS = 10_000

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,64}")


def is_valid_name(name: str) -> bool:
    """
    Whether ``name`` may name a key or a joined server: 1 to 64 of ``A-Z a-z 0-9 . _ -``,
    not starting with a dot, so that it is also a safe file name.
    """
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """
    What a server knows of one key. Nothing of it lets anybody in.

    :ivar name: what the operator called it; safe to log.
    :ivar key_hash: SHA-256 of its classic API key.
    :ivar allow: the target patterns that it may use, ``None`` for the server's own list.
    :ivar created: Unix seconds.
    :ivar public_key: its X25519 public key of the modern dialect, 32 bytes; empty for a key that
        an earlier resip minted, which is good for the classic dialect alone.
    """

    name: str
    key_hash: bytes = field(repr=False)
    allow: tuple[str, ...] | None
    created: int
    public_key: bytes = b""


class KeyStore:
    """
    Adds, revokes and recognises keys. Every change is on disk before the method returns, made
    under the directory's lock on top of what other processes wrote.

    :param state: where ``keys.json`` lives.
    :param wall_clock: Unix seconds.
    :param random_bytes: where secrets come from.
    :raises KeyStoreError: when the file is damaged. It is never recreated silently, for that
        would lock every client out.
    :raises StateError: when the file cannot be read.
    """

    def __init__(
        self,
        state: StateDirectory,
        *,
        wall_clock: Callable[[], float] = time.time,
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        self._state = state
        self._wall_clock = wall_clock
        self._random_bytes = random_bytes
        self._records: dict[str, KeyRecord] = {}
        self._by_public_key: dict[bytes, KeyRecord] = {}
        self._version: FileVersion | None = None
        self._load()

    @property
    def names(self) -> list[str]:
        """
        The names of all keys, sorted.
        """
        return sorted(self._records)

    def records(self) -> list[KeyRecord]:
        """
        All keys, sorted by name.
        """
        return [self._records[name] for name in self.names]

    def get(self, name: str) -> KeyRecord | None:
        """
        The key of that name, ``None`` when there is none.
        """
        return self._records.get(name)

    def add(self, name: str, allow: Iterable[str] | None = None) -> bytes:
        """
        Mint a key.

        :param allow: target patterns, ``None`` for the server's own list.
        :return: its secret of 32 bytes, which is not stored and cannot be asked for again.
        :raises KeyStoreError: when the name is taken or not valid, or there are too many keys.
        """
        if not is_valid_name(name):
            raise KeyStoreError(
                f"{name!r} is not a key name: use 1 to 64 letters, digits, dots, dashes and "
                "underscores, not a dot first"
            )
        with self._state.locked():
            self._load()
            if name in self._records:
                raise KeyStoreError(
                    f"there is a key {name!r} already: choose another name, or revoke it first "
                    f"with 'resip keys revoke {name}'"
                )
            return self._mint(name, allow)

    def add_numbered(self, prefix: str, allow: Iterable[str] | None = None) -> tuple[str, bytes]:
        """
        Mint a key with the first free name of ``prefix-1``, ``prefix-2`` and so on.

        :return: its name and its secret.
        :raises KeyStoreError: when there are too many keys.
        """
        with self._state.locked():
            self._load()
            number = 1
            while (name := f"{prefix}-{number}") in self._records:
                number += 1
            return name, self._mint(name, allow)

    def revoke(self, name: str) -> None:
        """
        Forget a key.

        :raises KeyStoreError: when there is none of that name.
        """
        with self._state.locked():
            self._load()
            self._require(name)
            remaining = {key: value for key, value in self._records.items() if key != name}
            self._save(remaining)

    def set_allow(self, name: str, allow: Iterable[str] | None) -> None:
        """
        Replace the target patterns of a key; ``None`` means the server's own list.

        :raises KeyStoreError: when there is no key of that name.
        """
        with self._state.locked():
            self._load()
            old = self._require(name)
            patterns = None if allow is None else tuple(allow)
            self._save({**self._records, name: replace(old, allow=patterns)})

    def authenticate(self, api_key: str) -> KeyRecord | None:
        """
        The key to which ``api_key`` belongs, ``None`` when it belongs to none.

        Compares with every stored hash in constant time and never stops early, so that the
        time tells nothing about which keys there are.
        """
        presented = hash_api_key(api_key)
        found: KeyRecord | None = None
        for record in self._records.values():
            if hmac.compare_digest(record.key_hash, presented):
                found = record
        return found

    def find_by_public_key(self, public_key: bytes) -> KeyRecord | None:
        """
        The key to which ``public_key`` belongs, ``None`` when it belongs to none.

        Not in constant time: a public key is no secret, and that the client has the private
        one is for the handshake to prove, before.
        """
        return self._by_public_key.get(public_key)

    def reload_if_changed(self) -> bool:
        """
        Take over what another process wrote.

        :return: whether anything was read.
        :raises KeyStoreError: when the file is damaged or gone. The keys that were known go
            on being valid, and the next call tries again.
        """
        if self._state.version(KEYS_FILE) == self._version:
            return False
        self._load()
        return True

    def _load(self) -> None:
        # The version is taken before the content: a write in between shows as one more change.
        version = self._state.version(KEYS_FILE)
        content = self._state.read(KEYS_FILE)
        if content is None:
            if self._version is not None:
                raise KeyStoreError(
                    f"{self._state.path_of(KEYS_FILE)} has disappeared: restore it from a backup, "
                    "or restart the server to begin without any key"
                )
            return
        self._use(_parse(content, str(self._state.path_of(KEYS_FILE))))
        self._version = version

    def _save(self, records: dict[str, KeyRecord]) -> None:
        self._state.write(KEYS_FILE, _format(records))
        self._use(records)
        self._version = self._state.version(KEYS_FILE)

    def _use(self, records: dict[str, KeyRecord]) -> None:
        self._records = records
        self._by_public_key = {
            record.public_key: record for record in records.values() if record.public_key
        }

    def _mint(self, name: str, allow: Iterable[str] | None) -> bytes:
        if len(self._records) >= MAX_KEYS:
            raise KeyStoreError(
                f"there are {MAX_KEYS} keys, as many as there may be: revoke some with "
                "'resip keys revoke NAME'"
            )
        secret = self._random_bytes(SECRET_SIZE)
        record = KeyRecord(
            name=name,
            key_hash=hash_api_key(derive_api_key(secret)),
            allow=None if allow is None else tuple(allow),
            created=int(self._wall_clock()),
            public_key=public_key_of(derive_static_key(secret)),
        )
        self._save({**self._records, name: record})
        return secret

    def _require(self, name: str) -> KeyRecord:
        record = self._records.get(name)
        if record is None:
            raise KeyStoreError(f"there is no key {name!r}: 'resip keys list' shows all names")
        return record


def _format(records: dict[str, KeyRecord]) -> bytes:
    keys = {
        record.name: {
            "sha256": record.key_hash.hex(),
            "public_key": record.public_key.hex(),
            "allow": None if record.allow is None else list(record.allow),
            "created": record.created,
        }
        for record in records.values()
    }
    return json.dumps({"version": FORMAT_VERSION, "keys": keys}, indent=2).encode() + b"\n"


def _parse(content: bytes, path: str) -> dict[str, KeyRecord]:
    try:
        document = json.loads(content)
        if not isinstance(document, dict):
            raise ValueError("not an object")
        version = document.get("version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise KeyStoreError(
                f"{path} was written by a newer resip (format {version}, this one reads "
                f"{FORMAT_VERSION}): upgrade resip"
            )
        keys = document["keys"]
        if version != FORMAT_VERSION or not isinstance(keys, dict) or len(keys) > MAX_KEYS:
            raise ValueError("not a key store")
        return {name: _parse_record(name, fields) for name, fields in keys.items()}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeyStoreError(
            f"{path} is damaged: restore it from a backup, or move it away to begin without any "
            "key and invite every client again"
        ) from error


def _parse_record(name: str, fields: Any) -> KeyRecord:
    if not is_valid_name(name):
        raise ValueError("bad name")
    key_hash = bytes.fromhex(fields["sha256"])
    allow = fields["allow"]
    created = fields["created"]
    public_key = bytes.fromhex(fields.get("public_key", ""))
    if len(key_hash) != 32 or not isinstance(created, int):
        raise ValueError("bad hash or time")
    if len(public_key) not in (0, KEY_SIZE):
        raise ValueError("bad public key")
    if allow is not None and not (
        isinstance(allow, list) and all(isinstance(pattern, str) for pattern in allow)
    ):
        raise ValueError("bad patterns")
    patterns = None if allow is None else tuple(allow)
    return KeyRecord(name, key_hash, patterns, created, public_key)
