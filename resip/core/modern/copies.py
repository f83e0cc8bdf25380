"""
Copies of small packets that wait for their time (docs/protocol.md, section 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from resip.core.congestion.rate import RateController
from resip.core.modern.flow import Flow
from resip.core.modern.outbox import CreditFrame
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.redundancy import ONE_COPY, Copies, CopyBudget, copies_for
from resip.core.modern.sent import Control, CopyGroup, SentOnce, SentStream


@dataclass(slots=True)
class SmallPacket:
    """
    What a copy needs of its original.
    """

    plaintext: bytes
    owners: Sequence[Control]
    group: CopyGroup
    stream: SentStream | None
    offset: int
    length: int


class CopySchedule:
    """
    Hands out copies when they are due.
    """

    __slots__ = ("_budget", "_count", "_heap")

    def __init__(self, budget: CopyBudget) -> None:
        self._budget = budget
        self._heap: list[tuple[float, int, SmallPacket]] = []
        self._count = 0

    @property
    def next_time(self) -> float | None:
        """
        When the next copy is due.
        """
        return self._heap[0][0] if self._heap else None

    def add(self, packet: SmallPacket, copies: Copies, *, now: float) -> None:
        """
        Schedule all but the first of the copies.
        """
        for k in range(1, copies.count):
            self._count += 1
            heappush(self._heap, (now + k * copies.spacing, self._count, packet))

    def take_due(self, *, overhead: int, limit: int, now: float) -> list[SmallPacket]:
        """
        What to send again now, at most ``limit`` packets; what arrived meanwhile goes back into
        the budget.
        """
        due: list[SmallPacket] = []
        while len(due) < limit and self._heap and self._heap[0][0] <= now:
            packet = heappop(self._heap)[2]
            if packet.group.is_acked:
                self._budget.refund(1, len(packet.plaintext) + overhead)
            else:
                due.append(packet)
        return due


class Copier:
    """
    Decides how often a small packet is sent (M-45), and hands out its copies when they are due.

    :param overhead: bytes of a packet beside its frames.
    """

    __slots__ = ("_budget", "_controller", "_overhead", "_recovery", "_schedule")

    def __init__(
        self, recovery: LossRecovery, controller: RateController, *, overhead: int
    ) -> None:
        self._recovery = recovery
        self._controller = controller
        self._overhead = overhead
        self._budget = CopyBudget()
        self._schedule = CopySchedule(self._budget)

    @property
    def next_time(self) -> float | None:
        """
        When the next copy is due.
        """
        return self._schedule.next_time

    def take_due(self, *, limit: int, now: float) -> list[SmallPacket]:
        """
        What to send again now, at most ``limit`` packets.
        """
        return self._schedule.take_due(overhead=self._overhead, limit=limit, now=now)

    def plan(
        self,
        frames: Sequence[bytes],
        owners: Sequence[Control],
        *,
        flow: Flow | None = None,
        offset: int = 0,
        length: int = 0,
        now: float,
    ) -> CopyGroup | None:
        """
        Plan the copies of a packet that leaves now.

        :param frames: what the copies carry. :param owners: of all frames in the packet.
        :param flow: the channel whose data is in it, ``length`` bytes from ``offset`` on.
        :return: what the packet has in common with its copies, ``None`` when there are none.
        """
        plaintext = b"".join(frames)
        rate = self._controller.pacing_rate
        if flow is not None:
            is_thin = flow.thin.is_thin(len(plaintext), rate=rate, now=now)
            flow.thin.on_sent(length, now=now)
            if not is_thin:
                return None
        loss = self._recovery.loss
        feared = max(loss.feared, self._recovery.likely_loss)
        wanted = copies_for(feared, mean_run=loss.burst_length)
        if wanted is ONE_COPY or self._recovery.is_outage:
            return None
        size = len(plaintext) + self._overhead
        granted = self._budget.grant(wanted, size, rate=rate, now=now)
        if granted.count == 1:
            return None
        inside = [owner for owner in owners if not isinstance(owner, CreditFrame | SentOnce)]
        stream = None if flow is None else flow.stream
        packet = SmallPacket(plaintext, inside, CopyGroup(), stream, offset, length)
        self._schedule.add(packet, granted, now=now)
        return packet.group
