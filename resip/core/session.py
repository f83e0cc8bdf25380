"""
The interface that both dialects offer. Everything above the core knows a session only as this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from resip.core.errors import ResetCode
from resip.core.events import Event
from resip.core.types import Path, Target


class Session(Protocol):
    """
    Turns carriers that come and go into channels that outlive them.

    Three things change a session: its user (the channel verbs), the network
    (:meth:`receive_datagrams` and the path verbs) and time (:meth:`handle_timer`). After any
    of them, in this order: drain :meth:`next_event`, send what :meth:`probes_to_send` and
    :meth:`datagrams_to_send` return, and wake up again at :meth:`get_timer`.

    ``now`` is always monotonic seconds. Misuse by the caller raises
    :class:`~resip.core.errors.ChannelError` and changes nothing; whatever the peer sends
    never raises.
    """

    @property
    def session_id(self) -> int:
        """
        The number under which both sides know the session; safe to log.
        """

    @property
    def path(self) -> Path | None:
        """
        Where the session sends now, ``None`` while it knows no way to its peer.
        """

    @property
    def resolves_names(self) -> bool:
        """
        Whether a target may be a host name, for the far side to resolve.
        """

    @property
    def can_probe_paths(self) -> bool:
        """
        Whether :meth:`probe_path` does anything, and the events about paths are to be expected.
        """

    @property
    def last_received_time(self) -> float:
        """
        When the last authentic, new packet arrived, on the clock that ``now`` tells.
        """

    def receive_datagrams(self, packets: Sequence[bytes], path: Path, *, now: float) -> bool:
        """
        Take the packets that came together by one path. Forged, foreign and malformed ones
        change nothing.

        :return: whether any was authentic.
        """

    def datagrams_to_send(self, *, now: float) -> Sequence[tuple[Path, Sequence[bytes]]]:
        """
        The packets to send now on the path in use, at most a burst; call again when the timer
        says so.
        """

    def probes_to_send(self, *, now: float) -> Sequence[tuple[Path, Sequence[bytes]]]:
        """
        The small packets to send now on other paths, whether or not the one in use takes any.
        """

    def get_timer(self) -> float | None:
        """
        When :meth:`handle_timer` wants to be called; ``None`` when only input can change anything.
        """

    def handle_timer(self, *, now: float) -> None:
        """
        Act on every deadline that has passed. Calling early or late is harmless.
        """

    def next_event(self) -> Event | None:
        """
        The next thing to tell the owner, ``None`` when there is nothing.
        """

    def use_path(self, path: Path, *, now: float) -> None:
        """
        Send on ``path`` from now on, and tell the peer by it.
        """

    def probe_path(self, path: Path, *, now: float) -> None:
        """
        Ask, some times over, whether the peer answers by a path that is not in use; nothing
        moves. :class:`~resip.core.events.PathAnswered` follows when it does.
        """

    def path_closed(self, path: Path, *, now: float) -> None:
        """
        The carrier of ``path`` is gone, with everything that was still inside it.
        """

    def preamble(self, path: Path) -> bytes:
        """
        What a connection begins with, so that the peer knows whose it is; empty where the
        packets say it.
        """

    def retry(self, *, now: float) -> None:
        """
        Something changed outside: probe at once instead of waiting out a backoff.
        """

    def open_channel(self, target: Target, *, now: float, compress: bool = False) -> int:
        """
        Ask the peer for a channel to ``target`` and return its id. Data may be written at once.

        :raises ValueError: when the dialect cannot carry the target.
        :raises LimitError: when the session has as many channels as it may have.
        """

    def accept_channel(self, channel_id: int, *, now: float) -> None:
        """
        Say yes to a :class:`~resip.core.events.ChannelRequested`.
        """

    def refuse_channel(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Say no to a :class:`~resip.core.events.ChannelRequested`.

        :param code: ``REFUSED`` or ``CONNECT_FAILED``.
        """

    def write(self, channel_id: int, data: bytes, *, now: float) -> int:
        """
        Queue bytes of a stream, or one whole datagram.

        :return: how many bytes were accepted. Fewer than given means that the channel's
            buffer is full; :class:`~resip.core.events.ChannelWritable` follows when there is
            room. A datagram is accepted whole or, with 0, not at all.
        """

    def end(self, channel_id: int, *, now: float) -> None:
        """
        Nothing more will be written. What was written still arrives.
        """

    def reset(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Abandon the channel in both directions, at once. No event follows.
        """

    def consume(self, channel_id: int, count: int, *, now: float) -> None:
        """
        The application took ``count`` of the received bytes; as many more may arrive.
        A channel that is already gone is ignored, since applications are always late.
        """

    def close(self, *, now: float) -> None:
        """
        End the session: every channel is reset, and the peer is told where the dialect can.
        """


class WithoutProbes:
    """
    The verbs of a session that cannot ask a path without using it.
    """

    can_probe_paths = False

    def probe_path(self, path: Path, *, now: float) -> None:
        """
        Nothing.
        """

    def probes_to_send(self, *, now: float) -> Sequence[tuple[Path, Sequence[bytes]]]:
        """
        Nothing.
        """
        return []

    def preamble(self, path: Path) -> bytes:
        """
        Nothing: the packets say whose they are.
        """
        return b""
