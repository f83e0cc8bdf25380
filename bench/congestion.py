"""
``python -m bench.congestion``: the modern dialect's congestion controller on simulated links.

Virtual time and seeded dice, so the figures do not depend on the machine. Each line shows the
mean over the seeds, the worst, the target, and how many seeds meet it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from bench.matrix import Case, Reading, Table, add_arguments, count_missed, run
from resip.lab.competitors import BbrController, CubicController
from resip.lab.link import LinkConditions
from resip.lab.shared_link import SharedLink

SEEDS = 10
FIRST_SEED = 201
#: The link of most scenarios: 20 Mbit/s, 100 ms round trip, a queue of 0.85 products.
LINK = LinkConditions(rate=20e6, delay=0.05, queue_limit=170, keeps_order=False)
PRODUCT = 200
POLICED = replace(LINK, queue_limit=0)
#: What an omniscient sender needs for 1 MB on :data:`LINK`, one way: 0.4 s and the delay.
MEGABYTE = 800
OMNISCIENT = 0.45


def single(measure: Callable[[int], float], seed: int) -> Sequence[float]:
    """
    One value, as a case has it.
    """
    return [measure(seed)]


def scenario(
    name: str,
    unit: str,
    measure: Callable[[int], float],
    low: float | None = None,
    high: float | None = None,
    *,
    is_quick: bool = False,
) -> Case:
    """
    A measurement, and what it should give: at least ``low``, at most ``high``.
    """
    return Case((Reading(name, unit, low, high),), partial(single, measure), is_quick)


def bulk(conditions: LinkConditions, seconds: float, seed: int) -> float:
    """
    Goodput of one flow, Mbit/s.
    """
    link = SharedLink(conditions, seed=seed)
    link.add()
    link.run(seconds)
    return link.goodput()


def queue(conditions: LinkConditions, seed: int) -> float:
    """
    Median queue delay of one flow, ms.
    """
    link = SharedLink(conditions, seed=seed)
    link.add()
    link.run(30)
    return 1e3 * link.median_queue_delay()


def transfer(conditions: LinkConditions, packets: int, seed: int) -> float:
    """
    Seconds until the last byte arrived.
    """
    link = SharedLink(conditions, seed=seed)
    flow = link.add(total=packets)
    start = link.simulator.now
    link.simulator.run_while(lambda: flow.finished_at is None, start + 30)
    return (flow.finished_at or link.simulator.now) - start


def share(kind: str, products: int, ours_first: bool, seed: int) -> float:
    """
    Our goodput over that of a competitor, after both have started.
    """
    link = SharedLink(replace(LINK, queue_limit=products * PRODUCT), seed=seed)
    now = link.simulator.now
    other = CubicController(now=now) if kind == "cubic" else BbrController(now=now)
    link.add(start=0.0 if ours_first else 5.0)
    link.add(other, start=5.0 if ours_first else 0.0)
    link.run(65)
    return link.goodput(0, start=15) / max(0.01, link.goodput(1, start=15))


def spread(conditions: LinkConditions, count: int, seed: int) -> float:
    """
    Largest over smallest goodput of equal flows that start one after the other.
    """
    link = run_equal(conditions, count, seed)
    rates = [link.goodput(flow, start=20) for flow in range(count)]
    return max(rates) / max(0.01, min(rates))


def waste(conditions: LinkConditions, count: int, seed: int) -> float:
    """
    Share of what equal flows send that the bottleneck drops, %.
    """
    link = run_equal(conditions, count, seed)
    return 100 * sum(flow.dropped for flow in link.flows) / sum(flow.sent for flow in link.flows)


def run_equal(conditions: LinkConditions, count: int, seed: int) -> SharedLink:
    """
    Let equal flows run for a minute; the second and later ones start in the first 5 seconds.
    """
    link = SharedLink(conditions, seed=seed)
    for flow in range(count):
        link.add(start=5.0 * flow / count)
    link.run(60)
    return link


def step(
    before: LinkConditions, after: LinkConditions, window: tuple[float, float], seed: int
) -> float:
    """
    Goodput, Mbit/s, in a window of seconds after the link changed at 15 s.
    """
    link = SharedLink(before, seed=seed)
    link.add()
    link.run(15)
    link.change(after)
    link.run(window[1])
    return link.goodput(start=15 + window[0])


def blackout(length: float, loss: float, seed: int) -> float:
    """
    Seconds after a blackout of so many seconds until half of the link is used again.
    """
    conditions = replace(LINK, loss=loss)
    link = SharedLink(conditions, seed=seed)
    link.add()
    link.run(10)
    link.change(replace(conditions, is_down=True))
    link.run(length)
    link.change(conditions)
    for tenth in range(1, 100):
        link.run(0.1)
        if link.goodput(start=10 + length + (tenth - 1) / 10) > 10 * (1 - loss):
            return tenth / 10
    return 10.0


def drain(seed: int) -> float:
    """
    Seconds after a fall from 20 to 5 Mbit/s until the queue is below 25 ms.
    """
    link = SharedLink(LINK, seed=seed)
    link.add()
    link.run(15)
    link.change(replace(LINK, rate=5e6))
    for tick in range(1, 500):
        link.run(0.02)
        if tick > 10 and link.queue_delays[-1] < 0.025:
            return tick / 50
    return 10.0


def departure(seed: int) -> float:
    """
    Median queue delay, ms, from 10 s after a CUBIC competitor has left on.
    """
    link = SharedLink(replace(LINK, queue_limit=4 * PRODUCT), seed=seed)
    link.add()
    other = link.add(CubicController(now=link.simulator.now))
    link.run(30)
    other.stop()
    link.run(30)
    return 1e3 * link.median_queue_delay(start=40)


def losses() -> Iterator[Case]:
    """
    Goal 1.
    """
    for loss in (0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9):
        target = 20 * (1 - loss) * (0.95 if loss < 0.9 else 0.7)
        seconds = 30 if loss < 0.9 else 40
        measure = partial(bulk, replace(LINK, loss=loss), seconds)
        yield scenario(
            f"bulk, loss {loss:.0%}", "Mbit/s", measure, target, is_quick=loss in (0, 0.3)
        )
    bursty = replace(LINK, loss=0.3, loss_burst=5)
    yield scenario("bulk, loss 30 % in bursts of 5", "Mbit/s", partial(bulk, bursty, 30), 13.3)


def delays() -> Iterator[Case]:
    """
    Goals 2 to 4.
    """
    slow = replace(LINK, rate=10e6, loss=0.1)
    jittery = replace(slow, jitter=0.1)
    yield scenario(
        "bulk, RTT 100..300 ms, 10 %", "Mbit/s", partial(bulk, jittery, 30), 8.5, is_quick=True
    )
    less = replace(slow, delay=0.025, jitter=0.05)
    yield scenario("bulk, RTT 50..150 ms, 10 %", "Mbit/s", partial(bulk, less, 30), 8.5)
    far = replace(LINK, rate=10e6, delay=0.3, loss=0.02)
    yield scenario("bulk, RTT 600 ms, 2 %", "Mbit/s", partial(bulk, far, 60), 9)
    for limit in (170, 1000):
        measure = partial(queue, replace(LINK, queue_limit=limit))
        yield scenario(f"median queue, {limit} packets", "ms", measure, None, 25)
    for limit in (20, 5):
        measure = partial(bulk, replace(LINK, queue_limit=limit), 30)
        yield scenario(f"bulk, queue of {limit} packets", "Mbit/s", measure, 18)
    thin = replace(LINK, rate=256e3, delay=0.1, queue_limit=50)
    yield scenario("bulk, 256 kbit/s, RTT 200 ms", "Mbit/s", partial(bulk, thin, 30), 0.218)
    once = partial(transfer, LINK, MEGABYTE)
    yield scenario("1 MB, clean", "s", once, None, 1.6 * OMNISCIENT, is_quick=True)
    few = partial(transfer, replace(LINK, loss=0.3), MEGABYTE // 10)
    yield scenario("100 kB, loss 30 %", "s", few, None, 1.0, is_quick=True)


def sharing() -> Iterator[Case]:
    """
    Goal 5.
    """
    for kind in ("cubic", "bbr"):
        for products in (1, 4):
            for ours_first in (True, False):
                order = "first" if ours_first else "second"
                name = f"share, {kind}, {products} BDP, we {order}"
                measure = partial(share, kind, products, ours_first)
                yield scenario(name, "ratio", measure, 0.4, 2.5)
    yield scenario("policer, dropped", "%", partial(waste, POLICED, 1), None, 10)
    yield scenario("policer, bulk", "Mbit/s", partial(bulk, POLICED, 30), 17)
    for loss in (0, 0.3):
        measure = partial(spread, replace(LINK, loss=loss), 2)
        yield scenario(f"own two flows, loss {loss:.0%}", "ratio", measure, None, 1.67)
    yield scenario(
        "own two flows, 4 BDP",
        "ratio",
        partial(spread, replace(LINK, queue_limit=800), 2),
        None,
        1.67,
    )
    short = replace(LINK, queue_limit=30)
    yield scenario("six own flows, queue 30, dropped", "%", partial(waste, short, 6), None, 25)
    yield scenario("six own flows, queue 30, spread", "ratio", partial(spread, short, 6), None, 3)
    yield scenario("three own, policer, dropped", "%", partial(waste, POLICED, 3), None, 25)
    yield scenario("three own, policer, spread", "ratio", partial(spread, POLICED, 3), None, 3)


def recovery() -> Iterator[Case]:
    """
    Goal 6.
    """
    slow, far, lossy = replace(LINK, rate=5e6), replace(LINK, delay=0.1), replace(LINK, loss=0.3)
    yield scenario("20 -> 5 Mbit/s, drained after", "s", drain, None, 3)
    yield scenario(
        "5 -> 20 Mbit/s, 2 to 5 s later", "Mbit/s", partial(step, slow, LINK, (2, 5)), 17
    )
    yield scenario("RTT 100 -> 200 ms, 15 s", "Mbit/s", partial(step, LINK, far, (0, 15)), 17)
    yield scenario(
        "loss 0 -> 30 %, 0 to 2 s later", "Mbit/s", partial(step, LINK, lossy, (0, 2)), 9
    )
    yield scenario(
        "loss 0 -> 30 %, 2 to 10 s later", "Mbit/s", partial(step, LINK, lossy, (2, 10)), 12.6
    )
    yield scenario(
        "loss 30 -> 0 %, 1 to 5 s later", "Mbit/s", partial(step, lossy, LINK, (1, 5)), 18
    )
    for loss in (0, 0.3):
        name = f"blackout 3 s, loss {loss:.0%}, back in"
        yield scenario(name, "s", partial(blackout, 3, loss), None, 1)
        # Later than 4 s into an outage, probes are 2 s apart.
        name = f"blackout 10 s, loss {loss:.0%}, back in"
        yield scenario(name, "s", partial(blackout, 10, loss), None, 3)
    yield scenario("CUBIC left, 4 BDP, median queue", "ms", departure, None, 25)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure and print the matrix.

    :return: 1 when means miss their targets, else 0.
    """
    parser = argparse.ArgumentParser(description="The congestion controller on simulated links.")
    add_arguments(parser, seeds=SEEDS, first_seed=FIRST_SEED)
    cases = [*losses(), *delays(), *sharing(), *recovery()]
    table = Table(
        "The congestion controller, 20 Mbit/s and RTT 100 ms unless said otherwise", cases
    )
    return min(count_missed(run({"": table}, parser.parse_args(arguments))), 1)


if __name__ == "__main__":
    sys.exit(main())
