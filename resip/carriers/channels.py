"""
How a user of a channel and the driver of its session talk to each other.
"""

from __future__ import annotations

from typing import Protocol

from resip.core.errors import ResetCode
from resip.core.types import Target


class ChannelUser(Protocol):
    """
    Whoever is attached to a channel: told what happens on it, in order.

    After :meth:`channel_reset` or :meth:`channel_closed` nothing more is said and the
    channel is gone. Every method may call the channel back at once.
    """

    def channel_opened(self) -> None:
        """
        The far side connected to the target. Only the side that opened the channel hears it.
        """

    def data_received(self, data: bytes) -> None:
        """
        Bytes of the stream, or one datagram. Call ``Channel.consume`` when they have been taken.
        """

    def channel_ended(self) -> None:
        """
        The far side sends no more; this side may still write.
        """

    def channel_writable(self) -> None:
        """
        After a ``write`` that accepted less than it was given: there is room again.
        """

    def channel_reset(self, code: ResetCode) -> None:
        """
        The channel is gone, with all that was on its way.
        """

    def channel_closed(self) -> None:
        """
        Both directions ended and all was acknowledged.
        """


class Channel(Protocol):
    """
    One channel of a session, as its user sees it. Calls on a channel that is gone do nothing.
    """

    @property
    def channel_id(self) -> int:
        """
        The id within the session; for logs.
        """

    @property
    def target(self) -> Target:
        """
        Where the channel leads.
        """

    def accept(self, user: ChannelUser) -> None:
        """
        Say yes to a channel that the peer requested; ``user`` hears what happens on it.

        If the peer gave up meanwhile, that is ``channel_reset``, before this call returns.
        """

    def refuse(self, code: ResetCode) -> None:
        """
        Say no to a channel that the peer requested.
        """

    def write(self, data: bytes) -> int:
        """
        Queue bytes, or one datagram; returns how many bytes were accepted.

        Fewer than given: keep the rest and wait for ``ChannelUser.channel_writable``.
        """

    def end(self) -> None:
        """
        Nothing more will be written.
        """

    def reset(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        """
        Abandon the channel in both directions. Its user hears nothing more.
        """

    def consume(self, count: int) -> None:
        """
        The application took ``count`` received bytes; as many more may arrive.
        """


class ChannelOpener(Protocol):
    """
    What a forwarder needs of a session: a way to open channels.
    """

    @property
    def resolves_names(self) -> bool:
        """
        Whether targets may be host names; else the forwarder resolves them first.
        """

    def open_channel(self, target: Target, user: ChannelUser, *, compress: bool = False) -> Channel:
        """
        Open a channel to ``target``; ``user`` hears what happens on it, from the next turn on.

        While no session is established yet the channel waits for one.

        :raises ValueError: when the session cannot carry the target.
        :raises LimitError: when the session has as many channels as it may have.
        """
