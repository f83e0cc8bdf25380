"""
The packets that leave in one call, before they are sealed.
"""

from __future__ import annotations

from collections.abc import Sequence

from resip.core.modern.allowance import SendAllowance
from resip.core.modern.pieces import Pieces
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.sent import Control, CopyGroup, SentRun, SentStream


class Burst:
    """
    Collects packets, numbers them, and books them with loss recovery and the allowance.

    :ivar plaintexts: of the packets so far. :ivar runs: what of them asks for an acknowledgement.
    :ivar limit: packets in one call.

    :param overhead: bytes that every packet costs beside its frames.
    """

    __slots__ = ("_allowance", "_overhead", "_recovery", "limit", "plaintexts", "runs")

    def __init__(
        self, recovery: LossRecovery, allowance: SendAllowance, *, overhead: int, limit: int
    ) -> None:
        self._recovery = recovery
        self._allowance = allowance
        self._overhead = overhead
        self.limit = limit
        self.plaintexts: list[bytes] = []
        self.runs: list[SentRun] = []

    def begin(self) -> None:
        """
        Forget the packets of the call before; they are in flight.
        """
        self.plaintexts = []
        self.runs = []

    @property
    def room(self) -> int:
        """
        Packets that may still be added; less than 0 when there are too many.
        """
        return self.limit - len(self.plaintexts)

    @property
    def is_full(self) -> bool:
        """
        Whether no further packet should be added.
        """
        return len(self.plaintexts) >= self.limit

    def add(
        self,
        frames: list[bytes],
        *,
        stream: SentStream | None = None,
        offset: int = 0,
        pieces: Pieces | None = None,
        step: int = 0,
        length: int = 0,
        owners: Sequence[Control] = (),
        group: CopyGroup | None = None,
        asks: bool = True,
        is_probe: bool = False,
        now: float,
    ) -> int:
        """
        Add one run of packets, whether there is room or not.

        :param frames: the plaintext of each; all but the last have the same size.
        :param stream: of which they carry data, from ``offset`` on.
        :param pieces: that data, one piece for each packet; else ``step`` bytes in each packet, and
            ``length`` in all.
        :param owners: hear the run's fate.
        :param group: the copies that it belongs to.
        :param asks: whether the peer acknowledges it.
        :param is_probe: it says nothing about congestion.
        :return: bytes to be taken from the budget.
        """
        if pieces:
            step = len(pieces[0])
            length = (len(pieces) - 1) * step + len(pieces[-1])
        first = self._recovery.next_number
        run = SentRun(
            first=first,
            end=first + len(frames),
            time=now,
            size=len(frames[0]) + self._overhead,
            last_size=len(frames[-1]) + self._overhead,
            stream=stream,
            offset=offset,
            step=step or length,
            length=length,
            controls=owners,
            group=group,
            asks=asks,
            is_probe=is_probe,
        )
        self.plaintexts += frames
        self._recovery.on_sent(run, now=now)
        if not asks:
            return 0  # acknowledgements are neither paced nor counted
        self.runs.append(run)
        self._allowance.spend(run.wire_bytes)
        return run.wire_bytes
