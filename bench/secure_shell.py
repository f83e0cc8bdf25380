"""
OpenSSH, as a program whose session must not break, and to compare with.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.namespaces import Hosts

PORT = 2222
PROGRAMS = ("ssh", "sshd", "ssh-keygen")
#: Says a number, and the next one a moment later.
COUNT = "i=0; while echo $i; do i=$((i + 1)); sleep 0.05; done"


@dataclass(frozen=True)
class Login:
    """
    A server that runs, and what a client needs to log in.
    """

    folder: Path

    def command(self, host: str, port: int, *arguments: str) -> list[str]:
        """
        The command line of a client; nothing of the user's own settings matters.
        """
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        return [
            "ssh", "-F", "/dev/null", "-i", f"{self.folder}/user", *_settings(options),
            "-p", str(port), f"root@{host}", *arguments,
        ]  # fmt: skip


@contextmanager
def run_sshd(hosts: Hosts) -> Iterator[Login]:
    """
    Run a server with OpenSSH's defaults on the server's host.
    """
    with tempfile.TemporaryDirectory(prefix="resip-bench-") as name:
        folder = Path(name)
        for key in ("host", "user"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(make, check=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        options = (
            f"AuthorizedKeysFile={folder}/user.pub",
            "StrictModes=no",
            "UsePAM=no",
            "PermitRootLogin=yes",
        )
        server = [str(shutil.which("sshd")), "-D", "-f", "/dev/null", "-p", str(PORT)]
        server += ["-h", f"{folder}/host", *_settings(options)]
        process = hosts.start(hosts.server, *server, stderr=subprocess.DEVNULL)
        try:
            yield Login(folder)
        finally:
            process.terminate()
            process.wait(5)


class CountingSession:
    """
    A session in which the other host counts.

    :ivar numbers: what has arrived. :ivar arrivals: when, in ``time.monotonic()``.
    """

    def __init__(self, hosts: Hosts, command: Sequence[str]) -> None:
        self.numbers: list[int] = []
        self.arrivals: list[float] = []
        self._process = hosts.start(
            hosts.client, *command, COUNT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self, count: int, *, seconds: float) -> None:
        """
        Wait until so many more numbers have arrived.

        :raises RuntimeError: when they do not, the session ended, or a number is missing.
        """
        deadline = time.monotonic() + seconds
        wanted = len(self.numbers) + count
        while len(self.numbers) < wanted:
            if self._process.poll() is not None:
                raise RuntimeError(f"the ssh session ended after {len(self.numbers)} numbers")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the ssh session fell silent after {len(self.numbers)}")
            time.sleep(0.05)
        if self.numbers[:wanted] != list(range(wanted)):
            raise RuntimeError("numbers are missing in the ssh session")

    def close(self) -> None:
        """
        End the session.
        """
        self._process.terminate()
        self._process.wait(5)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.numbers.append(int(line))
            self.arrivals.append(time.monotonic())


def _settings(values: Sequence[str]) -> Iterator[str]:
    for value in values:
        yield from ("-o", value)
