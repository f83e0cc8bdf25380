"""
What was measured of carriers that were in use before, so that coming back to one is no start.
"""

from __future__ import annotations

from dataclasses import dataclass

from resip.core.modern.loss import LossMeter, ReorderingWindow
from resip.core.modern.mtu import PathMtuSearch
from resip.core.rtt import RttEstimator
from resip.core.types import Path

#: Carriers that are remembered.
MAX_MEMORIES = 4
#: Seconds for which what was measured is taken to hold.
MEMORY_LIFETIME = 600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """
    What loss recovery and congestion control have learnt.

    :ivar controller: what :meth:`~resip.core.congestion.rate.RateController.remember` gave.
    """

    rtt: RttEstimator
    loss: LossMeter
    reordering: ReorderingWindow
    controller: object


@dataclass(frozen=True, slots=True)
class PathMemory:
    """
    The same, and the search for the size of packets.
    """

    measured: Measured
    mtu: PathMtuSearch


class PathMemories:
    """
    Keeps one memory for each carrier that is not in use, those left last.
    """

    __slots__ = ("_memories",)

    def __init__(self) -> None:
        self._memories: dict[str, tuple[float, PathMemory]] = {}

    def change(
        self, before: Path | None, memory: PathMemory, path: Path | None, *, now: float
    ) -> PathMemory | None:
        """
        Packets take another path.

        :param memory: of the path before.
        :return: what is known of the carrier of ``path``, ``None`` for nothing that still holds
            and for a mere change of address.
        """
        if before is not None and (path is None or before.carrier != path.carrier):
            self._memories.pop(before.carrier, None)
            self._memories[before.carrier] = (now, memory)
            if len(self._memories) > MAX_MEMORIES:
                del self._memories[next(iter(self._memories))]
        if path is None or path.carrier not in self._memories:
            return None
        left_at, known = self._memories.pop(path.carrier)
        return known if now - left_at <= MEMORY_LIFETIME else None
