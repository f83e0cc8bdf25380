"""
Loss recovery of the modern dialect: which packets arrived, which are lost, when to ask.

The frame is that of RFC 9002. Three things differ, because of the networks this is for. There
is no packet threshold, which mistakes jitter for loss; the time threshold learns how far
packets overtake each other (RFC 8985). The probe timeout starts with the *oldest* unanswered
packet, so that an application which keeps sending does not put it off. And the backoff is
capped low, so that the end of an outage is noticed at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from resip.core.congestion.rate import AckReport, RateController
from resip.core.errors import ProtocolError
from resip.core.modern.frames import CLOCK_RANGE
from resip.core.modern.in_flight import InFlight
from resip.core.modern.loss import LossMeter, RecoveryStats, ReorderingWindow
from resip.core.modern.path_memory import Measured
from resip.core.modern.probe_timeout import ProbeTimeout
from resip.core.modern.sent import SentRun
from resip.core.modern.time_threshold import TimeThreshold
from resip.core.rtt import INITIAL_RTT, RttEstimator
from resip.core.trace import NULL_TRACE, Trace

#: docs/protocol.md M-33: the longest a peer holds an acknowledgement back, seconds.
MAX_ACK_DELAY = 0.025

#: Packets that must have been acknowledged before the loss counts as known.
FEW_DELIVERED = 8

#: An answer that took longer, seconds, and more than so many probe timeouts, was held up.
HELD_TIME = 10.0
HELD_TIMEOUTS = 2

#: Deadlines are met even if ``now`` is this much early, as sums of floats round. Seconds.
_ROUNDING = 1e-6


class LossRecovery:
    """
    Follows every packet of one session and direction from sending to its fate.

    Three things change it: packets leave (:meth:`on_sent`), acknowledgements come
    (:meth:`on_ack`) and time passes (:meth:`get_timer`, :meth:`handle_timer`). The owners of
    what was in a packet hear its fate from the run, after that the controller.

    :ivar rtt: the round trip of the path.
    :ivar in_flight: what was sent and not resolved.
    :ivar loss: the measured loss.
    :ivar stats: counts for the status page.
    :ivar next_number: of the next packet (M-8).

    :param initial_rtt: seconds, where the handshake told; else that of RFC 9002.
    :param is_driving: this side finds the way back after an outage, as clients do.
    """

    __slots__ = (
        "_controller",
        "_is_reliable",
        "_path_start",
        "_peer_loss",
        "_settled_below",
        "_threshold",
        "_timeout",
        "_trace",
        "_transit",
        "in_flight",
        "loss",
        "next_number",
        "rtt",
        "stats",
    )

    def __init__(
        self,
        controller: RateController,
        *,
        initial_rtt: float = INITIAL_RTT,
        is_driving: bool = True,
        trace: Trace = NULL_TRACE,
    ) -> None:
        self.rtt = RttEstimator(initial_rtt)
        self.in_flight = InFlight()
        self.loss = LossMeter()
        self.stats = RecoveryStats()
        self.next_number = 0
        self._controller = controller
        self._trace = trace
        self._threshold = TimeThreshold()
        self._is_reliable = False
        # Packets below this number took another network: they tell nothing about this one.
        self._path_start = 0
        # Expired packets below this number were counted as lost, or belong to an outage.
        self._settled_below = 0
        self._timeout = ProbeTimeout(is_driving=is_driving)
        self._peer_loss = 0.0
        self._transit = 0.0

    @property
    def pto_count(self) -> int:
        """
        Probe timeouts in a row without an answer.
        """
        return self._timeout.count

    @property
    def likely_loss(self) -> float:
        """
        The share of lost packets, or of the peer's: who sends little learns little of its own.
        """
        return max(self.loss.rate, self._peer_loss)

    @property
    def is_outage(self) -> bool:
        """
        So many probe timeouts brought no answer that only probes should be sent.
        """
        return self._timeout.count > 0 and self._timeout.is_outage(self.likely_loss)

    @property
    def base_probe_timeout(self) -> float:
        """
        The probe timeout without backoff, seconds: how long an answer takes at most.
        """
        return self.rtt.probe_timeout(MAX_ACK_DELAY)

    @property
    def probe_timeout(self) -> float:
        """
        Seconds that the oldest packet, or the last probe, may remain unanswered (M-35).
        """
        return self._timeout.get_delay(self.base_probe_timeout)

    @property
    def loss_time(self) -> float | None:
        """
        When the oldest packet counts as lost if nothing more arrives; ``None`` when no packet
        sent after it was acknowledged.
        """
        return self._threshold.get_time(self.in_flight.oldest, self.rtt)

    def reordering_window(self, *, now: float) -> float:
        """
        Seconds that packets are expected to overtake each other by (M-34).
        """
        return self._threshold.reordering.get(self.rtt, now=now)

    def on_sent(self, run: SentRun, *, now: float) -> None:
        """
        A run leaves.

        :raises ValueError: when its first number is not :attr:`next_number`: a number used
            twice under one key would break the cipher.
        """
        if run.first != self.next_number or run.end <= run.first:
            raise ValueError(f"run {run.first} to {run.end} does not follow {self.next_number}")
        self.next_number = run.end
        self.stats.packets_sent += run.end - run.first
        if run.asks:
            self.in_flight.add(run)
            self._controller.on_sent(run, bytes_in_flight=self.in_flight.bytes, now=now)

    def on_ack(
        self,
        largest: int,
        delay: float,
        ranges: Sequence[tuple[int, int]],
        *,
        arrived_at: float | None = None,
        now: float,
    ) -> AckReport:
        """
        The peer acknowledged packets. Old and repeated acknowledgements change nothing.

        :param largest: the highest number acknowledged.
        :param delay: seconds that the peer says it held the acknowledgement back.
        :param ranges: (first, last), both included, highest first, not overlapping; the first
            one ends with ``largest``. Their parser sees to the order.
        :param arrived_at: when ``largest`` did by the peer's clock (M-73), seconds.
        :return: what it brought; the controller was told the same if that was anything.
        :raises ProtocolError: for a number that was never sent, or ranges that make no sense
            (M-23). Nothing has changed then.
        """
        self._check(largest, ranges)
        late_lost, late_expired, arrived = self.in_flight.resolve(ranges)
        acked = late_lost + late_expired + arrived
        if not acked:
            return AckReport((), (), None, self.in_flight.bytes)
        if late_lost and late_expired:
            acked.sort(key=lambda run: run.first)
        self._threshold.observe(acked[0], late_lost, self.rtt, path_start=self._path_start, now=now)
        rtt, transit = self._sample_rtt(acked[-1], largest, delay, now=now), None
        if rtt is not None and arrived_at is not None:
            transit = self._get_transit(arrived_at, acked[-1].time)
        self._threshold.on_acked(acked[-1])
        for run in acked:
            run.report_acked()
        self._count_acked(acked)
        lost = self._settle_expired()
        # The peer is there; what was known before it fell silent still holds.
        self._timeout.on_answer()
        lost += self._detect_losses(now=now)
        if acked[0].first < self._path_start:
            acked = [run for run in acked if run.first >= self._path_start]
        report = AckReport(acked, lost, rtt, self.in_flight.bytes, transit)
        if acked or lost:
            self._controller.on_ack(report, now=now)
        if not self.in_flight.packets:
            self.in_flight.shrink_memory()
        return report

    def on_heard(self, *, loss: float) -> None:
        """
        Authentic packets came: the peer is there, whatever became of those sent to it.

        :param loss: the share of the peer's recent packets that is missing, 0 to 1.
        """
        self._peer_loss = loss
        self._timeout.on_heard()

    def get_timer(self) -> float | None:
        """
        When :meth:`handle_timer` has something to do, ``None`` when nothing is awaited.
        """
        if self._is_reliable:
            return None
        loss_time = self.loss_time
        return loss_time if loss_time is not None else self._probe_time()

    def handle_timer(self, *, now: float) -> int:
        """
        Act on the deadline that has passed; too early does nothing.

        :return: how many probes to send now, whatever the window says: the oldest data first,
            again from the front or a PING when there is too little of it (M-36).
        """
        deadline = self.get_timer()
        if deadline is None or now + _ROUNDING < deadline:
            return 0
        if self.loss_time is None:
            return self._on_probe_timeout(now=now)
        lost = self._detect_losses(now=now)
        if lost:
            flying = self.in_flight.bytes
            self._controller.on_losses(lost, bytes_in_flight=flying, now=now)
        return 0

    def probe_now(self, *, now: float) -> int:
        """
        Something changed outside: forget the backoff and ask at once, if anything is awaited.

        :return: how many probes to send, as from :meth:`handle_timer`.
        """
        if self._is_reliable or not (self.in_flight.packets or self.pto_count):
            return 0
        self._timeout.on_answer()
        return self._on_probe_timeout(now=now)

    def on_path_changed(
        self,
        *,
        is_known: bool,
        is_reliable: bool = False,
        initial_rtt: float = INITIAL_RTT,
        measured: Measured | None = None,
        now: float,
    ) -> None:
        """
        Packets take another path from now on. What is in flight counts as gone with the old
        one: its owners send it again at once.

        :param is_known: the network is the same and only the peer's address changed, so that
            what was measured still holds.
        :param is_reliable: the carrier repeats what is lost; no timer runs here.
        :param initial_rtt: seconds, where the validation of a path that is not known told.
        :param measured: what :meth:`remember` gave when the path was in use before.
        """
        self._is_reliable = is_reliable
        self._timeout.on_answer()
        self._expire(self.in_flight.take_expired(sent_by=math.inf), "path_changed", now=now)
        self._settled_below = self.next_number
        if not is_known:
            self.rtt = RttEstimator(initial_rtt)
            self.loss = LossMeter()
            self._threshold.reordering = ReorderingWindow()
            self._path_start = self.next_number
        self._controller.on_path_changed(is_known=is_known, now=now)
        if measured is not None:
            self.rtt, self.loss = measured.rtt, measured.loss
            self._threshold.reordering = measured.reordering
            self._controller.recall(measured.controller, now=now)

    def remember(self) -> Measured:
        """
        What was measured of the path in use, which is about to be left.
        """
        reordering = self._threshold.reordering
        return Measured(self.rtt, self.loss, reordering, self._controller.remember())

    def _check(self, largest: int, ranges: Sequence[tuple[int, int]]) -> None:
        if largest >= self.next_number:
            raise ProtocolError(f"ack of {largest}, but the next number is {self.next_number}")
        if not ranges or ranges[0][1] != largest or ranges[-1][0] < 0:
            raise ProtocolError(f"ack of {largest} with ranges that do not go down from there to 0")

    def _sample_rtt(
        self, newest: SentRun, largest: int, delay: float, *, now: float
    ) -> float | None:
        """
        Source: RFC 9002 section 5.1. Also from a packet that was given up: numbers are not
        reused, and a round trip that grew beyond the timeout could never be learnt otherwise.
        """
        known = max(self._threshold.largest_acked, self._path_start)
        if newest.end - 1 != largest or newest.first < known:
            return None
        sample = now - newest.time
        delay = min(max(delay, 0.0), MAX_ACK_DELAY)
        limit = HELD_TIMEOUTS * self.base_probe_timeout
        if sample > max(limit, HELD_TIME):
            # The peer slept, or had no way to us. A round trip that did become so long is learnt in
            # some steps; after one of hours, timers would last as long.
            self.rtt.update(limit, now=now)
            return None
        self.rtt.update(sample, now=now, ack_delay=delay)
        return max(sample - delay, _ROUNDING)

    def _get_transit(self, arrived_at: float, sent_at: float) -> float:
        # The peer's clock wraps around. Its origin is any, but each transit follows the last.
        self._transit += math.remainder(arrived_at - sent_at - self._transit, CLOCK_RANGE)
        return self._transit

    def _count_acked(self, acked: Sequence[SentRun]) -> None:
        packets = spurious = 0
        for run in acked:
            packets += run.end - run.first
            if run.is_lost and run.first >= self._path_start:
                spurious += run.count
        self.stats.packets_acked += packets
        self.stats.spurious_losses += spurious
        self.loss.count(acked=packets - spurious, late=spurious)

    def _settle_expired(self) -> list[SentRun]:
        """
        The runs that a timeout gave up and a later packet overtook: they are lost now. Nothing else
        would say so of thin traffic, or where much is lost. Those of an outage are no loss.
        """
        if self.in_flight.newest_expired < self._settled_below:
            return []
        if self.is_outage:
            self._settled_below = self.next_number
            return []
        below = self._threshold.largest_acked
        runs = self.in_flight.recent_expired(first=self._settled_below, below=below)
        lost = _mark_lost(runs)
        self.loss.count(lost=[(run.first, run.end) for run in lost])
        self._settled_below = max(self._settled_below, below)
        return lost

    def _detect_losses(self, *, now: float) -> list[SentRun]:
        """
        Give up what was overtaken by an acknowledged packet, and tell its owners.

        :return: the runs, path MTU probes left out.
        """
        oldest, below = self.in_flight.oldest, self._threshold.largest_acked
        if oldest is None or oldest.first > below:
            return []
        sent_by = self._threshold.sent_by(self.rtt, now=now) + _ROUNDING
        lost = self.in_flight.take_lost(below=below, sent_by=sent_by)
        if not lost:
            return lost
        counted = _mark_lost(lost)
        self.stats.packets_lost += sum(run.count for run in counted)
        self.loss.count(lost=[(run.first, run.end) for run in counted])
        self._trace.packets_lost(counted, "time_threshold", now=now)
        for run in lost:
            run.report_lost()
        return [run for run in counted if run.first >= self._path_start]

    def _probe_time(self) -> float | None:
        if self._timeout.is_over:
            return None
        oldest = self.in_flight.oldest_wanted or self.in_flight.oldest
        if oldest is None:
            # Probing goes on until it is answered, even if a probe could not be sent.
            return self._timeout.time + self.probe_timeout if self.pto_count else None
        return max(oldest.time, self._timeout.time) + self.probe_timeout

    def _on_probe_timeout(self, *, now: float) -> int:
        wanted = self.in_flight.oldest_wanted
        if self.in_flight.packets:
            # Copies of what arrived: no use in asking for them.
            below = self.next_number if wanted is None else wanted.first
            unneeded = self.in_flight.take_expired(sent_by=now, below=below)
            self._expire(unneeded, "not_needed", now=now)
            if wanted is None:
                self.in_flight.shrink_memory()
                return 0
        self._timeout.on_timeout(now=now)
        self.stats.pto_count_total += 1
        rtt = self.rtt
        is_new = not rtt.has_sample or self.stats.packets_acked < FEW_DELIVERED
        is_copied = wanted is not None and wanted.group is not None
        probes = self._timeout.count_probes(self.likely_loss, is_new=is_new, is_copied=is_copied)
        sent_by = now - 2 * (rtt.smoothed + 4 * rtt.variation)
        runs = self.in_flight.take_expired(sent_by=sent_by, at_least=probes)
        self._expire(runs, "pto_expired", now=now)
        self._controller.on_probe_timeout(count=self.pto_count, now=now)
        return probes

    def _expire(self, runs: Sequence[SentRun], trigger: str, *, now: float) -> None:
        self.stats.packets_expired += sum(run.count for run in runs)
        self._trace.packets_lost(runs, trigger, now=now)
        for run in runs:
            run.report_lost()


def _mark_lost(runs: Sequence[SentRun]) -> list[SentRun]:
    """
    The runs whose loss says something about the path; they know from now on that they are lost.
    """
    lost = [run for run in runs if not run.is_probe]
    for run in lost:
        run.is_lost = True
    return lost
