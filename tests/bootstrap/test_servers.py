"""
Tests for :mod:`resip.bootstrap.servers`.
"""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.certificates import load_or_create
from resip.bootstrap.credentials import derive_api_key
from resip.bootstrap.errors import InvitationError, StateError
from resip.bootstrap.invitation import Invitation
from resip.bootstrap.keystore import KEYS_FILE, KeyStore
from resip.bootstrap.servers import (
    LOCAL_FILE,
    ServerPorts,
    find_invitation,
    read_server_ports,
    store_invitation,
    write_local_invitation,
    write_server_ports,
)
from resip.bootstrap.state import StateDirectory
from resip.core.modern.handshake import derive_static_key
from resip.core.modern.noise import public_key_of
from tests.bootstrap.test_invitation import CLASSIC, EXAMPLE


class PortsTests(SynchronousTestCase):
    """
    The note that a running server leaves.
    """

    def setUp(self) -> None:
        """
        An empty state directory.
        """
        self.state = StateDirectory(Path(self.mktemp()))

    def test_round_trip(self) -> None:
        """
        What was written is read; before that there is nothing.
        """
        self.assertIsNone(read_server_ports(self.state))
        ports = ServerPorts(https_port=31265, port=31266, started=1700000000)
        write_server_ports(self.state, ports)
        self.assertEqual(read_server_ports(self.state), ports)

    def test_damaged_note_is_named(self) -> None:
        """
        Anything else in the file is an error that says how it is written anew.
        """
        for content in (b"", b"[]", b'{"https_port":0,"port":1,"started":1}', b"[" * 99999):
            self.state.write("server.json", content)
            with self.assertRaisesRegex(StateError, "server.json is damaged: restart"):
                read_server_ports(self.state)


class LocalInvitationTests(SynchronousTestCase):
    """
    Clients of the same user on the same machine need no join.
    """

    def setUp(self) -> None:
        """
        A server that starts for the first time.
        """
        self.state = StateDirectory(Path(self.mktemp()))
        self.store = KeyStore(self.state)
        self.identity = load_or_create(self.state)
        self.server_key = b"\x07" * 32

    def write(self, https_port: int = 1, port: int = 2) -> Invitation:
        """
        What the server does at every start.
        """
        return write_local_invitation(
            self.state,
            self.store,
            self.identity,
            server_key=self.server_key,
            https_port=https_port,
            port=port,
        )

    def test_first_start_mints_a_key(self) -> None:
        """
        The invitation leads to loopback, is accepted, and is what clients find.
        """
        invitation = self.write()
        self.assertEqual((invitation.host, invitation.pin), ("127.0.0.1", self.identity.pin))
        self.assertEqual(invitation.server_key, self.server_key)
        record = self.store.authenticate(invitation.api_key)
        assert record is not None
        self.assertEqual(record.name, "local")
        self.assertEqual(find_invitation(None, self.state), invitation)
        self.assertEqual(find_invitation("local", self.state), invitation)

    def test_later_starts_keep_the_secret(self) -> None:
        """
        Only the ports and its key follow the server; other keys do not matter.
        """
        first = self.write()
        self.store.add("alice")
        self.server_key = b"\x08" * 32
        second = self.write(https_port=3, port=4)
        self.assertEqual((second.https_port, second.port), (3, 4))
        self.assertEqual(second.server_key, self.server_key)
        self.assertEqual(second.secret, first.secret)

    def test_lost_invitation_is_replaced(self) -> None:
        """
        When the file is missing or damaged, a new key is minted and the old one ends.
        """
        for damage in (None, b"resip://cut", CLASSIC.to_text().encode()):
            first = self.write()
            self.state.remove(LOCAL_FILE)
            if damage is not None:
                self.state.write(LOCAL_FILE, damage)
            second = self.write()
            self.assertIsNone(self.store.authenticate(first.api_key))
            self.assertIsNotNone(self.store.authenticate(second.api_key))

    def test_key_of_an_earlier_resip_is_replaced(self) -> None:
        """
        A local key without a public key is minted anew, and may reach what the old one might.
        """
        first = self.write()
        self.store.set_allow("local", ["10.0.0.1:22"])
        document = json.loads(self.state.read(KEYS_FILE) or b"")
        del document["keys"]["local"]["public_key"]
        self.state.write(KEYS_FILE, json.dumps(document).encode())
        self.store.reload_if_changed()
        second = self.write()
        self.assertNotEqual(first.secret, second.secret)
        public_key = public_key_of(derive_static_key(second.secret or b""))
        record = self.store.find_by_public_key(public_key)
        assert record is not None
        self.assertEqual((record.name, record.allow), ("local", ("10.0.0.1:22",)))

    def test_lost_key_store_is_followed(self) -> None:
        """
        An invitation whose key the store never heard of, or knows otherwise, is replaced.
        """
        first = self.write()
        self.store.revoke("local")
        self.assertIsNotNone(self.store.authenticate(self.write().api_key))
        self.store.revoke("local")
        self.store.add("local")
        second = self.write()
        self.assertNotEqual(first.secret, second.secret)
        self.assertIsNotNone(self.store.authenticate(second.api_key))

    def test_revoked_key_stays_revoked(self) -> None:
        """
        What the operator revoked beside other keys is not handed out again.
        """
        self.write()
        self.store.add("alice")
        self.store.revoke("local")
        self.assertIsNone(self.store.authenticate(self.write().api_key))
        self.assertEqual(self.store.names, ["alice"])


