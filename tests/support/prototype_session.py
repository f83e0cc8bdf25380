"""
What both roles of the imitated prototype do alike; see :mod:`tests.support.prototype`.

It offers the verbs of a session, so that it runs in a simulated pair against ours. What it
does wrong is listed in :class:`Quirk`; a test picks what it is about.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from resip.core.classic.cipher import DoubleCipher, Signer
from resip.core.classic.commands import (
    Acknowledge,
    AnyCommand,
    Stop,
    encode_acknowledgements,
    parse_command,
)
from resip.core.classic.packet import (
    OVERFLOWED_PACKET_SIZE,
    Flag,
    InnerPacket,
    OuterPacket,
    parse_inner,
)
from resip.core.errors import ProtocolError, ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    DataReceived,
    Event,
    PathChanged,
)
from resip.core.session import WithoutProbes
from resip.core.types import Path, Target
from tests.support.classic import SessionMaker
from tests.support.prototype_channel import (
    FIRST_RETRANSMISSION,
    ImitatedChannel,
    Quirk,
    SentByPrototype,
    next_message,
)

#: Seconds between repetitions of a packet, at most.
MAX_RETRANSMISSION = 60.0
#: Acknowledgements are collected for so many seconds.
ACK_INTERVAL = 0.5
#: While so many of its own packets wait on channel 0, it acknowledges nothing.
ACKS_STOPPED_BY = 64
#: The server forgets an address, and the client sends a keep-alive, after so many seconds.
SILENCE = 60.0
#: What arrives within so many seconds is looked at together.
BATCH_TIME = 0.01
#: What it reads from a program at once, and so its longest message.
READ_SIZE = 8192
#: Data of a fragment, and of one whose packet overflows: one byte more than fits.
FRAGMENT_SIZE = 474
OVERFLOWING_SIZE = 475


class PrototypeSession(WithoutProbes):
    """
    What both roles do alike. See :class:`resip.core.session.Session` for the verbs.

    :ivar delivers_one: one message for each new packet, and no more.
    :ivar unreadable: packets that it could not read after stripping what is no padding.
    """

    direction = 0
    resolves_names = False
    delivers_one = False

    def __init__(self, maker: SessionMaker, quirks: Iterable[Quirk] = ()) -> None:
        self.quirks = frozenset(quirks)
        self.unreadable = 0
        self.last_received_time = maker.now
        self._is_overflowed = False
        self._codec = maker.make_codec()
        self._large_codec = maker.make_codec(OVERFLOWED_PACKET_SIZE)
        self._cipher = DoubleCipher(maker.keys.ciphers)
        self._signer = Signer(maker.keys)
        self._commands = ImitatedChannel(is_open=True)
        self._channels: dict[int, ImitatedChannel] = {0: self._commands}
        self._seen: set[bytes] = set()
        self._stuck_unordered = 0
        self._paths: dict[Path, float] = {}
        self._outbox: list[bytes] = []
        self._batch: list[InnerPacket] = []
        self._batch_due: float | None = None
        self._dropping: set[int] = set()
        self._acks: list[tuple[int, int]] = []
        self._acks_due: float | None = None
        self._events: deque[Event] = deque()

    @property
    def session_id(self) -> int:
        """
        The session's id.
        """
        return self._codec.session_id

    @property
    def path(self) -> Path | None:
        """
        The newest address.
        """
        return next(reversed(self._paths), None)

    # The network.

    def receive_datagrams(self, packets: Sequence[bytes], path: Path, *, now: float) -> bool:
        """
        Take packets from a carrier.
        """
        return any([self.receive_datagram(packet, path, now=now) for packet in packets])

    def receive_datagram(self, data: bytes, path: Path, *, now: float) -> bool:
        """
        Open a packet and put it into the batch.
        """
        try:
            outer = self._codec.outer.open(data)
            packet = self._open(outer)
        except ProtocolError:
            return False
        if packet.flags & Flag.FROM_SERVER == self.direction:
            return False
        if outer.tail not in self._seen:
            self._seen.add(outer.tail)
            self.last_received_time = now
            self._learn(path, now=now)
        elif not packet.number:
            return True
        self._batch.append(packet)
        if self._batch_due is None:
            self._batch_due = now + BATCH_TIME
        return True

    def datagrams_to_send(self, *, now: float) -> list[tuple[Path, list[bytes]]]:
        """
        Everything, at once, to every address.
        """
        packets, self._outbox = self._outbox, []
        return [(path, packets) for path in self._paths if packets]

    def get_timer(self) -> float | None:
        """
        The next deadline.
        """
        times = [
            sent.due for channel in self._channels.values() for sent in channel.unacked.values()
        ]
        times += [time for time in (self._batch_due, self._acks_due) if time is not None]
        return min(times, default=None)

    def handle_timer(self, *, now: float) -> None:
        """
        The batch, the repetitions, the acknowledgements.
        """
        if self._batch_due is not None and now >= self._batch_due:
            self._process_batch(now=now)
        for channel in self._channels.values():
            self._repeat(channel, now=now)
        if self._acks_due is not None and now >= self._acks_due:
            self._send_acks(now=now)

    def next_event(self) -> Event | None:
        """
        The next event.
        """
        return self._events.popleft() if self._events else None

    def use_path(self, path: Path, *, now: float) -> None:
        """
        Send to ``path``.
        """
        self._learn(path, now=now)

    def path_closed(self, path: Path, *, now: float) -> None:
        """
        It runs over UDP here, whose paths do not close.
        """

    def retry(self, *, now: float) -> None:
        """
        It waits for its timers.
        """

    # The verbs.

    def open_channel(self, target: Target, *, now: float, compress: bool = False) -> int:
        """
        Clients only.
        """
        raise NotImplementedError

    def accept_channel(self, channel_id: int, *, now: float) -> None:
        """
        Servers only.
        """
        raise NotImplementedError

    def refuse_channel(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Servers only.
        """
        raise NotImplementedError

    def write(self, channel_id: int, data: bytes, *, now: float) -> int:
        """
        Take everything, send it at once.
        """
        channel = self._channels[channel_id]
        if not channel.stop_sent:
            channel.waiting += [data[at : at + READ_SIZE] for at in range(0, len(data), READ_SIZE)]
            self._send_waiting(channel_id, now=now)
        return len(data)

    def end(self, channel_id: int, *, now: float) -> None:
        """
        Stop after what was written.
        """
        channel = self._channels.get(channel_id)
        if channel is not None:
            channel.is_ended = True
            self._send_waiting(channel_id, now=now)

    def reset(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Give a channel up.
        """
        self._send_command(Stop(channel_id, 0).encode(), now=now)
        del self._channels[channel_id]

    def consume(self, channel_id: int, count: int, *, now: float) -> None:
        """
        It knows no credit.
        """

    def close(self, *, now: float) -> None:
        """
        It says nothing.
        """

    # Sending.

    def _send_waiting(self, channel_id: int, *, now: float) -> None:
        channel = self._channels[channel_id]
        if not channel.is_open or channel.stop_sent:
            return
        for message in channel.waiting:
            self._send_message(channel_id, message, now=now)
        channel.waiting.clear()
        if channel.is_ended:
            self._send_stop(channel_id, now=now)

    def _send_message(self, channel_id: int, message: bytes, *, now: float) -> None:
        size = FRAGMENT_SIZE - 8  # room for longer integers
        if Quirk.OVERFLOW in self.quirks and len(message) >= OVERFLOWING_SIZE:
            self._is_overflowed = True
            size = OVERFLOWING_SIZE
        for at in range(0, len(message), size):
            more = Flag.MORE if at + size < len(message) else 0
            self._send(channel_id, message[at : at + size], flags=more, now=now)

    def _send_stop(self, channel_id: int, *, now: float) -> None:
        channel = self._channels[channel_id]
        channel.stop_sent = True
        self._send_command(Stop(channel_id, channel.next_number - 1).encode(), now=now)

    def _send_command(self, command: bytes, *, now: float) -> None:
        self._send(0, command, now=now)

    def _send(self, channel_id: int, data: bytes, *, flags: int = 0, now: float) -> None:
        channel = self._channels[channel_id]
        number = channel.next_number
        channel.next_number += 1
        if not self._knows_address(now=now):
            return  # lost, and never tried again
        packet = self._seal(InnerPacket(self.direction | flags, channel_id, number, data))
        channel.unacked[number] = SentByPrototype(packet, now + FIRST_RETRANSMISSION)
        self._outbox.append(packet)

    def _send_unordered(self, command: bytes, *, now: float) -> None:
        if self._knows_address(now=now):
            self._outbox.append(self._seal(InnerPacket(self.direction, 0, 0, command)))
        else:
            self._stuck_unordered += 1

    def _repeat(self, channel: ImitatedChannel, *, now: float) -> None:
        for number, sent in list(channel.unacked.items()):
            if now < sent.due:
                continue
            if not self._knows_address(now=now):
                del channel.unacked[number]
                continue
            sent.interval = min(2 * sent.interval, MAX_RETRANSMISSION)
            sent.due = now + sent.interval
            self._outbox.append(sent.packet)

    def _send_acks(self, *, now: float) -> None:
        self._acks_due = None
        if not self._acks:
            return
        if len(self._commands.unacked) + self._stuck_unordered >= ACKS_STOPPED_BY:
            self._acks_due = now + ACK_INTERVAL
            return
        for at in range(0, len(self._acks), 40):
            # One header for each number, although one for each channel would do.
            items = (_acknowledge(cid, number)[1:] for cid, number in self._acks[at : at + 40])
            self._send_unordered(b"\x03" + b"".join(items), now=now)
        self._acks.clear()

    def _seal(self, packet: InnerPacket) -> bytes:
        return (self._large_codec if self._is_overflowed else self._codec).seal(packet)

    # Receiving.

    def _open(self, outer: OuterPacket) -> InnerPacket:
        if not self._signer.verify(outer.inner, self._codec.signature(outer)):
            raise ProtocolError("the signature does not belong to the packet")
        plaintext = self._cipher.decrypt(outer.inner)
        if self._is_overflowed:
            padding = plaintext[-1]
            if not 1 <= padding <= 16:
                self.unreadable += 1
                raise ProtocolError("what looks like no padding cannot be stripped")
            plaintext = plaintext[:-padding]
        return parse_inner(plaintext)

    def _learn(self, path: Path, *, now: float) -> None:
        if path not in self._paths:
            self._events.append(PathChanged(path))
        self._paths.pop(path, None)
        self._paths[path] = now

    def _knows_address(self, *, now: float) -> bool:
        return bool(self._paths)

    def _process_batch(self, *, now: float) -> None:
        batch, self._batch, self._batch_due = self._batch, [], None
        self._dropping.clear()
        for packet in batch:
            if not packet.channel_id:
                self._receive_command(packet, now=now)
        for packet in batch:
            if packet.channel_id:
                self._receive_data(packet, now=now)
        for channel_id in list(self._channels):
            self._after_input(channel_id, now=now)

    def _receive_command(self, packet: InnerPacket, *, now: float) -> None:
        if not packet.number:
            self._handle(packet.data, now=now)
            return
        self._acknowledge(0, packet.number, now=now)
        commands = self._commands
        if packet.number not in commands.received:
            commands.received.add(packet.number)
            commands.pending[packet.number] = packet
        while (waiting := commands.pending.pop(commands.next_delivered, None)) is not None:
            commands.next_delivered += 1
            self._handle(waiting.data, now=now)

    def _handle(self, data: bytes, *, now: float) -> None:
        try:
            command = parse_command(data, from_server=not self.direction)
        except ProtocolError:
            return
        if isinstance(command, Acknowledge):
            for channel_id, ranges in command.channels:
                channel = self._channels.get(channel_id, ImitatedChannel())
                for first, last in ranges:
                    for number in [n for n in channel.unacked if first <= n <= last]:
                        del channel.unacked[number]
        elif isinstance(command, Stop) and command.channel_id in self._channels:
            self._on_stop(self._channels[command.channel_id], command, now=now)
        elif command is not None:
            self._on_command(command, now=now)

    def _on_stop(self, channel: ImitatedChannel, stop: Stop, *, now: float) -> None:
        channel.last = stop.last

    def _on_command(self, command: AnyCommand, *, now: float) -> None:
        raise NotImplementedError

    def _receive_data(self, packet: InnerPacket, *, now: float) -> None:
        channel = self._channels.get(packet.channel_id)
        if channel is None:
            return
        self._acknowledge(packet.channel_id, packet.number, now=now)
        if packet.number in channel.received:
            return
        channel.received.add(packet.number)
        channel.data_time = now
        if packet.channel_id in self._dropping:
            packet = packet._replace(data=b"")
        channel.pending[packet.number] = packet
        for message in self._take_messages(channel):
            if message:
                self._events.append(DataReceived(packet.channel_id, message))

    def _take_messages(self, channel: ImitatedChannel) -> Iterator[bytes]:
        while (numbers := next_message(channel)) is not None:
            channel.next_delivered += len(numbers)
            yield b"".join(channel.pending.pop(number).data for number in numbers)
            if self.delivers_one:
                return

    def _after_input(self, channel_id: int, *, now: float) -> None:
        channel = self._channels[channel_id]
        if channel.last is None or len(channel.received) < channel.last:
            return
        if not channel.end_reported:
            channel.end_reported = True
            self._events.append(ChannelEnded(channel_id))
            self._acks_due = now  # at once when a channel closes
            if Quirk.NO_HALF_CLOSE in self.quirks and not channel.stop_sent:
                self._send_stop(channel_id, now=now)
        if channel.stop_sent and not channel.unacked:
            self._on_closed(channel_id, now=now)
            del self._channels[channel_id]
            self._events.append(ChannelClosed(channel_id))

    def _on_closed(self, channel_id: int, *, now: float) -> None:
        """
        A channel is done in both directions.
        """

    def _acknowledge(self, channel_id: int, number: int, *, now: float) -> None:
        self._acks.append((channel_id, number))
        if self._acks_due is None:
            self._acks_due = now + ACK_INTERVAL


def _acknowledge(channel_id: int, number: int) -> bytes:
    (command,) = encode_acknowledgements(iter([(channel_id, number, number)]), 400)
    return command
