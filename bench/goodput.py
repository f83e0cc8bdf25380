"""
How much of a link whole sessions fill with one stream, whatever is lost, and whatever they did
before (:mod:`bench.turnarounds`).

Goodput counts the application's bytes after a warm-up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from bench import turnarounds
from bench.conditions import HEADERS, LINK, RATE, start_bulk, way
from bench.matrix import Case, Reading
from resip.lab.link import LinkConditions
from resip.lab.modern import make_modern_pair

LOSSES = (0.0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9)
BURSTY = (0.01, 0.1, 0.3)
BURST = 5.0
WARM_UP = 4.0
SECONDS = 12.0
#: At 90 % everything takes longer.
HIGH_LOSS = 0.9
HIGH_LOSS_WARM_UP = 10.0
HIGH_LOSS_SECONDS = 30.0
#: A round trip of 50 to 150 ms, in which packets overtake each other; and of 100 to 300 ms.
JITTERY = replace(LINK, rate=10e6, delay=0.025, jitter=0.05, loss=0.1)
VERY_JITTERY = replace(JITTERY, delay=0.05, jitter=0.1)
FAR = replace(LINK, rate=10e6, delay=0.3, queue_limit=600, loss=0.02)
#: As far as :data:`LINK`, and as fast as many lines in homes are.
FAST = replace(LINK, rate=100e6, queue_limit=850, loss=0.01)
#: So slow that the first packets fill the queue.
SLOW = replace(LINK, rate=1e6, delay=0.3, queue_limit=50)


def goodput(
    link: LinkConditions, is_up: bool, warm_up: float, seconds: float, seed: int
) -> Sequence[float]:
    """
    Mbit/s of one stream.
    """
    pair = make_modern_pair(link, seed=seed, keeps_events=False)
    receiver = start_bulk(pair, is_up=is_up)
    start = pair.now + warm_up
    pair.run_until(start + seconds)
    return [receiver.progress.get_goodput(start, start + seconds) / 1e6]


def target(loss: float) -> float:
    """
    Mbit/s that should be reached on :data:`LINK`.
    """
    share = 0.7 if loss >= HIGH_LOSS else 0.95
    return share * (1 - loss) * (1 - HEADERS) * RATE / 1e6


def cases() -> Iterator[Case]:
    """
    Loss by chance and in bursts, jitter, a long way; both directions each.
    """
    for is_up in (True, False):
        for loss in LOSSES:
            is_high = loss >= HIGH_LOSS
            times = (HIGH_LOSS_WARM_UP, HIGH_LOSS_SECONDS) if is_high else (WARM_UP, SECONDS)
            name = f"loss {loss:.0%}, {way(is_up)}"
            reading = Reading(name, "Mbit/s", target(loss), curve=way(is_up), x=loss)
            measure = partial(goodput, replace(LINK, loss=loss), is_up, *times)
            yield Case((reading,), measure, is_quick=loss == 0.3)
        for loss in BURSTY:
            name = f"loss {loss:.0%} in bursts of 5, {way(is_up)}"
            curve = f"{way(is_up)}, loss in bursts"
            reading = Reading(name, "Mbit/s", target(loss), curve=curve, x=loss)
            link = replace(LINK, loss=loss, loss_burst=BURST)
            yield Case((reading,), partial(goodput, link, is_up, WARM_UP, SECONDS))
        for name, link, low, times in (
            ("10 Mbit/s, RTT 50 to 150 ms, 10 %", JITTERY, 8.5, (10.0, 30.0)),
            ("10 Mbit/s, RTT 100 to 300 ms, 10 %", VERY_JITTERY, 8.5, (10.0, 30.0)),
            ("10 Mbit/s, RTT 600 ms, 2 %", FAR, 9.0, (10.0, 30.0)),
            ("100 Mbit/s, 1 %", FAST, 85.0, (WARM_UP, SECONDS)),
            ("1 Mbit/s, RTT 600 ms", SLOW, 0.85, (WARM_UP, SECONDS)),
        ):
            reading = Reading(f"{name}, {way(is_up)}", "Mbit/s", low)
            yield Case((reading,), partial(goodput, link, is_up, *times))
    yield from turnarounds.cases(target)
