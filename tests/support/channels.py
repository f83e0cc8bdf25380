"""
Channels without a session: two ends in memory, for tests of what is attached to channels.

:class:`ChannelLink` is the opener; what is opened there is requested of ``on_request``::

    link = ChannelLink(clock, on_request=lambda channel: channel.accept(user))
    channel = link.open_channel(target, other_user)
    clock.advance(0)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from resip.carriers.channels import ChannelUser
from resip.core.errors import LimitError, ResetCode
from resip.core.types import Protocol, Target


class _Notice(Enum):
    OPENED = "opened"
    WRITABLE = "writable"
    ENDED = "ended"
    CLOSED = "closed"


class ChannelLink:
    """
    The place of a session: opens channels, and hands their other ends to ``on_request``.

    Everything that one end does is told to the other in the order it was done, on a later turn
    of the clock. What a channel accepts is bounded by ``window`` bytes that were not consumed.

    :param clock: runs the turns; ``task.Clock`` or the reactor.
    :param on_request: hears of every channel that was opened, on the next turn.
    :param window: bytes that may be on their way in each direction of a channel.
    :param portion: the most that one ``write`` on a stream accepts.
    :param is_immediate: tell the other end within the call itself, so that a user is called
        back while it still is calling.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        on_request: Callable[[MemoryChannel], None] = lambda channel: None,
        window: int = 64 * 1024,
        portion: int | None = None,
        resolves_names: bool = True,
        max_channels: int = 1000,
        is_immediate: bool = False,
    ) -> None:
        self.clock = clock
        self.on_request = on_request
        self.window = window
        self.portion = window if portion is None else portion
        self.resolves_names = resolves_names
        self.max_channels = max_channels
        self.is_immediate = is_immediate
        #: The opening ends of all channels, also of those that are gone.
        self.opened: list[MemoryChannel] = []
        self._turns: set[IDelayedCall] = set()

    @property
    def live(self) -> list[MemoryChannel]:
        """
        Both ends of every channel, as far as they are not gone.
        """
        ends = [end for near in self.opened for end in (near, near.peer)]
        return [end for end in ends if not end.is_gone]

    def open_channel(
        self, target: Target, user: ChannelUser, *, compress: bool = False
    ) -> MemoryChannel:
        """
        Open a channel, as a session does.
        """
        if len(self.live) // 2 >= self.max_channels:
            raise LimitError(f"{self.max_channels} channels are open already")
        near = MemoryChannel(self, len(self.opened) + 1, target, is_compressed=compress)
        far = MemoryChannel(self, near.channel_id, target, is_compressed=compress)
        near.peer, far.peer = far, near
        near.user = user
        self.opened.append(near)
        self.later(lambda: self.on_request(far))
        return near

    def lose(self) -> None:
        """
        Lose the session: every channel is reset on both sides.
        """
        for end in self.live:
            end.lose(ResetCode.SESSION_LOST)

    def close(self) -> None:
        """
        Stop telling anybody anything.
        """
        for turn in self._turns:
            turn.cancel()
        self._turns.clear()

    def later(self, action: Callable[[], object]) -> None:
        """
        Do something on the next turn.
        """

        def run() -> None:
            self._turns.discard(turn)
            action()

        turn = self.clock.callLater(0, run)
        self._turns.add(turn)


