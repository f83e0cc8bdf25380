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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.namespaces import SERVER_ADDRESS, Hosts

#: ``ip netns exec`` replaces itself by it, so signals and CPU times are its own.
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
START_TIMEOUT = 60.0


@dataclass
class Tunnel:
    """
    A running tunnel.

    :ivar address: where its forward listens.
    :ivar server: the server's process. :ivar client: the client's.
    :ivar client_log: what the client says. :ivar server_log: what the server says.
    """

    address: tuple[str, int]
    server: subprocess.Popen[bytes]
    client: subprocess.Popen[bytes]
    client_log: Path
    server_log: Path

    def cpu_seconds(self) -> tuple[float, float]:
        """
        CPU time used so far by server and client.
        """
        return _cpu_seconds(self.server.pid), _cpu_seconds(self.client.pid)


@contextmanager
def run_tunnel(
    target_port: int,
    *client_options: str,
    is_classic: bool = False,
    network: Hosts | None = None,
    server_host: str = SERVER_ADDRESS,
    server_options: Sequence[str] = (),
    before_client: Callable[[Path], AbstractContextManager[list[str]]] | None = None,
) -> Iterator[Tunnel]:
    """
    Start server and client with a forward to ``target_port``, and stop them afterwards.

    :param network: where the two run; ``None`` for both on this host.
    :param server_host: where, in a network, the client looks for the server.
    :param server_options: further ones of the server.
    :param before_client: entered with the state directory when the server runs; gives further
        options of the client.
    """
    dialect = ["--classic"] if is_classic else []
    ports = ["--https-port", "0", "--port", "0"] if network is None else []
    with tempfile.TemporaryDirectory(prefix="resip-bench-") as folder, ExitStack() as stack:
        state, server_log, log = (Path(folder) / name for name in ("state", "server", "client"))
        prefix = [] if network is None else network.command(network.server)
        options = [*ports, *dialect, *server_options]
        server = start_service([*prefix, *TWISTD, "resip-server"], options, state, server_log)
        client = None
        try:
            wait_for_line(server_log, r"packets on UDP and TCP port (\d+)")
            prefix = [] if network is None else network.command(network.client)
            options = ["--forward", f"0:127.0.0.1:{target_port}", *client_options, *dialect]
            if network is not None:
                invitation = Path(folder) / "invitation"
                write_invitation(state, invitation, server_host)
                options += ["--server", str(invitation)]
            if before_client is not None:
                options += stack.enter_context(before_client(state))
            client = start_service([*prefix, *TWISTD, "resip-client"], options, state, log)
            port = int(wait_for_line(log, r"127\.0\.0\.1:(\d+) -> ")[1])
            wait_for_line(log, r"packets go by")
            yield Tunnel(("127.0.0.1", port), server, client, log, server_log)
        except RuntimeError as error:
            for name in (server_log, log):
                if name.exists():
                    error.add_note(f"the {name.name} said:\n{name.read_text()}")
            raise
        finally:
            for process in (client, server):
                if process is not None:
                    process.terminate()
                    process.wait(10)


def start_service(
    command: Sequence[str], options: Sequence[str], state: Path, log: Path
) -> subprocess.Popen[bytes]:
    """
    Start ``twistd`` with one of the services.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, "--state", str(state), *options], stdout=output, stderr=output
        )


def write_invitation(state: Path, invitation: Path, host: str) -> None:
    """
    Have the server with this state directory invite a client, into a file.
    """
    command = [sys.executable, "-m", "resip.cli.main", "invite", "--state", str(state)]
    printed = subprocess.run([*command, "--host", host], check=True, capture_output=True).stdout
    invitation.touch(mode=0o600)
    invitation.write_bytes(printed)


def wait_for_line(log: Path, pattern: str, *, seconds: float = START_TIMEOUT) -> re.Match[str]:
    """
    Wait until a service has said something.

    :raises RuntimeError: when it does not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (match := re.search(pattern, log.read_text())) is not None:
            return match
        time.sleep(0.05)
    raise RuntimeError(f"{pattern!r} did not appear in the log")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
