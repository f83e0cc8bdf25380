"""
``python -m bench.session``: two whole modern sessions on simulated links.

Virtual time and seeded dice, so the figures do not depend on the machine. Goodput counts the
application's bytes after a warm-up; the limit is the link's rate times the share that arrives,
less 4 % for headers at an MTU of 1500.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender, EchoClient, EchoServer
from resip.lab.link import LinkConditions
from resip.lab.measurement import percentile
from resip.lab.pair import SimulatedPair
from tests.support.modern import make_modern_pair

RATE = 20e6
LINK = LinkConditions(rate=RATE, delay=0.05, queue_limit=170, mtu=1500)
HEADERS = 0.04
WARM_UP = 4.0
SECONDS = 20.0
ECHOES = 400
ECHO_INTERVAL = 0.1
#: Messages by which both sides have measured the loss.
LEARNING = 50
BULK = Target(Protocol.TCP, "bulk.example", 1)
ECHO = Target(Protocol.TCP, "echo.example", 2)
#: More than any link here carries in the time.
ENDLESS = 1 << 30


def start_bulk(pair: SimulatedPair, *, is_up: bool) -> BulkReceiver:
    """
    A stream without end, in one direction.
    """
    sender = BulkSender(BULK, size=ENDLESS)
    receiver = BulkReceiver(BULK, size=ENDLESS)
    if is_up:
        receiver.serve(pair.server)
        sender.start(pair.client)
    else:
        sender.serve(pair.server)
        receiver.start(pair.client)
    return receiver


def measure_goodput(link: LinkConditions, *, is_up: bool, seed: int) -> float:
    """
    Bit/s of one stream after the warm-up.
    """
    pair = make_modern_pair(link, seed=seed, keeps_events=False)
    receiver = start_bulk(pair, is_up=is_up)
    start = pair.now + WARM_UP
    pair.run_until(start + SECONDS)
    return receiver.progress.get_goodput(start, start + SECONDS)


def measure_echo(link: LinkConditions, *, has_bulk: bool, seed: int) -> list[float]:
    """
    Sorted round-trip times of 64-byte messages, seconds.
    """
    pair = make_modern_pair(link, seed=seed, keeps_events=False)
    if has_bulk:
        start_bulk(pair, is_up=False)
    server = EchoServer(ECHO)
    server.serve(pair.server)
    client = EchoClient(ECHO, interval=ECHO_INTERVAL, size=64, count=ECHOES)
    client.start(pair.client)
    pair.run_for(ECHOES * ECHO_INTERVAL + 10)
    return sorted(client.round_trip_times[LEARNING:])


def show_goodput(losses: Sequence[float], seeds: Sequence[int]) -> None:
    """
    The table of bulk transfers.
    """
    print("bulk, 20 Mbit/s, 100 ms, loss each way: Mbit/s (mean, worst) up; down; the limit")
    for loss in losses:
        link = replace(LINK, loss=loss)
        cells = []
        for is_up in (True, False):
            values = [measure_goodput(link, is_up=is_up, seed=seed) / 1e6 for seed in seeds]
            cells.append(f"{statistics.mean(values):6.2f} {min(values):6.2f}")
        limit = RATE * (1 - loss) * (1 - HEADERS) / 1e6
        print(f"{loss:5.0%}   {cells[0]}   {cells[1]}   {limit:6.2f}", flush=True)


def show_echo(losses: Sequence[float], seeds: Sequence[int]) -> None:
    """
    The table of small messages.
    """
    print("\n64-byte echo every 100 ms, the first 50 left out: ms (50, 95, 99 %)")
    cases: list[tuple[str, float, bool]] = [(f"{loss:.0%}", loss, False) for loss in losses]
    cases.append(("0% under bulk", 0.0, True))
    for name, loss, has_bulk in cases:
        times = [
            time
            for seed in seeds
            for time in measure_echo(replace(LINK, loss=loss), has_bulk=has_bulk, seed=seed)
        ]
        row = "  ".join(f"{percentile(times, p) * 1e3:7.1f}" for p in (50, 95, 99))
        print(f"{name:14} {row}", flush=True)


def main() -> None:
    """
    Print both tables.
    """
    parser = argparse.ArgumentParser(description="Modern sessions on simulated links.")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each line")
    parser.add_argument("--first-seed", type=int, default=601)
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    tables: tuple[tuple[Callable[..., None], Sequence[float]], ...] = (
        (show_goodput, (0.0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9)),
        (show_echo, (0.0, 0.05, 0.3, 0.5)),
    )
    for show, losses in tables:
        show(losses, seeds)


if __name__ == "__main__":
    main()
