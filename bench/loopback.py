"""
``make bench``: what a tunnel over loopback carries, with the sockets' default buffers.

Each figure is the median of several runs; lowest and highest stand beside it.
"""

from __future__ import annotations

import itertools
import statistics
import threading
from collections.abc import Callable

from bench.load import LoadServer, measure_down, measure_echo, measure_up
from bench.tunnel import Tunnel, run_tunnel

RUNS = 3
WARM_UP = 1.0
SECONDS = 4.0
ECHOES = 300
ECHO_INTERVAL = 0.01


def both_ways(
    address: tuple[str, int], *, warm_up: float = WARM_UP, seconds: float = SECONDS
) -> tuple[float, float]:
    """
    Goodput down and up at the same time, bit/s.
    """
    down: list[float] = []
    thread = threading.Thread(
        target=lambda: down.append(measure_down(address, warm_up=warm_up, seconds=seconds))
    )
    thread.start()
    up = measure_up(address, warm_up=warm_up, seconds=seconds)
    thread.join()
    return down[0], up


def show(name: str, unit: str, measure: Callable[[], float]) -> None:
    """
    Measure some times and print one line.
    """
    values = sorted(measure() for _ in range(RUNS))
    print(
        f"{name:34} {statistics.median(values):8.2f} {unit}   "
        f"({values[0]:.2f} to {values[-1]:.2f})",
        flush=True,
    )


def measure_all(tunnel: Tunnel) -> None:
    """
    All figures of one tunnel.
    """
    address = tunnel.address
    show("echo of 64 bytes, median", "ms    ", lambda: echo_median(address))
    show(
        "bulk, server to client",
        "Mbit/s",
        lambda: measure_down(address, warm_up=WARM_UP, seconds=SECONDS) / 1e6,
    )
    show(
        "bulk, client to server",
        "Mbit/s",
        lambda: measure_up(address, warm_up=WARM_UP, seconds=SECONDS) / 1e6,
    )
    show("both at once, the slower", "Mbit/s", lambda: min(both_ways(address)) / 1e6)


def echo_median(address: tuple[str, int]) -> float:
    """
    Median round trip of small messages, milliseconds.
    """
    times = measure_echo(address, count=ECHOES, interval=ECHO_INTERVAL)
    return statistics.median(times) * 1e3


def main() -> None:
    """
    Measure both dialects over both carriers.
    """
    load = LoadServer()
    for dialect, carrier in itertools.product(("modern", "classic"), ("udp", "tcp")):
        print(f"\n{dialect} dialect over {carrier.upper()}")
        is_classic = dialect == "classic"
        with run_tunnel(load.port, "--carrier", carrier, is_classic=is_classic) as tunnel:
            measure_all(tunnel)


if __name__ == "__main__":
    main()
