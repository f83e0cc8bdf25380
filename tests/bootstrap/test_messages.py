"""
Tests for :mod:`resip.bootstrap.messages`.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.errors import BootstrapError
from resip.bootstrap.messages import (
    ErrorCode,
    RequestError,
    ServerInfo,
    SessionGrant,
    error_body,
    parse_error,
    parse_session_start,
    session_start_body,
)
from resip.core.classic.cipher import CipherKeys, HashName, SessionKeys

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def make_grant(hash_name: HashName = HashName.SHA1, session_id: int = 7) -> SessionGrant:
    """
    A grant with recognisable keys.
    """
    return SessionGrant(
        session_id=session_id,
        hash_name=hash_name,
        master=CipherKeys(b"A" * 32, b"B" * 16, b"C" * 32, b"D" * 16),
        session=SessionKeys(
            CipherKeys(b"E" * 32, b"F" * 16, b"G" * 32, b"H" * 16), b"S" * hash_name.digest_size
        ),
        started=1700000000,
        current=1700000005,
    )


def changed(path: str, value: object) -> bytes:
    """
    The grant's JSON with one field replaced.
    """
    document: dict[str, Any] = json.loads(make_grant().to_json())
    *parents, last = path.split(".")
    inner = document
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return json.dumps(document).encode()


class SessionGrantTests(SynchronousTestCase):
    """
    The reply to session/start.
    """

    def test_json_has_the_published_form(self) -> None:
        """
        Names and types are those of the published API: ids and times int, keys lower-case hex.
        """
        document = json.loads(make_grant().to_json())
        self.assertEqual(
            document,
            {
                "success": True,
                "started": 1700000000,
                "current": 1700000005,
                "packet_size": 512,
                "max_fragments": 128,
                "master": {
                    "key1": "41" * 32,
                    "iv1": "42" * 16,
                    "key2": "43" * 32,
                    "iv2": "44" * 16,
                },
                "session": {
                    "key1": "45" * 32,
                    "iv1": "46" * 16,
                    "key2": "47" * 32,
                    "iv2": "48" * 16,
                    "sign": "53" * 20,
                },
                "session_id": 7,
            },
        )

    def test_round_trip(self) -> None:
        """
        Both hashes, and the largest id, survive.
        """
        for hash_name in HashName:
            grant = make_grant(hash_name, 2**32 - 1)
            self.assertEqual(SessionGrant.from_json(grant.to_json(), hash_name), grant)

    def test_each_wrong_field_is_refused(self) -> None:
        """
        A wrong type or size in any field raises BootstrapError, and the message shows no key.
        """
        for path, value in (
            ("success", 1),
            ("started", "1700000000"),
            ("started", True),
            ("current", -1),
            ("current", 1.5),
            ("packet_size", 48),
            ("packet_size", 500),
            ("packet_size", 65536),
            ("max_fragments", 0),
            ("max_fragments", 65536),
            ("session_id", "7"),
            ("session_id", 2**32),
            ("session_id", -1),
            ("master", None),
            ("master.key1", "41" * 31),
            ("master.iv1", "zz" * 16),
            ("session.key2", 5),
            ("session.iv2", "48 " * 16),
            ("session.sign", "53" * 16),
        ):
            with self.assertRaises(BootstrapError, msg=path) as caught:
                SessionGrant.from_json(changed(path, value), HashName.SHA1)
            self.assertNotIn("4141", str(caught.exception))

    @given(st.binary() | JSON.map(lambda document: json.dumps(document).encode()))
    def test_anything_raises_only_bootstrap_error(self, body: bytes) -> None:
        """
        Whatever a server sends raises BootstrapError and nothing else.
        """
        for parse in (
            lambda: SessionGrant.from_json(body, HashName.SHA1),
            lambda: ServerInfo.from_json(body),
        ):
            with self.assertRaises(BootstrapError):
                parse()

    @given(st.sampled_from(["success", "master", "session_id", "session.sign"]), JSON)
    def test_any_value_of_a_field_raises_only_bootstrap_error(
        self, path: str, value: object
    ) -> None:
        """
        A reply with one strange field is either a grant or a BootstrapError.
        """
        body = changed(path, value)
        with contextlib.suppress(BootstrapError):
            SessionGrant.from_json(body, HashName.SHA1)

    def test_deep_nesting_is_refused(self) -> None:
        """
        JSON nested beyond the parser's depth is no crash.
        """
        with self.assertRaises(BootstrapError):
            ServerInfo.from_json(b"[" * 60000)

    def test_keys_are_not_in_repr(self) -> None:
        """
        A grant can be logged by mistake without harm.
        """
        self.assertNotIn("AAAA", repr(make_grant()))
        self.assertNotIn("SSSS", repr(make_grant()))


class RequestTests(SynchronousTestCase):
    """
    The request to start a session.
    """

    def test_hash_is_taken_in_any_case(self) -> None:
        """
        Both names are known, whatever their case.
        """
        self.assertIs(parse_session_start(b'{"hash":"SHA1"}'), HashName.SHA1)
        self.assertIs(parse_session_start(session_start_body(HashName.MD5)), HashName.MD5)

    def test_each_mistake_has_its_code(self) -> None:
        """
        Not an object, no hash, and another hash are told apart.
        """
        for body, code in (
            (b"", ErrorCode.INVALID_DATA),
            (b"[]", ErrorCode.INVALID_DATA),
            (b"\xff", ErrorCode.INVALID_DATA),
            (b"[" * 16000, ErrorCode.INVALID_DATA),
            (b"{}", ErrorCode.MISSING_HASH),
            (b'{"hash":null}', ErrorCode.INVALID_HASH),
            (b'{"hash":["sha1"]}', ErrorCode.INVALID_HASH),
            (b'{"hash":{}}', ErrorCode.INVALID_HASH),
            (b'{"hash":"sha256"}', ErrorCode.INVALID_HASH),
        ):
            with self.assertRaises(RequestError) as caught:
                parse_session_start(body)
            self.assertIs(caught.exception.code, code)


class ErrorTests(SynchronousTestCase):
    """
    The form that all failures share.
    """

    def test_key_error_is_the_published_one(self) -> None:
        """
        The reply to a wrong key is, byte for byte, what clients know.
        """
        self.assertEqual(
            error_body(ErrorCode.INVALID_MISSING_APIKEY),
            b'{"success":false,"error":"Invalid or missing \'apikey\'.",'
            b'"errorcode":"invalid_missing_apikey"}',
        )

    def test_every_code_has_a_text(self) -> None:
        """
        Each code can be said and read back.
        """
        for code in ErrorCode:
            parsed = parse_error(error_body(code))
            assert parsed is not None
            self.assertEqual(parsed[0], code)

    def test_foreign_text_is_made_harmless(self) -> None:
        """
        What a server calls its error is cut, and control characters do not reach the terminal.
        """
        body = json.dumps({"success": False, "error": "\x1b[2J" + "x" * 999, "errorcode": "e"})
        parsed = parse_error(body.encode())
        assert parsed is not None
        self.assertEqual(parsed[1][:4], "?[2J")
        self.assertEqual(len(parsed[1]), 200)

    def test_other_bodies_are_no_error(self) -> None:
        """
        A page of HTML, or a success, is no error of the API.
        """
        for body in (b"<html>", b"{}", b'{"success":true}', b'{"success":false,"errorcode":1}'):
            self.assertIsNone(parse_error(body))
