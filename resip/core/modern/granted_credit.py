"""
The credit that this side grants the peer, channel by channel and for all of them together, and
what channels that were abandoned still owe to it.
"""

from __future__ import annotations

from resip.core.modern.channel import Channel
from resip.core.modern.connection import Connection
from resip.core.modern.flow_control import CreditWindow
from resip.core.modern.frames import session_credit_frame
from resip.core.modern.outbox import CreditSource
from resip.core.modern.parking import release_room

#: Channels that this side reset and whose last count of bytes the peer still owes.
MAX_ABANDONED = 4096


class GrantedCredit:
    """
    Counts what arrives and what is taken, and decides when to announce more.

    :param window: of all channels together; each channel brings its own.
    """

    __slots__ = ("_abandoned", "_connection", "_owing", "_source", "_window")

    def __init__(self, connection: Connection, window: CreditWindow) -> None:
        self._connection = connection
        self._window = window
        self._source = CreditSource(connection.outbox, self._build)
        #: What was received of the channels that this side reset, until the peer tells what it
        #: sent: only then both agree on the session's credit.
        self._abandoned: dict[int, int] = {}
        #: Channels of which a delivery waits to be announced.
        self._owing: dict[int, Channel] = {}

    @property
    def is_overdrawn(self) -> bool:
        """
        Whether so many abandoned channels are unsettled that no more may begin.
        """
        return len(self._abandoned) >= MAX_ABANDONED

    # The life of a channel.

    def on_received(self, channel: Channel, count: int, *, now: float) -> None:
        """
        The highest offset of a channel rose by ``count`` bytes.

        :raises FlowControlError: when the peer had no credit for them.
        """
        channel.window.on_received(count)
        self._widen(channel, now=now)
        self._window.on_received(count)
        # What sleeping readers leave here must not take the credit of the others.
        if self._window.widen(now=now, rtt=self._rtt):
            self._source.say()

    def consumed(self, channel: Channel, count: int, *, now: float) -> None:
        """
        The owner of a channel took ``count`` bytes, as they were on the wire.
        """
        channel.window.consumed(count, now=now, rtt=self._rtt)
        self._window.consumed(count, now=now, rtt=self._rtt)
        self._owing[channel.channel_id] = channel
        self._announce(channel, now=now)
        self._announce_session(now=now)
        self.tell_delivered(channel)

    def tell_delivered(self, channel: Channel) -> None:
        """
        Announce that the owner took everything, if it did.
        """
        if channel.is_delivered:
            channel.credit_source.say()

    def abandon(self, channel: Channel, *, now: float) -> None:
        """
        A channel is reset by this side. What the peer sent of it and did not arrive stays on
        its account, and on ours, until it answers; if its END came that is known already.
        """
        final_size = channel.stream.final_size
        if final_size is None:
            self._abandoned[channel.channel_id] = channel.window.received
            return
        # Should that exceed the credit, the next data says so; the caller is not at fault.
        missing = final_size - channel.window.received
        self._window.received += missing
        self._release(missing, now=now)

    def settle(self, channel_id: int, sent: int, *, now: float) -> None:
        """
        The peer tells what it sent of a channel, which this side may have abandoned.

        :raises FlowControlError: when the peer had no credit for that.
        """
        received = self._abandoned.pop(channel_id, None)
        if received is not None:
            self.write_off(sent - received, now=now)

    def write_off(self, count: int, *, now: float) -> None:
        """
        The peer sent ``count`` bytes that nobody waits for any more.

        :raises FlowControlError: when the peer had no credit for them.
        """
        if count > 0:
            self._window.on_received(count)
            self._release(count, now=now)

    def forget(self, channel: Channel, *, now: float) -> None:
        """
        A channel is over: what its owner did not take is given back to the others.
        """
        self._owing.pop(channel.channel_id, None)
        channel.credit_source.close()
        self._release(channel.window.received - channel.window.delivered, now=now)

    def rest(self) -> None:
        """
        Nothing was received for long.
        """
        release_room(self._owing, self._abandoned)

    def clear(self) -> None:
        """
        The session is over.
        """
        self._abandoned.clear()
        self._owing.clear()
        self._source.close()

    # Time.

    def get_timer(self) -> float | None:
        """
        When credit has to be announced.
        """
        is_said = self._connection.outbox.has_credit(self._source)
        times = [None if is_said else self._window.due_time]
        times += [channel.window.due_time for channel in self._owing.values()]
        return min([time for time in times if time is not None], default=None)

    def handle_timer(self, *, now: float) -> None:
        """
        Announce what is due.
        """
        for channel in list(self._owing.values()):
            self._announce(channel, now=now)
        self._announce_session(now=now)

    # Inner parts.

    @property
    def _rtt(self) -> float:
        return self._connection.recovery.rtt.smoothed

    def _release(self, count: int, *, now: float) -> None:
        if count:
            self._window.consumed(count, now=now, rtt=self._rtt)
            self._announce_session(now=now)

    def _announce(self, channel: Channel, *, now: float) -> None:
        if channel.window.due_time is None:
            self._owing.pop(channel.channel_id, None)
        elif channel.window.is_due(now=now):
            self._owing.pop(channel.channel_id, None)
            channel.credit_source.say()

    def _announce_session(self, *, now: float) -> None:
        if self._window.is_due(now=now):
            self._source.say()

    def _widen(self, channel: Channel, *, now: float) -> None:
        # What the reader could take and does not is no reason for a larger window.
        window = channel.window
        if 4 * channel.stream.ready > window.window:
            return
        if window.widen(now=now, rtt=self._rtt):
            channel.credit_source.say()

    def _build(self) -> tuple[bytes, int]:
        limit = self._window.announce()
        return session_credit_frame(limit), limit
