"""
Whole sessions that share a bottleneck: with CUBIC and BBR, with each other, behind a policer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from bench.conditions import HEADERS, LINK, RATE, start_bulk
from bench.matrix import Case, Reading
from resip.lab.applications import BulkReceiver
from resip.lab.competitors import BbrController, CubicController
from resip.lab.flows import WIRE_SIZE, Flow
from resip.lab.link import LinkConditions, LinkModel
from resip.lab.modern import make_modern_pair
from resip.lab.simulator import Simulator

#: Packets of a product of rate and round trip.
PRODUCT = 167
POLICED = replace(LINK, queue_limit=0)
SHORT_QUEUE = replace(LINK, queue_limit=30)
#: The second starts later, and what counts comes later still.
HEAD_START = 5.0
SETTLED = 15.0
END = 45.0
EQUAL_SETTLED = 20.0
EQUAL_END = 45.0
#: No competitor may be called starved by a goodput of 0.
LEAST = 0.01


class Bottleneck:
    """
    A link up that several uploads share. Each has a way back of its own.

    :ivar model: the link. :ivar receivers: one for each session.
    """

    def __init__(self, conditions: LinkConditions, *, seed: int) -> None:
        self.simulator = Simulator()
        self.model = LinkModel(conditions, seed * 1000)
        self.receivers: list[BulkReceiver] = []
        self._seed = seed
        self._start = self.simulator.now

    def add_session(self, start: float) -> None:
        """
        Add a session that uploads from ``start`` on, seconds from now.
        """
        self.simulator.call_at(self._start + start, self._begin)

    def add_flow(self, kind: str, start: float) -> Flow:
        """
        Add a competitor, which is no session.
        """
        now = self._start + start
        controller = CubicController(now=now) if kind == "cubic" else BbrController(now=now)
        back = LinkModel(replace(self.model.conditions, rate=None), self._seed * 1000 + 999)
        flow = Flow(self.simulator, self.model, back, controller)
        self.simulator.call_at(now, flow.start)
        return flow

    def run_to(self, seconds: float) -> None:
        """
        Let time pass until so many seconds after the beginning.
        """
        self.simulator.run_until(self._start + seconds)

    def goodput(self, number: int, start: float, end: float) -> float:
        """
        Mbit/s on the wire of a session's data.
        """
        progress = self.receivers[number].progress
        data = progress.get_goodput(self._start + start, self._start + end)
        return data / (1 - HEADERS) / 1e6

    def _begin(self) -> None:
        pair = make_modern_pair(
            self.model,
            down=replace(self.model.conditions, rate=None),
            simulator=self.simulator,
            seed=self._seed * 1000 + 10 * len(self.receivers),
            keeps_events=False,
        )
        self.receivers.append(start_bulk(pair, is_up=True))
        pair.flush()


def share(kind: str, queue: int, ours_first: bool, seed: int) -> Sequence[float]:
    """
    Our goodput over that of a competitor.
    """
    link = Bottleneck(replace(LINK, queue_limit=queue), seed=seed)
    link.add_session(0.0 if ours_first else HEAD_START)
    other = link.add_flow(kind, HEAD_START if ours_first else 0.0)
    link.run_to(SETTLED)
    before = other.receiver.delivered
    link.run_to(END)
    packets = other.receiver.delivered - before
    theirs = packets * WIRE_SIZE * 8 / (END - SETTLED) / 1e6
    return [link.goodput(0, SETTLED, END) / max(LEAST, theirs)]


def equals(conditions: LinkConditions, count: int, seed: int) -> Sequence[float]:
    """
    Largest over smallest goodput of equal sessions, the share of what they send that the
    bottleneck drops, and how much of it they use together, both in %.
    """
    link = Bottleneck(conditions, seed=seed)
    for number in range(count):
        link.add_session(HEAD_START * number / count)
    link.run_to(EQUAL_SETTLED)
    sent, dropped = link.model.counters.sent, link.model.counters.dropped
    link.run_to(EQUAL_END)
    rates = [link.goodput(number, EQUAL_SETTLED, EQUAL_END) for number in range(count)]
    dropped, sent = link.model.counters.dropped - dropped, link.model.counters.sent - sent
    used = 100 * sum(rates) * 1e6 / RATE
    return [max(rates) / max(LEAST, min(rates)), 100 * dropped / sent, used]


def _equal_case(name: str, link: LinkConditions, count: int, spread: float, drop: float) -> Case:
    readings = (
        Reading(f"{name}, spread", "ratio", high=spread if count > 1 else None),
        Reading(f"{name}, dropped", "%", high=drop),
        Reading(f"{name}, used", "%"),
    )
    return Case(readings, partial(equals, link, count), is_quick="policer, one" in name)


def cases() -> Iterator[Case]:
    """
    Competitors, then our own kind.
    """
    for kind in ("cubic", "bbr"):
        for queue, word in ((PRODUCT, "1 BDP"), (4 * PRODUCT, "4 BDP")):
            for ours_first in (True, False):
                order = "we first" if ours_first else "we second"
                reading = Reading(f"{kind.upper()}, {word}, {order}", "ratio", 0.4, 2.5)
                yield Case((reading,), partial(share, kind, queue, ours_first))
    yield _equal_case("policer, one session", POLICED, 1, 1.0, 10.0)
    yield _equal_case("policer, three sessions", POLICED, 3, 3.0, 25.0)
    yield _equal_case("two sessions", LINK, 2, 1.67, 25.0)
    yield _equal_case("two sessions, loss 30 %", replace(LINK, loss=0.3), 2, 1.67, 25.0)
    yield _equal_case("six sessions, queue of 30", SHORT_QUEUE, 6, 3.0, 25.0)
