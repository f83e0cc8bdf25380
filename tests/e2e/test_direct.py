"""
``resip send`` and ``resip receive`` as processes, one of which is killed now and then.
"""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

from tests.e2e.fixture import HOST, EndToEndTestCase
from tests.support.processes import RESIP, Process, free_port, run

#: Bytes of a file that takes long enough to be interrupted.
SIZE = 40 << 20


class DirectTestCase(EndToEndTestCase):
    """
    Two users with keys.
    """

    def setUp(self) -> None:
        """
        Make their keys, and a directory for what is received.
        """
        super().setUp()
        self.sender_key, self.sender_text = self.make_key("sender")
        self.receiver_key, self.receiver_text = self.make_key("receiver")
        self.inbox = self.directory / "inbox"
        self.inbox.mkdir()
        self.port = free_port()

    def make_key(self, name: str) -> tuple[Path, str]:
        """
        A key file, and the public half.
        """
        path = self.directory / f"{name}.key"
        output = self.run_program(*RESIP, "keygen", "--out", str(path)).stdout
        return path, output.decode().strip()

    def receive(
        self, *options: str, carrier: str = "udp", peer: str | None = None, once: bool = True
    ) -> Process:
        """
        Start a receiver and wait until it listens.
        """
        process = self.start(
            *RESIP, "receive", "--listen", f"{carrier}:{HOST}:{self.port}",
            "--from", peer or self.sender_text, "--key", str(self.receiver_key),
            "--output", str(self.inbox), *(["--once"] if once else []), *options,
        )  # fmt: skip
        process.wait_for("listening on")
        return process

    def send_arguments(
        self, file: str, *options: str, carrier: str = "udp", peer: str | None = None
    ) -> tuple[str, ...]:
        """
        The command of a sender.
        """
        return (
            *RESIP, "send", file, "--to", f"{carrier}:{HOST}:{self.port}",
            "--peer", peer or self.receiver_text, "--key", str(self.sender_key), *options,
        )  # fmt: skip

    def wait_for_part(self, process: Process, name: str = "original") -> None:
        """
        Wait until something of a file has come.
        """
        part = self.inbox / f"{name}.resip-part"
        process.wait_until(
            lambda: (part.exists() and part.stat().st_size > 1 << 20) or None, "part of the file"
        )

    def assert_received(
        self, original: Path, sender: Process, receiver: Process, *, is_resumed: bool
    ) -> None:
        """
        Both ends are content, agree on the hash, and the file is there and complete.
        """
        digest = hashlib.sha256(original.read_bytes()).hexdigest()
        self.assertEqual(sender.wait(seconds=120), 0, sender.text)
        self.assertEqual(receiver.wait(), 0, receiver.text)
        self.assertIn(f"SHA-256 {digest}", sender.text)
        self.assertIn(f"SHA-256 {digest}", receiver.text)
        self.assertEqual("of them of before" in receiver.text, is_resumed, receiver.text)
        self.assertEqual([path.name for path in self.inbox.iterdir()], [original.name])
        self.assert_same(original, self.inbox / original.name)
        for process in (sender, receiver):
            self.assertNotIn("Traceback", process.text)
            self.assertNotIn(self.sender_key.read_text().strip(), process.text)


class UDPTests(DirectTestCase):
    """
    By UDP.
    """

    carrier = "udp"

    def test_file(self) -> None:
        """
        A file arrives, with its permissions.
        """
        original = self.make_file(3_000_000)
        original.chmod(0o750)
        receiver = self.receive(carrier=self.carrier)
        sender = self.start(*self.send_arguments(str(original), carrier=self.carrier))
        self.assert_received(original, sender, receiver, is_resumed=False)
        self.assertEqual((self.inbox / "original").stat().st_mode & 0o777, 0o750)

    def test_the_receiver_is_killed(self) -> None:
        """
        A receiver that is killed in the middle and started anew gets the rest, from the sender
        that has been there all the time.
        """
        original = self.make_file(SIZE)
        receiver = self.receive(carrier=self.carrier)
        sender = self.start(*self.send_arguments(str(original), carrier=self.carrier))
        self.wait_for_part(receiver)
        receiver.stop(signal.SIGKILL)
        receiver = self.receive(carrier=self.carrier)
        self.assert_received(original, sender, receiver, is_resumed=True)

    def test_the_sender_is_killed(self) -> None:
        """
        A sender that is killed in the middle and started anew sends the rest.
        """
        original = self.make_file(SIZE)
        receiver = self.receive(carrier=self.carrier)
        sender = self.start(*self.send_arguments(str(original), carrier=self.carrier))
        self.wait_for_part(sender)
        sender.stop(signal.SIGKILL)
        sender = self.start(*self.send_arguments(str(original), carrier=self.carrier))
        self.assert_received(original, sender, receiver, is_resumed=True)

    def test_both_are_killed(self) -> None:
        """
        So it goes when both were gone.
        """
        original = self.make_file(SIZE)
        receiver = self.receive(carrier=self.carrier)
        sender = self.start(*self.send_arguments(str(original), carrier=self.carrier))
        self.wait_for_part(receiver)
        receiver.stop(signal.SIGKILL)
        sender.stop(signal.SIGKILL)
        sender = self.start(*self.send_arguments(str(original), carrier=self.carrier))
        receiver = self.receive(carrier=self.carrier)
        self.assert_received(original, sender, receiver, is_resumed=True)

    def test_a_stream(self) -> None:
        """
        What comes from a pipe arrives, although the receiver is killed in the middle.
        """
        original = self.make_file(SIZE)
        receiver = self.receive(carrier=self.carrier)
        command = " ".join(self.send_arguments("-", "--name", "original", carrier=self.carrier))
        sender = self.start("sh", "-c", f"cat {original} | {command}")
        self.wait_for_part(receiver)
        receiver.stop(signal.SIGKILL)
        receiver = self.receive(carrier=self.carrier)
        self.assert_received(original, sender, receiver, is_resumed=True)


