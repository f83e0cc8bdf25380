"""
How long small messages take through whole sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from bench.conditions import ECHO, LINK, start_bulk
from bench.matrix import Case, Reading
from resip.lab.applications import EchoClient, EchoServer
from resip.lab.link import LinkConditions
from resip.lab.measurement import percentile
from resip.lab.modern import make_modern_pair

ECHOES = 1000
INTERVAL = 0.1
SIZE = 64
#: The first messages, of so many sessions, before either side knows the loss.
FIRST = 10
SESSIONS = 40
LOSSES = (0.0, 0.1, 0.3, 0.5)
#: From here on there is no promise.
HIGH_LOSS = 0.5
#: Percentiles, and what they should be, ms.
TARGETS = ((50, 105.0), (95, 130.0), (99, 210.0))
BULK_TARGETS = ((50, 125.0), (95, None), (99, None))


def echo(link: LinkConditions, has_bulk: bool, seed: int) -> Sequence[float]:
    """
    Milliseconds, by percentile.
    """
    pair = make_modern_pair(link, seed=seed, keeps_events=False)
    if has_bulk:
        start_bulk(pair, is_up=False)
    EchoServer(ECHO).serve(pair.server)
    count = ECHOES // 4 if has_bulk else ECHOES
    client = EchoClient(ECHO, interval=INTERVAL, size=SIZE, count=count)
    client.start(pair.client)
    pair.run_for(count * INTERVAL + 10)
    return [1e3 * percentile(client.round_trip_times, percent) for percent, _ in TARGETS]


def first_echoes(link: LinkConditions, seed: int) -> Sequence[float]:
    """
    The same of the first messages of some new sessions.
    """
    times: list[float] = []
    for number in range(SESSIONS):
        pair = make_modern_pair(link, seed=100 * seed + number, keeps_events=False)
        EchoServer(ECHO).serve(pair.server)
        client = EchoClient(ECHO, interval=INTERVAL, size=SIZE, count=FIRST)
        client.start(pair.client)
        pair.run_for(FIRST * INTERVAL + 5)
        times += client.round_trip_times
    return [1e3 * percentile(times, percent) for percent, _ in TARGETS]


def cases() -> Iterator[Case]:
    """
    Loss each way, and beside an own download.
    """
    for loss in LOSSES:
        readings = tuple(
            Reading(
                f"loss {loss:.0%}, {percent} % of the echoes",
                "ms",
                high=None if loss >= HIGH_LOSS else high,
                curve=f"{percent} %",
                x=loss,
            )
            for percent, high in TARGETS
        )
        link = replace(LINK, loss=loss)
        yield Case(readings, partial(echo, link, False), is_quick=loss == 0.3)
    readings = tuple(
        Reading(f"loss 30%, {percent} % of a session's first {FIRST} echoes", "ms", high=high)
        for percent, high in TARGETS
    )
    yield Case(readings, partial(first_echoes, replace(LINK, loss=0.3)))
    readings = tuple(
        Reading(f"beside an own download, {percent} % of the echoes", "ms", high=high)
        for percent, high in BULK_TARGETS
    )
    yield Case(readings, partial(echo, LINK, True))