class FindInvitationTests(SynchronousTestCase):
    """
    A client finds the server that its user means.
    """

    def setUp(self) -> None:
        """
        An empty state directory.
        """
        self.state = StateDirectory(Path(self.mktemp()))

    def test_nothing_known_says_what_to_do(self) -> None:
        """
        Without any server the message names join.
        """
        with self.assertRaisesRegex(InvitationError, "run 'resip join'"):
            find_invitation(None, self.state)
        with self.assertRaisesRegex(InvitationError, "no server 'x'.*none is known"):
            find_invitation("x", self.state)

    def test_only_server_is_the_default(self) -> None:
        """
        One joined server needs no name.
        """
        store_invitation(self.state, "a", EXAMPLE)
        self.assertEqual(find_invitation(None, self.state), EXAMPLE)

    def test_several_servers_need_a_name(self) -> None:
        """
        With two the message lists them, and each is found by its name.
        """
        store_invitation(self.state, "a", EXAMPLE)
        store_invitation(self.state, "b", CLASSIC)
        with self.assertRaisesRegex(InvitationError, r"--server a\|b"):
            find_invitation(None, self.state)
        with self.assertRaisesRegex(InvitationError, "known are a, b"):
            find_invitation("c", self.state)
        self.assertEqual(find_invitation("b", self.state), CLASSIC)

    def test_local_server_comes_first(self) -> None:
        """
        A server of the same user on this machine is the default even beside joined ones.
        """
        store_invitation(self.state, "a", EXAMPLE)
        store = KeyStore(self.state)
        local = write_local_invitation(
            self.state,
            store,
            load_or_create(self.state),
            server_key=bytes(32),
            https_port=1,
            port=2,
        )
        self.assertEqual(find_invitation(None, self.state), local)
        self.assertEqual(
            store.authenticate(derive_api_key(local.secret or b"")), store.get("local")
        )

    def test_file_is_found_by_its_path(self) -> None:
        """
        A file that holds the line serves without a join.
        """
        path = Path(self.mktemp())
        path.write_text(EXAMPLE.to_text() + "\n")
        self.assertEqual(find_invitation(str(path), self.state), EXAMPLE)

    def test_bad_files_are_named(self) -> None:
        """
        A missing, binary or damaged file is an error that starts with its path.
        """
        path = Path(self.mktemp())
        with self.assertRaisesRegex(InvitationError, f"cannot read {path}"):
            find_invitation(f"./{path}", self.state)
        for content in (b"", b"\xff\xfe", b"resip://"):
            path.write_bytes(content)
            with self.assertRaisesRegex(InvitationError, f"^{path}: "):
                find_invitation(str(path), self.state)

    def test_join_does_not_overwrite(self) -> None:
        """
        A taken name is refused, unless replacing is asked for.
        """
        store_invitation(self.state, "a", EXAMPLE)
        with self.assertRaisesRegex(InvitationError, "--replace"):
            store_invitation(self.state, "a", CLASSIC)
        store_invitation(self.state, "a", CLASSIC, replace=True)
        self.assertEqual(find_invitation("a", self.state), CLASSIC)

    def test_names_cannot_leave_the_folder(self) -> None:
        """
        A name that is a path is refused.
        """
        for name in ("../a", "a/b", "..", ""):
            with self.assertRaises(InvitationError):
                store_invitation(self.state, name, EXAMPLE)
