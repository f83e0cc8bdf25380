"""
How much the path in use delivers, for the client's choice among carriers.
"""

from __future__ import annotations

from collections.abc import Sequence

from resip.core.events import Event, PathDelivered
from resip.core.modern.sent import SentRun
from resip.core.types import Path

#: Seconds of each measurement, at least.
INTERVAL = 0.25
#: After a pause of so many seconds in which nothing was owed a measurement begins anew.
MAX_PAUSE = 1.0
#: Bytes of a packet that a sender with more to send fills, in the mean.
FULL_PACKET = 1000
#: Below so many bytes a second nobody waits for the path.
LEAST_RATE = 8_000


class DeliveryMeter:
    """
    Adds up what arrives in both directions, and tells it a few times a second while anything does.

    :param events: where it tells.
    """

    __slots__ = ("_events", "_full", "_is_owed", "_latest", "_path", "_size", "_start")

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        self._path: Path | None = None
        self._start = self._latest = float("-inf")
        self._size = self._full = 0
        self._is_owed = False

    def on_path_changed(self, path: Path | None, *, now: float) -> None:
        """
        Another path is in use.
        """
        self._path = path
        self._start = self._latest = now
        self._size = self._full = 0
        self._is_owed = False

    def on_received(self, path: Path, *, size: int, count: int, rtt: float, now: float) -> None:
        """
        So many new packets of ``size`` bytes together came by a path. Whoever has more to send than
        the path takes fills them; nothing else tells what the server would like to send.

        :param rtt: the shortest round trip of the path in use, seconds.
        """
        if path == self._path:
            self._add(size, is_full=size >= FULL_PACKET * count, rtt=rtt, now=now)

    def on_acked(self, runs: Sequence[SentRun], *, has_more: bool, rtt: float, now: float) -> None:
        """
        Packets that took the path in use arrived.

        :param has_more: there is more to send than the path takes now.
        :param rtt: the shortest round trip, seconds.
        """
        size = sum(run.wire_bytes for run in runs)
        self._add(size, is_full=has_more, rtt=rtt, now=now)
        self._is_owed = has_more

    def _add(self, size: int, *, is_full: bool, rtt: float, now: float) -> None:
        if now - self._latest > MAX_PAUSE and not self._is_owed:
            self._start = now
            self._size = self._full = 0
        self._latest = now
        self._size += size
        if is_full:
            self._full += size
        seconds = now - self._start
        if seconds < INTERVAL or self._path is None:
            return
        is_full = 2 * self._full >= self._size >= LEAST_RATE * seconds
        self._events.append(PathDelivered(self._path, self._size, seconds, is_full, rtt))
        self._start = now
        self._size = self._full = 0
