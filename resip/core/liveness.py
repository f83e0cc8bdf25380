"""
The client's side of staying in touch: keep-alives while it is quiet, doubt when it stays quiet.
"""

from __future__ import annotations

#: Seconds between keep-alives that nobody answers: at first, in an outage's first hour, later.
#: No whole seconds: what goes wrong every second, such as a NAT that forgets, would otherwise
#: take away every single answer.
FIRST_RETRY = 0.7
MAX_RETRY = 1.7
MAX_LATE_RETRY = 9.7
LATE_OUTAGE = 3600.0
#: Seconds that the peer may owe an answer before its owner is told, and told again.
PATIENCE = 10.0


class Liveness:
    """
    Decides when to send a keep-alive and when the peer counts as silent.

    :param keep_alive_interval: seconds of silence, with channels, before the first keep-alive.
    :param idle_keep_alive_interval: the same without channels.
    :ivar last_received_time: when the peer last showed life.
    """

    __slots__ = (
        "_idle_keep_alive_interval",
        "_keep_alive_interval",
        "_last_asked_time",
        "_last_reported_time",
        "_owed_since",
        "last_received_time",
    )

    def __init__(
        self, *, keep_alive_interval: float, idle_keep_alive_interval: float, now: float
    ) -> None:
        self._keep_alive_interval = keep_alive_interval
        self._idle_keep_alive_interval = idle_keep_alive_interval
        self.last_received_time = now
        self._last_asked_time = now
        self._last_reported_time = now
        self._owed_since: float | None = None

    def on_received(self, *, now: float) -> None:
        """
        A new packet of the peer arrived.
        """
        self.last_received_time = now
        self._owed_since = None

    def on_asked(self, *, now: float) -> None:
        """
        Something was sent that the peer answers if it lives.
        """
        self._last_asked_time = now
        if self._owed_since is None:
            self._owed_since = now
            self._last_reported_time = now

    def keep_alive_time(self, *, has_channels: bool) -> float:
        """
        When to send the next keep-alive.
        """
        if self._owed_since is None:
            interval = self._keep_alive_interval if has_channels else self._idle_keep_alive_interval
            return max(self.last_received_time, self._last_asked_time) + interval
        waited = self._last_asked_time - self._owed_since
        retry = MAX_LATE_RETRY if waited > LATE_OUTAGE else min(FIRST_RETRY + waited, MAX_RETRY)
        return self._last_asked_time + retry

    def report_time(self) -> float | None:
        """
        When to call the peer silent, again if it was before; ``None`` while it owes nothing.
        """
        return None if self._owed_since is None else self._last_reported_time + PATIENCE

    def silence(self, *, now: float) -> float:
        """
        The peer is called silent now: for how many seconds it has been.
        """
        self._last_reported_time = now
        return now - (self.last_received_time if self._owed_since is None else self._owed_since)
