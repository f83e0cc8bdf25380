"""
A channel of a driven session, as its user holds it: until it is gone, and afterwards.
"""

from __future__ import annotations

from typing import Protocol

from resip.carriers.channels import ChannelUser
from resip.core.errors import ResetCode
from resip.core.types import Target


class ChannelVerbs(Protocol):
    """
    What a driver does to its channels, by their ids.
    """

    def accept(self, channel_id: int) -> None:
        """
        Answer a request with yes.
        """

    def refuse(self, channel_id: int, code: ResetCode) -> None:
        """
        Answer a request with no.
        """

    def write(self, channel_id: int, data: bytes) -> int:
        """
        Queue data; returns how many bytes were accepted.
        """

    def end(self, channel_id: int) -> None:
        """
        End this side's direction.
        """

    def reset(self, channel_id: int, code: ResetCode) -> None:
        """
        Abandon the channel.
        """

    def consume(self, channel_id: int, count: int) -> None:
        """
        Received bytes were taken.
        """


class SessionChannel:
    """
    A :class:`~resip.carriers.channels.Channel` of a driven session.
    """

    __slots__ = ("_driver", "channel_id", "target", "user")

    def __init__(self, driver: ChannelVerbs, channel_id: int, target: Target) -> None:
        self._driver: ChannelVerbs | None = driver
        self.channel_id = channel_id
        self.target = target
        self.user: ChannelUser | None = None

    def accept(self, user: ChannelUser) -> None:
        """
        Say yes; ``user`` hears what happens from now on, at once if the channel is gone.
        """
        if self._driver is None:
            user.channel_reset(ResetCode.CANCELLED)
            return
        self.user = user
        self._driver.accept(self.channel_id)

    def refuse(self, code: ResetCode) -> None:
        """
        Say no.
        """
        if self._driver is not None:
            self._driver.refuse(self.channel_id, code)

    def write(self, data: bytes) -> int:
        """
        Queue data; returns how many bytes were accepted, none when the channel is gone.
        """
        return 0 if self._driver is None else self._driver.write(self.channel_id, data)

    def end(self) -> None:
        """
        Nothing more will be written.
        """
        if self._driver is not None:
            self._driver.end(self.channel_id)

    def reset(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        """
        Abandon the channel.
        """
        if self._driver is not None:
            self._driver.reset(self.channel_id, code)

    def consume(self, count: int) -> None:
        """
        The application took received bytes.
        """
        if self._driver is not None:
            self._driver.consume(self.channel_id, count)

    def detach(self) -> None:
        """
        The channel is gone; whatever its user still calls does nothing.
        """
        self._driver = None
        self.user = None