class MemoryChannel:
    """
    One end of a channel in memory.

    :ivar most_outstanding: the most bytes that ever were written and not consumed.
    """

    peer: MemoryChannel

    def __init__(
        self, link: ChannelLink, channel_id: int, target: Target, *, is_compressed: bool
    ) -> None:
        self.channel_id = channel_id
        self.target = target
        self.is_compressed = is_compressed
        self.user: ChannelUser | None = None
        self.is_gone = False
        self.has_ended = False
        self.outstanding = 0
        self.most_outstanding = 0
        self.total_written = 0
        self._link = link
        self._inbox: deque[bytes | _Notice | ResetCode] = deque()
        self._heard_end = False
        self._is_blocked = False
        self._is_delivering = False
        self._has_turn = False

    def accept(self, user: ChannelUser) -> None:
        """
        Say yes; when the channel is gone already the user is told so.
        """
        assert self.user is None, "a channel is accepted once"
        self.user = user
        self.peer.post(_Notice.OPENED)
        self._wake()

    def refuse(self, code: ResetCode) -> None:
        """
        Say no.
        """
        assert self.user is None, "an accepted channel is not refused"
        self.reset(code)

    def write(self, data: bytes) -> int:
        """
        Accept what fits into the window, and of a stream at most a portion.
        """
        if self.is_gone:
            return 0
        assert not self.has_ended, "nothing is written after the end"
        accepted = min(len(data), self._link.window - self.outstanding)
        if self.target.protocol is Protocol.TCP:
            accepted = min(accepted, self._link.portion)
        elif accepted < len(data):
            accepted = 0
        self.outstanding += accepted
        self.most_outstanding = max(self.most_outstanding, self.outstanding)
        self.total_written += accepted
        if accepted == len(data) or accepted:
            self.peer.post(data[:accepted])
        if accepted < len(data):
            self._is_blocked = True
            if self.outstanding < self._link.window:
                self._unblock()
        return accepted

    def end(self) -> None:
        """
        Write no more.
        """
        if self.is_gone:
            return
        assert not self.has_ended, "a channel ends once"
        self.has_ended = True
        self.peer.post(_Notice.ENDED)

    def reset(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        """
        Abandon the channel; the other end hears of it, and of nothing before it any more.
        """
        if not self.is_gone:
            self._forget()
            self.peer.lose(code)

    def consume(self, count: int) -> None:
        """
        Make room for as many bytes of the other end.
        """
        if not self.is_gone:
            assert count <= self.peer.outstanding, "more was consumed than received"
            self.peer.outstanding -= count
            self.peer.unblock()

    def unblock(self) -> None:
        """
        Tell a user whose write was cut short that there is room.
        """
        if self._is_blocked and not self.is_gone:
            self._unblock()

    def lose(self, code: ResetCode) -> None:
        """
        The other end, or the session, has given up the channel.
        """
        if not self.is_gone:
            self._inbox.clear()
            self.post(code)

    def post(self, item: bytes | _Notice | ResetCode) -> None:
        """
        Something for the user of this end, in its order.
        """
        if not self.is_gone:
            self._inbox.append(item)
            self._wake()

    def _unblock(self) -> None:
        self._is_blocked = False
        self.post(_Notice.WRITABLE)

    def _wake(self) -> None:
        if self._link.is_immediate:
            self._deliver()
        elif not self._has_turn:
            self._has_turn = True
            self._link.later(self._turn)

    def _turn(self) -> None:
        self._has_turn = False
        self._deliver()

    def _deliver(self) -> None:
        if self._is_delivering:
            return
        self._is_delivering = True
        while self._inbox and self.user is not None:
            self._tell(self.user, self._inbox.popleft())
        self._is_delivering = False

    def _tell(self, user: ChannelUser, item: bytes | _Notice | ResetCode) -> None:
        if isinstance(item, bytes):
            user.data_received(item)
        elif isinstance(item, ResetCode):
            self._forget()
            user.channel_reset(item)
        elif item is _Notice.OPENED:
            user.channel_opened()
        elif item is _Notice.WRITABLE:
            user.channel_writable()
        elif item is _Notice.ENDED:
            self._heard_end = True
            user.channel_ended()
            if self.peer._heard_end and not self.is_gone:
                self.post(_Notice.CLOSED)
                self.peer.post(_Notice.CLOSED)
        else:
            self._forget()
            user.channel_closed()

    def _forget(self) -> None:
        self.is_gone = True
        self.user = None
        self._inbox.clear()
