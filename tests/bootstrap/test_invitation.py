"""
Tests for :mod:`resip.bootstrap.invitation`.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.credentials import derive_api_key
from resip.bootstrap.errors import InvitationError
from resip.bootstrap.invitation import MAX_LENGTH, Invitation, parse_invitation

EXAMPLE = Invitation(
    host="resip.example.org",
    https_port=31265,
    port=31266,
    name="alice",
    pin=bytes(range(32)),
    secret=bytes(range(32, 64)),
    server_key=b"\xfb" * 32,
)

CLASSIC = Invitation(
    host="2001:db8::1",
    https_port=1,
    port=65535,
    name="old",
    pin=bytes(32),
    classic_api_key="K/e+y:@?&=%",
    leaf_fingerprint=b"\xff" * 32,
)

PORTS = st.integers(1, 65535)
KEYS = st.binary(min_size=32, max_size=32)
NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True)
HOSTS = st.one_of(
    st.ip_addresses().map(str),
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,9}){0,3}", fullmatch=True),
)
API_KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)


@st.composite
def invitations(draw: st.DrawFn) -> Invitation:
    """
    Any invitation, of either form.
    """
    is_classic = draw(st.booleans())
    return Invitation(
        host=draw(HOSTS),
        https_port=draw(PORTS),
        port=draw(PORTS),
        name=draw(NAMES),
        pin=draw(KEYS),
        secret=None if is_classic else draw(KEYS),
        classic_api_key=draw(API_KEYS) if is_classic else None,
        leaf_fingerprint=draw(KEYS) if is_classic else None,
        server_key=draw(st.none() | KEYS),
    )


class InvitationTests(SynchronousTestCase):
    """
    One line, there and back.
    """

    def test_text_form(self) -> None:
        """
        The line reads as documented.
        """
        self.assertEqual(
            EXAMPLE.to_text(),
            "resip://ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8@resip.example.org:31265"
            "?port=31266&name=alice&key=-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s"
            "&pin=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        )
        self.assertIn("@[2001:db8::1]:1?port=65535&", CLASSIC.to_text())
        self.assertTrue(CLASSIC.to_text().startswith("resip+classic://K%2Fe%2By%3A"))

    def test_another_place(self) -> None:
        """
        The key of one invitation and host and ports of another, if both are for one server.
        """
        other = replace(EXAMPLE, host="192.0.2.7", https_port=443, port=444, secret=bytes(32))
        place = EXAMPLE.at(other)
        expected = replace(EXAMPLE, host="192.0.2.7", https_port=443, port=444)
        self.assertEqual(place, expected)
        for stranger in (replace(other, pin=bytes(32)), replace(other, server_key=bytes(32))):
            with self.assertRaises(InvitationError) as caught:
                EXAMPLE.at(stranger)
            self.assertIn("192.0.2.7:443 is another server", str(caught.exception))

    @given(invitations())
    def test_round_trip(self, invitation: Invitation) -> None:
        """
        Every invitation survives its text form, white space around it included.
        """
        text = invitation.to_text()
        self.assertLess(len(text), MAX_LENGTH)
        self.assertEqual(parse_invitation(f"  {text}\r\n"), invitation)

    @given(st.text() | st.text().map(lambda text: f"resip://{text}"))
    def test_any_text_raises_only_invitation_error(self, text: str) -> None:
        """
        Parsing raises InvitationError and nothing else.
        """
        with contextlib.suppress(InvitationError):
            parse_invitation(text)

    @given(st.data())
    def test_changed_line_raises_only_invitation_error(self, data: st.DataObject) -> None:
        """
        A line with a part replaced by anything is either an invitation or InvitationError.
        """
        text = data.draw(st.sampled_from([EXAMPLE.to_text(), CLASSIC.to_text()]))
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, len(text)))
        replacement = data.draw(st.text(max_size=8))
        with contextlib.suppress(InvitationError):
            parse_invitation(text[:begin] + replacement + text[end:])

    def test_every_truncation_is_noticed(self) -> None:
        """
        A line that lost its end never passes for another, and the message keeps the secret.
        """
        for invitation in (EXAMPLE, CLASSIC):
            text = invitation.to_text()
            for length in range(len(text)):
                with self.assertRaises(InvitationError) as caught:
                    parse_invitation(text[:length])
                self.assertNotIn("ICEiIy", str(caught.exception))

    def test_errors_name_cause_and_cure(self) -> None:
        """
        Each mistake has a message of its own that says what to do.
        """
        text = EXAMPLE.to_text()
        for damaged, message in (
            ("", "empty: paste"),
            ("http://example.org/", "starts with resip://: paste"),
            (text + "\n" + text, "one line"),
            (text.replace(":31265", ":99999"), "99999 is not in 1 to 65535"),
            (text.replace(":31265", ":x"), "damaged.*paste the whole line"),
            (text.replace("port=31266", "port=0"), "0 is not in"),
            (text.replace("port=31266", "port=-1"), "no number"),
            (text.replace("&pin=", "&pun="), "no 'pin'.*cut off"),
            (text[:-3], "pin .* 3[01] bytes|pin .* cut off"),
            (text.replace("&key=", "&key=A"), "server key .* cut off"),
            (text.replace("&key=", "&key=&x="), "server key .* 0 bytes"),
            (text + "&port=1", "'port' twice"),
            (text.replace("alice", "a/b"), "damaged|not a key name"),
            (text.replace("resip.example.org", "exämple.org"), "xn--"),
            (text.replace("resip.example.org", "[1.2.3.4]"), "IPv6"),
            (text.replace("resip.example.org", "[::g]"), "neither"),
            (text.replace("resip.example.org", ""), "neither"),
        ):
            with self.assertRaisesRegex(InvitationError, message):
                parse_invitation(damaged)

    def test_invitation_without_server_key(self) -> None:
        """
        The line of an earlier resip is for the classic dialect only.
        """
        classic_only = replace(EXAMPLE, server_key=None)
        self.assertNotIn("key=", classic_only.to_text())
        self.assertEqual(parse_invitation(classic_only.to_text()), classic_only)

    def test_later_parameters_are_ignored(self) -> None:
        """
        A later version may add parameters without locking this one out.
        """
        self.assertEqual(parse_invitation(EXAMPLE.to_text() + "&x=1&y"), EXAMPLE)

    def test_secrets_are_not_in_repr(self) -> None:
        """
        Neither repr nor str shows a secret or an API key.
        """
        for invitation in (EXAMPLE, CLASSIC):
            for text in (repr(invitation), str(invitation)):
                self.assertNotIn(repr(EXAMPLE.secret)[2:-1], text)
                self.assertNotIn("K/e+y", text)

    def test_api_key_comes_from_either(self) -> None:
        """
        It is derived from the secret, or is the one that was given.
        """
        self.assertEqual(EXAMPLE.api_key, derive_api_key(EXAMPLE.secret or b""))
        self.assertEqual(CLASSIC.api_key, "K/e+y:@?&=%")

    def test_fields_are_checked_at_construction(self) -> None:
        """
        No invitation exists that could not be written and read.
        """
        for change in (
            {"host": "a b"},
            {"host": "a_b"},
            {"host": "a..b"},
            {"host": "a" * 64},
            {"host": ".".join(["a" * 60] * 5)},
            {"host": "fe80::1%eth0"},
            {"https_port": 0},
            {"port": 65536},
            {"name": ".."},
            {"pin": b""},
            {"server_key": b"x"},
            {"secret": None},
            {"classic_api_key": "x"},
            {"leaf_fingerprint": bytes(32)},
        ):
            with self.assertRaises(InvitationError):
                replace(EXAMPLE, **change)
        for fingerprint in (None, b"x"):
            with self.assertRaises(InvitationError):
                replace(CLASSIC, leaf_fingerprint=fingerprint)
        for key in ("", "a b", "ä", "x" * 513):
            with self.assertRaises(InvitationError):
                replace(CLASSIC, classic_api_key=key)
