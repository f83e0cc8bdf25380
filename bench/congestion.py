"""
``python -m bench.congestion``: the modern dialect's congestion controller on simulated links.

Virtual time and seeded dice, so the figures do not depend on the machine. Each line shows the
mean over the seeds, the worst, the target, and how many seeds meet it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat

from resip.lab.competitors import BbrController, CubicController
from resip.lab.link import LinkConditions
from resip.lab.shared_link import SharedLink

QUICK_SEEDS = 2
FULL_SEEDS = 10
FIRST_SEED = 201
#: The link of most scenarios: 20 Mbit/s, 100 ms round trip, a queue of 0.85 products.
LINK = LinkConditions(rate=20e6, delay=0.05, queue_limit=170, keeps_order=False)
PRODUCT = 200
POLICED = replace(LINK, queue_limit=0)
#: What an omniscient sender needs for 1 MB on :data:`LINK`, one way: 0.4 s and the delay.
MEGABYTE = 800
OMNISCIENT = 0.45


@dataclass(frozen=True)
class Scenario:
    """
    A measurement, and what it should give.

    :ivar low: at least. :ivar high: at most.
    """

    name: str
    unit: str
    measure: Callable[[int], float]
    low: float | None = None
    high: float | None = None
    is_quick: bool = False

    def is_met(self, value: float) -> bool:
        """
        Whether a value is within the target.
        """
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def worst(self, values: Sequence[float]) -> float:
        """
        The value farthest on the wrong side.
        """
        low, high = self.low, self.high
        if low is None:
            return max(values)
        if high is None:
            return min(values)
        # Two-sided targets are ratios: how many times too large, or too small.
        middle = math.sqrt(low * high)
        return max(values, key=lambda value: abs(math.log(max(value, 1e-6) / middle)))


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


def losses() -> Iterator[Scenario]:
    """
    Goal 1.
    """
    for loss in (0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9):
        target = 20 * (1 - loss) * (0.95 if loss < 0.9 else 0.7)
        seconds = 30 if loss < 0.9 else 40
        measure = partial(bulk, replace(LINK, loss=loss), seconds)
        yield Scenario(
            f"bulk, loss {loss:.0%}", "Mbit/s", measure, target, is_quick=loss in (0, 0.3)
        )
    bursty = replace(LINK, loss=0.3, loss_burst=5)
    yield Scenario("bulk, loss 30 % in bursts of 5", "Mbit/s", partial(bulk, bursty, 30), 13.3)


def delays() -> Iterator[Scenario]:
    """
    Goals 2 to 4.
    """
    slow = replace(LINK, rate=10e6, loss=0.1)
    jittery = replace(slow, jitter=0.1)
    yield Scenario(
        "bulk, RTT 100..300 ms, 10 %", "Mbit/s", partial(bulk, jittery, 30), 8.5, is_quick=True
    )
    less = replace(slow, delay=0.025, jitter=0.05)
    yield Scenario("bulk, RTT 50..150 ms, 10 %", "Mbit/s", partial(bulk, less, 30), 8.5)
    far = replace(LINK, rate=10e6, delay=0.3, loss=0.02)
    yield Scenario("bulk, RTT 600 ms, 2 %", "Mbit/s", partial(bulk, far, 60), 9)
    for limit in (170, 1000):
        measure = partial(queue, replace(LINK, queue_limit=limit))
        yield Scenario(f"median queue, {limit} packets", "ms", measure, None, 25)
    for limit in (20, 5):
        measure = partial(bulk, replace(LINK, queue_limit=limit), 30)
        yield Scenario(f"bulk, queue of {limit} packets", "Mbit/s", measure, 18)
    thin = replace(LINK, rate=256e3, delay=0.1, queue_limit=50)
    yield Scenario("bulk, 256 kbit/s, RTT 200 ms", "Mbit/s", partial(bulk, thin, 30), 0.218)
    once = partial(transfer, LINK, MEGABYTE)
    yield Scenario("1 MB, clean", "s", once, None, 1.6 * OMNISCIENT, is_quick=True)
    few = partial(transfer, replace(LINK, loss=0.3), MEGABYTE // 10)
    yield Scenario("100 kB, loss 30 %", "s", few, None, 1.0, is_quick=True)


def sharing() -> Iterator[Scenario]:
    """
    Goal 5.
    """
    for kind in ("cubic", "bbr"):
        for products in (1, 4):
            for ours_first in (True, False):
                order = "first" if ours_first else "second"
                name = f"share, {kind}, {products} BDP, we {order}"
                measure = partial(share, kind, products, ours_first)
                yield Scenario(name, "ratio", measure, 0.4, 2.5)
    yield Scenario("policer, dropped", "%", partial(waste, POLICED, 1), None, 10)
    yield Scenario("policer, bulk", "Mbit/s", partial(bulk, POLICED, 30), 17)
    for loss in (0, 0.3):
        measure = partial(spread, replace(LINK, loss=loss), 2)
        yield Scenario(f"own two flows, loss {loss:.0%}", "ratio", measure, None, 1.67)
    yield Scenario(
        "own two flows, 4 BDP",
        "ratio",
        partial(spread, replace(LINK, queue_limit=800), 2),
        None,
        1.67,
    )
    short = replace(LINK, queue_limit=30)
    yield Scenario("six own flows, queue 30, dropped", "%", partial(waste, short, 6), None, 25)
    yield Scenario("six own flows, queue 30, spread", "ratio", partial(spread, short, 6), None, 3)
    yield Scenario("three own, policer, dropped", "%", partial(waste, POLICED, 3), None, 25)
    yield Scenario("three own, policer, spread", "ratio", partial(spread, POLICED, 3), None, 3)


def recovery() -> Iterator[Scenario]:
    """
    Goal 6.
    """
    slow, far, lossy = replace(LINK, rate=5e6), replace(LINK, delay=0.1), replace(LINK, loss=0.3)
    yield Scenario("20 -> 5 Mbit/s, drained after", "s", drain, None, 3)
    yield Scenario(
        "5 -> 20 Mbit/s, 2 to 5 s later", "Mbit/s", partial(step, slow, LINK, (2, 5)), 17
    )
    yield Scenario("RTT 100 -> 200 ms, 15 s", "Mbit/s", partial(step, LINK, far, (0, 15)), 17)
    yield Scenario(
        "loss 0 -> 30 %, 0 to 2 s later", "Mbit/s", partial(step, LINK, lossy, (0, 2)), 9
    )
    yield Scenario(
        "loss 0 -> 30 %, 2 to 10 s later", "Mbit/s", partial(step, LINK, lossy, (2, 10)), 12.6
    )
    yield Scenario(
        "loss 30 -> 0 %, 1 to 5 s later", "Mbit/s", partial(step, lossy, LINK, (1, 5)), 18
    )
    for loss in (0, 0.3):
        name = f"blackout 3 s, loss {loss:.0%}, back in"
        yield Scenario(name, "s", partial(blackout, 3, loss), None, 1)
        # Later than 4 s into an outage, probes are 2 s apart.
        name = f"blackout 10 s, loss {loss:.0%}, back in"
        yield Scenario(name, "s", partial(blackout, 10, loss), None, 3)
    yield Scenario("CUBIC left, 4 BDP, median queue", "ms", departure, None, 25)


def measure(scenario: Scenario, seed: int) -> float:
    """
    One run; at module level so that other processes can be asked for it.
    """
    return scenario.measure(seed)


def show(scenario: Scenario, values: Sequence[float]) -> bool:
    """
    Print a line.

    :return: whether the mean is within the target.
    """
    mean = statistics.fmean(values)
    met = sum(map(scenario.is_met, values))
    low = "" if scenario.low is None else f">= {scenario.low:.3g}"
    high = "" if scenario.high is None else f"<= {scenario.high:.3g}"
    is_met = scenario.is_met(mean)
    print(
        f"{scenario.name:38} {mean:8.2f} {scenario.worst(values):8.2f} {scenario.unit:7}"
        f" {low} {high}".ljust(84)
        + f" {met:3}/{len(values)} {'' if is_met else 'MISSED'}",
        flush=True,
    )
    return is_met


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure and print the matrix.

    :return: how many targets the means miss.
    """
    parser = argparse.ArgumentParser(description="The congestion controller on simulated links.")
    parser.add_argument("--quick", action="store_true", help="few scenarios and seeds, for CI")
    parser.add_argument("--seeds", type=int, help="runs of each scenario")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    count = options.seeds or (QUICK_SEEDS if options.quick else FULL_SEEDS)
    seeds = range(options.first_seed, options.first_seed + count)
    scenarios = [*losses(), *delays(), *sharing(), *recovery()]
    chosen = [s for s in scenarios if options.only in s.name and (s.is_quick or not options.quick)]
    print(f"{'':38} {'mean':>8} {'worst':>8}")
    missed = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for scenario in chosen:
            missed += not show(scenario, list(pool.map(measure, repeat(scenario), seeds)))
    return missed


if __name__ == "__main__":
    sys.exit(main())
