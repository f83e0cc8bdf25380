"""
What was measured of carriers that were in use before, so that coming back to one is no start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from resip.core.modern.loss import LossMeter, ReorderingWindow
from resip.core.modern.mtu import PathMtuSearch
from resip.core.rtt import RttEstimator
from resip.core.types import Path

#: Carriers that are remembered.
MAX_MEMORIES = 4
#: Seconds for which what was measured is taken to hold.
MEMORY_LIFETIME = 600.0
#: The same for a path that worked when it was left, since something else was said to be faster:
#: who comes back after longer than a trial wants to know how fast it is now.
WORKING_LIFETIME = 10.0


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
    The same, ``None`` when that is too old, and the search for the size of packets.
    """

    measured: Measured | None
    mtu: PathMtuSearch


class PathMemories:
    """
    Keeps one memory for each carrier that is not in use, those left last.
    """

    __slots__ = ("_memories",)

    def __init__(self) -> None:
        self._memories: dict[str, tuple[float, bool, PathMemory]] = {}

    def change(
        self,
        before: Path | None,
        memory: PathMemory,
        path: Path | None,
        *,
        is_working: bool,
        now: float,
    ) -> PathMemory | None:
        """
        Packets take another path.

        :param memory: of the path before. :param is_working: what was sent there is answered.
        :return: what is known of the carrier of ``path``, ``None`` for nothing that still holds
            and for a mere change of address.
        """
        if before is not None and (path is None or before.carrier != path.carrier):
            self._memories.pop(before.carrier, None)
            self._memories[before.carrier] = (now, is_working, memory)
            if len(self._memories) > MAX_MEMORIES:
                del self._memories[next(iter(self._memories))]
        if path is None or path.carrier not in self._memories:
            return None
        left_at, was_working, known = self._memories.pop(path.carrier)
        if was_working and now - left_at > WORKING_LIFETIME:
            known = replace(known, measured=None)
        return known if now - left_at <= MEMORY_LIFETIME else None
