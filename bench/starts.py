"""
``python -m bench.starts``: how long a client takes to be connected over a link that loses much.

Client and server are real processes in network namespaces, so root is needed. The time runs from
the start of the client's process to the first echo through its forward.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.load import LoadServer, connect
from bench.namespaces import SERVER_ADDRESS, EmulatedNetwork
from bench.stolen import StolenTime
from bench.tunnel import TWISTD, start_service, wait_for_line, write_invitation

LINK: dict[str, Any] = {"rate": 20e6, "delay": 0.05, "queue_limit": 170}
#: Seconds after which a try has failed.
PATIENCE = 60.0
#: Share of the tries, and the seconds in which they should be connected.
TARGETS = ((0.5, 5.0), (0.95, 20.0))


def start_client(
    network: EmulatedNetwork, folder: Path, target_port: int, *client_options: str
) -> float:
    """
    Start a client and end it when it works.

    :return: seconds, infinite when it did not work in time.
    """
    log = folder / "client"
    log.unlink(missing_ok=True)
    options = ["--server", str(folder / "invitation"), *client_options]
    options += ["--forward", f"0:127.0.0.1:{target_port}"]
    start = time.monotonic()
    command = [*network.command(network.client), *TWISTD, "resip-client"]
    client = start_service(command, options, folder / "client-state", log)
    try:
        port = int(wait_for_line(log, r"127\.0\.0\.1:(\d+) -> ")[1])
        with network.inside(network.client):
            connection = connect(("127.0.0.1", port), b"E")
        with connection, suppress(TimeoutError):
            connection.settimeout(PATIENCE)
            connection.sendall(b"!")
            if connection.recv(1):
                return time.monotonic() - start
        return float("inf")
    finally:
        _end(client)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    process.kill()
    process.wait()


def main() -> None:
    """
    Try as often as was asked for.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.starts", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="tries (default: 50)")
    parser.add_argument(
        "--client", action="append", default=[], help="a further argument of the client"
    )
    parser.add_argument("--loss", type=float, default=0.5, help="each way (default: 0.5)")
    options = parser.parse_args()
    stolen = StolenTime()
    with (
        EmulatedNetwork(**LINK, loss=options.loss) as network,
        tempfile.TemporaryDirectory(prefix="resip-bench-") as name,
    ):
        folder = Path(name)
        with network.inside(network.server):
            load = LoadServer()
        command = [*network.command(network.server), *TWISTD, "resip-server"]
        server = start_service(command, [], folder / "state", folder / "server")
        try:
            wait_for_line(folder / "server", "packets on UDP and TCP port")
            write_invitation(folder / "state", folder / "invitation", SERVER_ADDRESS)
            times = sorted(
                start_client(network, folder, load.port, *options.client)
                for _ in range(options.count)
            )
        finally:
            _end(server)
    for share, target in TARGETS:
        seconds = times[min(len(times) - 1, int(share * len(times)))]
        verdict = "met" if seconds <= target else "missed"
        print(f"{share:.0%} connected within {seconds:.2f} s; target {target:g} s: {verdict}")
    failed = sum(seconds == float("inf") for seconds in times)
    print(f"{failed} of {len(times)} failed; the slowest other took {_slowest(times):.2f} s")
    print(stolen)


def _slowest(times: list[float]) -> float:
    return max((seconds for seconds in times if seconds < float("inf")), default=float("nan"))


if __name__ == "__main__":
    main()
