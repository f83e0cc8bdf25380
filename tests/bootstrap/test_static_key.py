"""
Tests for :mod:`resip.bootstrap.static_key`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.errors import StateError
from resip.bootstrap.state import StateDirectory
from resip.bootstrap.static_key import (
    STATIC_KEY_FILE,
    load_or_create_static_key,
    load_static_key,
)
from resip.core.modern.noise import public_key_of


class StaticKeyTests(SynchronousTestCase):
    """
    The key is made once and kept.
    """

    def setUp(self) -> None:
        """
        An empty state directory.
        """
        self.state = StateDirectory(Path(self.mktemp()))

    def test_second_start_finds_the_same(self) -> None:
        """
        Only the first start asks for random bytes; before it there is no key.
        """
        self.assertIsNone(load_static_key(self.state))
        first = load_or_create_static_key(self.state, lambda size: b"\x01" * size)
        second = load_or_create_static_key(self.state, lambda size: b"\x02" * size)
        self.assertEqual(first.private_bytes_raw(), b"\x01" * 32)
        self.assertEqual(public_key_of(first), public_key_of(second))
        loaded = load_static_key(self.state)
        assert loaded is not None
        self.assertEqual(public_key_of(first), public_key_of(loaded))

    def test_file_is_private_hex(self) -> None:
        """
        64 hex digits, for the owner alone.
        """
        load_or_create_static_key(self.state, lambda size: b"\xab" * size)
        self.assertEqual(self.state.read(STATIC_KEY_FILE), b"ab" * 32 + b"\n")
        mode = self.state.path_of(STATIC_KEY_FILE).stat().st_mode
        self.assertEqual(mode & 0o777, 0o600)

    def test_damaged_file_is_named_and_kept(self) -> None:
        """
        A key that is no key is an error with both cures, never replaced, and not shown.
        """
        for content in (b"", b"ab" * 31, b"ab" * 33, b"zz" * 32, b"ab" * 32 + b"\n\n", b"\xff"):
            self.state.write(STATIC_KEY_FILE, content)
            with self.assertRaisesRegex(StateError, "static.key is damaged: restore.*invite") as c:
                load_or_create_static_key(self.state, bytes)
            self.assertNotIn("abab", str(c.exception))
            self.assertEqual(self.state.read(STATIC_KEY_FILE), content)
