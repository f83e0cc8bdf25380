"""
What outages, changes of address and sleeping readers cost whole sessions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from bench.conditions import LINK, start_bulk, way
from bench.matrix import Case, Reading
from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver
from resip.lab.modern import make_modern_pair

HOURS = 80
#: Seconds between probes after so long (M-35), and what a way takes.
PROBE_INTERVAL = 10.0
SECONDS = 20
CHANNELS = 100
WARM_UP = 5.0


def outage(is_up: bool, is_idle: bool, seed: int) -> Sequence[float]:
    """
    Seconds from the end of an outage to the first new data.

    :param is_idle: nothing is to be sent until the outage has lasted for half its time.
    """
    pair = make_modern_pair(LINK, seed=seed, keeps_events=False)
    receiver = start_bulk(pair, is_up=is_up)
    pair.run_for(5)
    if is_idle:
        receiver.pause()
        pair.run_for(10)
    pair.up.conditions = pair.down.conditions = replace(LINK, is_down=True)
    pair.run_for(HOURS * 1800)
    if is_idle:
        receiver.resume()
    pair.run_for(HOURS * 1800)
    before = receiver.progress.total
    end = pair.now
    pair.up.conditions = pair.down.conditions = LINK
    is_back = pair.run_while(lambda: receiver.progress.total == before, end + 60)
    return [pair.now - end if is_back else math.inf]


def wandering(is_up: bool, seed: int) -> Sequence[float]:
    """
    Share of the goodput that is left when the client's address changes every second, %.
    """
    totals = []
    for changes in (False, True):
        pair = make_modern_pair(LINK, seed=seed, keeps_events=False)
        receiver = start_bulk(pair, is_up=is_up)
        pair.run_for(WARM_UP)
        before = receiver.progress.total
        for _ in range(SECONDS):
            if changes:
                pair.change_address()
            pair.run_for(1)
        totals.append(receiver.progress.total - before)
    return [100 * totals[1] / totals[0]]


def sleeper(seed: int) -> Sequence[float]:
    """
    What 99 downloads get beside one whose reader sleeps, over what they get otherwise, and the
    same for the one that gets least, %.
    """
    totals, least = [], []
    for sleeps in (False, True):
        pair = make_modern_pair(LINK, seed=seed, keeps_events=False)
        receivers: list[BulkReceiver] = []
        for number in range(CHANNELS):
            target = Target(Protocol.TCP, "bulk.example", 1000 + number)
            receivers.append(start_bulk(pair, is_up=False, target=target))
        if sleeps:
            receivers[0].pause()
        pair.run_for(WARM_UP)
        before = [receiver.progress.total for receiver in receivers]
        pair.run_for(SECONDS)
        gains = [r.progress.total - b for r, b in zip(receivers, before, strict=True)]
        totals.append(sum(gains[1:]))
        least.append(min(gains[1:]))
    return [100 * totals[1] / totals[0], 100 * least[1] / least[0]]


def cases() -> Iterator[Case]:
    """
    Both directions where they differ.
    """
    for is_up in (True, False):
        for is_idle in (False, True):
            what = "asked for meanwhile" if is_idle else "under way"
            name = f"{HOURS} h outage, data {what}, {way(is_up)}"
            reading = Reading(name, "s", high=PROBE_INTERVAL + 2 * LINK.delay)
            yield Case((reading,), partial(outage, is_up, is_idle), is_quick=not is_idle)
        name = f"address changes every second, {way(is_up)}"
        yield Case((Reading(name, "%", low=80),), partial(wandering, is_up))
    readings = (
        Reading("one reader of 100 sleeps, the others", "%", low=95),
        Reading("one reader of 100 sleeps, the slowest other", "%", low=90),
    )
    yield Case(readings, sleeper)
