"""
The channels of a modern session: what frames do to them, and what their owner hears.
"""

from __future__ import annotations

from resip.core.errors import ChannelError, ProtocolError, ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    ChannelOpened,
    ChannelRequested,
    ChannelReset,
    ChannelWritable,
    DataReceived,
    Event,
)
from resip.core.modern.backpressure import Backpressure
from resip.core.modern.channel import Channel, ChannelState
from resip.core.modern.channel_table import ChannelTable
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.connection import Connection
from resip.core.modern.flow_control import CreditWindow, FlowControlError, SendCredit
from resip.core.modern.frames import opened_frame
from resip.core.modern.granted_credit import GrantedCredit
from resip.core.modern.parking import release_room
from resip.core.modern.pieces import Pieces
from resip.core.types import Target


class Channels:
    """
    Owns every channel, with the credit and the room that they share.

    :ivar events: for the owner, oldest first.
    :ivar now: the time of whatever is going on; set it before every call, seconds.
    """

    __slots__ = (
        "_backpressure",
        "_configuration",
        "_connection",
        "_finishing",
        "_granted",
        "_losses",
        "_outbound",
        "_outbox",
        "_readable",
        "_session_credit",
        "_table",
        "events",
        "now",
    )

    def __init__(
        self,
        connection: Connection,
        configuration: ModernConfiguration,
        *,
        is_client: bool,
        peer_channel_credit: int,
        session_window: CreditWindow,
        session_credit: SendCredit,
    ) -> None:
        self.events: list[Event] = []
        self.now = 0.0
        self._connection = connection
        self._outbound = connection.outbound
        self._outbox = connection.outbox
        self._configuration = configuration
        self._session_credit = session_credit
        self._granted = GrantedCredit(connection, session_window)
        self._backpressure = Backpressure(configuration)
        self._table = ChannelTable(
            connection,
            configuration,
            self._granted,
            is_client=is_client,
            peer_channel_credit=peer_channel_credit,
        )
        self._readable: dict[int, None] = {}
        self._finishing: dict[int, None] = {}
        self._losses = 0

    def __len__(self) -> int:
        """
        How many channels there are.
        """
        return len(self._table.by_id)

    @property
    def is_idle(self) -> bool:
        """
        Whether nothing is kept for anybody, so that a session can be folded up.
        """
        if self.events or self._readable or self._finishing or self._backpressure.kept:
            return False
        return all(channel.is_idle for channel in self._table.by_id.values())

    def rest(self) -> None:
        """
        Nothing went on for long.
        """
        release_room(self._table.by_id, self._readable, self._finishing)
        self._granted.rest()

    def dissolve(self) -> None:
        """
        These objects are not needed any more: undo the circles in which they hold each other.
        """
        for channel in self._table.by_id.values():
            channel.credit_source.close()
        self._granted.clear()

    # Verbs.

    def open(self, target: Target, *, compress: bool) -> int:
        """
        Ask for a channel; data may follow at once.
        """
        return self._table.open(target, compress=compress, now=self.now).channel_id

    def accept(self, channel_id: int) -> None:
        """
        Say yes to a request.
        """
        channel = self._table.requested(channel_id)
        channel.state = ChannelState.OPEN
        self._outbox.say(opened_frame(channel_id))
        self._readable[channel_id] = None

    def refuse(self, channel_id: int, code: ResetCode) -> None:
        """
        Say no to a request.
        """
        self._table.requested(channel_id)
        self.reset(channel_id, code)

    def write(self, channel_id: int, data: bytes) -> int:
        """
        Queue bytes of a stream, or a datagram.
        """
        channel = self._table.existing(channel_id)
        flow, stream = channel.flow, channel.flow.stream
        if stream.end_mark is not None:
            raise ChannelError(f"channel {channel_id} was ended and takes no more data")
        if channel.is_datagram:
            flow.queue_datagram(data, now=self.now)
            self._outbound.wants_to_send(flow)
            return len(data)
        accepted = self._backpressure.accept(channel, len(data))
        data = data[:accepted]
        if data:
            wire = data if channel.deflater is None else channel.deflater.write(data)
            stream.append(wire)
            self._backpressure.keep(len(wire))
            self._outbound.wants_to_send(flow)
        return accepted

    def end(self, channel_id: int) -> None:
        """
        Nothing more will be written.
        """
        channel = self._table.existing(channel_id)
        channel.flow.stream.end()
        self._outbound.wants_to_send(channel.flow)

    def reset(self, channel_id: int, code: ResetCode) -> None:
        """
        Abandon a channel.
        """
        self._abandon(self._table.existing(channel_id), code)
        # What was reported and not yet fetched would come after the caller's farewell.
        late = [event for event in self.events if getattr(event, "channel_id", 0) == channel_id]
        for event in late:
            self.events.remove(event)
        self.wake_writers()

    def consume(self, channel_id: int, count: int) -> None:
        """
        The owner took received bytes.
        """
        channel = self._table.by_id.get(channel_id)
        if channel is None:
            return
        if not 0 <= count <= channel.unconsumed:
            raise ChannelError(f"channel {channel_id} gave {channel.unconsumed} bytes, not {count}")
        if channel.is_datagram:
            channel.unconsumed -= count
        else:
            self._granted.consumed(channel, channel.consume(count), now=self.now)
        if channel.is_readable:
            self._readable[channel_id] = None

    def next_event(self) -> Event | None:
        """
        The next thing to tell the owner.
        """
        while not self.events and self._readable:
            channel_id = next(iter(self._readable))
            del self._readable[channel_id]
            self._read(channel_id)
        return self.events.pop(0) if self.events else None

    def close(self) -> None:
        """
        The session is over.
        """
        for channel in self._table.by_id.values():
            if channel.state is not ChannelState.EXPECTED:
                self.events.append(ChannelReset(channel.channel_id, ResetCode.SESSION_LOST))
        self._table.close()
        self._granted.clear()
        self._backpressure.clear()
        self._readable.clear()
        self._finishing.clear()

    # Time.

    def get_timer(self) -> float | None:
        """
        When credit has to be announced.
        """
        return self._granted.get_timer()

    def handle_timer(self) -> None:
        """
        Announce what is due.
        """
        self._granted.handle_timer(now=self.now)

    def wake_writers(self) -> None:
        """
        Tell the owners of full channels that have room again.
        """
        self.events.extend(map(ChannelWritable, self._backpressure.take_writable()))

    # Frames: a ChannelSink, but for what concerns the session.

    def on_open(self, channel_id: int, target: Target, *, is_compressed: bool) -> None:
        """
        OPEN.
        """
        channel = self._table.find(channel_id, now=self.now)
        if channel is None or channel.state is not ChannelState.EXPECTED:
            return
        channel.state = ChannelState.REQUESTED
        channel.target = target
        if is_compressed:
            channel.compress()
        self.events.append(ChannelRequested(channel_id, target))

    def on_opened(self, channel_id: int) -> None:
        """
        OPENED.
        """
        channel = self._table.by_id.get(channel_id)
        if channel is not None and channel.state is ChannelState.OPENING:
            channel.state = ChannelState.OPEN
            self.events.append(ChannelOpened(channel_id))
            self._readable[channel_id] = None

    def on_end(self, channel_id: int, final_size: int) -> None:
        """
        END.
        """
        channel = self._table.find(channel_id, now=self.now)
        if channel is not None:
            channel.stream.end(final_size)
            self._readable[channel_id] = None

    def on_reset(self, channel_id: int, code: ResetCode, sent: int) -> None:
        """
        RESET: answered with our own, whose count of bytes the peer needs for its credit.
        """
        channel = self._table.find(channel_id, now=self.now)
        self._granted.settle(channel_id, sent, now=self.now)
        if channel is None:
            return
        if sent > channel.stream.limit:
            raise FlowControlError(f"a stream reached {sent}; {channel.stream.limit} were allowed")
        self._granted.write_off(sent - channel.window.received, now=self.now)
        self._table.say_reset(channel, code)
        self._forget(channel)
        if channel.state is not ChannelState.EXPECTED:
            self.events.append(ChannelReset(channel_id, code))

    def on_credit(self, channel_id: int, delivered: int, limit: int) -> None:
        """
        CREDIT.
        """
        channel = self._table.by_id.get(channel_id)
        if channel is None:
            return
        flow = channel.flow
        kept = channel.kept
        flow.stream.on_delivered(delivered)
        self._backpressure.free(kept - channel.kept)
        flow.credit.on_limit(limit)
        self._outbound.wants_to_send(flow)
        self.close_if_done(channel)

    def on_session_credit(self, limit: int) -> None:
        """
        SESSION_CREDIT.
        """
        if self._session_credit.on_limit(limit):
            for channel in self._table.by_id.values():
                self._outbound.wants_to_send(channel.flow)

    def on_stream(self, channel_id: int, offset_low32: int, pieces: Pieces) -> bool:
        """
        STREAM or PIECE, or several in a row, each of which begins where the one before ends.

        :return: whether any of it may be new.
        """
        channel = self._table.by_id.get(channel_id) or self._table.find(channel_id, now=self.now)
        if channel is None:
            return True
        stream = channel.stream
        before = stream.next_offset
        grown = stream.receive_truncated(offset_low32, pieces)
        if grown:
            self._granted.on_received(channel, grown, now=self.now)
        if stream.ready:
            self._readable[channel_id] = None
        return stream.next_offset > before or stream.highest > stream.next_offset

    def on_datagram(self, channel_id: int, data: bytes) -> None:
        """
        DATAGRAM: a few are kept until somebody is there to take them.
        """
        channel = self._table.by_id.get(channel_id) or self._table.find(channel_id, now=self.now)
        if channel is None or channel.end_reported:
            return
        if channel.state is not ChannelState.OPEN:
            channel.keep_early(data, limit=self._configuration.datagram_queue)
        elif channel.is_datagram:
            self._deliver_datagram(channel, data)

    def after_input(self) -> None:
        """
        Acknowledgements may have ended channels, and losses given others something to repeat.
        """
        stats = self._connection.recovery.stats
        losses = stats.packets_lost + stats.packets_expired
        if losses != self._losses:
            self._losses = losses
            for channel in self._table.by_id.values():
                self._outbound.wants_to_send(channel.flow)
        for channel_id in list(self._finishing):
            self.close_if_done(self._table.by_id[channel_id])
        self.wake_writers()

    def close_if_done(self, channel: Channel) -> None:
        """
        Forget a channel whose both directions are over.
        """
        if channel.is_done:
            self._forget(channel)
            self.events.append(ChannelClosed(channel.channel_id))

    # Inner parts.

    def _read(self, channel_id: int) -> None:
        channel = self._table.by_id.get(channel_id)
        if channel is None or channel.state is not ChannelState.OPEN:
            return
        while channel.early:
            data = channel.early.popleft()
            if channel.is_datagram:
                self._deliver_datagram(channel, data)
        room = self._configuration.receive_buffer - channel.unconsumed
        if room > 0 and channel.is_readable:
            data = self._read_plain(channel, room)
            if data:
                self.events.append(DataReceived(channel_id, data))
        if channel_id not in self._table.by_id:
            return
        if channel.stream.is_finished and not channel.is_readable and not channel.end_reported:
            channel.end_reported = True
            self._finishing[channel_id] = None
            self.events.append(ChannelEnded(channel_id))
            self._granted.tell_delivered(channel)
        elif channel.is_readable and channel.unconsumed < self._configuration.receive_buffer:
            self._readable[channel_id] = None

    def _read_plain(self, channel: Channel, room: int) -> bytes:
        try:
            data = channel.read(room)
        except ProtocolError:
            self._abandon(channel, ResetCode.PROTOCOL)
            self.events.append(ChannelReset(channel.channel_id, ResetCode.PROTOCOL))
            return b""
        if channel.inflater is not None and not data:
            self._granted.consumed(channel, channel.consume(0), now=self.now)
        return data

    def _deliver_datagram(self, channel: Channel, data: bytes) -> None:
        if channel.unconsumed < self._configuration.receive_buffer:
            channel.unconsumed += len(data)
            self.events.append(DataReceived(channel.channel_id, data))

    def _abandon(self, channel: Channel, code: ResetCode) -> None:
        self._table.abandon(channel, code, now=self.now)
        self._drop(channel)

    def _forget(self, channel: Channel) -> None:
        self._table.forget(channel, now=self.now)
        self._drop(channel)

    def _drop(self, channel: Channel) -> None:
        self._readable.pop(channel.channel_id, None)
        self._finishing.pop(channel.channel_id, None)
        self._backpressure.forget(channel)
        self._outbound.forget(channel.flow)