class TCPTests(UDPTests):
    """
    The same by TCP.
    """

    carrier = "tcp"


class PeopleTests(DirectTestCase):
    """
    Mistakes, strangers and the shell.
    """

    def test_standard_output(self) -> None:
        """
        From a pipe into a pipe.
        """
        original = self.make_file(3_000_000)
        copy = self.directory / "copy"
        command = " ".join(
            (
                *RESIP, "receive", "--once", "--listen", f"udp:{HOST}:{self.port}", "--output", "-",
                "--from", self.sender_text, "--key", str(self.receiver_key),
            )
        )  # fmt: skip
        receiver = self.start("sh", "-c", f"{command} | cat > {copy}")
        receiver.wait_for("listening on")
        result = run(*self.send_arguments("-"), text=original.read_bytes())
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(receiver.wait(), 0)
        self.assert_same(original, copy)

    def test_strangers(self) -> None:
        """
        A sender whose key the receiver does not know, and one who takes the receiver for another,
        hear nothing, and are told what may be wrong (T-2).
        """
        original = self.make_file(1000)
        _, other = self.make_key("other")
        receiver = self.receive(peer=other)
        unknown = self.start(*self.send_arguments(str(original)))
        mistaken = self.start(*self.send_arguments(str(original), peer=other))
        for sender in (unknown, mistaken):
            sender.wait_for(f"no answer from udp:{HOST}:{self.port} so far")
            self.assertIn(f"--from {self.sender_text}", sender.text)
            self.assertEqual(sender.stop(signal.SIGINT), 130)
        self.assertEqual(list(self.inbox.iterdir()), [])
        self.assertEqual(receiver.stop(signal.SIGINT), 130)

    def test_refusals(self) -> None:
        """
        A receiver that goes on says no to what it cannot take, and why.
        """
        receiver = self.receive(once=False)
        (self.inbox / "original").write_bytes(b"something else")
        original = self.make_file(1000)
        for options, reason in (
            ((), "has another .*original already"),
            (("--name", "../escape"), "is no plain file name"),
            (("--name", ".profile"), "begins with a dot"),
        ):
            result = run(*self.send_arguments(str(original), *options))
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stderr.decode(), reason)
            receiver.wait_for(reason)
        result = run(*self.send_arguments(str(original), "--name", "other"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_same(original, self.inbox / "other")
        self.assertEqual((self.inbox / "original").read_bytes(), b"something else")
        self.assertEqual(receiver.stop(), 130)

    def test_mistakes(self) -> None:
        """
        One line that says what is wrong and what helps, status 1; wrong usage has status 2.
        """
        self.assertEqual(self.sender_key.stat().st_mode & 0o777, 0o600)
        key = ("--key", str(self.sender_key))
        to = ("--to", "udp:127.0.0.1:1", "--peer", self.receiver_text)
        listen = ("--listen", "udp:0", "--from", self.sender_text, *key)
        for arguments, status, reason in (
            (("keygen", "--out", str(self.sender_key)), 1, f"its public key is {self.sender_text}"),
            (("send", str(self.directory), *to, *key), 1, "tar c"),
            (("send", "/nowhere", *to, *key), 1, "No such file"),
            (("send", "/etc/hosts", *to, "--key", "/nowhere"), 1, "resip keygen"),
            (("send", "/etc/hosts", *to[:3], "abc", *key), 1, "no public key"),
            (("send", "/etc/hosts", "--to", "host", *to[2:], *key), 2, "udp:host:port"),
            (("receive", "--listen", "7000", "--from", "x"), 2, "udp:port"),
            (("receive", *listen, "--output", "/nowhere/x"), 1, "no directory /nowhere"),
        ):
            result = run(*RESIP, *arguments)
            self.assertEqual(result.returncode, status, (arguments, result.stderr))
            self.assertIn(reason, result.stderr.decode())
            self.assertNotIn("Traceback", result.stderr.decode())
