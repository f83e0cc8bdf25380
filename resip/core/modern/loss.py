"""
What a path does to packets, measured: how many it loses, and how far they overtake each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from resip.core.rtt import GRANULARITY, RttEstimator

#: Packets over which the measured loss averages: 2 % off at 30 % loss, and thin traffic of ten
#: packets a second follows a change within half a minute.
LOSS_MEMORY = 256
#: What the estimate starts from: as if so many packets had arrived.
ASSUMED_ARRIVED = 16
#: Chance below which silence counts as a sign that large packets vanish.
UNLIKELY = 1e-4
#: What remains of the counters of burst length after each lost packet.
BURST_DECAY = 0.998
#: Bursts start from so many losses that stood alone: a few in a row at first mean nothing.
ASSUMED_ALONE = 8
#: What a new path is feared to lose, until it is known: as if so many of so many packets had
#: been lost. Without loss it takes 200 packets until that is below half a percent.
FEARED_LOST = 1
FEARED_PACKETS = 2

#: RFC 9002 section 6.1.2: the time threshold is 9/8 of a round trip, so an eighth is its slack.
REORDERING_SHARE = 1 / 8
#: Headroom over the reordering that was seen, as the largest seen is not the largest there is.
#: In simulation, with 100 to 300 ms of jitter, 0.3 % of the packets are then wrongly called lost.
REORDERING_HEADROOM = 1.25
#: The window follows reordering that stops: this much of it remains after each period, seconds.
REORDERING_DECAY = 0.7
REORDERING_PERIOD = 10.0


@dataclass(slots=True)
class RecoveryStats:
    """
    Counts since the session began.

    :ivar packets_sent: of all kinds.
    :ivar packets_acked: for the first time, after a spurious loss too.
    :ivar packets_lost: declared lost because later ones arrived; path MTU probes left out.
    :ivar packets_expired: given up by a probe timeout or with their path; path MTU probes too.
    :ivar spurious_losses: packets among those lost that arrived after all.
    :ivar pto_count_total: probe timeouts.
    """

    packets_sent: int = 0
    packets_acked: int = 0
    packets_lost: int = 0
    packets_expired: int = 0
    spurious_losses: int = 0
    pto_count_total: int = 0


class LossMeter:
    """
    Measures how much is lost, and how much of it in a row, for those who repeat packets ahead.
    """

    __slots__ = ("_burst_lost", "_bursts", "_counted", "_last_lost_end", "_lost", "_total")

    def __init__(self) -> None:
        self._total = float(ASSUMED_ARRIVED)
        self._lost = 0.0
        self._counted = 0
        self._burst_lost = self._bursts = float(ASSUMED_ALONE)
        self._last_lost_end = -1

    @property
    def rate(self) -> float:
        """
        Share of the packets that are lost, 0 to 1, over about the last :data:`LOSS_MEMORY`.
        """
        return self._lost / self._total

    @property
    def feared(self) -> float:
        """
        The same for those who would rather repeat too much: high while little is known.
        """
        return max(self.rate, (self._lost + FEARED_LOST) / (self._counted + FEARED_PACKETS))

    @property
    def burst_length(self) -> float:
        """
        Mean number of consecutive packets that are lost together, at least 1.
        """
        return max(1.0, self._burst_lost / self._bursts)

    def count(self, *, acked: int = 0, late: int = 0, lost: Sequence[tuple[int, int]] = ()) -> None:
        """
        Count the fate of packets.

        :param acked: packets that arrived and had not been counted.
        :param late: packets that arrived, but had been counted as lost.
        :param lost: ranges of packets that are lost, as (first, end), lowest first.
        """
        self._counted += acked
        if not lost and not self._lost:
            self._total = min(self._total + acked, LOSS_MEMORY)
            return
        packets_lost = sum(end - first for first, end in lost)
        self._counted += packets_lost
        kept = math.exp(-(acked + packets_lost) / LOSS_MEMORY)
        self._total = self._total * kept + acked + packets_lost
        self._lost = max(0.0, self._lost * kept + packets_lost - late)
        for first, end in lost:
            self._count_burst(first, end)

    def _count_burst(self, first: int, end: int) -> None:
        kept = BURST_DECAY ** (end - first)
        self._burst_lost = self._burst_lost * kept + end - first
        self._bursts = self._bursts * kept + (first != self._last_lost_end)
        self._last_lost_end = end


class ReorderingWindow:
    """
    How much earlier than an acknowledged packet one must have been sent to be lost
    (docs/protocol.md M-34).

    At least an eighth of the shortest round trip (RFC 9002 section 6.1.2) and 1 ms. Where
    packets overtake each other it grows to what was seen, at most to two round trips. RFC 8985
    section 6.2.4 lets it grow likewise, in steps and to one.
    """

    __slots__ = ("_extent", "_renewed_at")

    def __init__(self) -> None:
        self._extent = 0.0
        self._renewed_at = 0.0

    def observe(self, extent: float, rtt: RttEstimator, *, now: float) -> None:
        """
        A packet arrived after one that was sent ``extent`` seconds later.
        """
        extent = min(extent, self._limit(rtt) / REORDERING_HEADROOM)
        if extent >= self._seen(now):
            self._extent = extent
            self._renewed_at = now

    def get(self, rtt: RttEstimator, *, now: float) -> float:
        """
        The window, seconds.
        """
        window = max(rtt.minimum * REORDERING_SHARE, GRANULARITY)
        if not self._extent:
            return window
        return max(window, min(REORDERING_HEADROOM * self._seen(now), self._limit(rtt)))

    def _seen(self, now: float) -> float:
        if not self._extent:
            return 0.0
        periods = max(0, int((now - self._renewed_at) / REORDERING_PERIOD))
        return float(self._extent * REORDERING_DECAY**periods)

    def _limit(self, rtt: RttEstimator) -> float:
        return max(rtt.smoothed, 2 * rtt.minimum)


def ordinary_timeouts(loss: float) -> int:
    """
    How many probe timeouts in a row a loss explains, when it is that in both directions.
    """
    loss = min(loss, 0.95)
    is_unanswered = 1 - (1 - loss) ** 2
    silence = is_unanswered ** math.ceil(2 / (1 - loss))
    return int(math.log(UNLIKELY) / math.log(silence)) if silence > UNLIKELY else 0
