"""
Joins a session to carriers, to the clock, and to the users of its channels.

Every input ends in the same turn: deliver what the session reports, send what it wants to
send, and wake up when it asks to. The first input after a pause is acted on at once, since
somebody may wait for the answer; those that follow closely are folded into one turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from resip.carriers.channels import Channel, ChannelUser
from resip.carriers.interfaces import Carrier
from resip.carriers.session_channel import SessionChannel
from resip.carriers.tcp_socket import MAX_HASTY_WRITE
from resip.core import events
from resip.core.errors import ChannelError, ResetCode
from resip.core.session import Session
from resip.core.types import Path, Target

#: Seconds to the next look at a session whose carrier takes nothing: the carrier itself
#: calls back when it does, so this only bounds the damage of a mistake.
BLOCKED_INTERVAL = 0.05
#: Packets within so many seconds of the last turn are folded into the next one, and so are writes
#: within so many seconds of the last that was sent at once. Under load this makes batches; an
#: echo over loopback takes a quarter less time than if all were folded.
FOLD_INTERVAL = 0.0005
#: After a turn that sent so many packets everything is folded: bulk gains nothing from haste.
BULK_PACKETS = 16


class SessionDriver:
    """
    Owns one session for its lifetime.

    :param carriers: by the name that their paths carry.
    :param clock: for relative delays only.
    :param now: monotonic seconds; what the session is told.
    :param on_request: called with each channel that the peer asks for.
    :param on_path: called when the session sends elsewhere.
    :param on_path_answer: called with a path by which the peer answers.
    :param on_path_silence: called when it does not answer by the path in use.
    :param on_path_delivery: called with what the path in use carried, a few times a second.
    :param on_silence: called with the seconds for which the peer has owed an answer.
    :param on_answer: called when the peer shows life after a silence, or after it was out of reach.
    :param on_lost: called with the reason when the peer has ended or forgotten the session.
    """

    __slots__ = (
        "_carriers",
        "_channels",
        "_clock",
        "_deadline",
        "_is_bulk",
        "_is_stopped",
        "_is_turning",
        "_last_turn_time",
        "_last_write_time",
        "_now",
        "_on_answer",
        "_on_lost",
        "_on_path",
        "_on_path_answer",
        "_on_path_delivery",
        "_on_path_silence",
        "_on_request",
        "_on_silence",
        "_silent_since",
        "_timer_call",
        "_turn_call",
        "session",
    )

    _log = Logger()

    def __init__(
        self,
        session: Session,
        carriers: Mapping[str, Carrier],
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        on_request: Callable[[Channel], None] | None = None,
        on_path: Callable[[Path | None], None] | None = None,
        on_path_answer: Callable[[Path], None] | None = None,
        on_path_silence: Callable[[Path], None] | None = None,
        on_path_delivery: Callable[[events.PathDelivered], None] | None = None,
        on_silence: Callable[[float], None] | None = None,
        on_answer: Callable[[], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        self.session = session
        self._carriers = carriers
        self._clock = clock
        self._now = now
        self._on_request = on_request
        self._on_path = on_path
        self._on_path_answer = on_path_answer
        self._on_path_silence = on_path_silence
        self._on_path_delivery = on_path_delivery
        self._on_silence = on_silence
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._silent_since: float | None = None
        self._channels: dict[int, SessionChannel] = {}
        self._is_turning = self._is_stopped = self._is_bulk = False
        self._last_turn_time = self._last_write_time = -FOLD_INTERVAL
        self._turn_call: IDelayedCall | None = None
        self._timer_call: IDelayedCall | None = None
        self._deadline: float | None = None

    @property
    def resolves_names(self) -> bool:
        """
        Whether targets may be host names.
        """
        return self.session.resolves_names

    @property
    def channel_count(self) -> int:
        """
        How many channels have a user or wait for an answer.
        """
        return len(self._channels)

    @property
    def is_peer_silent(self) -> bool:
        """
        Whether the peer fell silent, or has no path, and has not answered since.
        """
        return self._silent_since is not None

    # Input.

    def receive_datagrams(self, packets: Sequence[bytes], path: Path) -> bool:
        """
        A carrier delivered packets; returns whether any was authentic.
        """
        if self._is_stopped:
            return False
        is_authentic = self.session.receive_datagrams(packets, path, now=self._now())
        if is_authentic:
            self.input_received()
        return is_authentic

    def use_path(self, path: Path) -> None:
        """
        Send on ``path`` from now on.
        """
        self.session.use_path(path, now=self._now())
        self.turn_soon()

    def probe_path(self, path: Path) -> None:
        """
        Ask whether the peer answers by a path that is not in use.
        """
        self.session.probe_path(path, now=self._now())
        self.turn_soon()

    def path_closed(self, path: Path) -> None:
        """
        The carrier of ``path`` is gone.
        """
        self.session.path_closed(path, now=self._now())
        self.turn_soon()

    def retry(self) -> None:
        """
        Probe the path at once.
        """
        self.session.retry(now=self._now())
        self.turn_soon()

    # Channels. The session forgets a channel before its user has heard that it is gone, so what
    # the user does in between is not an error.

    def open_channel(self, target: Target, user: ChannelUser, *, compress: bool = False) -> Channel:
        """
        Open a channel; ``user`` hears what happens on it, from the next turn on.

        :raises ValueError: when the session cannot carry the target.
        :raises LimitError: when it has as many channels as it may have.
        """
        channel_id = self.session.open_channel(target, now=self._now(), compress=compress)
        channel = self._channels[channel_id] = SessionChannel(self, channel_id, target)
        channel.user = user
        self.turn_soon()
        return channel

    def accept(self, channel_id: int) -> None:
        """
        Answer a request with yes.
        """
        with suppress(ChannelError):
            self.session.accept_channel(channel_id, now=self._now())
        self.turn_soon()

    def refuse(self, channel_id: int, code: ResetCode) -> None:
        """
        Answer a request with no.
        """
        self._detach(channel_id)
        with suppress(ChannelError):
            self.session.refuse_channel(channel_id, code, now=self._now())
        self.turn_soon()

    def write(self, channel_id: int, data: bytes) -> int:
        """
        Queue data on a channel.
        """
        accepted = 0
        now = self._now()
        with suppress(ChannelError):
            accepted = self.session.write(channel_id, data, now=now)
        is_rested = now - self._last_write_time > FOLD_INTERVAL
        if is_rested and len(data) <= MAX_HASTY_WRITE and not self._is_turning:
            # Only send: events would reach users that are in the middle of this very call.
            self._last_write_time = now
            self._send()
        self.turn_soon()
        return accepted

    def end(self, channel_id: int) -> None:
        """
        End this side's direction of a channel.
        """
        with suppress(ChannelError):
            self.session.end(channel_id, now=self._now())
        self.turn_soon()

    def reset(self, channel_id: int, code: ResetCode) -> None:
        """
        Abandon a channel.
        """
        self._detach(channel_id)
        with suppress(ChannelError):
            self.session.reset(channel_id, code, now=self._now())
        self.turn_soon()

    def consume(self, channel_id: int, count: int) -> None:
        """
        Received bytes of a channel were taken.
        """
        self.session.consume(channel_id, count, now=self._now())
        self.turn_soon()

    def stop(self) -> None:
        """
        Close the session, tell every user, send what announces it, and never wake up again.
        """
        if self._is_stopped:
            return
        self.session.close(now=self._now())
        self._turn(is_last=True)
        self._is_stopped = True
        for call in (self._turn_call, self._timer_call):
            if call is not None and call.active():
                call.cancel()
        self._turn_call = self._timer_call = None

    # The turn.

    def input_received(self) -> None:
        """
        The session took a packet: act on it now, or together with those that follow.
        """
        is_rested = not self._is_bulk and self._now() - self._last_turn_time > FOLD_INTERVAL
        if is_rested and not self._is_turning and not self._is_stopped:
            self._turn()
        else:
            self.turn_soon()

    def turn_soon(self) -> None:
        """
        Something changed: take a turn in the reactor's next iteration.
        """
        if self._turn_call is None and not self._is_turning and not self._is_stopped:
            self._turn_call = self._clock.callLater(0, self._turn)

    def _turn(self, *, is_last: bool = False) -> None:
        if self._turn_call is not None and self._turn_call.active():
            self._turn_call.cancel()
        self._turn_call = None
        self._last_turn_time = self._now()
        self._is_turning = True
        try:
            self._deliver_events()
            is_blocked = self._send(even_if_full=is_last)
            self._deliver_events()
            if self._silent_since is not None:
                self._look_for_answer(self._silent_since)
        finally:
            self._is_turning = False
        self._arm(is_blocked=is_blocked)

    def _send(self, *, even_if_full: bool = False) -> bool:
        for other, packets in self.session.probes_to_send(now=self._now()):
            if other.carrier in self._carriers:
                self._carriers[other.carrier].send(other, packets)
        path = self.session.path
        if path is None:
            return False
        carrier = self._carriers.get(path.carrier)
        if carrier is None or not (even_if_full or carrier.is_writable(path)):
            return True
        count = 0
        for path, packets in self.session.datagrams_to_send(now=self._now()):
            self._carriers[path.carrier].send(path, packets)
            count += len(packets)
        self._is_bulk = count >= BULK_PACKETS
        return False

    def _arm(self, *, is_blocked: bool) -> None:
        if self._is_stopped:
            return
        deadline = self.session.get_timer()
        if deadline is not None and is_blocked:
            deadline = max(deadline, self._now() + BLOCKED_INTERVAL)
        call = self._timer_call
        if deadline is None:
            if call is not None and call.active():
                call.cancel()
            self._timer_call = None
        elif call is None or not call.active():
            self._timer_call = self._clock.callLater(self._delay(deadline), self._on_timer)
        elif deadline != self._deadline:
            call.reset(self._delay(deadline))
        self._deadline = deadline

    def _delay(self, deadline: float) -> float:
        return max(0.0, deadline - self._now())

    def _on_timer(self) -> None:
        # The reactor's clock is not ours: only our own says whether the deadline has passed.
        self.session.handle_timer(now=self._now())
        self._turn()

    # Events.

    def _deliver_events(self) -> None:
        while (event := self.session.next_event()) is not None:
            try:
                self._deliver(event)
            except ChannelError:
                # A user that acts on a channel which the same batch of events took away.
                self._log.debug(
                    "late call on a channel of session {id}", id=self.session.session_id
                )

    def _deliver(self, event: events.Event) -> None:
        match event:
            case events.DataReceived(channel_id, data):
                if (user := self._user(channel_id)) is not None:
                    user.data_received(data)
            case events.ChannelWritable(channel_id):
                if (user := self._user(channel_id)) is not None:
                    user.channel_writable()
            case events.ChannelOpened(channel_id):
                if (user := self._user(channel_id)) is not None:
                    user.channel_opened()
            case events.ChannelEnded(channel_id):
                if (user := self._user(channel_id)) is not None:
                    user.channel_ended()
            case events.ChannelClosed(channel_id):
                if (user := self._detach(channel_id)) is not None:
                    user.channel_closed()
            case events.ChannelReset(channel_id, code):
                if (user := self._detach(channel_id)) is not None:
                    user.channel_reset(code)
            case events.ChannelRequested(channel_id, target):
                self._request(channel_id, target)
            case events.PathChanged(path):
                self._path_changed(path)
            case events.PathAnswered(path) if self._on_path_answer is not None:
                self._on_path_answer(path)
            case events.PathSilent(path) if self._on_path_silence is not None:
                self._on_path_silence(path)
            case events.PathDelivered() if self._on_path_delivery is not None:
                self._on_path_delivery(event)
            case events.PeerSilent(seconds):
                self._silent_since = self.session.last_received_time
                if self._on_silence is not None:
                    self._on_silence(seconds)
            case events.SessionLost(reason) if self._on_lost is not None:
                self._on_lost(reason)

    def _request(self, channel_id: int, target: Target) -> None:
        channel = self._channels[channel_id] = SessionChannel(self, channel_id, target)
        if self._on_request is None:
            channel.refuse(ResetCode.REFUSED)
        else:
            self._on_request(channel)

    def _path_changed(self, path: Path | None) -> None:
        if path is None:
            self._silent_since = self.session.last_received_time
        if self._on_path is not None:
            self._on_path(path)

    def _look_for_answer(self, silent_since: float) -> None:
        if self.session.last_received_time > silent_since:
            self._silent_since = None
            if self._on_answer is not None:
                self._on_answer()

    def _user(self, channel_id: int) -> ChannelUser | None:
        channel = self._channels.get(channel_id)
        return None if channel is None else channel.user

    def _detach(self, channel_id: int) -> ChannelUser | None:
        channel = self._channels.pop(channel_id, None)
        if channel is None:
            return None
        if not self._channels:
            self._channels.clear()  # an empty dict keeps the room of what it held
        user = channel.user
        channel.detach()
        return user
