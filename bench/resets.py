"""
``python -m bench.resets``: 100 MB and a session of ssh through a proxy that resets every TCP
connection after some seconds.

Client, proxy and server are hosts of their own on this machine, so root is needed; between the
client and the proxy is a link of 20 Mbit/s with a round trip of 40 ms. The file's hash is compared,
and ssh, through the same tunnel, must receive every number that its other end counts.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.load import LoadServer, fetch_file
from bench.namespaces import ROUTER_ADDRESS, SERVER_ADDRESS, Network
from bench.secure_shell import PORT as SSH_PORT
from bench.secure_shell import CountingSession, run_sshd
from bench.stolen import StolenTime
from bench.tunnel import run_tunnel
from resip.services.server import DEFAULT_HTTPS_PORT, DEFAULT_PORT

LINK: dict[str, Any] = {"rate": 20e6, "delay": 0.02, "queue_limit": 100}
SIZE = 100_000_000
#: Seconds between resets, and the share of the goodput that must remain.
TARGETS = {20.0: 0.85, 5.0: 0.7, 1.0: 0.4}
CARRIERS = ("tcp", "websocket")
#: Numbers that ssh has to deliver before and after the transfer, and the seconds for them.
NUMBERS = 20
PATIENCE = 30.0


def measure(network: Network, load: LoadServer, carrier: str, cut_every: float | None) -> float:
    """
    Fetch the file while ssh counts.

    :return: goodput, bit/s.
    :raises RuntimeError: when a connection broke, or something else arrived than was sent.
    """
    with ExitStack() as stack:
        login = stack.enter_context(run_sshd(network))
        stack.enter_context(_proxy(network, cut_every))
        client = ["--carrier", carrier, "--forward", f"{SSH_PORT}:127.0.0.1:{SSH_PORT}"]
        tunnel = stack.enter_context(
            run_tunnel(load.port, *client, network=network, server_host=ROUTER_ADDRESS)
        )
        session = CountingSession(network, login.command("127.0.0.1", SSH_PORT))
        stack.callback(session.close)
        session.wait(NUMBERS, seconds=PATIENCE)
        with network.inside(network.client):
            seconds = fetch_file(tunnel.address, SIZE)
        session.wait(NUMBERS, seconds=PATIENCE)
        name = "never reset" if cut_every is None else f"reset every {cut_every:g} s"
        gap = max(after - before for before, after in itertools.pairwise(session.arrivals))
        print(
            f"{carrier}, {name}: {SIZE * 8 / seconds / 1e6:.2f} Mbit/s, ssh silent for {gap:.2f} s "
            f"at most, {len(session.numbers)} numbers"
        )
        return SIZE * 8 / seconds


@contextmanager
def _proxy(network: Network, cut_every: float | None) -> Iterator[None]:
    """
    On the router, for both TCP ports of the server.
    """
    arguments = [] if cut_every is None else ["--cut-every", str(cut_every)]
    relays = [
        network.start(
            network.router, sys.executable, "-m", "bench.relay",
            ROUTER_ADDRESS, str(port), SERVER_ADDRESS, *arguments,
        )
        for port in (DEFAULT_HTTPS_PORT, DEFAULT_PORT)
    ]  # fmt: skip
    try:
        yield
    finally:
        for relay in relays:
            relay.terminate()
            relay.wait(10)


def main() -> None:
    """
    Compare transfers with resets to one without.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.resets", description=__doc__)
    parser.add_argument("--carriers", nargs="+", default=CARRIERS, choices=CARRIERS)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument(
        "--seconds", nargs="+", type=float, default=list(TARGETS), choices=TARGETS,
        help="between resets",
    )  # fmt: skip
    options = parser.parse_args()
    stolen = StolenTime()
    with Network(**LINK) as network:
        with network.inside(network.server):
            load = LoadServer()
        for carrier in options.carriers:
            rows = [
                [measure(network, load, carrier, each) for each in (None, *options.seconds)]
                for _ in range(options.runs)
            ]
            for index, cut_every in enumerate(options.seconds, start=1):
                share = statistics.median(row[index] / row[0] for row in rows)
                target = TARGETS[cut_every]
                verdict = "met" if share >= target else "missed"
                print(
                    f"{carrier}, reset every {cut_every:g} s: share {share:.2f} of the goodput; "
                    f"target {target:g}: {verdict}",
                    flush=True,
                )
    print(stolen)


if __name__ == "__main__":
    main()
