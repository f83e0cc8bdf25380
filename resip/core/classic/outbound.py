"""
The sending side of a classic session: what goes out next, and when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from resip.core.classic.acknowledgements import AckCollector
from resip.core.classic.commands import Acknowledge, encode_acknowledgements
from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.packet import InnerPacket, PacketCodec
from resip.core.classic.recovery import Recovery
from resip.core.classic.sender import ChannelSender, SentPacket
from resip.core.classic.stall import StallDetector
from resip.core.congestion.delay import DelayController
from resip.core.pacer import Pacer

COMMAND_CHANNEL = 0
#: Packets handed out in one call: a busy sender must still get round to reading.
BURST = 64
#: New packets of one channel before the next channel's turn.
QUANTUM = 8
#: Packets that a channel which was quiet may send beyond the window, so that a keystroke does
#: not wait for a bulk transfer's acknowledgements.
URGENT_EXCESS = 8
#: On a reliable carrier the kernel does the pacing; this many may wait inside it.
RELIABLE_WINDOW = 1024
#: Packets sent at once by the pacer; and for slow paths, what this many seconds hold.
PACING_BURST = 16
PACING_TICK = 0.002
#: The largest packet number that counts with the size of messages: 500 TB have been sent.
LARGE_NUMBER = (1 << 40) - 1
#: Bytes of commands that may wait; the peer cannot make us queue more than one per channel.
COMMAND_BUFFER = 1024 * 1024


class Flow:
    """
    A channel as the scheduler sees it.
    """

    __slots__ = ("channel_id", "is_held", "is_queued", "repeated_from", "sender", "stall")

    def __init__(self, channel_id: int, sender: ChannelSender) -> None:
        self.channel_id = channel_id
        self.sender = sender
        self.stall = StallDetector()
        #: Nothing may be sent yet: the peer has to answer the start first.
        self.is_held = False
        self.is_queued = False
        #: The first message of which something was repeated, until its server has pushed.
        self.repeated_from: int | None = None

    def may_send(self, window: int) -> bool:
        """
        Whether a new packet may go out, as far as this channel is concerned.
        """
        sender = self.sender
        if self.is_held or self.stall.is_stalled or not sender.has_data:
            return False
        oldest = next(iter(sender.unacked), sender.next_number)
        return sender.next_number < oldest + window


class Outbound:
    """
    Owns the flows, the loss recovery, the pacer and the acknowledgements to send.

    Order of service: acknowledgements, unordered commands, repetitions, ordered commands,
    channels that were quiet, then the others in turn.
    """

    def __init__(
        self, codec: PacketCodec, configuration: ClassicConfiguration, *, direction: int
    ) -> None:
        ack_delay = configuration.peer.ack_delay
        self._codec = codec
        self._configuration = configuration
        self._direction = direction
        self._pacer = Pacer(rate=1000.0, burst=PACING_BURST)
        self._flows: dict[int, Flow] = {}
        self._urgent: deque[Flow] = deque()
        self._bulk: deque[Flow] = deque()
        self._unordered: deque[bytes] = deque()
        self._stalled: dict[int, Flow] = {}
        self._probes = 0
        self._command_count = 0
        self._is_app_limited = True
        self._pacing_time: float | None = None
        self._progress_time = 0.0
        self._wake_time = 0.0
        self.recovery = Recovery(DelayController(ack_delay=ack_delay), ack_delay=ack_delay)
        self.acks = AckCollector(
            delay=configuration.ack_delay, threshold=configuration.ack_threshold
        )
        self.is_reliable = False
        self._commands = self._add_flow(COMMAND_CHANNEL, self._command_sender())

    @property
    def waits_for_peer(self) -> bool:
        """
        Whether there is anything that the peer has to acknowledge.
        """
        return bool(self.recovery.in_flight or self.recovery.lost)

    @property
    def unacked_count(self) -> int:
        """
        How many packets are kept until the peer acknowledges them.
        """
        return sum(len(flow.sender.unacked) for flow in self._flows.values())

    @property
    def has_command_room(self) -> bool:
        """
        Whether a channel may be opened: its start fits the queue, and so will its end.
        """
        return self._commands.sender.room * 2 >= COMMAND_BUFFER

    def add_channel(self, channel_id: int, *, is_datagram: bool, compress: bool) -> Flow:
        """
        Serve a channel from now on.
        """
        configuration = self._configuration
        capacity = self._codec.capacity(channel_id, LARGE_NUMBER) - 1  # the marker may come later
        sender = ChannelSender(
            channel_id,
            flags=self._direction,
            is_datagram=is_datagram,
            compress=compress,
            buffer_size=configuration.send_buffer,
            max_message=configuration.max_fragments * capacity,
        )
        self.acks.discard(channel_id)  # of an earlier channel with this id
        return self._add_flow(channel_id, sender)

    def remove_flow(self, channel_id: int) -> None:
        """
        Forget a channel and whatever of it was not acknowledged.
        """
        flow = self._flows.pop(channel_id, None)
        self._stalled.pop(channel_id, None)
        if flow is not None:
            self.recovery.forget(flow.sender.unacked.values())
            flow.sender.discard()

    def wants_to_send(self, flow: Flow) -> None:
        """
        A channel has something to send, or may again.
        """
        if not flow.is_queued and flow.sender.has_data and flow.channel_id != COMMAND_CHANNEL:
            flow.is_queued = True
            self._urgent.append(flow)

    def send_command(self, command: bytes) -> int:
        """
        Send a command that must arrive, in order; returns its packet number.
        """
        self._command_count += self._commands.sender.write(command) > 0
        return self._command_count

    def is_command_acknowledged(self, number: int) -> bool:
        """
        Whether the peer has the ordered command with this number.
        """
        sender = self._commands.sender
        return number <= sender.last_number and number not in sender.unacked

    def send_unordered(self, command: bytes) -> None:
        """
        Send a command that may get lost.
        """
        if command not in self._unordered:
            self._unordered.append(command)

    def on_acknowledge(self, acknowledge: Acknowledge, *, now: float) -> set[int]:
        """
        Take an acknowledgement from the peer.

        :return: ids of the channels that made progress.
        """
        progressed: set[int] = set()
        acked: list[SentPacket] = []
        for channel_id, ranges in acknowledge.channels:
            flow = self._flows.get(channel_id)
            if flow is None:
                continue
            newly = _take_acked(flow.sender, ranges)
            if newly:
                acked += newly
                progressed.add(channel_id)
                self._on_progress(flow, now=now)
            elif flow.sender.unacked:
                self._on_announcement(flow, now=now)
        if self.recovery.on_acked(acked, is_app_limited=self._is_app_limited, now=now):
            self._progress_time = now
        return progressed

    def packets_to_send(self, *, now: float) -> list[bytes]:
        """
        The next packets, at most :data:`BURST`.
        """
        packets: list[bytes] = []
        self._pacing_time = None
        if self.acks.due_time is not None and now >= self.acks.due_time:
            size = self._codec.capacity(COMMAND_CHANNEL, 0)
            for command in encode_acknowledgements(self.acks.take(), size):
                packets.append(self._seal_unordered(command))
        while self._unordered:
            packets.append(self._seal_unordered(self._unordered.popleft()))
        budget = self._budget(now)
        budget -= self._repeat(packets, budget, now=now)
        while self._commands.may_send(self._configuration.reorder_window):
            packets.append(self._send_new(self._commands, now=now))
        spent = self._serve(self._urgent, packets, budget + URGENT_EXCESS, now=now)
        self._serve(self._bulk, packets, budget - spent, now=now)
        self._note_limits(len(packets), now=now)
        return packets

    def get_timer(self) -> float | None:
        """
        When there is something to send or to decide again.
        """
        times = [
            time
            for time in (self.acks.due_time, self.recovery.get_timer(), self._pacing_time)
            if time is not None
        ]
        times += [flow.stall.probe_time for flow in self._stalled.values()]
        return min(times, default=None)

    def handle_timer(self, *, now: float) -> bool:
        """
        Act on passed deadlines; returns whether the peer missed one.
        """
        probes = self.recovery.handle_timer(now=now)
        self._probes = max(self._probes, probes)
        for flow in self._stalled.values():
            if now < flow.stall.probe_time:
                continue
            if self.recovery.probe_count:
                flow.stall.postpone(now=now)  # the whole session waits for an answer
            else:
                self.recovery.requeue_first(next(iter(flow.sender.unacked.values())))
                self._probes += 1
        return probes > 0

    def retry(self, *, now: float) -> None:
        """
        Ask the peer at once, whatever was scheduled.
        """
        self.recovery.restart_probing(now=now)
        if self.waits_for_peer:
            self._probes = self.recovery.probe(now=now)

    def _on_progress(self, flow: Flow, *, now: float) -> None:
        flow.stall.on_progress(now=now)
        if self._stalled.pop(flow.channel_id, None) is not None:
            self.recovery.requeue(flow.sender.unacked.values())
        self.wants_to_send(flow)

    def _on_announcement(self, flow: Flow, *, now: float) -> None:
        # A repeated acknowledgement of what we knew: old news, or a reader that woke up.
        if flow.stall.is_stalled:
            self._on_progress(flow, now=now)
        elif self.recovery.probe_count and now - self._wake_time > self.recovery.rtt.smoothed:
            self._wake_time = now
            self.retry(now=now)

    def _budget(self, now: float) -> int:
        recovery = self.recovery
        if recovery.probe_count:
            return 0  # only probes, until one is answered
        if self.is_reliable:
            return RELIABLE_WINDOW - len(recovery.in_flight)
        rate = recovery.congestion.pacing_rate
        self._pacer.rate = rate
        self._pacer.burst = max(1.0, min(PACING_BURST, rate * PACING_TICK))
        window = recovery.congestion.window - len(recovery.in_flight)
        return min(window, self._pacer.available(now=now))

    def _repeat(self, packets: list[bytes], budget: int, *, now: float) -> int:
        spent = 0
        while len(packets) < BURST:
            packet = self.recovery.next_lost()
            if packet is None:
                self._probes = 0
                break
            if self._probes > 0:
                self._probes -= 1
            elif packet.channel_id in self._stalled:
                self.recovery.lost.popleft()  # requeued when its channel moves again
                continue
            elif spent >= budget:
                break
            self.recovery.lost.popleft()
            self.recovery.on_sent(packet, now=now)
            self._pacer.spend(1)
            packets.append(packet.packet)
            spent += 1
            self._watch_stall(packet, now=now)
        return spent

    def _watch_stall(self, packet: SentPacket, *, now: float) -> None:
        flow = self._flows[packet.channel_id]
        flow.repeated_from = min(flow.repeated_from or packet.message, packet.message)
        patience = self.recovery.rtt.probe_timeout(self._configuration.peer.ack_delay)
        flow.stall.on_repetition(
            last_number=flow.sender.last_number,
            session_progress_time=self._progress_time,
            patience=patience,
            now=now,
        )
        if flow.stall.is_stalled:
            self._stalled[flow.channel_id] = flow
            self.recovery.suspend(flow.sender.unacked.values())

    def _serve(self, queue: deque[Flow], packets: list[bytes], budget: int, *, now: float) -> int:
        spent = 0
        window = self._configuration.reorder_window
        while queue and spent < budget and len(packets) < BURST:
            flow = queue.popleft()
            turn = QUANTUM
            while turn and spent < budget and len(packets) < BURST and flow.may_send(window):
                packets.append(self._send_new(flow, now=now))
                spent += 1
                turn -= 1
            if flow.may_send(window):
                self._bulk.append(flow)
            else:
                flow.is_queued = False
        return spent

    def _send_new(self, flow: Flow, *, now: float) -> bytes:
        inner = flow.sender.next_packet(self._codec.capacity)
        packet = SentPacket(
            flow.channel_id, inner.number, self._codec.seal(inner), message=flow.sender.messages
        )
        flow.sender.unacked[inner.number] = packet
        self.recovery.on_sent(packet, now=now)
        self._pacer.spend(1)
        return packet.packet

    def _note_limits(self, count: int, *, now: float) -> None:
        recovery = self.recovery
        wants_more = bool(self._bulk or self._urgent or recovery.next_lost())
        self._is_app_limited = not wants_more
        if not wants_more or recovery.probe_count:
            return
        if count >= BURST:
            self._pacing_time = now
        elif not self.is_reliable and len(recovery.in_flight) < recovery.congestion.window:
            self._pacing_time = max(self._pacer.ready_at(wanted=PACING_BURST), now)

    def _seal_unordered(self, command: bytes) -> bytes:
        return self._codec.seal(InnerPacket(self._direction, COMMAND_CHANNEL, 0, command))

    def _add_flow(self, channel_id: int, sender: ChannelSender) -> Flow:
        flow = self._flows[channel_id] = Flow(channel_id, sender)
        return flow

    def _command_sender(self) -> ChannelSender:
        return ChannelSender(
            COMMAND_CHANNEL,
            flags=self._direction,
            is_datagram=True,
            compress=False,
            buffer_size=COMMAND_BUFFER,
            max_message=COMMAND_BUFFER,
        )


def _take_acked(sender: ChannelSender, ranges: Iterable[tuple[int, int]]) -> list[SentPacket]:
    """
    Remove from ``unacked`` what the ranges cover; a wide range costs no more than what is there.
    """
    unacked = sender.unacked
    taken: list[SentPacket] = []
    for first, last in ranges:
        if not unacked:
            break
        if last - first < len(unacked):
            numbers: Iterable[int] = range(first, last + 1)
        else:
            numbers = [number for number in unacked if first <= number <= last]
        for number in numbers:
            packet = unacked.pop(number, None)
            if packet is not None:
                taken.append(packet)
    return taken
