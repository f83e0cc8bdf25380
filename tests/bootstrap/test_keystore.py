"""
Tests for :mod:`resip.bootstrap.keystore` and :mod:`resip.bootstrap.credentials`.
"""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap import keystore as keystore_module
from resip.bootstrap.credentials import (
    decode_base64url,
    derive_api_key,
    encode_base64url,
    hash_api_key,
)
from resip.bootstrap.errors import KeyStoreError
from resip.bootstrap.keystore import KEYS_FILE, KeyStore, is_valid_name
from resip.bootstrap.state import StateDirectory
from resip.core.modern.handshake import derive_static_key
from resip.core.modern.noise import public_key_of


class CredentialsTests(SynchronousTestCase):
    """
    What is derived from a secret never changes, or every client is locked out.
    """

    def test_api_key_is_hkdf_of_the_secret(self) -> None:
        """
        It equals HKDF-SHA256 (RFC 5869) written out with two HMACs.
        """
        secret = bytes(range(32))
        extracted = hmac.digest(bytes(32), secret, "sha256")
        expanded = hmac.digest(extracted, b"resip classic api key\x01", "sha256")
        self.assertEqual(derive_api_key(secret), expanded.hex())

    def test_secret_has_one_size(self) -> None:
        """
        A secret that was cut off is a mistake.
        """
        with self.assertRaises(ValueError):
            derive_api_key(bytes(31))

    @given(st.binary(max_size=40))
    def test_base64url_round_trip(self, data: bytes) -> None:
        """
        Any bytes survive, in one spelling without padding.
        """
        text = encode_base64url(data)
        self.assertNotIn("=", text)
        self.assertEqual(decode_base64url(text), data)

    @given(st.text(max_size=50))
    def test_other_text_raises_value_error(self, text: str) -> None:
        """
        Whatever is not the one spelling of some bytes raises ValueError and nothing else.
        """
        try:
            data = decode_base64url(text)
        except ValueError:
            return
        self.assertEqual(encode_base64url(data), text)


