"""
The channels of a modern session by their ids: how they begin, within limits, and how they end.
"""

from __future__ import annotations

from resip.core.errors import ChannelError, LimitError, ProtocolError, ResetCode
from resip.core.modern.channel import Channel, ChannelState
from resip.core.modern.channel_ids import ChannelIds
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.connection import Connection
from resip.core.modern.flow import Flow
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, MAX_CHANNEL_WINDOW, SendCredit
from resip.core.modern.frames import open_frame, reset_frame
from resip.core.modern.granted_credit import MAX_ABANDONED, GrantedCredit
from resip.core.modern.send_stream import SendStream
from resip.core.types import Target

#: Control frames that the peer has not acknowledged, although it goes on asking for more.
MAX_UNACKED_FRAMES = 16_384


class ChannelLimitError(ProtocolError):
    """
    The peer makes more channels than anybody has to remember: CLOSE code LIMIT.
    """


class ChannelTable:
    """
    Owns which channels there are.

    :ivar by_id: those that are not over. Only the table adds and removes.
    :param granted: the credit that channels take up and give back.
    :param peer_channel_credit: bytes of each channel that the peer takes at first.
    """

    __slots__ = (
        "_configuration",
        "_granted",
        "_ids",
        "_is_closed",
        "_outbox",
        "_peer_channel_credit",
        "_trace",
        "by_id",
    )

    def __init__(
        self,
        connection: Connection,
        configuration: ModernConfiguration,
        granted: GrantedCredit,
        *,
        is_client: bool,
        peer_channel_credit: int,
    ) -> None:
        self.by_id: dict[int, Channel] = {}
        self._outbox = connection.outbox
        self._trace = connection.trace
        self._configuration = configuration
        self._granted = granted
        self._ids = ChannelIds(is_client=is_client)
        self._is_closed = False
        self._peer_channel_credit = peer_channel_credit

    def open(self, target: Target, *, compress: bool, now: float) -> Channel:
        """
        A channel that this side begins; the peer is told with OPEN.

        :raises ChannelError: when the session is over.
        :raises LimitError: when there are as many as allowed.
        :raises ValueError: when the target does not fit into the frame.
        """
        if self._is_closed:
            raise ChannelError("the session is over")
        if len(self.by_id) >= self._configuration.max_channels:
            raise LimitError(f"the session has {len(self.by_id)} channels, as many as allowed")
        if self._granted.is_overdrawn:
            raise LimitError(f"the peer has not heard yet that {MAX_ABANDONED} channels were reset")
        frame = open_frame(self._ids.next_id, target, is_compressed=compress)
        channel = self._add(self._ids.take(), ChannelState.OPENING, target, now=now)
        if compress:
            channel.compress()
        self._outbox.say(frame)
        return channel

    def find(self, channel_id: int, *, now: float) -> Channel | None:
        """
        A channel, made if the peer may begin it with this frame; ``None`` if it is over.

        :raises ChannelLimitError: when the peer has begun too many that are not settled.
        :raises ProtocolError: for an id that the peer may not use.
        """
        channel = self.by_id.get(channel_id)
        if channel is not None:
            return channel
        if self._is_closed or not self._ids.claim(channel_id):
            return None
        if self._granted.is_overdrawn or self._outbox.unacked >= MAX_UNACKED_FRAMES:
            raise ChannelLimitError(f"channel {channel_id} is one of too many")
        channel = self._add(channel_id, ChannelState.EXPECTED, None, now=now)
        if len(self.by_id) > self._configuration.max_channels:
            self.abandon(channel, ResetCode.REFUSED, now=now)
            return None
        return channel

    def existing(self, channel_id: int) -> Channel:
        """
        A channel that the owner names.

        :raises ChannelError: when it is over, or never was.
        """
        try:
            return self.by_id[channel_id]
        except KeyError:
            raise ChannelError(f"there is no channel {channel_id}") from None

    def requested(self, channel_id: int) -> Channel:
        """
        A channel that the owner answers.

        :raises ChannelError: when there is nothing to answer.
        """
        channel = self.existing(channel_id)
        if channel.state is not ChannelState.REQUESTED:
            raise ChannelError(f"channel {channel_id} was answered before")
        return channel

    def say_reset(self, channel: Channel, code: ResetCode) -> None:
        """
        Tell the peer that this side sends no more, and how much it has sent.
        """
        self._outbox.say(reset_frame(channel.channel_id, code, channel.flow.stream.next_offset))

    def abandon(self, channel: Channel, code: ResetCode, *, now: float) -> None:
        """
        Reset a channel; the peer still owes the count of what it has sent.
        """
        self.say_reset(channel, code)
        self._granted.abandon(channel, now=now)
        self.forget(channel, now=now)

    def forget(self, channel: Channel, *, now: float) -> None:
        """
        A channel is over.
        """
        del self.by_id[channel.channel_id]
        end = "closed" if channel.is_done else "reset"
        self._trace.channel_updated(channel.channel_id, end, now=now)
        self._granted.forget(channel, now=now)

    def close(self) -> None:
        """
        The session is over: there are no channels, and there will be none.
        """
        self._is_closed = True
        self.by_id.clear()

    def _add(
        self, channel_id: int, state: ChannelState, target: Target | None, *, now: float
    ) -> Channel:
        configuration = self._configuration
        flow = Flow(
            channel_id,
            SendStream(limit=configuration.send_buffer),
            SendCredit(self._peer_channel_credit),
            datagram_lifetime=configuration.datagram_lifetime,
            datagram_queue=configuration.datagram_queue,
        )
        channel = self.by_id[channel_id] = Channel(
            flow,
            self._outbox,
            state=state,
            target=target,
            window=INITIAL_CHANNEL_WINDOW,
            max_window=MAX_CHANNEL_WINDOW,
        )
        self._trace.channel_updated(channel_id, "open", now=now)
        return channel
