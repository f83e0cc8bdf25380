"""
Tests for the ``resip`` command.
"""

from __future__ import annotations

import array
import fcntl
import io
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import IO, Any, cast
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from resip.bootstrap.certificates import load_or_create, server_tls_options
from resip.bootstrap.client import BootstrapClient
from resip.bootstrap.invitation import parse_invitation
from resip.bootstrap.keystore import KeyStore
from resip.bootstrap.resource import BootstrapResource
from resip.bootstrap.servers import ServerPorts, find_invitation, write_server_ports
from resip.bootstrap.site import bootstrap_factory
from resip.bootstrap.state import StateDirectory
from resip.bootstrap.static_key import STATIC_KEY_FILE, load_or_create_static_key
from resip.cli.main import main
from resip.core.modern.noise import public_key_of
from tests.bootstrap.test_invitation import EXAMPLE
from tests.bootstrap.test_messages import make_grant


class CommandTestCase(SynchronousTestCase):
    """
    Runs the command in this process with streams of its own.
    """

    def setUp(self) -> None:
        """
        An empty state directory, named on every command line.
        """
        self.state = StateDirectory(Path(self.mktemp()).absolute())

    def run_server(self) -> None:
        """
        Leave what a server leaves when it listens.
        """
        load_or_create(self.state)
        load_or_create_static_key(self.state, os.urandom)
        write_server_ports(self.state, ServerPorts(https_port=31265, port=31266, started=1))

    def resip(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """
        Exit status, stdout and stderr of one run.
        """
        out, err = io.StringIO(), io.StringIO()
        with (
            patch.object(sys, "stdin", io.StringIO(stdin)),
            patch.object(sys, "stdout", out),
            patch.object(sys, "stderr", err),
        ):
            try:
                status = main([*arguments, "--state", str(self.state.path)])
            except SystemExit as end:
                status = int(cast(int, end.code))
        return status, out.getvalue(), err.getvalue()


class InviteTests(CommandTestCase):
    """
    ``resip invite`` mints keys.
    """

    def test_prints_exactly_one_line(self) -> None:
        """
        Stdout has the invitation alone; its key is known to the server.
        """
        self.run_server()
        status, out, err = self.resip("invite", "alice", "--host", "resip.example.org")
        self.assertEqual((status, out.count("\n")), (0, 1))
        invitation = parse_invitation(out)
        self.assertEqual(
            (invitation.host, invitation.https_port, invitation.port, invitation.name),
            ("resip.example.org", 31265, 31266, "alice"),
        )
        self.assertEqual(invitation.pin, load_or_create(self.state).pin)
        static_key = load_or_create_static_key(self.state, os.urandom)
        self.assertEqual(invitation.server_key, public_key_of(static_key))
        self.assertIsNotNone(KeyStore(self.state).authenticate(invitation.api_key))
        self.assertIn("resip keys revoke alice", err)
        self.assertNotIn(out.strip(), err)

    def test_unnamed_keys_are_numbered(self) -> None:
        """
        Without a name keys are client-1, client-2.
        """
        self.run_server()
        for _ in range(2):
            self.resip("invite", "--host", "::1")
        self.assertEqual(KeyStore(self.state).names, ["client-1", "client-2"])

    def test_guessed_host_is_told(self) -> None:
        """
        Without --host the line has a guess, and a hint says so.
        """
        self.run_server()
        status, out, err = self.resip("invite")
        self.assertEqual(status, 0)
        self.assertIn(parse_invitation(out).host, err)
        self.assertIn("--host", err)

    def test_without_a_server_nothing_is_printed_or_made(self) -> None:
        """
        Before the first start of a server there are no ports to invite to.
        """
        status, out, err = self.resip("invite")
        self.assertEqual((status, out), (1, ""))
        self.assertRegex(err, "no server has run with this state directory yet.*start it first")
        self.assertEqual(KeyStore(self.state).names, [])

    def test_without_a_static_key_nothing_is_made(self) -> None:
        """
        A server that has not run since it learned the modern dialect must be restarted first,
        unless the key is for a classic client.
        """
        self.run_server()
        self.state.remove(STATIC_KEY_FILE)
        status, out, err = self.resip("invite", "--host", "h")
        self.assertEqual((status, out, err.count("\n")), (1, "", 1))
        self.assertIn("restart it", err)
        self.assertEqual(KeyStore(self.state).names, [])
        self.assertEqual(self.resip("invite", "--classic", "--host", "h")[0], 0)

    def test_damaged_static_key_is_one_line(self) -> None:
        """
        A damaged file is named, without a traceback, and no key is made.
        """
        self.run_server()
        self.state.write(STATIC_KEY_FILE, b"x")
        status, out, err = self.resip("invite", "--host", "h")
        self.assertEqual((status, out, err.count("\n")), (1, "", 1))
        self.assertIn("static.key is damaged", err)
        self.assertEqual(KeyStore(self.state).names, [])

    def test_taken_name_is_refused(self) -> None:
        """
        The error says how to go on, in one line and without a traceback.
        """
        self.run_server()
        self.resip("invite", "alice", "--host", "h")
        status, out, err = self.resip("invite", "alice", "--host", "h")
        self.assertEqual((status, out, err.count("\n")), (1, "", 1))
        self.assertIn("resip keys revoke alice", err)

    def test_patterns_are_kept_and_checked(self) -> None:
        """
        --allow may be repeated; a pattern that is none makes no key.
        """
        self.run_server()
        arguments = ("--host", "h", "--allow", "10.0.0.0/8:22")
        self.resip("invite", "alice", *arguments, "--allow", "example.org:443")
        record = KeyStore(self.state).get("alice")
        assert record is not None
        self.assertEqual(record.allow, ("10.0.0.0/8:22", "example.org:443"))
        status, out, err = self.resip("invite", "bob", *arguments, "--allow", "a:b:c:99999")
        self.assertEqual((status, out), (1, ""))
        self.assertTrue(err.startswith("resip: "))
        self.assertEqual(KeyStore(self.state).names, ["alice"])

    def test_bad_host_is_refused(self) -> None:
        """
        A host with a port, or with odd characters, makes no key.
        """
        self.run_server()
        for host in ("a:1", "a b", "http://x"):
            status, _, err = self.resip("invite", "--host", host)
            self.assertEqual(status, 1)
            self.assertIn("--host", err)
        self.assertEqual(KeyStore(self.state).names, [])

    def test_classic_prints_one_value_per_line(self) -> None:
        """
        --classic prints what a client without invitations is configured with.
        """
        self.run_server()
        _, out, _ = self.resip("invite", "old", "--classic", "--host", "[2001:db8::1]")
        values = dict(line.split("=") for line in out.splitlines())
        self.assertEqual(list(values), ["host", "https-port", "port", "api-key"])
        self.assertEqual(
            (values["host"], values["https-port"], values["port"]),
            ("2001:db8::1", "31265", "31266"),
        )
        record = KeyStore(self.state).authenticate(values["api-key"])
        assert record is not None
        self.assertEqual(record.name, "old")


class KeysTests(CommandTestCase):
    """
    ``resip keys`` lists, adds, revokes and limits.
    """

    def test_whole_life_of_a_key(self) -> None:
        """
        A key is added, listed, limited, freed and revoked.
        """
        self.run_server()
        _, out, _ = self.resip("keys", "add", "alice", "--host", "h")
        self.assertEqual(parse_invitation(out).name, "alice")
        self.assertIn("(the server's list)", self.resip("keys", "list")[1])
        self.resip("keys", "allow", "alice", "10.0.0.1:22", "10.0.0.2:22")
        self.assertRegex(
            self.resip("keys", "list")[1], "^alice\t20..-..-..\t10.0.0.1:22 10.0.0.2:22\n$"
        )
        self.resip("keys", "allow", "alice", "--server-list")
        self.assertIn("(the server's list)", self.resip("keys", "list")[1])
        self.assertEqual(self.resip("keys", "revoke", "alice")[0], 0)
        self.assertEqual(self.resip("keys", "list")[:2], (0, ""))

    def test_unknown_key_is_an_error(self) -> None:
        """
        The message says how to see the names.
        """
        for arguments in (("revoke", "x"), ("allow", "x", "10.0.0.1:22")):
            status, out, err = self.resip("keys", *arguments)
            self.assertEqual((status, out), (1, ""))
            self.assertIn("resip keys list", err)

    def test_damaged_store_is_one_line(self) -> None:
        """
        A damaged file is named, without a traceback.
        """
        self.state.write("keys.json", b"{")
        status, out, err = self.resip("keys", "list")
        self.assertEqual((status, out, err.count("\n")), (1, "", 1))
        self.assertIn("keys.json is damaged", err)

    def test_wrong_usage_is_2(self) -> None:
        """
        What the command line does not mean is told apart from what failed.
        """
        for arguments in (
            ("keys", "add"),
            ("keys", "allow", "x"),
            ("keys", "allow", "x", "p:1", "--server-list"),
            ("nonsense",),
            ("join", "--host", "h"),
            ("join", "--classic", "x"),
            ("join", "x", "file", "--classic", "--host", "h"),
            ("join", "x", "--classic", "--host", "h", "--port", "99999"),
        ):
            self.assertEqual(self.resip(*arguments)[0], 2)


class JoinTests(CommandTestCase):
    """
    ``resip join`` keeps invitations.
    """

    def test_reads_stdin(self) -> None:
        """
        The line is kept under the given name, for its owner alone.
        """
        status, out, err = self.resip("join", "work", stdin=EXAMPLE.to_text() + "\n")
        self.assertEqual((status, out), (0, ""))
        self.assertEqual(find_invitation("work", self.state), EXAMPLE)
        mode = self.state.path_of("servers/work").stat().st_mode
        self.assertEqual(mode & 0o777, 0o600)
        self.assertNotIn("resip://", err)

    def test_name_defaults_to_the_host(self) -> None:
        """
        Servers are known by their host unless named; keys of two servers may be called alike.
        """
        self.resip("join", stdin=EXAMPLE.to_text())
        six = EXAMPLE.to_text().replace("resip.example.org", "[2001:db8::1]")
        self.resip("join", stdin=six)
        self.assertEqual(self.state.names("servers"), ["2001-db8--1", "resip.example.org"])

    def test_reads_a_file(self) -> None:
        """
        FILE comes after NAME, or alone when there is a file of that name.
        """
        path = Path(self.mktemp())
        path.write_text(EXAMPLE.to_text())
        self.assertEqual(self.resip("join", "work", str(path))[0], 0)
        self.assertEqual(self.resip("join", str(path))[0], 0)
        self.assertEqual(self.state.names("servers"), ["resip.example.org", "work"])

    def test_does_not_overwrite(self) -> None:
        """
        A second join of the same name needs --replace.
        """
        self.resip("join", "work", stdin=EXAMPLE.to_text())
        status, _, err = self.resip("join", "work", stdin=EXAMPLE.to_text())
        self.assertEqual(status, 1)
        self.assertIn("--replace", err)
        self.assertEqual(self.resip("join", "work", "--replace", stdin=EXAMPLE.to_text())[0], 0)

    def test_mistakes_are_one_line(self) -> None:
        """
        A bad line or a missing file is explained without a traceback, and the secret not shown.
        """
        text = EXAMPLE.to_text()
        for arguments, stdin in (
            (("join",), ""),
            (("join",), text[:-9]),
            (("join", "../x"), text),
            (("join", "a b"), text),
            (("join", "x", "/does/not/exist"), ""),
        ):
            status, out, err = self.resip(*arguments, stdin=stdin)
            self.assertEqual((status, out, err.count("\n")), (1, "", 1))
            self.assertNotIn(text[8:20], err)


class ProcessTests(TestCase):
    """
    The command as a process.
    """

    def command(self, *arguments: str) -> list[str]:
        """
        The command line.
        """
        return [sys.executable, "-m", "resip.cli.main", *arguments]

    def test_closed_pipe_is_no_traceback(self) -> None:
        """
        A reader that went away, as head does, leaves no traceback.
        """
        state = StateDirectory(Path(self.mktemp()).absolute())
        store = KeyStore(state)
        store.add("alice")
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run(
            self.command("keys", "list", "--state", str(state.path)),
            stdout=write_end,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(write_end)
        self.assertEqual((done.returncode, done.stderr), (1, b""))

    def wait_until_read(self, pipe: IO[bytes]) -> None:
        """
        Return when the other side has taken what was written.
        """
        deadline = time.monotonic() + 60
        unread = array.array("i", [1])
        while unread[0]:
            fcntl.ioctl(pipe, termios.FIONREAD, unread)
            self.assertLess(time.monotonic(), deadline, "the process reads nothing")
            time.sleep(0.01)

    def test_interrupt_is_no_traceback(self) -> None:
        """
        Ctrl-C while it waits for the line ends it quietly.
        """
        process = subprocess.Popen(
            self.command("join", "--state", str(Path(self.mktemp()).absolute())),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert process.stdin is not None
        process.stdin.write(b"resip")
        process.stdin.flush()
        self.wait_until_read(process.stdin)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        self.assertEqual((process.returncode, err), (130, b""))

    def test_help_names_every_command(self) -> None:
        """
        --help is an introduction.
        """
        done = subprocess.run(self.command("--help"), capture_output=True, check=True)
        for word in (b"invite", b"join", b"keys", b"twistd resip-server"):
            self.assertIn(word, done.stdout)

    async def test_classic_join(self) -> None:
        """
        Joining with --classic pins what the server presents, and the key then starts sessions.
        """
        server = StateDirectory(Path(self.mktemp()).absolute())
        store, identity = KeyStore(server), load_or_create(server)
        resource = BootstrapResource(
            authenticate=store.authenticate,
            start_session=lambda key, hash_name, is_prototype: make_grant(hash_name),
            has_session=lambda session_id, key: session_id == 1,
            accept_handshake=lambda message1: None,
            started=1,
            wall_clock=lambda: 2.0,
            now=Clock().seconds,
        )
        endpoint = SSL4ServerEndpoint(
            reactor, 0, server_tls_options(identity), interface="127.0.0.1"
        )
        listening: Any = await endpoint.listen(bootstrap_factory(resource, cast(Any, reactor)))
        self.addCleanup(listening.stopListening)
        port = listening.getHost().port
        write_server_ports(server, ServerPorts(port, 2, 1))
        out = subprocess.run(
            self.command("invite", "--classic", "--host", "h", "--state", str(server.path)),
            capture_output=True,
            check=True,
        ).stdout.decode()
        api_key = out.rpartition("=")[2]
        client = StateDirectory(Path(self.mktemp()).absolute())
        key_file = Path(self.mktemp())
        key_file.write_text(api_key)
        _, err, status = await getProcessOutputAndValue(
            "/bin/sh",
            [
                "-c",
                'exec "$0" -m resip.cli.main join old --classic --host 127.0.0.1 '
                '--https-port "$1" --state "$2" < "$3"',
                sys.executable,
                str(port),
                str(client.path),
                str(key_file),
            ],
            env=dict(os.environ),
        )
        self.assertEqual(status, 0, err)
        store.reload_if_changed()
        self.assertIn(identity.leaf.subject.rfc4514_string().encode(), err)
        self.assertNotIn(api_key.strip().encode(), err)
        invitation = find_invitation("old", client)
        self.assertEqual(invitation.pin, identity.pin)
        await BootstrapClient(reactor, invitation).start_session()
