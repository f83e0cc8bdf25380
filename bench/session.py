"""
``python -m bench.session``: two whole modern sessions on simulated links, against their targets.

Virtual time and seeded dice, so the figures do not depend on the machine. Each line shows the
mean over the seeds, the worst, the target, and how many seeds meet it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import goodput, latency, sharing, survival, transfers
from bench.matrix import Table, add_arguments, count_missed, run

SEEDS = 3
FIRST_SEED = 601


def tables() -> dict[str, Table]:
    """
    All of them, by the word on the command line.
    """
    return {
        "goodput": Table(
            "Goodput of one stream, 20 Mbit/s and RTT 100 ms unless said otherwise",
            list(goodput.cases()),
        ),
        "latency": Table(
            "Round trip of 64 bytes, sent every 100 ms, RTT 100 ms", list(latency.cases())
        ),
        "startup": Table(
            "Short transfers, 20 Mbit/s and RTT 100 ms", list(transfers.startup_cases())
        ),
        "sharing": Table("Sharing a bottleneck of 20 Mbit/s, RTT 100 ms", list(sharing.cases())),
        "mtu": Table("Packet sizes found by an upload", list(transfers.mtu_cases())),
        "overhead": Table("Bytes on the wire", list(transfers.overhead_cases())),
        "survival": Table("Outages and other mishaps", list(survival.cases())),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure and print.

    :return: how many targets the means miss.
    """
    parser = argparse.ArgumentParser(description="Modern sessions on simulated links.")
    every = tables()
    parser.add_argument("tables", nargs="*", help=f"any of {', '.join(every)}; default: all")
    add_arguments(parser, seeds=SEEDS, first_seed=FIRST_SEED)
    parser.add_argument(
        "--pictures", type=Path, help="draw goodput and latency into this directory"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.tables) - set(every)
    if unknown:
        parser.error(f"there is no table {' or '.join(sorted(unknown))}")
    chosen = {name: every[name] for name in options.tables or every}
    results = run(chosen, options)
    if options.pictures is not None:
        from bench.pictures import draw  # matplotlib is needed for this only

        draw(results, options.pictures)
    missed = count_missed(results)
    print(f"\n{missed} of {sum(map(len, results.values()))} targets are missed")
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
