"""
``python -m bench.real``: real processes through an emulated link, next to their peers.

Client and server are two hosts on this machine (see :mod:`bench.namespaces`), so root is needed.
Each figure is of one run; the table tells how they scatter with ``--runs``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bench.load import LoadServer, bulk, connect, measure_down, measure_echo, measure_up
from bench.namespaces import EmulatedNetwork
from bench.peers import PEERS, MissingProgram
from bench.stolen import StolenTime

#: The links of docs/performance.md by name: 20 Mbit/s and 100 ms unless the name says otherwise.
_LINK = {"rate": 20e6, "delay": 0.05, "queue_limit": 170}
LINKS: dict[str, dict[str, Any]] = {
    "clean": _LINK,
    "loss1": {**_LINK, "loss": 0.01},
    "loss5": {**_LINK, "loss": 0.05},
    "loss10": {**_LINK, "loss": 0.1},
    "loss30": {**_LINK, "loss": 0.3},
    "loss50": {**_LINK, "loss": 0.5},
    "loss90": {**_LINK, "loss": 0.9},
    "bursts30": {**_LINK, "loss": 0.3, "loss_burst": 5.0},
    "jitter": {**_LINK, "rate": 10e6, "jitter": 0.1, "keeps_order": False, "loss": 0.1},
    "satellite": {"rate": 10e6, "delay": 0.3, "queue_limit": 600, "loss": 0.02},
}
WARM_UP = 4.0
SECONDS = 12.0
ECHOES = 150
ECHO_INTERVAL = 0.1
FILE_SIZE = 100_000
#: Stolen time of which a run's figures suffer.
WORTH_MENTION = 0.05

Address = tuple[str, int]


class Timing(NamedTuple):
    """
    When a transfer is looked at.

    :ivar warm_up: seconds before its goodput counts. :ivar seconds: in which it counts.
    """

    warm_up: float
    seconds: float


def down(address: Address, timing: Timing) -> list[float]:
    """
    Goodput from the server, Mbit/s.
    """
    return [measure_down(address, warm_up=timing.warm_up, seconds=timing.seconds) / 1e6]


def up(address: Address, timing: Timing) -> list[float]:
    """
    Goodput to the server, Mbit/s.
    """
    return [measure_up(address, warm_up=timing.warm_up, seconds=timing.seconds) / 1e6]


def echo(address: Address, timing: Timing) -> list[float]:
    """
    Median, 95th and 99th percentile of a 64-byte message's way there and back, milliseconds.
    """
    times = measure_echo(address, count=ECHOES, interval=ECHO_INTERVAL)
    return [1e3 * times[int(share * (len(times) - 1))] for share in (0.5, 0.95, 0.99)]


def loaded(address: Address, timing: Timing) -> list[float]:
    """
    The same beside a download.
    """
    with bulk(address, b"D"):
        time.sleep(timing.warm_up)
        return echo(address, timing)


def loaded_up(address: Address, timing: Timing) -> list[float]:
    """
    The same beside an upload.
    """
    with bulk(address, b"U"):
        time.sleep(timing.warm_up)
        return echo(address, timing)


def file(address: Address, timing: Timing) -> list[float]:
    """
    Seconds until the first 100 kB have arrived.
    """
    start = time.monotonic()
    with connect(address, b"D") as connection:
        left = FILE_SIZE
        while left > 0:
            left -= len(connection.recv(min(left, 1 << 16)))
    return [time.monotonic() - start]


MEASURES: dict[str, Callable[[Address, Timing], list[float]]] = {
    "down": down,
    "up": up,
    "echo": echo,
    "loaded": loaded,
    "loaded-up": loaded_up,
    "file": file,
}


def measure(link: str, peer: str, measures: Sequence[str], *, runs: int, timing: Timing) -> None:
    """
    Print a line for each measure of one peer on one link: the median of the runs.
    """
    stolen = StolenTime()
    figures: dict[str, list[list[float]]] = {name: [] for name in measures}
    for _ in range(runs):
        with EmulatedNetwork(**LINKS[link]) as network:
            with network.inside(network.server):
                load = LoadServer("0.0.0.0")
            try:
                with PEERS[peer](network, load.port) as address, network.inside(network.client):
                    for name in measures:
                        figures[name].append(MEASURES[name](address, timing))
            except (MissingProgram, RuntimeError, OSError) as error:
                print(f"{link:10} {peer:16} {error}", flush=True)
                return
    for name, rows in figures.items():
        columns = [sorted(column) for column in zip(*rows, strict=True)]
        text = " / ".join(f"{statistics.median(column):.2f}" for column in columns)
        spread = f"   ({columns[0][0]:.2f} to {columns[0][-1]:.2f})" if runs > 1 else ""
        print(f"{link:10} {peer:16} {name:9} {text}{spread}", flush=True)
    if stolen.share > WORTH_MENTION:
        print(f"{link:10} {peer:16} {stolen}", flush=True)


def main() -> None:
    """
    Measure what was asked for.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.real", description=__doc__)
    parser.add_argument("--links", nargs="+", default=["clean", "loss30"], choices=LINKS)
    parser.add_argument("--peers", nargs="+", default=["resip", "kcptun", "tcp"], choices=PEERS)
    parser.add_argument("--measures", nargs="+", default=["down", "echo"], choices=MEASURES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--warm-up", type=float, default=WARM_UP, help="of transfers, seconds")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="then measured")
    options = parser.parse_args()
    timing = Timing(options.warm_up, options.seconds)
    for link in options.links:
        for peer in options.peers:
            measure(link, peer, options.measures, runs=options.runs, timing=timing)


if __name__ == "__main__":
    main()
