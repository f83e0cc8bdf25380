"""
Copies of small packets that wait for their time (docs/protocol.md, section 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from resip.core.modern.redundancy import Copies, CopyBudget
from resip.core.modern.sent import Control, SentStream


class CopyGroup:
    """
    The packets that carry the same; once one arrived the others are not needed. A Control.
    """

    __slots__ = ("is_acked",)

    def __init__(self) -> None:
        self.is_acked = False

    def on_acked(self) -> None:
        """
        One of them arrived.
        """
        self.is_acked = True

    def on_lost(self) -> None:
        """
        One of them is lost; that is what the others are for.
        """


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

    def take_due(self, *, overhead: int, now: float) -> list[SmallPacket]:
        """
        What to send again now; what arrived meanwhile goes back into the budget.
        """
        due: list[SmallPacket] = []
        while self._heap and self._heap[0][0] <= now:
            packet = heappop(self._heap)[2]
            if packet.group.is_acked:
                self._budget.refund(1, len(packet.plaintext) + overhead)
            else:
                due.append(packet)
        return due
