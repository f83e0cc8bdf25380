"""
Delivery-rate samples: what the path did with the packets of one flight.

After the delivery-rate estimation of BBR (draft-cheng-iccrg-delivery-rate-estimation), with one
addition. Beside the bytes *delivered*, a sample counts the *progress* of packet numbers: below
the capacity of a link, and in its queue, progress is the rate of the link with its erasures
included, and free of their noise. Progress counts only as far as deliveries and the erasure
floor can explain it, so an overflowing queue is not taken for service.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from resip.core.congestion.phases import Phase
from resip.core.modern.sent import SentRun

#: A sample over less than this share of a round trip is mostly the noise of bursts.
MIN_INTERVAL_SHARE = 0.8
#: Standard deviations of the number of erasures that a sample may be short of.
ERASURE_TOLERANCE = 0.5
#: A round holds at least so many deliveries; fewer are noise when 90 % of the packets are lost.
MIN_ROUND_PACKETS = 8
MIN_ROUND_TIME = 0.005
#: Weight of a new interval between acknowledgements in their mean.
SPACING_WEIGHT = 0.1


class Snapshot:
    """
    The state of the path when a run left.

    :ivar phase: in which the run was sent.
    :ivar before: bytes sent earlier. :ivar first: number of the run's first packet, before splits.
    :ivar delivered: bytes delivered by then. :ivar delivered_at: when the last of them were.
    :ivar acked_through: bytes sent up to the largest acknowledged packet, that one included.
    :ivar acked_sent_at: when that packet had been sent.
    :ivar is_app_limited: there had been nothing more to send less than a round trip before.
    """

    __slots__ = (
        "acked_sent_at",
        "acked_through",
        "before",
        "delivered",
        "delivered_at",
        "first",
        "is_app_limited",
        "phase",
    )

    def __init__(self, phase: Phase, first: int, before: int) -> None:
        self.phase = phase
        self.first = first
        self.before = before
        self.delivered = 0
        self.acked_through = 0
        self.delivered_at = 0.0
        self.acked_sent_at = 0.0
        self.is_app_limited = False


class RateSample:
    """
    What one acknowledgement says about the rate of the path.

    :ivar delivered_rate: bytes a second that arrived.
    :ivar served_rate: bytes a second that the bottleneck worked off, erasures included.
    :ivar total: bytes that arrived so far.
    :ivar phase: in which the newest acknowledged packet left. :ivar sent_at: when it left.
    :ivar is_app_limited: the sender could have sent more.
    """

    __slots__ = ("delivered_rate", "is_app_limited", "phase", "sent_at", "served_rate", "total")

    def __init__(
        self,
        *,
        total: int,
        delivered: float,
        served: float,
        phase: Phase,
        sent_at: float,
        is_app_limited: bool,
    ) -> None:
        self.total = total
        self.delivered_rate = delivered
        self.served_rate = served
        self.phase = phase
        self.sent_at = sent_at
        self.is_app_limited = is_app_limited


def served_bytes(progress: float, delivered: float, *, floor: float, packet: int) -> float:
    """
    How much of the progress the bottleneck served, as far as the floor explains the missing.

    :param progress: bytes between two packet numbers. :param delivered: bytes that arrived.
    :param floor: share of the packets that is erased, 0 to below 1. :param packet: bytes.
    """
    tolerance = ERASURE_TOLERANCE * math.sqrt(delivered * packet * floor)
    return min(max(progress, delivered), (delivered + tolerance) / (1 - floor))


class DeliverySampler:
    """
    Takes a snapshot of every run sent and turns acknowledgements into samples.

    :ivar delivered: bytes acknowledged so far.
    :ivar spacing: mean seconds between acknowledgements.
    :ivar acked_number: the largest that was acknowledged, -1 before the first.
    """

    __slots__ = (
        "_acked_sent_at",
        "_acked_through",
        "_delivered_at",
        "_sent",
        "_valid_from",
        "acked_number",
        "delivered",
        "spacing",
    )

    def __init__(self, *, now: float) -> None:
        self.delivered = 0
        self.spacing = 0.0
        self.acked_number = -1
        self._sent = 0
        self._acked_through = 0
        self._acked_sent_at = now
        self._delivered_at = now
        self._valid_from = now

    def restart(self, *, now: float) -> None:
        """
        Packets sent before ``now`` give no samples: there was an outage, or another path.
        """
        self._valid_from = now
        self.spacing = 0.0

    def on_sent(
        self, run: SentRun, phase: Phase, *, is_idle: bool, is_app_limited: bool, now: float
    ) -> None:
        """
        Remember the state of the path in ``run.snapshot``.

        :param is_idle: nothing else is in flight.
        """
        if is_idle:
            self._delivered_at = self._acked_sent_at = now
        snapshot = Snapshot(phase, run.first, self._sent)
        snapshot.delivered = self.delivered
        snapshot.acked_through = self._acked_through
        snapshot.delivered_at = self._delivered_at
        snapshot.acked_sent_at = self._acked_sent_at
        snapshot.is_app_limited = is_app_limited
        run.snapshot = snapshot
        self._sent += run.wire_bytes

    def on_ack(
        self, acked: Sequence[SentRun], *, floor: float, shortest: float, jitter: float, now: float
    ) -> RateSample | None:
        """
        Count deliveries and derive a sample from the newest packet among them.

        :param shortest: shortest plausible round trip, seconds.
        :param jitter: seconds that an acknowledgement may be late without a queue.
        """
        newest = acked[-1]
        snapshot = newest.snapshot
        self.delivered += sum(run.wire_bytes for run in acked)
        self.spacing += SPACING_WEIGHT * (now - self._delivered_at - self.spacing)
        self._delivered_at = now
        if not isinstance(snapshot, Snapshot):
            return None
        before_last = (newest.end - 1 - snapshot.first) * newest.size
        through = snapshot.before + before_last + newest.last_size
        if newest.end - 1 > self.acked_number:
            self.acked_number = newest.end - 1
            self._acked_through = through
            self._acked_sent_at = newest.time
        if newest.time < self._valid_from:
            return None
        interval = max(
            newest.time - snapshot.acked_sent_at, now - snapshot.delivered_at - 0.5 * jitter
        )
        if interval <= 0 or interval < MIN_INTERVAL_SHARE * shortest:
            return None
        delivered = self.delivered - snapshot.delivered
        progress = through - snapshot.acked_through
        served = served_bytes(progress, delivered, floor=floor, packet=newest.size)
        return RateSample(
            total=self.delivered,
            delivered=delivered / interval,
            served=served / interval,
            phase=snapshot.phase,
            sent_at=newest.time,
            is_app_limited=snapshot.is_app_limited,
        )


class RoundMeter:
    """
    Means of the samples over one round trip.

    :ivar served: mean served rate of the last complete round, bytes a second.
    :ivar best: largest of these samples. :ivar delivered: mean of the delivered rate.
    :ivar packets: packets that the round resolved. :ivar lost: how many of those were lost.
    :ivar is_app_limited: the sender could have sent more at some time in the round.
    :ivar count: rounds so far.
    """

    __slots__ = (
        "_acked",
        "_best",
        "_delivered",
        "_end_number",
        "_limited",
        "_lost",
        "_next_number",
        "_samples",
        "_served",
        "_started_at",
        "best",
        "count",
        "delivered",
        "is_app_limited",
        "lost",
        "packets",
        "served",
    )

    def __init__(self, *, now: float) -> None:
        self.served = self.best = self.delivered = 0.0
        self.packets = self.lost = self.count = 0
        self.is_app_limited = False
        self._next_number = 0
        self.restart(end_number=0, now=now)

    def restart(self, *, end_number: int, now: float) -> None:
        """
        Begin a round that ends when ``end_number`` is acknowledged.
        """
        self._end_number = end_number
        self._started_at = now
        self._served = self._best = self._delivered = 0.0
        self._samples = self._acked = self._lost = 0
        self._limited = False

    def add(self, acked: int, lost: int, sample: RateSample | None) -> None:
        """
        An acknowledgement resolved packets.
        """
        self._acked += acked
        self._lost += lost
        if sample is not None:
            self._samples += 1
            self._served += sample.served_rate
            self._best = max(self._best, sample.served_rate)
            self._delivered += sample.delivered_rate
            self._limited = self._limited or sample.is_app_limited

    def end(self, *, largest: int, next_number: int, now: float) -> bool:
        """
        End the round if it is over.

        :param largest: number just acknowledged. :param next_number: that the next packet gets.
        :return: whether it ended; then the readings are new.
        """
        is_over = (
            largest >= self._end_number
            and self._samples > 0
            and self._acked >= MIN_ROUND_PACKETS
            and now - self._started_at >= MIN_ROUND_TIME
        )
        if not is_over:
            return False
        self.count += 1
        self.served = self._served / self._samples
        self.best = self._best
        self.delivered = self._delivered / self._samples
        self.packets, self.lost = self._acked + self._lost, self._lost
        self.is_app_limited = self._limited
        self.restart(end_number=next_number, now=now)
        return True
