"""
What both ends of a direct transfer need of their channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted.internet.task import deferLater

from resip.carriers.channels import Channel
from resip.core.errors import ResetCode


class Reporter(Protocol):
    """
    Whoever watches a transfer.
    """

    def say(self, text: str) -> None:
        """
        Something worth a line of its own.
        """

    def show(self, text: str) -> None:
        """
        How far it is; takes the place of what was shown before.
        """


class ChannelWriter:
    """
    Writes whole messages on a channel that takes them in pieces.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._rest = b""
        self._is_ended = False
        self._is_writing = False
        self._became_writable = False

    @property
    def is_full(self) -> bool:
        """
        Whether something waits for the channel.
        """
        return bool(self._rest)

    def write(self, data: bytes) -> None:
        """
        Write, now or as soon as the channel takes it.
        """
        self._rest += data
        self.flush()

    def end(self) -> None:
        """
        That was all.
        """
        self._is_ended = True
        self.flush()

    def flush(self) -> None:
        """
        The channel may take more.
        """
        if self._is_writing:
            self._became_writable = True
            return
        self._is_writing = True
        while self._rest:
            self._became_writable = False
            self._rest = self._rest[self._channel.write(self._rest) :]
            if self._rest and not self._became_writable:
                break
        self._is_writing = False
        if self._is_ended and not self._rest:
            self._is_ended = False
            self._channel.end()


async def work_through(
    reactor: Any, pieces: Iterator[int], is_wanted: Callable[[], bool], show: Callable[[int], None]
) -> int:
    """
    Do long work in pieces, so that packets are served in between.

    :param is_wanted: whether to go on.
    :param show: told how far it is.
    :return: the last piece's word.
    """
    last = 0
    for last in pieces:
        if not is_wanted():
            break
        show(last)
        await deferLater(reactor, 0)
    return last


class QuietUser:
    """
    A channel's user who is interested in little.
    """

    def channel_opened(self) -> None:
        """
        See :class:`~resip.carriers.channels.ChannelUser`.
        """

    def data_received(self, data: bytes) -> None:
        """
        See :class:`~resip.carriers.channels.ChannelUser`.
        """

    def channel_ended(self) -> None:
        """
        See :class:`~resip.carriers.channels.ChannelUser`.
        """

    def channel_writable(self) -> None:
        """
        See :class:`~resip.carriers.channels.ChannelUser`.
        """

    def channel_reset(self, code: ResetCode) -> None:
        """
        See :class:`~resip.carriers.channels.ChannelUser`.
        """

    def channel_closed(self) -> None:
        """
        See :class:`~resip.carriers.channels.ChannelUser`.
        """
