"""
Several flows through one bottleneck, and what is to be read off afterwards.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from random import Random

from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.congestion.rate import RateController
from resip.lab.flows import DATAGRAM_SIZE, WIRE_SIZE, Flow
from resip.lab.link import LinkConditions, LinkModel
from resip.lab.simulator import Simulator

#: Seconds between readings of the queue and of what the flows delivered.
SAMPLE_INTERVAL = 0.02


class SharedLink:
    """
    A forward link that flows share; each has a way back of its own, as lossy, without a queue.

    :ivar simulator: the clock. :ivar forward: the bottleneck. :ivar flows: in order of joining.
    :ivar queue_delays: readings, seconds, one every :data:`SAMPLE_INTERVAL`.

    :param conditions: of the forward link.
    """

    def __init__(self, conditions: LinkConditions, *, seed: int) -> None:
        self.simulator = Simulator()
        self.forward = LinkModel(conditions, seed * 1000)
        self.flows: list[Flow] = []
        self.queue_delays: list[float] = []
        self._seed = seed
        self._reverses: list[LinkModel] = []
        self._deliveries: list[list[int]] = []
        self._started_at = self.simulator.now
        self.simulator.call_at(self._started_at + SAMPLE_INTERVAL, self._read)

    @property
    def elapsed(self) -> float:
        """
        Seconds since the beginning.
        """
        return self.simulator.now - self._started_at

    def new_controller(self) -> ErasureAwareController:
        """
        One of ours, with dice of its own.
        """
        random = Random(self._seed * 1000 + 500 + len(self.flows)).random
        return ErasureAwareController(
            datagram_size=DATAGRAM_SIZE, random=random, now=self.simulator.now
        )

    def add(
        self,
        controller: RateController | None = None,
        *,
        start: float = 0.0,
        total: int | None = None,
        available: int | None = None,
    ) -> Flow:
        """
        Add a flow that starts in ``start`` seconds.

        :param controller: ours when left out. :param total: packets of a transfer.
        :param available: packets that the application has ready; ``None`` for all of them.
        """
        conditions = self._reverse_of(self.forward.conditions)
        reverse = LinkModel(conditions, self._seed * 1000 + 1 + len(self.flows))
        flow = Flow(
            self.simulator,
            self.forward,
            reverse,
            controller or self.new_controller(),
            total=total,
            available=available,
        )
        self.flows.append(flow)
        self._reverses.append(reverse)
        self.simulator.call_at(self.simulator.now + start, flow.start)
        return flow

    def change(self, conditions: LinkConditions) -> None:
        """
        Let the link be another one from now on, in both directions.
        """
        self.forward.conditions = conditions
        for reverse in self._reverses:
            reverse.conditions = self._reverse_of(conditions)

    def run(self, seconds: float) -> None:
        """
        Let so much time pass.
        """
        self.simulator.run_until(self.simulator.now + seconds)

    def goodput(self, flow: int = 0, *, start: float = 0.0, end: float | None = None) -> float:
        """
        Mbit/s that a flow delivered from ``start`` to ``end``, seconds since the beginning.

        Packets count whole, headers included, so that the rate of the link is the limit.
        """
        until = self.elapsed if end is None else end
        packets = self._delivered(flow, until) - self._delivered(flow, start)
        return packets * WIRE_SIZE * 8 / (until - start) / 1e6

    def median_queue_delay(self, *, start: float = 0.0) -> float:
        """
        Seconds.
        """
        return statistics.median(self.queue_delays[int(start / SAMPLE_INTERVAL) :])

    def _delivered(self, flow: int, when: float) -> int:
        readings = self._deliveries[: max(0, round(when / SAMPLE_INTERVAL))]
        return readings[-1][flow] if readings and flow < len(readings[-1]) else 0

    def _read(self) -> None:
        now = self.simulator.now
        self.queue_delays.append(self.forward.get_queue_delay(now=now))
        self._deliveries.append([flow.receiver.delivered for flow in self.flows])
        self.simulator.call_at(now + SAMPLE_INTERVAL, self._read)

    @staticmethod
    def _reverse_of(conditions: LinkConditions) -> LinkConditions:
        return replace(conditions, rate=None)
