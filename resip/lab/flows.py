"""
Flows of packets through simulated links: the whole life of congestion control, without sessions.

A :class:`Flow` is a sender and a receiver. The sender does what the outbound half of a session
does: runs of packets, paced; time-based loss detection; probe timeouts. The receiver answers
with acknowledgements that cross a link of their own. Flows that share a forward
:class:`~resip.lab.link.LinkModel` share its bottleneck.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter

from resip.core.congestion.rate import AckReport, RateController
from resip.core.modern.sent import SentRun
from resip.core.pacer import Pacer
from resip.core.rangeset import RangeSet
from resip.core.rtt import RttEstimator
from resip.lab.link import IPV4_UDP_OVERHEAD, LinkModel
from resip.lab.simulator import Simulator

#: Bytes of a packet on the wire, and of the datagram in it.
WIRE_SIZE = 1250
DATAGRAM_SIZE = WIRE_SIZE - IPV4_UDP_OVERHEAD
#: An acknowledgement packet: header, tag and some ranges.
ACK_SIZE = 64

ACK_EVERY = 2
ACK_DELAY = 0.005
#: Acknowledge at once for this long after a gap, seconds.
QUICK_ACK_TIME = 0.1
MAX_ACK_RANGES = 64
#: Gaps above this share make the receiver repeat its acknowledgements.
REPEAT_LOSS = 0.2
REPEAT_INTERVAL = 0.004
MAX_REPEATS = 8
#: Packets over which the receiver averages the share of gaps.
LOSS_MEMORY = 200

#: The pacer lets a burst go every so many seconds, or a packet when those are rarer.
BURST_INTERVAL = 0.001
MAX_PROBE_INTERVAL = 0.4
MAX_LATE_PROBE_INTERVAL = 2.0
PATIENT_PROBES = 10
#: From this probe timeout on only probes are sent.
OUTAGE_PROBES = 3
#: Lost packets are remembered this many round trips, to notice that they arrive after all.
SPURIOUS_MEMORY = 4

_first = attrgetter("first")

#: Largest number, when it arrived, seconds that it was held back, ranges from the largest down.
Ack = tuple[int, float, float, tuple[tuple[int, int], ...]]


def take_range(runs: list[SentRun], first: int, last: int) -> list[SentRun]:
    """
    Cut the packets from ``first`` to ``last`` out of sorted runs.
    """
    at = bisect_right(runs, first, key=_first) - 1
    if at < 0 or runs[at].end <= first:
        at += 1
    elif runs[at].first < first:
        runs.insert(at + 1, runs[at].split(first))
        at += 1
    stop = at
    while stop < len(runs) and runs[stop].end <= last + 1:
        stop += 1
    if stop < len(runs) and runs[stop].first <= last:
        runs.insert(stop + 1, runs[stop].split(last + 1))
        stop += 1
    taken = runs[at:stop]
    del runs[at:stop]
    return taken


class FlowReceiver:
    """
    Counts what arrives and acknowledges it.

    :ivar delivered: different packets that arrived.
    :ivar chunks: different chunks that arrived, when the flow is a transfer.

    :param send_ack: puts an acknowledgement on the reverse link.
    """

    def __init__(self, simulator: Simulator, send_ack: Callable[[Ack], None]) -> None:
        self.delivered = 0
        self.chunks: set[int] = set()
        self._simulator = simulator
        self._send_ack = send_ack
        self._received = RangeSet()
        self._waiting = 0
        self._quick_until = 0.0
        self._largest_time = 0.0
        self._loss = 0.0
        self._timer_at = math.inf
        self._acks = 0

    def receive(self, number: int, chunk: int | None) -> None:
        """
        A packet arrives.
        """
        received, now = self._received, self._simulator.now
        if number in received:
            return
        largest = received.last
        expected = 0 if largest is None else largest + 1
        if number != expected:
            self._quick_until = now + QUICK_ACK_TIME
        if number >= expected:
            self._largest_time = now
            gap = number - expected
            memory = min(number + 1, LOSS_MEMORY)
            self._loss += (gap / (gap + 1) - self._loss) * min(1.0, (gap + 1) / memory)
        received.add(number)
        if len(received) > 2 * MAX_ACK_RANGES:
            received.drop_lowest(MAX_ACK_RANGES // 2)
        self.delivered += 1
        if chunk is not None:
            self.chunks.add(chunk)
        self._waiting += 1
        if self._waiting >= ACK_EVERY or now < self._quick_until:
            self._acknowledge(self._repeats())
        elif self._timer_at == math.inf:
            self._timer_at = now + ACK_DELAY
            self._simulator.call_at(self._timer_at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer_at = math.inf
        if self._waiting:
            self._acknowledge(self._repeats())

    def _repeats(self) -> int:
        if self._loss < REPEAT_LOSS:
            return 0
        wanted = math.ceil(math.log(0.25) / math.log(min(self._loss, 0.97))) - 1
        return max(0, min(MAX_REPEATS, wanted))

    def _acknowledge(self, repeats: int) -> None:
        self._waiting = 0
        largest = self._received.last
        assert largest is not None
        ranges = tuple(reversed(self._received))[:MAX_ACK_RANGES]
        self._acks += 1
        arrived = self._largest_time
        self._send_ack((largest, arrived, self._simulator.now - arrived, ranges))
        if repeats:
            again = partial(self._repeat, self._acks, repeats)
            self._simulator.call_at(self._simulator.now + REPEAT_INTERVAL, again)

    def _repeat(self, ack: int, repeats: int) -> None:
        if ack == self._acks:  # no newer one was sent meanwhile
            self._acknowledge(repeats - 1)


class Flow:
    """
    A sender, a receiver, and what happened to them.

    :ivar controller: what is being tried out.
    :ivar receiver: the far end.
    :ivar sent: packets sent. :ivar dropped: how many of them the bottleneck dropped.
    :ivar lost: packets declared lost. :ivar spurious: lost ones that arrived after all.
    :ivar finished_at: when the last byte of a transfer arrived; ``None`` before.

    :param total: packets to deliver; ``None`` for an endless transfer.
    :param available: packets that the application has ready; ``None`` for all of them.
    """

    def __init__(
        self,
        simulator: Simulator,
        forward: LinkModel,
        reverse: LinkModel,
        controller: RateController,
        *,
        total: int | None = None,
        available: int | None = None,
    ) -> None:
        self.controller = controller
        self.receiver = FlowReceiver(simulator, self._carry_ack)
        self.sent = self.dropped = self.lost = self.spurious = 0
        self.finished_at: float | None = None
        self.rtt = RttEstimator()
        self._simulator = simulator
        self._forward, self._reverse = forward, reverse
        self._total = total
        self._available = available
        self._resend: deque[int] = deque()
        self._chunk_of: dict[int, int] = {}
        self._next_chunk = 0
        self._packet, self._ack_packet = bytes(DATAGRAM_SIZE), bytes(ACK_SIZE)
        self._pacer = Pacer(rate=controller.pacing_rate, burst=2 * DATAGRAM_SIZE)
        self._runs: list[SentRun] = []
        self._lost_runs: list[SentRun] = []
        self._in_flight = 0
        self._next_number = 0
        self._largest_acked = -1
        self._newest_acked_time = -math.inf
        self._seen_ranges: frozenset[tuple[int, int]] = frozenset()
        self._reordering = 0.0
        self._reordering_aged_at = 0.0
        self._loss_rate = 0.0
        self._wake_at = math.inf
        self._probe_count = 0
        self._probe_at = math.inf
        self._probe_wake_at = math.inf
        self._is_stopped = False

    def start(self) -> None:
        """
        Begin to send.
        """
        self._send()

    def stop(self) -> None:
        """
        Send nothing more.
        """
        self._is_stopped = True

    def offer(self, count: int) -> None:
        """
        The application has ``count`` more packets ready.
        """
        self._available = (self._available or 0) + count
        self._send()

    def _ready(self) -> int:
        """
        Packets that could be sent now, were it for the application alone.
        """
        if self._total is not None:
            return len(self._resend) + self._total - self._next_chunk
        return self._available if self._available is not None else 1 << 30

    def _send(self) -> None:
        if self._is_stopped or self._probe_count >= OUTAGE_PROBES:
            return
        now, pacer, controller = self._simulator.now, self._pacer, self.controller
        pacer.rate = rate = controller.pacing_rate
        pacer.burst = max(2 * DATAGRAM_SIZE, rate * BURST_INTERVAL)
        room = controller.congestion_window - self._in_flight
        paced = pacer.available(now=now) // DATAGRAM_SIZE
        count = min(paced, room // DATAGRAM_SIZE, self._ready())
        if count > 0:
            pacer.spend(count * DATAGRAM_SIZE)
            self._send_run(count)
        if self._ready() == 0:
            if room >= DATAGRAM_SIZE:
                controller.on_app_limited(bytes_in_flight=self._in_flight, now=now)
        elif room >= DATAGRAM_SIZE:
            wanted = max(DATAGRAM_SIZE, rate * BURST_INTERVAL)
            self._wake(max(pacer.ready_at(wanted=wanted), now + 1e-6))

    def _wake(self, when: float) -> None:
        if when < self._wake_at - 1e-9:
            self._wake_at = when
            self._simulator.call_at(when, partial(self._on_wake, when))

    def _on_wake(self, when: float) -> None:
        if when == self._wake_at:
            self._wake_at = math.inf
            self._send()

    def _send_run(self, count: int, chunks: Sequence[int] | None = None) -> None:
        now, first = self._simulator.now, self._next_number
        if self._total is not None:
            self._assign_chunks(first, count, chunks)
        elif self._available is not None and chunks is None:
            self._available -= count
        self._next_number += count
        size = DATAGRAM_SIZE
        run = SentRun(first=first, end=first + count, time=now, size=size, last_size=size)
        self._runs.append(run)
        self._in_flight += run.wire_bytes
        self.sent += count
        self.controller.on_sent(run, bytes_in_flight=self._in_flight, now=now)
        dropped = self._forward.counters.dropped
        receive, call_at = self.receiver.receive, self._simulator.call_at
        for number in range(first, first + count):
            for arrival, _ in self._forward.transmit(self._packet, now=now):
                call_at(arrival, partial(receive, number, self._chunk_of.get(number)))
        self.dropped += self._forward.counters.dropped - dropped
        if self._probe_at == math.inf:
            self._arm_probe()

    def _assign_chunks(self, first: int, count: int, chunks: Sequence[int] | None) -> None:
        for number in range(first, first + count):
            if chunks is not None:
                chunk = chunks[(number - first) % len(chunks)]
            elif self._resend:
                chunk = self._resend.popleft()
            else:
                chunk = self._next_chunk
                self._next_chunk += 1
            self._chunk_of[number] = chunk

    def _carry_ack(self, ack: Ack) -> None:
        now = self._simulator.now
        if self._total is not None and self.finished_at is None:
            self._check_finished(now)
        for arrival, _ in self._reverse.transmit(self._ack_packet, now=now):
            self._simulator.call_at(arrival, partial(self._on_ack, ack))

    def _check_finished(self, now: float) -> None:
        if len(self.receiver.chunks) == self._total:
            self.finished_at = now
            self.stop()

    def _on_ack(self, ack: Ack) -> None:
        largest, arrived, delay, ranges = ack
        new_ranges = [each for each in ranges if each not in self._seen_ranges]
        acked: list[SentRun] = []
        for first, last in reversed(new_ranges):
            late = take_range(self._lost_runs, first, last) if self._lost_runs else []
            acked += late
            self.spurious += sum(run.count for run in late)
            taken = take_range(self._runs, first, last)
            acked += taken
            self._in_flight -= sum(run.wire_bytes for run in taken)
        if not acked:
            return
        self._seen_ranges = frozenset(ranges)
        now = self._simulator.now
        rtt = self._sample_rtt(largest, delay, acked[-1], now)
        self._measure_reordering(acked, now)
        acked.sort(key=_first)
        newest = acked[-1]
        self._largest_acked = max(self._largest_acked, newest.end - 1)
        self._newest_acked_time = max(self._newest_acked_time, newest.time)
        lost = self._detect_losses()
        self._loss_rate += 0.02 * ((1.0 if lost else 0.0) - self._loss_rate)
        self._probe_count = 0
        # One clock for both ends: controllers must not mind a constant.
        transit = None if rtt is None else arrived - newest.time
        report = AckReport(acked, lost, rtt, self._in_flight, transit)
        self.controller.on_ack(report, now=now)
        self._arm_probe()
        self._send()

    def _sample_rtt(self, largest: int, delay: float, newest: SentRun, now: float) -> float | None:
        if newest.end - 1 != largest or largest <= self._largest_acked:
            return None
        self.rtt.update(now - newest.time, now=now, ack_delay=delay)
        return max(now - newest.time - delay, 1e-6)

    def _measure_reordering(self, acked: list[SentRun], now: float) -> None:
        if now - self._reordering_aged_at > 10:
            self._reordering_aged_at = now
            self._reordering *= 0.7
        oldest = min(run.time for run in acked)
        self._reordering = max(self._reordering, self._newest_acked_time - oldest)

    @property
    def reordering_window(self) -> float:
        """
        How much later a packet must have been sent for an older one to count as lost.
        """
        minimum = self.rtt.minimum
        grown = min(1.25 * self._reordering, max(self.rtt.smoothed, 2 * minimum))
        return max(minimum / 8, 0.001, grown)

    def _detect_losses(self) -> list[SentRun]:
        limit = self._newest_acked_time - self.reordering_window
        runs = self._runs
        count = 0
        while count < len(runs) and runs[count].time <= limit:
            count += 1
        lost = runs[:count]
        if lost:
            del runs[:count]
            self._declare_lost(lost)
        return lost

    def _declare_lost(self, lost: list[SentRun]) -> None:
        self._in_flight -= sum(run.wire_bytes for run in lost)
        self.lost += sum(run.count for run in lost)
        for run in lost:
            run.is_lost = True
        if self._total is not None:
            for run in lost:
                self._resend += [self._chunk_of[n] for n in range(run.first, run.end)]
        self._lost_runs = sorted(self._lost_runs + lost, key=_first)
        horizon = self._simulator.now - SPURIOUS_MEMORY * max(self.rtt.smoothed, 0.1)
        while self._lost_runs and self._lost_runs[0].time < horizon:
            del self._lost_runs[0]

    def _arm_probe(self) -> None:
        if not self._runs and not self._probe_count:
            self._probe_at = math.inf
            return
        base = self.rtt.probe_timeout(ACK_DELAY)
        is_late = self._probe_count >= PATIENT_PROBES
        limit = max(MAX_LATE_PROBE_INTERVAL if is_late else MAX_PROBE_INTERVAL, base)
        self._probe_at = self._simulator.now + min(base * 2**self._probe_count, limit)
        if self._probe_at < self._probe_wake_at:
            self._probe_wake_at = self._probe_at
            self._simulator.call_at(self._probe_at, self._on_probe_timer)

    def _on_probe_timer(self) -> None:
        self._probe_wake_at = math.inf
        if self._is_stopped or self._probe_at == math.inf:
            return
        now = self._simulator.now
        if now < self._probe_at:
            self._probe_wake_at = self._probe_at
            self._simulator.call_at(self._probe_at, self._on_probe_timer)
            return
        self._probe_count += 1
        self.controller.on_probe_timeout(count=self._probe_count, now=now)
        self._forget_stale(now)
        self._send_run(self._count_probes(), self._oldest_chunks())
        self._arm_probe()

    def _count_probes(self) -> int:
        if not self.rtt.has_sample:
            return 10
        if self.receiver.delivered < 8:
            return 10
        return max(2, min(16, math.ceil(2 / (1 - min(self._loss_share(), 0.95)))))

    def _loss_share(self) -> float:
        return self.lost / max(1, self._next_number)

    def _oldest_chunks(self) -> Sequence[int]:
        if self._total is None:
            return (0,)
        unacked = [n for run in self._runs for n in range(run.first, run.end)]
        oldest = [*self._resend, *(self._chunk_of[n] for n in unacked)]
        return oldest[:16] or (0,)

    def _forget_stale(self, now: float) -> None:
        limit = now - 2 * (self.rtt.smoothed + 4 * self.rtt.variation)
        stale = [run for run in self._runs if run.time < limit]
        if stale:
            del self._runs[: len(stale)]
            self._declare_lost(stale)
