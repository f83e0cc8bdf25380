"""
A tunnel of two real ``twistd`` processes on this machine, for as long as a benchmark needs it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TWISTD = "from twisted.scripts.twistd import run; run()"
START_TIMEOUT = 20.0


@dataclass
class Tunnel:
    """
    A running tunnel.

    :ivar address: where its forward listens.
    :ivar server: the server's process. :ivar client: the client's.
    """

    address: tuple[str, int]
    server: subprocess.Popen[bytes]
    client: subprocess.Popen[bytes]

    def cpu_seconds(self) -> tuple[float, float]:
        """
        CPU time used so far by server and client.
        """
        return _cpu_seconds(self.server.pid), _cpu_seconds(self.client.pid)


@contextmanager
def run_tunnel(
    target_port: int, *client_options: str, is_classic: bool = False
) -> Iterator[Tunnel]:
    """
    Start server and client with a forward to ``target_port``, and stop them afterwards.
    """
    dialect = ["--classic"] if is_classic else []
    with tempfile.TemporaryDirectory(prefix="resip-bench-") as folder:
        state = Path(folder) / "state"
        log = Path(folder) / "log"
        server = _start("resip-server", ["--https-port", "0", "--port", "0", *dialect], state, log)
        client = None
        try:
            _wait_for(log, r"packets on UDP and TCP port (\d+)")
            forward = f"0:127.0.0.1:{target_port}"
            client = _start(
                "resip-client", ["--forward", forward, *client_options, *dialect], state, log
            )
            port = int(_wait_for(log, r"127\.0\.0\.1:(\d+) -> ")[1])
            _wait_for(log, r"packets go by")
            yield Tunnel(("127.0.0.1", port), server, client)
        finally:
            for process in (client, server):
                if process is not None:
                    process.terminate()
                    process.wait(10)


def _start(plugin: str, options: Sequence[str], state: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", TWISTD, "-n", "--pidfile=", plugin, "--state", str(state)]
    with log.open("ab") as output:
        return subprocess.Popen([*command, *options], stdout=output, stderr=output)


def _wait_for(log: Path, pattern: str) -> re.Match[str]:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if (match := re.search(pattern, log.read_text())) is not None:
            return match
        time.sleep(0.05)
    raise RuntimeError(f"{pattern!r} did not appear in the log:\n{log.read_text()}")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
