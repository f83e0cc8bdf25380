"""
Two ``twistd`` processes with a tunnel between them, and programs on both sides.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.invitation import Invitation, parse_invitation
from tests.support.processes import (
    DEADLINE,
    RESIP,
    TWISTD,
    Process,
    command_lines,
    find_program,
    run,
    wait_for_file,
)

HOST = "127.0.0.1"
LOCAL6 = "::1"
#: How ``twistd`` ends on SIGTERM: when all is closed it sends itself the signal once more, so that
#: its parent sees why.
ENDED_BY_REQUEST = -signal.SIGTERM


class EndToEndTestCase(SynchronousTestCase):
    """
    Starts processes and stops them; afterwards looks for secrets and tracebacks in their logs.
    """

    #: Options of both sides that choose the dialect.
    dialect: tuple[str, ...] = ()

    def setUp(self) -> None:
        """
        Make a directory with a short path, since programs put sockets into theirs.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="resip-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.state = self.directory / "server"
        self.client_state = self.state
        self.processes: list[Process] = []
        self.twistds: list[Process] = []
        self.addCleanup(self.stop_all)

    # Processes.

    def start(self, *arguments: str, **options: Any) -> Process:
        """
        Start a program that runs until the end of the test.
        """
        program = find_program(arguments[0]) or arguments[0]
        log = self.directory / f"{len(self.processes)}.log"
        process = Process(program, *arguments[1:], log=log, **options)
        self.processes.append(process)
        return process

    def run_program(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """
        Run a program, which must succeed.
        """
        program = find_program(arguments[0]) or arguments[0]
        result = run(program, *arguments[1:], **options)
        output = result.stdout[-2000:] + result.stderr[-2000:]
        self.assertEqual(result.returncode, 0, (arguments, output, self.logs()))
        return result

    def start_twistd(self, *arguments: str, **options: Any) -> Process:
        """
        Start a service in the foreground.
        """
        process = self.start(*TWISTD, "-n", "--pidfile=", *arguments, **options)
        self.twistds.append(process)
        return process

    def start_server(self, *arguments: str, host: str = HOST, port: int = 0) -> Process:
        """
        Start a server and wait until it can be used.
        """
        (self.state / "server.json").unlink(missing_ok=True)
        ports = ("--https-port=0", f"--port={port}")
        server = self.start_twistd(
            "resip-server",
            "--state",
            str(self.state),
            "--listen",
            host,
            *ports,
            *self.dialect,
            *arguments,
        )
        self.ports = wait_for_file(server, self.state / "server.json")
        # It listens a moment before it can handle signals; whoever answers can.
        address = (host, self.ports["https_port"])
        with socket.create_connection(address, timeout=DEADLINE) as stranger:
            stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
            stranger.recv(1)
        return server

    def start_client(
        self, *targets: str, carrier: str = "udp", options: Sequence[str] = (), **process: Any
    ) -> Process:
        """
        Start a client and wait until it has a session.

        :param targets: forwards, each with local port 0; :attr:`forwards` has the real ones.
        :param options: further ones of the client. :param process: those of :class:`Process`.
        """
        client = self.start_twistd(
            "resip-client",
            "--state",
            str(self.client_state),
            "--carrier",
            carrier,
            *self.dialect,
            *options,
            *(f"--forward={target}" for target in targets),
            **process,
        )
        client.wait_for(r"session \d+ started with")
        self.forwards = [
            int(client.wait_for(r":(\d+) -> ", count=number + 1)) for number in range(len(targets))
        ]
        return client

    def join(self, host: str) -> None:
        """
        Hand an invitation from the server's state to a client's own, as people do.
        """
        invitation = self.run_program(
            *RESIP, "invite", "laptop", "--host", host, "--state", str(self.state)
        ).stdout
        self.client_state = self.directory / "client"
        self.run_program(*RESIP, "join", "home", "--state", str(self.client_state), text=invitation)

    # Files.

    def make_file(self, size: int, name: str = "original", seed: int = 1) -> Path:
        """
        A file of random bytes.
        """
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Random(seed).randbytes(size))
        return path

    def assert_same(self, one: Path, other: Path) -> None:
        """
        Two files have the same bytes.
        """
        sums = self.run_program("sha256sum", str(one), str(other)).stdout.split()
        self.assertEqual(sums[0], sums[2])

    # The end.

    def logs(self) -> str:
        """
        What our own processes have written.
        """
        return "\n".join(process.text for process in self.twistds)

    def stop_all(self) -> None:
        """
        Look for secrets, then end every process; ours end in order, with no traceback.
        """
        visible = b"\n".join(command_lines()) + self.logs().encode()
        statuses = {process: process.stop() for process in reversed(self.processes)}
        visible += self.logs().encode()
        for secret in self.secrets():
            self.assertNotIn(secret.encode(), visible)
        for process in self.twistds:
            self.assertEqual(statuses[process], ENDED_BY_REQUEST, process.text)
            self.assertIn("Server Shut Down.", process.text)
            self.assertNotIn("Traceback", process.text)
            self.assertNotIn("Unhandled", process.text)

    def secrets(self) -> list[str]:
        """
        Every secret of every invitation that there is, in each form in which it may be written.
        """
        files = [self.state / "local", *self.directory.glob("client/servers/*")]
        invitations = [parse_invitation(path.read_text()) for path in files if path.exists()]
        return [form for invitation in invitations for form in forms_of(invitation)]


def forms_of(invitation: Invitation) -> list[str]:
    """
    The secrets of an invitation as text.
    """
    assert invitation.secret is not None
    line = invitation.to_text()
    return [
        invitation.api_key,
        invitation.secret.hex(),
        line[line.index("//") + 2 : line.index("@")],
    ]


def is_root() -> bool:
    """
    Whether the tests run as root, who must start some servers as somebody else.
    """
    return os.geteuid() == 0
