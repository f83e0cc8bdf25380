"""
Channels for those who cannot wait: they exist before there is a session to carry them.
"""

from __future__ import annotations

from twisted.logger import Logger

from resip.carriers.channels import Channel, ChannelUser
from resip.carriers.driver import SessionDriver
from resip.core.errors import ChannelError, LimitError, ResetCode
from resip.core.types import Target

#: Channels that may wait for a session. Each holds a local connection open.
MAX_WAITING = 1024


class WaitingChannel:
    """
    A channel that takes no data until a session carries it; then it is that session's channel.
    """

    __slots__ = ("_channel", "_compress", "_is_ended", "_opener", "target", "user")

    def __init__(
        self, opener: SessionOpener, target: Target, user: ChannelUser, *, compress: bool
    ) -> None:
        self._opener = opener
        self._channel: Channel | None = None
        self._compress = compress
        self._is_ended = False
        self.target = target
        self.user = user

    @property
    def channel_id(self) -> int:
        """
        0 until a session carries the channel.
        """
        return 0 if self._channel is None else self._channel.channel_id

    def accept(self, user: ChannelUser) -> None:
        """
        Nobody is asked to accept a channel that this side opens.
        """

    def refuse(self, code: ResetCode) -> None:
        """
        Nobody is asked to accept a channel that this side opens.
        """

    def write(self, data: bytes) -> int:
        """
        Queue data; nothing is accepted while the channel waits.
        """
        return 0 if self._channel is None else self._channel.write(data)

    def end(self) -> None:
        """
        Nothing more will be written.
        """
        self._is_ended = True
        if self._channel is not None:
            self._channel.end()

    def reset(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        """
        Abandon the channel.
        """
        self._opener.abandon(self)
        if self._channel is not None:
            self._channel.reset(code)

    def consume(self, count: int) -> None:
        """
        The application took received bytes.
        """
        if self._channel is not None:
            self._channel.consume(count)

    def begin(self, driver: SessionDriver) -> None:
        """
        There is a session: open the channel on it.
        """
        try:
            self._channel = driver.open_channel(self.target, self.user, compress=self._compress)
        except (ValueError, LimitError, ChannelError):
            self.user.channel_reset(ResetCode.REFUSED)
            return
        if self._is_ended:
            self._channel.end()
        else:
            self.user.channel_writable()


class SessionOpener:
    """
    Opens channels on whichever session there is now, or will be next.
    """

    _log = Logger()

    def __init__(self, *, resolves_names: bool) -> None:
        self.resolves_names = resolves_names
        self._driver: SessionDriver | None = None
        self._waiting: dict[WaitingChannel, None] = {}

    @property
    def waiting_count(self) -> int:
        """
        How many channels wait for a session.
        """
        return len(self._waiting)

    def open_channel(self, target: Target, user: ChannelUser, *, compress: bool = False) -> Channel:
        """
        Open a channel, now or as soon as there is a session.

        :raises ValueError: when the session cannot carry the target.
        :raises LimitError: when there are as many channels as allowed.
        """
        if self._driver is not None:
            try:
                return self._driver.open_channel(target, user, compress=compress)
            except ChannelError:
                # The session ended this very moment and nobody was told yet: the next one.
                self._log.debug("a channel to {target} waits for the next session", target=target)
        if len(self._waiting) >= MAX_WAITING:
            raise LimitError(f"{MAX_WAITING} channels wait for a session already")
        channel = WaitingChannel(self, target, user, compress=compress)
        self._waiting[channel] = None
        return channel

    def abandon(self, channel: WaitingChannel) -> None:
        """
        A waiting channel is not wanted any more.
        """
        self._waiting.pop(channel, None)

    def use(self, driver: SessionDriver | None) -> None:
        """
        Open channels on this session from now on, or let them wait.
        """
        self._driver = driver
        while driver is not None and self._waiting:
            channel = next(iter(self._waiting))
            del self._waiting[channel]
            channel.begin(driver)

    def close(self) -> None:
        """
        There will be no session any more.
        """
        while self._waiting:
            channel, _ = self._waiting.popitem()
            channel.user.channel_reset(ResetCode.SESSION_LOST)