class KeyStoreTests(SynchronousTestCase):
    """
    Keys are added, recognised and revoked, and every change is on disk.
    """

    def setUp(self) -> None:
        """
        An empty store.
        """
        self.state = StateDirectory(Path(self.mktemp()))
        self.store = KeyStore(self.state, wall_clock=lambda: 1700000000.5)

    def test_key_is_recognised(self) -> None:
        """
        The API key derived from the secret leads to its record, in this and any later process.
        """
        api_key = derive_api_key(self.store.add("alice", ["10.0.0.0/8:22"]))
        for store in (self.store, KeyStore(self.state)):
            record = store.authenticate(api_key)
            assert record is not None
            self.assertEqual(record.name, "alice")
            self.assertEqual(record.allow, ("10.0.0.0/8:22",))
            self.assertEqual(record.created, 1700000000)

    def test_other_texts_are_not_recognised(self) -> None:
        """
        Neither another key nor its upper case nor odd text is accepted.
        """
        api_key = derive_api_key(self.store.add("alice"))
        for text in ("", api_key.upper(), api_key[:-1], "\udcff", "x" * 10000):
            self.assertIsNone(self.store.authenticate(text))

    def test_every_hash_is_compared(self) -> None:
        """
        A match at the first key does not end the comparison.
        """
        api_key = derive_api_key(self.store.add("a"))
        self.store.add("b")
        self.store.add("c")
        with patch.object(hmac, "compare_digest", wraps=hmac.compare_digest) as compare:
            self.assertIsNotNone(self.store.authenticate(api_key))
        self.assertEqual(compare.call_count, 3)

    def test_neither_secret_nor_key_is_stored(self) -> None:
        """
        The file holds only the hash of the API key and the public key (M-1), and no repr shows
        even the hash.
        """
        secret = self.store.add("alice")
        content = (self.state.read(KEYS_FILE) or b"").decode()
        private_key = derive_static_key(secret).private_bytes_raw().hex()
        for told in (secret.hex(), encode_base64url(secret), derive_api_key(secret), private_key):
            self.assertNotIn(told, content)
        digest = hash_api_key(derive_api_key(secret))
        self.assertIn(digest.hex(), content)
        self.assertNotIn(repr(digest)[2:-1], repr(self.store.get("alice")))

    def test_key_is_found_by_its_public_key(self) -> None:
        """
        The static key derived from the secret leads to its record, in this and any later process,
        also after its patterns changed; nothing else does.
        """
        self.store.add("bob")
        public_key = public_key_of(derive_static_key(self.store.add("alice")))
        self.store.set_allow("alice", ["a:1"])
        for store in (self.store, KeyStore(self.state)):
            record = store.find_by_public_key(public_key)
            assert record is not None
            self.assertEqual((record.name, record.allow), ("alice", ("a:1",)))
            self.assertEqual(record.public_key, public_key)
            for other in (b"", bytes(32), public_key[:-1]):
                self.assertIsNone(store.find_by_public_key(other))

    def test_record_of_an_earlier_resip_is_classic_only(self) -> None:
        """
        A record without a public key still has its API key, and no empty key finds it.
        """
        api_key = derive_api_key(self.store.add("alice"))
        document = json.loads(self.state.read(KEYS_FILE) or b"")
        del document["keys"]["alice"]["public_key"]
        self.state.write(KEYS_FILE, json.dumps(document).encode())
        store = KeyStore(self.state)
        store.add("bob")
        record = KeyStore(self.state).authenticate(api_key)
        assert record is not None
        self.assertEqual(record.public_key, b"")
        self.assertIsNone(store.find_by_public_key(b""))

    def test_revoked_key_is_not_recognised(self) -> None:
        """
        After revoking, the name is free and the old secret stays worthless.
        """
        secret = self.store.add("alice")
        self.store.revoke("alice")
        self.store.add("alice")
        self.assertIsNone(self.store.authenticate(derive_api_key(secret)))
        public_key = public_key_of(derive_static_key(secret))
        self.assertIsNone(self.store.find_by_public_key(public_key))

    def test_taken_name_names_the_ways_out(self) -> None:
        """
        A second key of the same name is refused with both cures.
        """
        self.store.add("alice")
        with self.assertRaisesRegex(KeyStoreError, "choose another.*resip keys revoke alice"):
            self.store.add("alice")

    def test_names_are_checked(self) -> None:
        """
        A name is safe as a file name and in a line; anything else is refused.
        """
        for name in ("", ".", "..", "a/b", "a b", "ä", "x" * 65, "a\n"):
            self.assertFalse(is_valid_name(name))
            with self.assertRaises(KeyStoreError):
                self.store.add(name)

    def test_numbered_names_take_the_first_gap(self) -> None:
        """
        Keys that nobody named count up, and reuse what was revoked.
        """
        names = [self.store.add_numbered("client")[0] for _ in range(2)]
        self.store.revoke("client-1")
        self.assertEqual(names, ["client-1", "client-2"])
        self.assertEqual(self.store.add_numbered("client")[0], "client-1")

    def test_unknown_name_is_an_error(self) -> None:
        """
        Revoking or changing what is not there tells how to see what is.
        """
        for attempt in (self.store.revoke, lambda name: self.store.set_allow(name, None)):
            with self.assertRaisesRegex(KeyStoreError, "resip keys list"):
                attempt("nobody")

    def test_allow_can_be_replaced(self) -> None:
        """
        Patterns change and go back to the server's list; the key stays the same.
        """
        api_key = derive_api_key(self.store.add("alice", []))
        self.store.set_allow("alice", ["a:1", "b:2"])
        record = self.store.authenticate(api_key)
        assert record is not None
        self.assertEqual(record.allow, ("a:1", "b:2"))
        self.store.set_allow("alice", None)
        self.assertIsNone(KeyStore(self.state).records()[0].allow)

    def test_number_of_keys_is_limited(self) -> None:
        """
        The limit is reached with an error, not passed.
        """
        self.patch(keystore_module, "MAX_KEYS", 2)
        self.store.add("a")
        self.store.add("b")
        with self.assertRaisesRegex(KeyStoreError, "resip keys revoke"):
            self.store.add("c")

    def test_changes_of_another_process_are_taken_over(self) -> None:
        """
        A running server sees what the command line wrote, and reads nothing otherwise.
        """
        other = KeyStore(self.state)
        api_key = derive_api_key(other.add("alice"))
        self.assertTrue(self.store.reload_if_changed())
        self.assertIsNotNone(self.store.authenticate(api_key))
        self.assertFalse(self.store.reload_if_changed())

    def test_two_writers_do_not_lose_each_others_keys(self) -> None:
        """
        A store adds on top of what is on disk, not of what it last read.
        """
        other = KeyStore(self.state)
        other.add("alice")
        self.store.add("bob")
        self.assertEqual(KeyStore(self.state).names, ["alice", "bob"])

    def test_damaged_file_is_named_and_kept(self) -> None:
        """
        Whatever is wrong with the file, the error names it, it is not overwritten, and a
        server that runs keeps the keys it knows.
        """
        api_key = derive_api_key(self.store.add("alice"))
        whole = json.loads(self.state.read(KEYS_FILE) or b"")
        broken: list[object] = [None, [], {}, {"version": 1}, {"version": 1, "keys": []}]
        for name, value in (
            ("sha256", "zz"),
            ("public_key", "00" * 31),
            ("public_key", None),
            ("allow", "x"),
            ("allow", [1]),
            ("created", "x"),
        ):
            record = {**whole["keys"]["alice"], name: value}
            broken.append({"version": 1, "keys": {"alice": record}})
        contents = [json.dumps(document).encode() for document in broken]
        for content in [b"", b'{"version": 1, "ke', b"\xff", b"[" * 100000, *contents]:
            self.state.write(KEYS_FILE, content)
            with self.assertRaisesRegex(KeyStoreError, "keys.json is damaged: restore"):
                KeyStore(self.state)
            with self.assertRaises(KeyStoreError):
                self.store.reload_if_changed()
            with self.assertRaises(KeyStoreError):
                self.store.add("bob")
            self.assertEqual(self.state.read(KEYS_FILE), content)
        self.assertIsNotNone(self.store.authenticate(api_key))

    def test_newer_format_asks_for_an_upgrade(self) -> None:
        """
        A file of a later version is not called damaged.
        """
        self.state.write(KEYS_FILE, b'{"version": 2, "keys": {}}')
        with self.assertRaisesRegex(KeyStoreError, "upgrade resip"):
            KeyStore(self.state)

    def test_file_that_disappears_is_an_error(self) -> None:
        """
        A server whose file is gone says so and keeps the keys it knows.
        """
        api_key = derive_api_key(self.store.add("alice"))
        self.state.remove(KEYS_FILE)
        with self.assertRaisesRegex(KeyStoreError, "disappeared"):
            self.store.reload_if_changed()
        self.assertIsNotNone(self.store.authenticate(api_key))
