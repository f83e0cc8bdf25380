"""
A classic session, either side: what both roles do alike.

Data flows in through :meth:`ClassicSession.receive_packet`, which authenticates, sorts and
acknowledges, and out through :class:`~resip.core.classic.outbound.Outbound`. What differs
between client and server (who starts channels, who answers what) is in the two subclasses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

from resip.core.classic.channel import Channel, ChannelState
from resip.core.classic.commands import Acknowledge, AnyCommand, Stop, parse_command
from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.inbox import CommandInbox
from resip.core.classic.outbound import COMMAND_CHANNEL, Outbound
from resip.core.classic.packet import (
    OVERFLOWED_PACKET_SIZE,
    Flag,
    InnerPacket,
    OuterPacket,
    PacketCodec,
)
from resip.core.classic.receiver import Arrival
from resip.core.classic.used_ids import UsedIds
from resip.core.errors import ChannelError, ProtocolError, ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    ChannelReset,
    ChannelWritable,
    DataReceived,
    Event,
    PathChanged,
)
from resip.core.session import WithoutProbes
from resip.core.types import Path, Protocol, Target


class ClassicSession(WithoutProbes, ABC):
    """
    See :class:`resip.core.session.Session` for the verbs.

    :param codec: keys and wrappers of this session.
    """

    #: Direction bit of the packets that this side sends.
    direction: int
    resolves_names = False

    def __init__(
        self, codec: PacketCodec, configuration: ClassicConfiguration | None = None
    ) -> None:
        self._codec = codec
        self._configuration = configuration or ClassicConfiguration()
        self._peer = self._configuration.peer
        codec.ends_with_marker = codec.ends_with_marker or self._peer.strips_padding
        self._outbound = Outbound(codec, self._configuration, direction=self.direction)
        self._channels: dict[int, Channel] = {}
        self._used_ids = UsedIds()
        self._events: deque[Event] = deque()
        self._readable: dict[int, None] = {}
        self._blocked_writers: dict[int, None] = {}
        self._ending: dict[int, None] = {}
        self._held = 0
        self._inbox = CommandInbox()
        self._path: Path | None = None

    @property
    def session_id(self) -> int:
        """
        The number that the server gave the session.
        """
        return self._codec.session_id

    @property
    def path(self) -> Path | None:
        """
        Where packets go now.
        """
        return self._path

    @property
    def channel_count(self) -> int:
        """
        How many channels there are.
        """
        return len(self._channels)

    @property
    def retransmissions(self) -> int:
        """
        How many packets were sent again, ever.
        """
        return self._outbound.recovery.retransmissions

    @property
    def packets_held(self) -> int:
        """
        How many received packets wait: for one before them, or for their application.
        """
        return self._held

    @property
    def packets_unacknowledged(self) -> int:
        """
        How many packets of all channels are kept because the peer has not acknowledged them.
        """
        return self._outbound.unacked_count

    # Input from the network.

    def receive_datagrams(self, packets: Sequence[bytes], path: Path, *, now: float) -> bool:
        """
        Take packets from a carrier; returns whether any was authentic.
        """
        return any([self.receive_datagram(packet, path, now=now) for packet in packets])

    def receive_datagram(self, data: bytes, path: Path, *, now: float) -> bool:
        """
        Take one packet; returns whether it was authentic.
        """
        try:
            outer = self._codec.outer.open(data)
        except ProtocolError:
            return False
        return self.receive_packet(outer, len(data), path, now=now)

    def receive_packet(self, outer: OuterPacket, size: int, path: Path, *, now: float) -> bool:
        """
        Take one packet whose outer wrapper is off, of ``size`` bytes on the wire.
        """
        if outer.session_id != self.session_id:
            return False
        try:
            packet = self._codec.open(outer)
        except ProtocolError:
            return False
        if packet.flags & Flag.FROM_SERVER == self.direction:
            return False  # our own, reflected
        if size == OVERFLOWED_PACKET_SIZE and size != self._codec.outer.packet_size:
            self._codec.ends_with_marker = True
        is_new = (
            self._receive_command_packet(packet, outer, now=now)
            if packet.channel_id == COMMAND_CHANNEL
            else self._receive_data_packet(packet, now=now)
        )
        if is_new:
            self._on_life(path, now=now)
        return True

    def _receive_data_packet(self, packet: InnerPacket, *, now: float) -> bool:
        channel = self._channels.get(packet.channel_id)
        if channel is None:
            if packet.channel_id in self._used_ids:
                # A repetition for a channel that is done; its sender did not hear so yet.
                self._outbound.acks.add_late(packet.channel_id, packet.number, now=now)
            return False
        if not packet.number:
            return False
        is_crowded = self._held >= self._configuration.session_reorder_limit
        arrival = channel.receiver.receive(packet, is_crowded=is_crowded)
        if arrival is Arrival.REFUSED:
            return False
        self._held += arrival is Arrival.NEW
        self._outbound.acks.add(packet.channel_id, packet.number, now=now)
        if channel.receiver.is_readable:
            self._readable[packet.channel_id] = None
        return arrival is Arrival.NEW

    def _receive_command_packet(
        self, packet: InnerPacket, outer: OuterPacket, *, now: float
    ) -> bool:
        if packet.flags & (Flag.MORE | Flag.COMPRESSED):
            return False
        if not packet.number:
            if not self._inbox.is_first_sight(self._codec.signature(outer)):
                return False
            self._handle_command(packet.data, now=now)
            return True
        arrival = self._inbox.receive(packet.number, packet.data)
        if arrival is not Arrival.REFUSED:
            self._outbound.acks.add(COMMAND_CHANNEL, packet.number, now=now)
        for data in self._inbox.take():
            self._handle_command(data, now=now)
        return arrival is Arrival.NEW

    def _handle_command(self, data: bytes, *, now: float) -> None:
        try:
            command = parse_command(data, from_server=self.direction != Flag.FROM_SERVER)
        except ProtocolError:
            return
        if isinstance(command, Acknowledge):
            for channel_id in self._outbound.on_acknowledge(command, now=now):
                self._after_progress(channel_id)
        elif isinstance(command, Stop):
            self._on_stop(command, now=now)
        elif command is not None:
            self._on_command(command, now=now)

    @abstractmethod
    def _on_command(self, command: AnyCommand, *, now: float) -> None:
        """
        A command that one role only receives.
        """

    @abstractmethod
    def _on_stop(self, stop: Stop, *, now: float) -> None:
        """
        The peer ends its direction, or refuses, or resets.
        """

    def _end_received(self, channel: Channel, last: int) -> None:
        if channel.receiver.last is None:  # the first one counts: nothing follows an end
            channel.receiver.last = last
            self._readable[channel.channel_id] = None

    @abstractmethod
    def _on_life(self, path: Path, *, now: float) -> None:
        """
        A new packet of the peer came by ``path``.
        """

    # Output.

    def datagrams_to_send(self, *, now: float) -> list[tuple[Path, list[bytes]]]:
        """
        The packets to send now, all on the current path.
        """
        if self._path is None:
            return []
        packets = self._outbound.packets_to_send(now=now)
        for channel_id in list(self._blocked_writers):
            sender = self._channels[channel_id].sender
            if sender.room * 2 >= self._configuration.send_buffer:
                del self._blocked_writers[channel_id]
                self._events.append(ChannelWritable(channel_id))
        for channel_id in list(self._ending):
            self._after_progress(channel_id)
        return [(self._path, packets)] if packets else []

    def next_event(self) -> Event | None:
        """
        The next thing to tell the owner.
        """
        while not self._events and self._readable:
            channel_id = next(iter(self._readable))
            del self._readable[channel_id]
            self._read(channel_id)
        return self._events.popleft() if self._events else None

    def _read(self, channel_id: int) -> None:
        channel = self._channels.get(channel_id)
        if channel is None or channel.state is not ChannelState.OPEN:
            return
        held = channel.receiver.pending_count
        try:
            pieces = channel.receiver.take()
        except ProtocolError:
            self._send_reset(channel, ResetCode.PROTOCOL)
            self._reset_locally(channel, ResetCode.PROTOCOL)
            return
        finally:
            self._held -= held - channel.receiver.pending_count
        if channel.target.protocol is Protocol.UDP:
            self._events.extend(DataReceived(channel_id, piece) for piece in pieces)
        elif pieces:
            self._events.append(DataReceived(channel_id, b"".join(pieces)))
        self._report_end(channel)

    def _report_end(self, channel: Channel) -> None:
        if channel.receiver.is_finished and not channel.end_reported:
            channel.end_reported = True
            self._events.append(ChannelEnded(channel.channel_id))
            self._close_if_done(channel)

    # Channel verbs.

    def write(self, channel_id: int, data: bytes, *, now: float) -> int:
        """
        Queue data; returns how many bytes were accepted.
        """
        channel = self._channel(channel_id)
        if channel.sender.is_ended:
            raise ChannelError(f"channel {channel_id} was ended and takes no more data")
        accepted = channel.sender.write(data)
        if accepted < len(data):
            self._blocked_writers[channel_id] = None
        self._outbound.wants_to_send(channel.flow)
        return accepted

    def end(self, channel_id: int, *, now: float) -> None:
        """
        Nothing more will be written.
        """
        channel = self._channel(channel_id)
        if not channel.sender.is_ended:
            channel.sender.is_ended = True
            self._ending[channel_id] = None
            self._before_stop(channel)
            self._after_progress(channel_id)

    def consume(self, channel_id: int, count: int, *, now: float) -> None:
        """
        The application took received bytes.
        """
        channel = self._channels.get(channel_id)
        if channel is None:
            return
        receiver = channel.receiver
        receiver.consume(count)
        if receiver.is_readable:
            self._readable[channel_id] = None
        has_room = receiver.unconsumed * 2 < self._configuration.receive_buffer
        if receiver.has_refused and has_room and receiver.next_number > 1:
            # Nothing in the format says "there is room again". Repeating an acknowledgement
            # does: our sender takes it for that, and others ignore it.
            receiver.has_refused = False
            self._outbound.acks.add(channel_id, receiver.next_number - 1, now=now)

    def reset(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Abandon a channel.
        """
        channel = self._channel(channel_id)
        self._send_reset(channel, code)
        self._forget(channel)
        # What was reported and not yet fetched would come after the caller's farewell.
        late = [event for event in self._events if getattr(event, "channel_id", 0) == channel_id]
        for event in late:
            self._events.remove(event)

    def close(self, *, now: float) -> None:
        """
        Reset every channel.
        """
        for channel in list(self._channels.values()):
            self._send_reset(channel, ResetCode.SESSION_LOST)
            self._forget(channel)
            self._events.append(ChannelReset(channel.channel_id, ResetCode.SESSION_LOST))

    @abstractmethod
    def _send_reset(self, channel: Channel, code: ResetCode) -> None:
        """
        Tell the peer that a channel is gone.
        """

    # Paths.

    def path_closed(self, path: Path, *, now: float) -> None:
        """
        The carrier of ``path`` is gone.
        """
        if path == self._path:
            self._outbound.recovery.declare_all_lost(now=now)
            self._set_path(None)

    def retry(self, *, now: float) -> None:
        """
        Probe at once.
        """
        self._outbound.retry(now=now)

    def _set_path(self, path: Path | None) -> None:
        if path != self._path:
            self._path = path
            self._outbound.is_reliable = path is not None and path.is_reliable
            self._events.append(PathChanged(path))

    # Inner parts.

    def _channel(self, channel_id: int) -> Channel:
        try:
            return self._channels[channel_id]
        except KeyError:
            raise ChannelError(f"there is no channel {channel_id}") from None

    def _add_channel(
        self, channel_id: int, target: Target, *, state: ChannelState, compress: bool
    ) -> Channel:
        is_datagram = target.protocol is Protocol.UDP
        flow = self._outbound.add_channel(channel_id, is_datagram=is_datagram, compress=compress)
        channel = Channel(target, state, flow, compress=compress, configuration=self._configuration)
        self._channels[channel_id] = channel
        self._used_ids.add(channel_id)
        return channel

    def _after_progress(self, channel_id: int) -> None:
        channel = self._channels.get(channel_id)
        if channel is None:
            return
        self._on_progress(channel)
        sender = channel.sender
        if sender.is_ended and not sender.has_data and channel.state is ChannelState.OPEN:
            may_stop = not sender.unacked or not self._peer.needs_acknowledged_stop
            if may_stop and not sender.stop_sent:
                self._send_stop(channel)
        self._close_if_done(channel)

    def _send_stop(self, channel: Channel) -> None:
        channel.sender.stop_sent = True
        self._ending.pop(channel.channel_id, None)
        self._outbound.send_command(Stop(channel.channel_id, channel.sender.last_number).encode())

    def _on_progress(self, channel: Channel) -> None:
        """
        Hook for the server: packets of this channel were acknowledged.
        """

    def _before_stop(self, channel: Channel) -> None:
        """
        Hook for the server: the application ended its direction.
        """

    def _close_if_done(self, channel: Channel) -> None:
        sender = channel.sender
        if sender.stop_sent and not sender.unacked and channel.end_reported:
            self._on_done(channel)
            self._forget(channel)
            self._events.append(ChannelClosed(channel.channel_id))

    def _on_done(self, channel: Channel) -> None:
        """
        Hook for the client: both directions ended.
        """

    def _reset_locally(self, channel: Channel, code: ResetCode) -> None:
        self._forget(channel)
        self._events.append(ChannelReset(channel.channel_id, code))

    def _forget(self, channel: Channel) -> None:
        channel_id = channel.channel_id
        del self._channels[channel_id]
        self._held -= channel.receiver.pending_count
        self._readable.pop(channel_id, None)
        self._blocked_writers.pop(channel_id, None)
        self._ending.pop(channel_id, None)
        self._outbound.remove_flow(channel_id)
        self._outbound.acks.retire(channel_id)
