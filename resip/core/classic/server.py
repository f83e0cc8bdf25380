"""
The server's side of a classic session, and the endpoint that tells sessions apart.
"""

from __future__ import annotations

from collections.abc import Callable

from resip.core.classic.channel import Channel, ChannelState
from resip.core.classic.cipher import CipherKeys, SessionKeys
from resip.core.classic.commands import (
    AnyCommand,
    KeepAlive,
    Response,
    Start,
    Stop,
    Terminate,
)
from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.packet import DEFAULT_PACKET_SIZE, Flag, OuterWrapper, PacketCodec
from resip.core.classic.session import ClassicSession
from resip.core.errors import ChannelError, LimitError, ProtocolError, ResetCode
from resip.core.events import ChannelRequested
from resip.core.types import Path, RandomBytes, Target


class ClassicServerSession(ClassicSession):
    """
    Answers requests for channels, and follows its client from address to address.
    """

    direction = int(Flag.FROM_SERVER)

    def __init__(
        self,
        codec: PacketCodec,
        configuration: ClassicConfiguration | None = None,
        *,
        now: float,
    ) -> None:
        super().__init__(codec, configuration)
        self._last_received_time = now

    @property
    def last_received_time(self) -> float:
        """
        When the client last showed life.
        """
        return self._last_received_time

    def open_channel(self, target: Target, *, now: float, compress: bool = False) -> int:
        """
        Only clients start channels in this dialect.
        """
        raise ChannelError("a classic server cannot open channels")

    def accept_channel(self, channel_id: int, *, now: float) -> None:
        """
        The target is connected.
        """
        channel = self._requested(channel_id)
        channel.state = ChannelState.OPEN
        # Ordered, although the prototype sends it unordered: lost, its client waits for ever.
        self._outbound.send_command(Response(channel_id).encode())
        self._readable[channel_id] = None

    def refuse_channel(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        The target is not allowed (no response, then stop), or failed (response, then stop).
        """
        channel = self._requested(channel_id)
        if code is not ResetCode.REFUSED:
            self._outbound.send_command(Response(channel_id).encode())
        self._send_reset(channel, code)
        self._forget(channel)

    def use_path(self, path: Path, *, now: float) -> None:
        """
        Send on ``path`` until the client shows up elsewhere.
        """
        self._set_path(path)
        self.retry(now=now)

    def get_timer(self) -> float | None:
        """
        When anything is due; nothing ever is while the client has no address.
        """
        if self._path is None:
            return None
        times = [self._outbound.get_timer(), self._address_deadline()]
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, *, now: float) -> None:
        """
        Probe; and forget an address that shows no life.
        """
        if self._path is None:
            return
        deadline = self._address_deadline()
        if deadline is not None and now >= deadline:
            self._set_path(None)
            return
        self._outbound.handle_timer(now=now)

    def _address_deadline(self) -> float | None:
        if self._path is None or self._path.is_reliable:
            return None
        return self._last_received_time + self._configuration.address_lifetime

    def _requested(self, channel_id: int) -> Channel:
        channel = self._channel(channel_id)
        if channel.state is not ChannelState.REQUESTED:
            raise ChannelError(f"channel {channel_id} was answered before")
        return channel

    def _on_life(self, path: Path, *, now: float) -> None:
        self._last_received_time = now
        if path != self._path:
            if self._path is not None and self._path.is_reliable:
                self._outbound.recovery.declare_all_lost(now=now)
            self._set_path(path)
            self.retry(now=now)

    def _on_command(self, command: AnyCommand, *, now: float) -> None:
        match command:
            case KeepAlive():
                self._outbound.send_unordered(KeepAlive().encode())
            case Start():
                self._on_start(command)
            case Terminate(channel_id=int(channel_id)) if channel_id in self._channels:
                self._on_terminate(self._channels[channel_id])

    def _on_start(self, start: Start) -> None:
        channel_id = start.channel_id
        if not channel_id or channel_id in self._channels:
            return
        target = start.target
        if target is None or len(self._channels) >= self._configuration.max_channels:
            self._used_ids.add(channel_id)
            self._outbound.send_command(Stop(channel_id, 0).encode())
            return
        self._add_channel(
            channel_id, target, state=ChannelState.REQUESTED, compress=start.is_compressed
        )
        self._events.append(ChannelRequested(channel_id, target))

    def _on_terminate(self, channel: Channel) -> None:
        if not channel.sender.stop_sent or not channel.receiver.is_complete:
            self._reset_locally(channel, ResetCode.CANCELLED)
            return
        # Both directions ended before: the client is done, so it has everything, and
        # everything of it is here, although perhaps not yet with our application.
        self._outbound.remove_flow(channel.channel_id)
        self._readable[channel.channel_id] = None
        self._close_if_done(channel)

    def _on_stop(self, stop: Stop, *, now: float) -> None:
        channel = self._channels.get(stop.channel_id)
        if channel is not None:
            self._end_received(channel, stop.last)

    def _send_reset(self, channel: Channel, code: ResetCode) -> None:
        self._outbound.send_command(Stop(channel.channel_id, 0).encode())

    def _before_stop(self, channel: Channel) -> None:
        sender = channel.sender
        if sender.next_number == 1 and not sender.has_data:
            sender.push()  # a stop without any packet would say that the target failed
            self._outbound.wants_to_send(channel.flow)

    def _on_progress(self, channel: Channel) -> None:
        # The prototype's client takes one message from its queue for each new packet. After a
        # loss the queue is longer than what is still to come: push with empty packets.
        flow, sender = channel.flow, channel.sender
        is_idle = not sender.unacked and not sender.has_data
        if not self._peer.delivers_message_per_packet or flow.repeated_from is None or not is_idle:
            return
        behind = sender.messages - flow.repeated_from + 2
        count = min(behind, self._configuration.max_fragments)
        # Each packet takes a message off the queue, and all together they put one on it.
        flow.repeated_from = None if count == behind else flow.repeated_from + count - 1
        sender.push(count)
        self._outbound.wants_to_send(flow)


class ClassicEndpoint:
    """
    All classic sessions of one server: takes off the outer wrapper and finds the session.

    :ivar sessions: by session id.

    :param is_taken: whether an id means something else to the owner.
    """

    def __init__(
        self,
        *,
        master: CipherKeys,
        random_bytes: RandomBytes,
        max_sessions: int = 10_000,
        is_taken: Callable[[int], bool] = lambda session_id: False,
        packet_size: int = DEFAULT_PACKET_SIZE,
    ) -> None:
        self.master = master
        self.sessions: dict[int, ClassicServerSession] = {}
        self._outer = OuterWrapper(master, packet_size)
        self._random_bytes = random_bytes
        self._max_sessions = max_sessions
        self._is_taken = is_taken

    @property
    def packet_size(self) -> int:
        """
        Bytes of every packet.
        """
        return self._outer.packet_size

    def add_session(
        self, keys: SessionKeys, configuration: ClassicConfiguration, *, now: float
    ) -> ClassicServerSession:
        """
        A session with a new id.

        :raises LimitError: when there are as many as allowed.
        """
        if len(self.sessions) >= self._max_sessions:
            raise LimitError(f"the server has {len(self.sessions)} sessions, as many as allowed")
        session_id = 0
        while not session_id or session_id in self.sessions or self._is_taken(session_id):
            session_id = int.from_bytes(self._random_bytes(4))
        codec = PacketCodec(session_id, self._outer, keys, self._random_bytes)
        session = self.sessions[session_id] = ClassicServerSession(codec, configuration, now=now)
        return session

    def remove_session(self, session_id: int) -> None:
        """
        Forget a session; its packets become a stranger's.
        """
        self.sessions.pop(session_id, None)

    def receive_datagram(
        self, data: bytes, path: Path, *, now: float
    ) -> ClassicServerSession | None:
        """
        Hand a packet to its session; returns it when the packet was authentic.
        """
        try:
            outer = self._outer.open(data)
        except ProtocolError:
            return None
        session = self.sessions.get(outer.session_id)
        if session is None or not session.receive_packet(outer, len(data), path, now=now):
            return None
        return session
