"""
The ends of transfers (docs/protocol.md, section 9): what is in flight once more, when nothing else
is to be sent.

The last packets of a transfer are overtaken by none, so their losses are noticed late, and those
of their repetition again: on a path that loses much, a short transfer is mostly such waiting. What
is sent meanwhile takes nothing from others of the session, and keeps to window and pacing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

from resip.core.modern.flow import Flow
from resip.core.modern.frames import stream_header

#: Loss below which an end is not sent again.
MIN_LOSS = 0.02
#: Share of the packets of an end of which every transmission may be lost; what that asks for is
#: sent, at most so many times beside the first.
RESIDUAL_LOSS = 0.02
MAX_PASSES = 4
#: Time between two transmissions of the same: this share of a round trip, or so many seconds.
SPACING_SHARE = 1 / 4
SPACING = 0.01
#: Times are met even if ``now`` is this much early, as sums of floats round. Seconds.
_ROUNDING = 1e-6


@dataclass(slots=True)
class _Tail:
    """
    How far a stream has got.

    :ivar begun_at: when the last new data left, or the last pass over it began.
    :ivar offset: of what the pass sends next. :ivar passes: those that are over.
    """

    begun_at: float
    offset: int = 0
    passes: int = 0


class Tails:
    """
    The streams that have data in flight which was not copied, and what of it is due again.
    """

    __slots__ = ("_tails",)

    def __init__(self) -> None:
        self._tails: dict[Flow, _Tail] = {}

    def on_sent(self, flow: Flow, *, now: float) -> None:
        """
        Data of a channel left, for the first time or because it was lost.
        """
        self._tails[flow] = _Tail(now)

    def forget(self, flow: Flow) -> None:
        """
        A channel is gone.
        """
        self._tails.pop(flow, None)

    def get_time(self, *, loss: float, rtt: float) -> float | None:
        """
        When something is due, ``None`` when nothing is.

        :param loss: share of the packets that is lost. :param rtt: seconds.
        """
        if loss < MIN_LOSS or not self._tails:
            return None
        passes, spacing = passes_for(loss), _spacing(rtt)
        begun = [tail.begun_at for tail in self._tails.values() if tail.passes < passes]
        return min(begun) + spacing if begun else None

    def take(
        self, count: int, room: int, *, loss: float, rtt: float, now: float
    ) -> tuple[Flow, int, list[bytes]] | None:
        """
        What to send again now: a channel, the offset of the data, and pieces for packets.

        :param count: most pieces. :param room: bytes that a packet has for a frame.
        :param loss: share of the packets that is lost. :param rtt: seconds.
        """
        if loss < MIN_LOSS or not self._tails:
            return None
        passes = passes_for(loss)
        for flow, tail in list(self._tails.items()):
            if not flow.stream.unacked_ranges(1):
                del self._tails[flow]
            elif tail.passes < passes and now + _ROUNDING >= tail.begun_at + _spacing(rtt):
                step = room - stream_header(flow.channel_id)[1].size
                ranges = flow.stream.unacked_ranges(count * step, start=tail.offset)
                if ranges:
                    start, tail.offset = ranges[0]
                    data = flow.stream.read(start, tail.offset)
                    return flow, start, [data[at : at + step] for at in range(0, len(data), step)]
                self._tails[flow] = _Tail(now, passes=tail.passes + 1)
        return None


def passes_for(loss: float) -> int:
    """
    How often the end of a transfer is sent beside the first time.

    :param loss: share of the packets that is lost, 0 to 1.
    """
    if loss < MIN_LOSS:
        return 0
    return min(ceil(log(RESIDUAL_LOSS) / log(min(loss, 0.99))), MAX_PASSES)


def _spacing(rtt: float) -> float:
    return max(SPACING_SHARE * rtt, SPACING)
