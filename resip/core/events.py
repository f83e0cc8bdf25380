"""
What a session tells its owner. ``Session.next_event`` hands them out in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from resip.core.errors import ResetCode
from resip.core.types import Path, Target


class Event:
    """
    Anything a session reports.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ChannelRequested(Event):
    """
    The peer wants a channel to ``target``; answer with ``accept_channel`` or ``refuse_channel``.
    """

    channel_id: int
    target: Target


@dataclass(frozen=True, slots=True)
class ChannelOpened(Event):
    """
    The peer accepted the channel that this side opened: its target is connected.
    """

    channel_id: int


@dataclass(frozen=True, slots=True)
class DataReceived(Event):
    """
    Bytes of a stream, in order, or one datagram. ``consume`` them when the application took them.
    """

    channel_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ChannelEnded(Event):
    """
    The peer sends no more on this channel; all it sent was delivered before this event.
    """

    channel_id: int


@dataclass(frozen=True, slots=True)
class ChannelWritable(Event):
    """
    A channel whose ``write`` accepted less than it was given has room again.
    """

    channel_id: int


@dataclass(frozen=True, slots=True)
class ChannelReset(Event):
    """
    The channel is gone and with it whatever was on its way. The last event of its channel.
    """

    channel_id: int
    code: ResetCode


@dataclass(frozen=True, slots=True)
class ChannelClosed(Event):
    """
    Both directions ended and everything was acknowledged. The last event of its channel.
    """

    channel_id: int


@dataclass(frozen=True, slots=True)
class PathChanged(Event):
    """
    From now on the session sends on ``path``; ``None`` means that it knows no way to the peer.
    """

    path: Path | None


@dataclass(frozen=True, slots=True)
class PathAnswered(Event):
    """
    The peer answered by ``path``: a probe, or the first packets since the path came into use or
    since :class:`PathSilent`.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class PathSilent(Event):
    """
    What was sent by ``path``, which is in use, has not been answered for longer than that takes.
    :class:`PathAnswered` follows when it is.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class PathDelivered(Event):
    """
    What the path in use carried, both directions together. Told by a client, a few times a second
    while anything arrives.

    :ivar size: bytes. :ivar seconds: the time that they took.
    :ivar is_full: there was more to send than the path took.
    :ivar rtt: its shortest round trip, seconds.
    """

    path: Path
    size: int
    seconds: float
    is_full: bool
    rtt: float


@dataclass(frozen=True, slots=True)
class PeerSilent(Event):
    """
    The peer owes an answer and gave none for ``seconds``: ask out of band whether it lives.

    Repeated while the silence lasts, never more often than every ten seconds.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class SessionLost(Event):
    """
    The session is over and all its channels were reset: the peer ended or forgot it.
    """

    reason: str
