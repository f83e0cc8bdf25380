"""
Tests for :mod:`resip.bootstrap.certificates`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from cryptography import x509
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.certificates import (
    LEAF_LIFETIME,
    RENEWAL_MARGIN,
    ROOT_LIFETIME,
    SERVER_NAME,
    load,
    load_or_create,
)
from resip.bootstrap.errors import StateError
from resip.bootstrap.state import StateDirectory

#: When the tests take place, Unix seconds.
TODAY = datetime(2030, 1, 1, tzinfo=UTC).timestamp()


def days(count: float) -> float:
    """
    Seconds of ``count`` days.
    """
    return timedelta(days=count).total_seconds()


class IdentityTests(SynchronousTestCase):
    """
    The identity is made once and kept.
    """

    def setUp(self) -> None:
        """
        An empty state directory.
        """
        self.state = StateDirectory(Path(self.mktemp()))
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def warnings(self) -> list[str]:
        """
        The formats of the warnings logged so far.
        """
        return [
            str(event["log_format"])
            for event in self.events
            if event["log_level"].name == "warn" and event.get("log_format")
        ]

    def test_second_start_finds_the_same(self) -> None:
        """
        A restart changes neither leaf nor pin, and logs nothing.
        """
        first = load_or_create(self.state, wall_clock=lambda: TODAY)
        second = load_or_create(self.state, wall_clock=lambda: TODAY + days(1000))
        self.assertEqual(first.chain, second.chain)
        self.assertEqual(first.pin, second.pin)
        self.assertEqual(self.warnings(), [])

    def test_leaf_is_signed_by_the_root_for_our_name(self) -> None:
        """
        The leaf carries the server name, localhost and the loopback addresses, and lasts.
        """
        identity = load_or_create(self.state, wall_clock=lambda: TODAY)
        identity.leaf.verify_directly_issued_by(identity.root)
        names = identity.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), [SERVER_NAME, "localhost"])
        self.assertEqual(
            [str(address) for address in names.get_values_for_type(x509.IPAddress)],
            ["127.0.0.1", "::1"],
        )
        lasting = identity.leaf.not_valid_after_utc.timestamp() - TODAY
        self.assertAlmostEqual(lasting, LEAF_LIFETIME.total_seconds(), delta=2)

    def test_chain_file_holds_leaf_then_root(self) -> None:
        """
        server.pem is what other TLS servers would be given, too.
        """
        identity = load_or_create(self.state)
        chain = x509.load_pem_x509_certificates(self.state.read("server.pem") or b"")
        self.assertEqual(tuple(chain), identity.chain)

    def test_private_keys_are_private(self) -> None:
        """
        No file is readable by others, and no repr shows a key.
        """
        identity = load_or_create(self.state)
        for name in ("ca.key", "server.key"):
            self.assertEqual(self.state.path_of(name).stat().st_mode & 0o077, 0)
        self.assertNotIn("key", repr(identity))

    def test_leaf_is_renewed_before_it_ends(self) -> None:
        """
        Within the margin the same root signs a new leaf for the same key, and the log says who
        must join again.
        """
        old = load_or_create(self.state, wall_clock=lambda: TODAY)
        late = TODAY + (LEAF_LIFETIME - RENEWAL_MARGIN).total_seconds() + days(1)
        new = load_or_create(self.state, wall_clock=lambda: late)
        self.assertNotEqual(old.leaf, new.leaf)
        self.assertEqual((old.root, old.pin), (new.root, new.pin))
        self.assertEqual(old.leaf.public_key(), new.leaf.public_key())
        self.assertEqual(len(self.warnings()), 1)
        self.assertIn("must join again", self.warnings()[0])

    def test_root_that_ends_is_an_error(self) -> None:
        """
        Nothing is made under a root that is about to end: the operator decides.
        """
        load_or_create(self.state, wall_clock=lambda: TODAY)
        end = TODAY + ROOT_LIFETIME.total_seconds()
        with self.assertRaisesRegex(StateError, "check this machine's clock"):
            load_or_create(self.state, wall_clock=lambda: end)

    def test_interrupted_first_start_keeps_the_pin(self) -> None:
        """
        A root key without certificate, as a kill leaves it, is used and not replaced.
        """
        pin = load_or_create(self.state).pin
        for name in ("ca.pem", "server.key", "server.pem"):
            self.state.remove(name)
        self.assertEqual(load_or_create(self.state).pin, pin)

    def test_damaged_files_are_named(self) -> None:
        """
        Each file, cut in half, gives an error that names it; nothing is overwritten.
        """
        load_or_create(self.state)
        for name in ("ca.pem", "server.key", "server.pem"):
            content = self.state.read(name) or b""
            half = content[: len(content) // 4]
            self.state.write(name, half)
            with self.assertRaisesRegex(StateError, f"{name} is damaged"):
                load_or_create(self.state)
            self.assertEqual(self.state.read(name), half)
            self.state.write(name, content)

    def test_files_of_two_servers_are_told_apart(self) -> None:
        """
        A leaf, or a key, of another server is an error.
        """
        other = StateDirectory(Path(self.mktemp()))
        load_or_create(self.state)
        load_or_create(other)
        key = self.state.read("server.key") or b""
        self.state.write("server.key", other.read("server.key") or b"")
        with self.assertRaisesRegex(StateError, "does not belong to server.pem"):
            load_or_create(self.state)
        self.state.write("server.key", key)
        self.state.write("ca.pem", other.read("ca.pem") or b"")
        with self.assertRaisesRegex(StateError, "was not signed by"):
            load_or_create(self.state)

    def test_missing_root_key_matters_only_for_signing(self) -> None:
        """
        A server runs on without its root key until a leaf must be signed.
        """
        load_or_create(self.state, wall_clock=lambda: TODAY)
        self.state.remove("ca.key")
        load_or_create(self.state, wall_clock=lambda: TODAY)
        with self.assertRaisesRegex(StateError, "ca.key is missing"):
            late = TODAY + LEAF_LIFETIME.total_seconds()
            load_or_create(self.state, wall_clock=lambda: late)

    def test_load_makes_nothing(self) -> None:
        """
        Looking for an identity gives None where there is none, and the same where there is.
        """
        self.assertIsNone(load(self.state))
        self.assertFalse(self.state.path.exists())
        made = load_or_create(self.state)
        loaded = load(self.state)
        assert loaded is not None
        self.assertEqual(loaded.chain, made.chain)
