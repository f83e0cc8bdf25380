"""
The sending side of a modern session: which packets go out now, and what is in them.

The unit of work is a burst: up to some dozens of equal packets with consecutive pieces of one
stream, one record, one call of the cipher. Small things (acknowledgements, credit, channels
that are opened and ended, datagrams) ride in front of a burst's first packet, which is then a
run of its own, or in a packet by themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from resip.core.congestion.rate import RateController
from resip.core.modern.acks import AckState
from resip.core.modern.copies import CopyGroup, CopySchedule, SmallPacket
from resip.core.modern.flow import Flow
from resip.core.modern.flow_control import SendCredit
from resip.core.modern.frames import PING_FRAME, end_frame, stream_frames, stream_header
from resip.core.modern.outbox import Outbox, RepeatedFrame
from resip.core.modern.protection import HEADER_SIZE, TAG_SIZE, Sealer
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.redundancy import MAX_MESSAGE_SIZE, ONE_COPY, CopyBudget, copies_for
from resip.core.modern.sent import Control, SentRun, SentStream
from resip.core.pacer import Pacer

#: Bytes that every packet costs beside its frames.
PACKET_OVERHEAD = HEADER_SIZE + TAG_SIZE
#: docs/protocol.md M-18.
BASE_DATAGRAM_SIZE = 1200
#: Packets handed out in one call: a busy sender must still get round to reading.
BURST = 64
#: Packets of one channel before the next channel's turn.
QUANTUM = 16
#: Bytes that channels which were quiet may send beyond window and pacing, so that a keystroke
#: does not wait for a bulk transfer; paid back by the bulk.
URGENT_EXCESS = 4 * BASE_DATAGRAM_SIZE
#: A piece of a stream shorter than this is not worth the rest of a packet with control frames.
LEAST_PIECE = 64
#: Seconds of the rate that one burst of the pacer holds; a reactor's timer is no finer.
PACING_TICK = 0.002


class Outbound:
    """
    Builds packets from what the flows, the outbox and the acknowledgements have to say.

    :ivar peer_id: the id that the peer chose, which its packets carry.
    :ivar datagram_size: bytes of the largest packet for now.
    :ivar session_credit: what the peer takes of all channels together.
    :ivar pacing_time: when the pacer lets the next burst go, ``None`` when it is not in the way.
    :ivar is_reliable: the carrier paces and repeats.
    :ivar packet_limit: packets handed out in one call.
    """

    def __init__(
        self,
        sealer: Sealer,
        recovery: LossRecovery,
        controller: RateController,
        acks: AckState,
        outbox: Outbox,
        *,
        peer_id: int,
        session_credit: SendCredit,
    ) -> None:
        self._sealer = sealer
        self._recovery = recovery
        self._controller = controller
        self._acks = acks
        self._outbox = outbox
        self._pacer = Pacer(rate=100_000.0, burst=BASE_DATAGRAM_SIZE)
        self._urgent: deque[Flow] = deque()
        self._bulk: deque[Flow] = deque()
        self._plaintexts: list[bytes] = []
        self._probes = 0
        self._ending: dict[Flow, None] = {}
        self._padded: list[tuple[bytes, Control | None]] = []
        self._copy_budget = CopyBudget()
        self._copies = CopySchedule(self._copy_budget)
        self.peer_id = peer_id
        self.datagram_size = BASE_DATAGRAM_SIZE
        self.session_credit = session_credit
        self.pacing_time: float | None = None
        self.is_reliable = False
        self.packet_limit = BURST

    def wants_to_send(self, flow: Flow) -> None:
        """
        A channel has something to send, or may again.
        """
        if not flow.is_queued and flow.has_sendable(self.session_credit.available):
            flow.is_queued = True
            self._urgent.append(flow)
        if flow.stream.end_mark is not None:
            self._ending[flow] = None

    def forget(self, flow: Flow) -> None:
        """
        A channel is gone.
        """
        self._ending.pop(flow, None)
        if flow.is_queued:
            flow.is_queued = False
            for queue in (self._urgent, self._bulk):
                if flow in queue:
                    queue.remove(flow)

    @property
    def copy_time(self) -> float | None:
        """
        When the next copy of a small packet is due.
        """
        return self._copies.next_time

    def probe(self, count: int) -> None:
        """
        Send ``count`` packets whatever window and pacing say, to have them acknowledged.
        """
        self._probes = max(self._probes, count)

    def packets_to_send(self, *, now: float) -> list[bytes]:
        """
        The next packets, sealed, at most about :data:`BURST`.
        """
        self._plaintexts = []
        first = self._recovery.next_number
        self.pacing_time = None
        budget = self._budget(now)
        self._queue_ending()
        if self._acks.due_time is not None and now >= self._acks.due_time:
            self._send_small(now=now, has_ack=True)
        self._send_copies(now=now)
        budget = self._send_probes(budget, now=now)
        budget = self._serve(self._urgent, budget, URGENT_EXCESS, now=now)
        budget = self._serve(self._bulk, budget, 0, now=now)
        self._send_control(budget, now=now)
        self._send_padded(now=now)
        self._note_limits(budget, now=now)
        if not self._plaintexts:
            return []
        return self._sealer.seal(self.peer_id, self._plaintexts, first)

    def _queue_ending(self) -> None:
        # An END that was lost falls due again without telling anybody.
        for flow in list(self._ending):
            mark = flow.stream.end_mark
            if mark is not None and mark.is_acked:
                del self._ending[flow]
            elif flow.end_is_due:
                self.wants_to_send(flow)

    # Window and pacing.

    def _budget(self, now: float) -> int:
        if self._recovery.is_outage:
            return 0
        window = self._controller.congestion_window - self._recovery.in_flight.bytes
        if self.is_reliable:
            return window
        rate = self._controller.pacing_rate
        self._pacer.rate = rate
        self._pacer.burst = max(2.0 * self.datagram_size, rate * PACING_TICK)
        return min(window, self._pacer.available(now=now))

    def _note_limits(self, budget: int, *, now: float) -> None:
        is_idle = not self._bulk and not self._urgent
        if self._is_full and not (is_idle and not self._outbox):
            self.pacing_time = now
            return
        if is_idle:
            if budget > 0:
                in_flight = self._recovery.in_flight.bytes
                self._controller.on_app_limited(bytes_in_flight=in_flight, now=now)
            return
        recovery = self._recovery
        has_window = self._controller.congestion_window > recovery.in_flight.bytes
        if has_window and not recovery.is_outage and not self.is_reliable:
            wanted = min(self._pacer.burst, 8.0 * self.datagram_size)
            self.pacing_time = max(now, self._pacer.ready_at(wanted=wanted))

    # What goes into packets.

    def _send_probes(self, budget: int, *, now: float) -> int:
        if self._probes:
            budget = max(budget, self._probes * self.datagram_size)
            if not self._bulk and not self._urgent and not self._outbox:
                for _ in range(self._probes):
                    if not self._is_full:
                        self._outbox.say_once(PING_FRAME)
                        self._send_small(now=now)
            self._probes = 0
        return budget

    def _send_control(self, budget: int, *, now: float) -> None:
        """
        Control frames that nothing took along: beyond the window, since they are few and others
        wait for them, but in an outage only as probes.
        """
        while self._outbox and not self._is_full:
            if self._recovery.is_outage and budget <= 0:
                return
            spent = self._send_small(now=now)
            if not spent:
                return  # the next frame does not fit into what the path may be sent now
            budget -= spent

    def _send_padded(self, *, now: float) -> None:
        for plaintext, control in self._padded:
            owners = [] if control is None else [control]
            self._record([plaintext], owners=owners, is_probe=True, now=now)
        self._padded.clear()

    @property
    def _is_full(self) -> bool:
        return len(self._plaintexts) >= self.packet_limit

    def _serve(self, queue: deque[Flow], budget: int, excess: int, *, now: float) -> int:
        for _ in range(len(queue)):
            if budget + excess <= 0 or self._is_full:
                break
            flow = queue.popleft()
            budget -= self._send_flow(flow, budget + excess, now=now)
            if flow.has_sendable(self.session_credit.available):
                self._bulk.append(flow)
            else:
                flow.is_queued = False
        if queue is self._bulk and queue and budget > 0 and not self._is_full:
            return self._serve(queue, budget, 0, now=now)
        return budget

    def _send_flow(self, flow: Flow, budget: int, *, now: float) -> int:
        """
        Up to a quantum of one channel's packets; returns the bytes that they take.
        """
        before = len(self._plaintexts)
        spent = 0
        is_small = flow.stream.unsent <= MAX_MESSAGE_SIZE
        has_more = self._outbox or self._acks.is_waiting
        if is_small or has_more or flow.end_is_due or flow.has_datagrams:
            spent += self._send_small(now=now, flow=flow)
        step = self.datagram_size - PACKET_OVERHEAD - stream_header(flow.channel_id)[1].size
        end = min(before + QUANTUM, self.packet_limit)
        while spent < budget and len(self._plaintexts) < end:
            left = end - len(self._plaintexts)
            count = max(1, min(left, (budget - spent) // self.datagram_size))
            offset, pieces = self._cut(flow, count, step)
            if not pieces:
                break
            frames = stream_frames(flow.channel_id, offset, pieces)
            spent += self._record(frames, stream=flow.stream, offset=offset, pieces=pieces, now=now)
        return spent

    def _cut(self, flow: Flow, count: int, step: int) -> tuple[int, list[bytes]]:
        stream = flow.stream
        if stream.has_lost:
            return stream.cut_lost(count, step)
        credit = min(flow.credit.available, self.session_credit.available)
        offset, pieces = stream.cut(count, step, credit=credit)
        flow.credit.use(stream.next_offset - offset)
        self.session_credit.use(stream.next_offset - offset)
        return offset, pieces

    def _send_small(self, *, now: float, flow: Flow | None = None, has_ack: bool = False) -> int:
        """
        One packet of control frames, and of a channel's data as far as there is room.
        """
        room = self.datagram_size - PACKET_OVERHEAD
        frames: list[bytes] = []
        if has_ack or self._acks.is_waiting:
            frames = self._acks.take(now=now)
            while sum(map(len, frames)) > room:
                frames.pop()
            room -= sum(map(len, frames))
        control, owners = self._outbox.take(room)
        room -= sum(map(len, control))
        if flow is None:
            return self._record_small(frames, control, owners, now=now)
        for frame in flow.take_datagrams(
            room,
            largest=self.datagram_size - PACKET_OVERHEAD,
            rtt=self._recovery.rtt.smoothed,
            now=now,
        ):
            control.append(frame)
            room -= len(frame)
        offset, pieces = 0, list[bytes]()
        step = room - stream_header(flow.channel_id)[1].size
        if step >= LEAST_PIECE:
            offset, pieces = self._cut(flow, 1, step)
        if flow.end_is_due and step - sum(map(len, pieces)) >= len(end_frame(0, 0)):
            mark = flow.stream.end_mark
            assert mark is not None, "an end that is due has a mark"
            mark.on_sent()
            control.append(end_frame(flow.channel_id, flow.stream.end_offset))
            owners.append(mark)
        if not pieces:
            return self._record_small(frames, control, owners, now=now)
        data = stream_frames(flow.channel_id, offset, pieces)[0]
        plaintext = b"".join([*control, data])
        self._copy(plaintext, owners, flow, offset, len(pieces[0]), now=now)
        return self._record(
            [b"".join([*frames, plaintext])],
            stream=flow.stream,
            offset=offset,
            pieces=pieces,
            owners=owners,
            now=now,
        )

    def _record_small(
        self, frames: list[bytes], control: list[bytes], owners: list[Control], *, now: float
    ) -> int:
        plaintext = b"".join(control)
        if any(isinstance(owner, RepeatedFrame) for owner in owners):
            self._copy(plaintext, owners, None, 0, 0, now=now)
        whole = b"".join([*frames, plaintext])
        if not whole:
            return 0
        return self._record([whole], owners=owners, asks=bool(control), now=now)

    # Copies.

    def _copy(
        self,
        plaintext: bytes,
        owners: list[Control],
        flow: Flow | None,
        offset: int,
        length: int,
        *,
        now: float,
    ) -> None:
        """
        Plan copies of a small packet where the loss asks for them (M-45).
        """
        loss = self._recovery.loss
        # Who sends little learns little: what is missing of the peer's packets tells, too.
        rate_of_loss = max(loss.rate, self._acks.loss)
        wanted = copies_for(rate_of_loss, mean_run=loss.burst_length)
        rate = self._controller.pacing_rate
        if flow is not None:
            is_thin = flow.thin.is_thin(len(plaintext), rate=rate, now=now)
            flow.thin.on_sent(length, now=now)
            if not is_thin:
                return
        if wanted is ONE_COPY or self.is_reliable or self._recovery.is_outage:
            return
        size = len(plaintext) + PACKET_OVERHEAD
        granted = self._copy_budget.grant(wanted, size, rate=rate, now=now)
        if granted.count > 1:
            group = CopyGroup()
            owners.append(group)
            stream = None if flow is None else flow.stream
            packet = SmallPacket(plaintext, owners, group, stream, offset, length)
            self._copies.add(packet, granted, now=now)

    def _send_copies(self, *, now: float) -> None:
        if self._is_full:
            return
        for packet in self._copies.take_due(overhead=PACKET_OVERHEAD, now=now):
            self._record(
                [packet.plaintext],
                stream=packet.stream,
                offset=packet.offset,
                length=packet.length,
                owners=packet.owners,
                now=now,
            )

    def send_padded(self, control: Control, size: int) -> None:
        """
        Send a path MTU probe of ``size`` bytes with the next packets.
        """
        padding = bytes(size - PACKET_OVERHEAD - len(PING_FRAME))
        self._padded.append((PING_FRAME + padding, control))

    def introduce(self, size: int) -> None:
        """
        Send a packet of ``size`` bytes that asks for an answer with the next packets.
        """
        padding = bytes(size - PACKET_OVERHEAD - len(PING_FRAME))
        self._padded.append((PING_FRAME + padding, None))

    def seal_alone(self, frame: bytes, *, now: float) -> bytes:
        """
        A packet with one frame, for another path or as the last one.
        """
        number = self._recovery.next_number
        self._plaintexts = []
        self._record([frame], is_probe=True, now=now)
        return self._sealer.seal(self.peer_id, [frame], number)[0]

    def _record(
        self,
        frames: list[bytes],
        *,
        stream: SentStream | None = None,
        offset: int = 0,
        pieces: list[bytes] | None = None,
        length: int = 0,
        owners: Sequence[Control] = (),
        asks: bool = True,
        is_probe: bool = False,
        now: float,
    ) -> int:
        if pieces:
            length = (len(pieces) - 1) * len(pieces[0]) + len(pieces[-1])
        first = self._recovery.next_number
        run = SentRun(
            first=first,
            end=first + len(frames),
            time=now,
            size=len(frames[0]) + PACKET_OVERHEAD,
            last_size=len(frames[-1]) + PACKET_OVERHEAD,
            stream=stream,
            offset=offset,
            step=len(pieces[0]) if pieces else length,
            length=length,
            controls=owners,
            asks=asks,
            is_probe=is_probe,
        )
        self._plaintexts += frames
        self._recovery.on_sent(run, now=now)
        if not asks:
            return 0  # acknowledgements are neither paced nor counted
        self._pacer.spend(run.wire_bytes)
        return run.wire_bytes
