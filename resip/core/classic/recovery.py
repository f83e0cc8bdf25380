"""
Loss recovery of a classic session: which packets are on their way, lost, or to be asked about.

The shape is that of RFC 9002 with two differences that the format forces. A repetition keeps
its number, so an acknowledgement does not say which transmission it is for: as in RACK
(RFC 8985 section 6.2) it is taken for the latest unless that one is too young. And numbers
count per channel, so the order of transmissions is kept here, as serials.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from resip.core.classic.sender import SentPacket
from resip.core.congestion.base import CongestionController
from resip.core.rtt import GRANULARITY, RttEstimator

#: Packets sent when a probe timeout fires: one lost probe should not cost another timeout.
PROBES = 4
#: Probes get fewer once so many timeouts in a row brought nothing: the path is down.
PROBES_DURING_OUTAGE = 2
OUTAGE_TIMEOUTS = 3
#: Timeouts before the time between them doubles: at 30 % loss in each direction half of all
#: probes bring nothing, which says little about congestion.
PATIENT_TIMEOUTS = 3
#: Longest time between probes, for the first hour of an outage and afterwards. Seconds, and
#: no whole ones: see :data:`resip.core.liveness.FIRST_RETRY`.
MAX_PROBE_INTERVAL = 1.7
MAX_LATE_PROBE_INTERVAL = 9.7
LATE_OUTAGE = 3600.0


class Recovery:
    """
    Follows every packet that must be acknowledged.

    :ivar in_flight: packets sent and neither acknowledged nor declared lost, by serial.
    :ivar lost: packets to repeat, oldest first; some may have been acknowledged since.
    :ivar probe_count: probe timeouts in a row without any acknowledgement.
    :ivar retransmissions: how many packets were repeated, ever.
    """

    def __init__(self, congestion: CongestionController, *, ack_delay: float) -> None:
        self.congestion = congestion
        self.rtt = RttEstimator(0.2 + ack_delay)
        self.in_flight: dict[int, SentPacket] = {}
        self.lost: deque[SentPacket] = deque()
        self.probe_count = 0
        self.retransmissions = 0
        self._ack_delay = ack_delay
        self._next_serial = 1
        self._newest_acked = 0
        self._loss_time: float | None = None
        self._probe_base: float | None = None
        self._outage_started: float | None = None

    @property
    def is_probing(self) -> bool:
        """
        Nothing was acknowledged since a timeout, and something waits to be.
        """
        return self.probe_count > 0 and self.next_lost() is not None

    def on_sent(self, packet: SentPacket, *, now: float) -> None:
        """
        A packet goes out, for the first time or again.
        """
        if packet.transmissions:
            self.retransmissions += 1
            self.in_flight.pop(packet.serial, None)
        packet.serial = self._next_serial
        self._next_serial += 1
        packet.sent_time = now
        packet.transmissions += 1
        self.in_flight[packet.serial] = packet
        self._probe_base = now

    def on_acked(self, packets: Iterable[SentPacket], *, is_app_limited: bool, now: float) -> int:
        """
        Packets were acknowledged for the first time.

        :return: how many.
        """
        count = 0
        newest: SentPacket | None = None
        for packet in packets:
            packet.is_acked = True
            count += 1
            self.in_flight.pop(packet.serial, None)
            is_ambiguous = packet.transmissions > 1
            if is_ambiguous and now - packet.sent_time < self.rtt.minimum:
                continue
            if packet.serial > self._newest_acked:
                self._newest_acked = packet.serial
                newest = packet
        if not count:
            return 0
        sample = None
        if newest is not None and newest.transmissions == 1:
            sample = now - newest.sent_time
            self.rtt.update(sample, now=now)
        self.probe_count = 0
        self._outage_started = None
        self._probe_base = now
        self.congestion.on_packets_acked(
            count,
            in_flight=len(self.in_flight),
            rtt=sample,
            is_app_limited=is_app_limited,
            now=now,
        )
        self.detect_losses(now=now)
        return count

    def forget(self, packets: Iterable[SentPacket]) -> None:
        """
        Nobody waits for these packets any more; they are not repeated.
        """
        for packet in packets:
            packet.is_acked = True
            self.in_flight.pop(packet.serial, None)

    def suspend(self, packets: Iterable[SentPacket]) -> None:
        """
        Leave the repetition of these packets to their channel.
        """
        for packet in packets:
            self.in_flight.pop(packet.serial, None)

    def detect_losses(self, *, now: float) -> None:
        """
        Declare lost what was overtaken by an acknowledged packet and had time to arrive.

        Source: RFC 9002 section 6.1.2, the time threshold; the variation makes room for
        reordering. There is no packet threshold, which mistakes jitter for loss.
        """
        rtt = max(self.rtt.smoothed, self.rtt.latest)
        delay = rtt + max(rtt / 8, 2 * self.rtt.variation, GRANULARITY)
        self._loss_time = None
        lost = []
        for serial, packet in self.in_flight.items():
            if serial > self._newest_acked:
                break
            if packet.sent_time + delay > now:
                self._loss_time = packet.sent_time + delay
                break
            lost.append(packet)
        if lost:
            self._declare_lost(lost, now=now)

    def declare_all_lost(self, *, now: float) -> None:
        """
        The path took everything with it.
        """
        self._declare_lost(list(self.in_flight.values()), now=now)
        self._loss_time = None

    def requeue(self, packets: Iterable[SentPacket]) -> None:
        """
        Repeat these packets as soon as possible.
        """
        for packet in packets:
            self.in_flight.pop(packet.serial, None)
            self.lost.append(packet)

    def requeue_first(self, packet: SentPacket) -> None:
        """
        Repeat this packet before all others.
        """
        self.in_flight.pop(packet.serial, None)
        self.lost.appendleft(packet)

    def next_lost(self) -> SentPacket | None:
        """
        The oldest packet to repeat; call again after :meth:`on_sent`.
        """
        while self.lost:
            packet = self.lost[0]
            if not packet.is_acked and packet.serial not in self.in_flight:
                return packet
            self.lost.popleft()
        return None

    def get_timer(self) -> float | None:
        """
        When :meth:`handle_timer` has something to do.
        """
        if self._loss_time is not None:
            return self._loss_time
        if self._probe_base is None or not (self.in_flight or self.is_probing):
            return None
        return self._probe_base + self._probe_interval(self._probe_base)

    def handle_timer(self, *, now: float) -> int:
        """
        Act on the deadline that passed.

        :return: how many of :attr:`lost` are probes, to be sent whatever the window says.
        """
        if self._loss_time is not None:
            if now >= self._loss_time:
                self.detect_losses(now=now)
            return 0
        deadline = self.get_timer()
        if deadline is None or now < deadline:
            return 0
        return self.probe(now=now)

    def probe(self, *, now: float) -> int:
        """
        Put everything up for repetition and say how much of it to send at once, as probes.
        """
        if self._outage_started is None:
            self._outage_started = now
        limit = PROBES if self.probe_count < OUTAGE_TIMEOUTS else PROBES_DURING_OUTAGE
        self.probe_count += 1
        self._probe_base = now
        # Everything counts as lost, but only probes go out until one is answered: a window
        # full of repetitions would be wasted on a path that is down.
        self._requeue_lost(list(self.in_flight.values()))
        self._loss_time = None
        return min(limit, len(self.lost))

    def restart_probing(self, *, now: float) -> None:
        """
        The path may work again: forget how long it did not.
        """
        self.probe_count = 0
        self._outage_started = None
        self._probe_base = now

    def _probe_interval(self, now: float) -> float:
        is_late = self._outage_started is not None and now - self._outage_started > LATE_OUTAGE
        limit = MAX_LATE_PROBE_INTERVAL if is_late else MAX_PROBE_INTERVAL
        base = self.rtt.probe_timeout(self._ack_delay)
        # Beyond the limit a longer timeout would only be sleep, unless the path itself is slower.
        doublings = max(0, self.probe_count - PATIENT_TIMEOUTS)
        return min(base * (1 << min(doublings, 20)), max(limit, base))

    def _declare_lost(self, packets: list[SentPacket], *, now: float) -> None:
        self._requeue_lost(packets)
        self.congestion.on_packets_lost(len(packets), now=now)

    def _requeue_lost(self, packets: list[SentPacket]) -> None:
        # Commands first: while a start is lost, its channel's data is refused.
        for packet in packets:
            del self.in_flight[packet.serial]
            if packet.channel_id:
                self.lost.append(packet)
        self.lost.extendleft(packet for packet in reversed(packets) if not packet.channel_id)
