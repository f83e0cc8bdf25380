"""
The client's side of a classic session: it starts channels, and keeps the session awake.
"""

from __future__ import annotations

import ipaddress

from resip.core.classic.channel import Channel, ChannelState
from resip.core.classic.commands import (
    AnyCommand,
    KeepAlive,
    Response,
    Start,
    Stop,
    Terminate,
)
from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.packet import PacketCodec
from resip.core.classic.session import ClassicSession
from resip.core.errors import ChannelError, LimitError, ResetCode
from resip.core.events import ChannelOpened, PeerSilent
from resip.core.liveness import Liveness
from resip.core.types import Path, Target

#: Channel ids are used once and in order, so that old packets are known for what they are.
FIRST_CHANNEL = 1
LAST_CHANNEL = 0xFFFF_FFFF


class ClassicClientSession(ClassicSession):
    """
    Opens channels, answers nothing, sends keep-alives.
    """

    direction = 0

    def __init__(
        self,
        codec: PacketCodec,
        configuration: ClassicConfiguration | None = None,
        *,
        now: float,
    ) -> None:
        super().__init__(codec, configuration)
        self._liveness = Liveness(
            keep_alive_interval=self._configuration.peer.keep_alive_interval,
            idle_keep_alive_interval=self._configuration.idle_keep_alive_interval,
            now=now,
        )
        self._next_channel = FIRST_CHANNEL
        #: Channels whose start may be acknowledged without a response ever coming.
        self._unanswered: dict[int, Channel] = {}

    @property
    def last_received_time(self) -> float:
        """
        When the server last showed life.
        """
        return self._liveness.last_received_time

    def open_channel(self, target: Target, *, now: float, compress: bool = False) -> int:
        """
        Start a channel; between two resips data may follow at once.

        :raises ValueError: when the host is not an address.
        :raises LimitError: when there are too many channels.
        """
        ipaddress.ip_address(target.host)
        if len(self._channels) >= self._configuration.max_channels:
            raise LimitError(f"the session has {len(self._channels)} channels, as many as allowed")
        if not self._outbound.has_command_room:
            raise LimitError("too many commands wait for the peer, which does not answer")
        if self._next_channel > LAST_CHANNEL:
            raise LimitError("the session has used up its channel ids")
        channel_id = self._next_channel
        self._next_channel += 1
        channel = self._add_channel(
            channel_id, target, state=ChannelState.OPENING, compress=compress
        )
        channel.flow.is_held = self._peer.needs_response_before_data
        start = Start(channel_id, target.protocol, target.host, target.port, compress)
        channel.start_number = self._outbound.send_command(start.encode())
        if self._peer.lost_response_timeout is not None:
            self._unanswered[channel_id] = channel
        return channel_id

    def accept_channel(self, channel_id: int, *, now: float) -> None:
        """
        Servers do not start channels in this dialect.
        """
        raise ChannelError("a classic client is never asked for a channel")

    def refuse_channel(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Servers do not start channels in this dialect.
        """
        raise ChannelError("a classic client is never asked for a channel")

    def use_path(self, path: Path, *, now: float) -> None:
        """
        Send on ``path``, at once a keep-alive, by which the server learns of it.
        """
        if self._path is not None and self._path.is_reliable and path != self._path:
            self._outbound.recovery.declare_all_lost(now=now)
        self._set_path(path)
        self.retry(now=now)

    def retry(self, *, now: float) -> None:
        """
        Probe at once.
        """
        super().retry(now=now)
        self._ask(now=now)

    def get_timer(self) -> float | None:
        """
        When anything is due.
        """
        times = [self._liveness.keep_alive_time(has_channels=bool(self._channels))]
        times += [c.opened_by for c in self._unanswered.values() if c.opened_by is not None]
        report_time = self._liveness.report_time()
        if report_time is not None:
            times.append(report_time)
        send_time = self._outbound.get_timer() if self._path is not None else None
        if send_time is not None:
            times.append(send_time)
        return min(times)

    def handle_timer(self, *, now: float) -> None:
        """
        Probes, keep-alives, doubts.
        """
        if self._path is not None and self._outbound.handle_timer(now=now):
            self._ask(now=now)
        if now >= self._liveness.keep_alive_time(has_channels=bool(self._channels)):
            self._ask(now=now)
        for channel in list(self._unanswered.values()):
            if channel.opened_by is not None and now >= channel.opened_by:
                self._open(channel)
        report_time = self._liveness.report_time()
        if report_time is not None and now >= report_time:
            self._events.append(PeerSilent(self._liveness.silence(now=now)))

    def _ask(self, *, now: float) -> None:
        self._liveness.on_asked(now=now)
        if self._path is not None:
            self._outbound.send_unordered(KeepAlive().encode())

    def _on_life(self, path: Path, *, now: float) -> None:
        self._liveness.on_received(now=now)
        for channel in self._unanswered.values():
            timeout = self._peer.lost_response_timeout
            is_acked = self._outbound.is_command_acknowledged(channel.start_number)
            if is_acked and channel.opened_by is None and timeout is not None:
                channel.opened_by = now + timeout

    def _on_command(self, command: AnyCommand, *, now: float) -> None:
        if isinstance(command, Response):
            channel = self._channels.get(command.channel_id)
            if channel is not None:
                self._open(channel)

    def _open(self, channel: Channel) -> None:
        self._unanswered.pop(channel.channel_id, None)
        if channel.state is not ChannelState.OPENING:
            return
        channel.state = ChannelState.OPEN
        channel.flow.is_held = False
        self._events.append(ChannelOpened(channel.channel_id))
        self._outbound.wants_to_send(channel.flow)
        self._readable[channel.channel_id] = None
        self._after_progress(channel.channel_id)

    def _on_stop(self, stop: Stop, *, now: float) -> None:
        channel = self._channels.get(stop.channel_id)
        if channel is None:
            return
        if stop.last:
            self._open(channel)  # the prototype's response may be lost
        elif channel.state is ChannelState.OPENING and not channel.receiver.highest:
            self._reset_locally(channel, ResetCode.REFUSED)
            return
        if not stop.last and not self._is_plain_end(channel):
            # A server ends a direction in which it sent nothing with one empty packet, so that
            # a stop without any is never an end: its target failed, or was reset.
            sent_before = channel.receiver.highest
            code = ResetCode.CANCELLED if sent_before else ResetCode.CONNECT_FAILED
            self._terminate(channel.channel_id)
            self._reset_locally(channel, code)
            return
        self._end_received(channel, stop.last)

    def _is_plain_end(self, channel: Channel) -> bool:
        return self._peer.closes_both_directions and channel.sender.stop_sent

    def _send_reset(self, channel: Channel, code: ResetCode) -> None:
        self._terminate(channel.channel_id)

    def _on_done(self, channel: Channel) -> None:
        self._terminate(channel.channel_id)

    def _terminate(self, channel_id: int) -> None:
        self._outbound.send_command(Terminate(channel_id).encode())

    def _forget(self, channel: Channel) -> None:
        self._unanswered.pop(channel.channel_id, None)
        super()._forget(channel)
