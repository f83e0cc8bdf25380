"""
``python -m resip.lab.qlog FILE``: what a trace of ``--qlog`` says, a line for each second.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

HEADINGS = (
    f"{'s':>7} {'sent':>8} {'arrived':>8} {'lost':>6} {'drop':>5} {'pto':>4}"
    f" {'rtt':>7} {'min':>7} {'queue':>7} {'window':>9} {'flight':>9} {'rate':>8} {'loss':>6}"
    "  states"
)
UNITS = (
    f"{'':>7} {'Mbit/s':>8} {'Mbit/s':>8} {'':>6} {'':>5} {'':>4}"
    f" {'ms':>7} {'ms':>7} {'ms':>7} {'bytes':>9} {'bytes':>9} {'Mbit/s':>8} {'':>6}"
)


def read_events(lines: Iterable[str]) -> Iterator[tuple[float, str, Mapping[str, Any]]]:
    """
    Seconds, name and data of each event. A line that was cut off ends the trace.
    """
    for line in lines:
        try:
            record = json.loads(line.strip().lstrip("\x1e"))
        except ValueError:
            return
        if "name" in record:
            yield record["time"] / 1e3, record["name"].partition(":")[2], record["data"]


def summarise(
    events: Iterable[tuple[float, str, Mapping[str, Any]]], interval: float
) -> Iterator[str]:
    """
    A line for each interval in which something happened, and one for each rare event.
    """
    counts: Counter[str] = Counter()
    metrics: dict[str, Any] = {}
    states: dict[str, None] = {}
    end = 0.0
    for time, name, data in events:
        if time >= end and counts:
            yield _line(end - interval, interval, counts, metrics, states)
            counts.clear()
            states = dict.fromkeys(list(states)[-1:])
        end = max(end, (time // interval + 1) * interval)
        counts[name] += data.get("count", 1)
        counts[f"{name} bytes"] += data.get("raw", {}).get("length", 0)
        if name == "metrics_updated":
            metrics |= data
        elif name == "congestion_state_updated":
            states[data["new"]] = None
        elif not name.startswith(("packet_", "loss_timer")):
            yield f"{time:7.2f} {name} {json.dumps(data)}"
    if counts:
        yield _line(end - interval, interval, counts, metrics, states)


def _line(
    start: float,
    interval: float,
    counts: Mapping[str, int],
    metrics: Mapping[str, Any],
    states: Iterable[str],
) -> str:
    sent, arrived = (
        counts.get(f"packet_{way} bytes", 0) * 8 / interval / 1e6 for way in ("sent", "received")
    )
    lost, dropped, timeouts = (
        counts.get(name, 0) for name in ("packet_lost", "packet_dropped", "loss_timer_updated")
    )
    rtt, shortest, queue, window, flight, rate, loss = (
        metrics.get(name, 0)
        for name in (
            "smoothed_rtt",
            "min_rtt",
            "controller_queue_delay",
            "congestion_window",
            "bytes_in_flight",
            "pacing_rate",
            "loss",
        )
    )
    return (
        f"{start:7.2f} {sent:8.3f} {arrived:8.3f} {lost:6} {dropped:5} {timeouts:4}"
        f" {rtt:7.1f} {shortest:7.1f} {queue:7.1f} {window:9} {flight:9} {rate / 1e6:8.3f}"
        f" {loss:6.1%}  {' '.join(states)}"
    )


def main() -> None:
    """
    Print the table.
    """
    parser = argparse.ArgumentParser(description="What a trace says, a line for each second.")
    parser.add_argument("file", type=Path, help="a .sqlog file of --qlog")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds of each line")
    arguments = parser.parse_args()
    print(HEADINGS, UNITS, sep="\n")
    with arguments.file.open() as lines:
        for line in summarise(read_events(lines), arguments.interval):
            print(line)


if __name__ == "__main__":
    main()
