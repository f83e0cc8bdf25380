"""
The sending side of a modern session: which packets go out now, and what is in them.

The unit of work is a burst: up to some dozens of equal packets with consecutive pieces of one
stream, one record, one call of the cipher. Small things (acknowledgements, credit, channels
that are opened and ended, datagrams) ride in front of a burst's first packet, which is then a
run of its own, or in a packet by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from math import ceil

from resip.core.congestion.rate import RateController
from resip.core.modern.acks import AckState
from resip.core.modern.allowance import SendAllowance
from resip.core.modern.burst import Burst
from resip.core.modern.copies import Copier
from resip.core.modern.flow import Flow
from resip.core.modern.flow_control import SendCredit
from resip.core.modern.frames import PING_FRAME, stream_frames, stream_header
from resip.core.modern.outbox import Outbox
from resip.core.modern.parking import release_room
from resip.core.modern.protection import Sealer
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.redundancy import MAX_MESSAGE_SIZE
from resip.core.modern.sent import Control
from resip.core.modern.small_packets import SmallPackets
from resip.core.modern.tails import Tails
from resip.core.trains import HEADER_SIZE, TAG_SIZE

#: Bytes that every packet costs beside its frames.
PACKET_OVERHEAD = HEADER_SIZE + TAG_SIZE
#: docs/protocol.md M-18.
BASE_DATAGRAM_SIZE = 1200
#: Packets handed out in one call: a busy sender must still get round to reading. With half as many
#: each packet costs a fifth more.
BURST = 192
#: Packets of one channel before the next channel's turn, when there are several.
QUANTUM = 16
#: Bytes that channels which were quiet may send beyond window and pacing, so that a keystroke
#: does not wait for a bulk transfer; paid back by the bulk.
URGENT_EXCESS = 4 * BASE_DATAGRAM_SIZE
#: Share of lost packets below which a path loses nothing: one loss counts as more than that
#: until some 500 others arrived. A packet in fragments is lost with any of them.
LOSSLESS = 1 / 2000


class Outbound:
    """
    Builds packets from what the flows, the outbox and the acknowledgements have to say.

    :ivar peer_id: the id that the peer chose, which its packets carry.
    :ivar datagram_size: bytes of the largest packet for now.
    :ivar largest_datagram: bytes; larger packets leave in fragments. ``None`` when none does.
    :ivar session_credit: what the peer takes of all channels together.
    :ivar burst: what leaves in one call.
    :ivar pacing_time: when the pacer lets the next burst go, ``None`` when it is not in the way.
    :ivar small: builds the packets that are more than a piece of a stream.
    """

    __slots__ = (
        "_acks",
        "_allowance",
        "_bulk",
        "_controller",
        "_ending",
        "_outbox",
        "_padded",
        "_probe_size",
        "_probes",
        "_recovery",
        "_sealer",
        "_tails",
        "_urgent",
        "burst",
        "datagram_size",
        "largest_datagram",
        "pacing_time",
        "peer_id",
        "session_credit",
        "small",
    )

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
        self._allowance = SendAllowance(controller, recovery)
        # Lists, since an empty deque takes three quarters of a kilobyte in every idle session.
        self._urgent: list[Flow] = []
        self._bulk: list[Flow] = []
        self.burst = Burst(recovery, self._allowance, overhead=PACKET_OVERHEAD, limit=BURST)
        self._probes = 0
        self._probe_size = 0
        self._ending: dict[Flow, None] = {}
        self._padded: list[tuple[bytes, Control | None]] = []
        self._tails = Tails()
        self.peer_id = peer_id
        self.datagram_size = BASE_DATAGRAM_SIZE
        self.largest_datagram: int | None = None
        self.session_credit = session_credit
        self.pacing_time: float | None = None
        self.small = SmallPackets(
            self.burst,
            recovery,
            self._allowance,
            acks,
            outbox,
            Copier(recovery, controller, overhead=PACKET_OVERHEAD),
            self._tails,
            session_credit,
        )

    @property
    def is_reliable(self) -> bool:
        """
        Whether the carrier repeats what is lost.
        """
        return self._allowance.is_reliable

    @property
    def may_fragment(self) -> bool:
        """
        Whether packets may be larger than the path's: it loses nothing, and is faster than we are.
        """
        recovery = self._recovery
        is_calm = recovery.loss.rate < LOSSLESS and not recovery.pto_count
        return self._allowance.is_quick and is_calm

    @property
    def has_more(self) -> bool:
        """
        Whether a channel waits for its turn, or for window, pace or carrier.
        """
        return bool(self._bulk or self._urgent)

    def start_path(self, *, is_reliable: bool) -> None:
        """
        Packets take another path from now on.

        :param is_reliable: the carrier repeats what is lost.
        """
        self._allowance.start_path(is_reliable=is_reliable)

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
        self._tails.forget(flow)
        if flow.is_queued:
            flow.is_queued = False
            for queue in (self._urgent, self._bulk):
                if flow in queue:
                    queue.remove(flow)

    def rest(self) -> None:
        """
        Nothing was sent for long.
        """
        release_room(self._ending)
        self.burst.begin()

    @property
    def copy_time(self) -> float | None:
        """
        When the next copy of a small packet is due.
        """
        return self.small.copy_time

    def probe(self, count: int) -> None:
        """
        Send ``count`` packets whatever window and pacing say, to have them acknowledged.
        """
        self._probes = max(self._probes, count)

    def introduce(self, count: int) -> None:
        """
        Send ``count`` packets of :data:`BASE_DATAGRAM_SIZE` with the next ones, and pad what is
        repeated among them to the same size.
        """
        for _ in range(count):
            self.send_padded(BASE_DATAGRAM_SIZE)
        self._probe_size = BASE_DATAGRAM_SIZE

    def packets_to_send(self, *, now: float) -> Sequence[bytes]:
        """
        The next packets, sealed, at most about :data:`BURST`.
        """
        self.burst.begin()
        first = self._recovery.next_number
        self.pacing_time = None
        most = self.burst.limit * self.datagram_size
        budget = self._allowance.get(datagram_size=self.datagram_size, most=most, now=now)
        if self._ending:
            self._queue_ending()
        if self.small.copy_time is not None:
            self.small.send_copies(self._room, now=now)
        budget = max(budget, self._probes * self.datagram_size)
        if self._urgent:
            excess = 0 if self._recovery.is_outage else URGENT_EXCESS
            budget = self._serve(self._urgent, budget, excess, now=now)
        # What left already took along what it could.
        if self._acks.is_due(now=now):
            self.small.send(self._room, has_ack=True, now=now)
        if self._bulk and (self._probes or not self._allowance.is_short):
            budget = self._serve(self._bulk, budget, 0, now=now)
        if self._outbox:
            self._send_control(budget, now=now)
        budget = self._send_tails(budget, now=now)
        if self._probes:
            self._complete_probes(first, now=now)
        if self._padded:
            self._send_padded(now=now)
        self._note_limits(budget, now=now)
        if not self.burst.plaintexts:
            return []
        plaintexts, largest = self.burst.plaintexts, self.largest_datagram
        if largest is None:
            return self._sealer.seal(self.peer_id, plaintexts, first)
        return self._sealer.seal_in_trains(self.peer_id, plaintexts, first, largest=largest)

    def _queue_ending(self) -> None:
        # An END that was lost falls due again without telling anybody.
        for flow in list(self._ending):
            mark = flow.stream.end_mark
            if mark is not None and mark.is_acked:
                del self._ending[flow]
            elif flow.end_is_due:
                self.wants_to_send(flow)

    def _note_limits(self, budget: int, *, now: float) -> None:
        is_idle = not self._bulk and not self._urgent
        if self.burst.is_full and not (is_idle and not self._outbox and not self._probes):
            self.pacing_time = now
            return
        if is_idle and budget > 0:
            in_flight = self._recovery.in_flight.bytes
            self._controller.on_app_limited(bytes_in_flight=in_flight, now=now)
        due = self._tails_time if is_idle else now
        ready = self._allowance.ready_at(now=now)
        if due is not None and ready is not None:
            self.pacing_time = max(due, ready)

    # What goes into packets.

    @property
    def _room(self) -> int:
        return self.datagram_size - PACKET_OVERHEAD

    def _complete_probes(self, first: int, *, now: float) -> None:
        """
        Send what just left again, from the front, or a PING if that was nothing, until there are
        as many packets as the timeout asks for (M-36).

        :param first: number of the first packet in this call.
        """
        if not any(run.is_repeatable for run in self.burst.runs):
            self._outbox.say_once(PING_FRAME)
            self.small.send(self._room, now=now)
        self._probes -= sum(run.count for run in self.burst.runs)
        room = self._probe_size - PACKET_OVERHEAD
        for run in cycle([run for run in self.burst.runs if run.is_repeatable]):
            count = min(run.count, self._probes, self.burst.room)
            if count <= 0:
                break
            self._probes -= count
            at = run.first - first
            frames = self.burst.plaintexts[at : at + count]
            if run.stream is None:  # no data could follow the padding
                frames = [frame.ljust(room, b"\0") for frame in frames]
            self.burst.add(
                frames,
                stream=run.stream,
                offset=run.offset,
                step=run.step,
                length=run.length if count == run.count else count * run.step,
                owners=run.controls,
                group=run.group,
                now=now,
            )
        self._probes = max(0, self._probes)
        self._probe_size = 0

    def _send_control(self, budget: int, *, now: float) -> None:
        """
        Control frames that nothing took along: beyond the window, since they are few and others
        wait for them, but in an outage only as probes.
        """
        while self._outbox and not self.burst.is_full:
            if self._recovery.is_outage and budget <= 0:
                return
            spent = self.small.send(self._room, now=now)
            if not spent:
                return  # the next frame does not fit into what the path may be sent now
            budget -= spent

    def _send_padded(self, *, now: float) -> None:
        for plaintext, control in self._padded:
            owners = [] if control is None else [control]
            self.burst.add([plaintext], owners=owners, is_probe=True, now=now)
        self._padded.clear()

    def _serve(self, queue: list[Flow], budget: int, excess: int, *, now: float) -> int:
        for _ in range(len(queue)):
            if budget + excess <= 0 or self.burst.is_full:
                break
            flow = queue.pop(0)
            budget -= self._send_flow(flow, budget + excess, now=now)
            if flow.has_sendable(self.session_credit.available):
                self._bulk.append(flow)
            else:
                flow.is_queued = False
        if queue is self._bulk and queue and budget > 0 and not self.burst.is_full:
            return self._serve(queue, budget, 0, now=now)
        return budget

    def _send_flow(self, flow: Flow, budget: int, *, now: float) -> int:
        """
        Up to a quantum of one channel's packets; returns the bytes that they take.
        """
        before = len(self.burst.plaintexts)
        spent = 0
        is_small = flow.stream.unsent <= MAX_MESSAGE_SIZE
        has_more = self._outbox or self._acks.is_waiting
        room = self._room
        if is_small or has_more or flow.end_is_due or flow.has_datagrams:
            spent += self.small.send_with(flow, room, is_probe=self._probes > 0, now=now)
        step = room - stream_header(flow.channel_id)[1].size
        is_alone = not self._bulk and not self._urgent
        end = min(before + (BURST if is_alone else QUANTUM), self.burst.limit)
        while spent < budget and len(self.burst.plaintexts) < end:
            left = end - len(self.burst.plaintexts)
            count = max(1, min(left, (budget - spent) // self.datagram_size))
            offset, pieces = flow.cut(count, step, session=self.session_credit)
            if not pieces:
                break
            frames = stream_frames(flow.channel_id, offset, pieces)
            spent += self.burst.add(
                frames, stream=flow.stream, offset=offset, pieces=pieces, now=now
            )
            self._tails.on_sent(flow, now=now)
        return spent

    @property
    def _tails_time(self) -> float | None:
        if self.is_reliable:
            return None
        recovery = self._recovery
        return self._tails.get_time(loss=recovery.likely_loss, rtt=recovery.rtt.smoothed)

    def _send_tails(self, budget: int, *, now: float) -> int:
        """
        Nothing else is to be sent: once more what is in flight, where much of it gets lost.
        """
        recovery, rtt = self._recovery, self._recovery.rtt.smoothed
        if self._bulk or self._urgent or self.is_reliable or recovery.is_outage:
            return budget
        loss, room = self._recovery.likely_loss, self._room
        while budget > 0 and not self.burst.is_full:
            left = self.burst.room
            count = min(left, ceil(budget / self.datagram_size))
            due = self._tails.take(count, room, loss=loss, rtt=rtt, now=now)
            if due is None:
                break
            flow, offset, pieces = due
            frames = stream_frames(flow.channel_id, offset, pieces)
            stream = flow.stream
            budget -= self.burst.add(frames, stream=stream, offset=offset, pieces=pieces, now=now)
        return budget

    def send_padded(self, size: int, control: Control | None = None) -> None:
        """
        Send a packet of ``size`` bytes that asks for an answer with the next packets.

        :param control: hears its fate: a path MTU probe.
        """
        padding = bytes(size - PACKET_OVERHEAD - len(PING_FRAME))
        self._padded.append((PING_FRAME + padding, control))

    def seal_alone(self, frame: bytes, *, peer_id: int | None = None, now: float) -> bytes:
        """
        A packet with one frame that asks for no acknowledgement, for another path or as the last.

        :param peer_id: the id for the other path.
        """
        number = self._recovery.next_number
        self.burst.begin()
        self.burst.add([frame], asks=False, is_probe=True, now=now)
        return self._sealer.seal(self.peer_id if peer_id is None else peer_id, [frame], number)[0]
