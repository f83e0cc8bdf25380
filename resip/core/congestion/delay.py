"""
A delay-based window: it keeps a small standing queue and does not look at loss.

The window moves towards the one at which about :data:`QUEUE_TARGET` packets wait in the
bottleneck (the fixed point of FAST TCP: Jin, Wei, Low, INFOCOM 2004). Loss does not enter, so
random loss of any rate leaves the sending rate alone. What bounds it on a bottleneck that
drops instead of queueing is the ceiling: what was delivered in a round trip, times
:data:`EXCESS`, plus what the far socket's buffer holds.
"""

from __future__ import annotations

from collections import deque

INITIAL_WINDOW = 32
MINIMUM_WINDOW = 8
#: A sender without any credit from its peer stays below this: 2 MB of 512-byte packets.
MAXIMUM_WINDOW = 4096
#: Packets that should wait in the bottleneck's queue. Fewer than a default socket buffer holds.
QUEUE_TARGET = 32
#: A Linux socket with the default buffer of 208 KiB takes 166 packets of 512 bytes.
SOCKET_BUFFER = 128
#: How much more may be sent than arrives: 60 % random loss needs 2.5.
EXCESS = 3
#: The same at the end of start-up, when the first losses are the start-up's own.
STARTUP_EXCESS = 1.5
#: Rounds over which the best delivery counts.
DELIVERY_ROUNDS = 10
#: Start-up ends when the queue delay passes this many seconds and an eighth of the round trip.
STARTUP_DELAY = 0.004
#: A quiet path's minimum is trusted this long; then a lower share of it may have been a route.
BASE_LIFETIME = 60.0
#: A round lasts at least this long, so that a loopback's rounds hold enough samples.
MINIMUM_ROUND = 0.002


class DelayController:
    """
    See the module. Counts packets; one instance serves one path.

    :param ack_delay: seconds the peer may hold an acknowledgement back; part of every sample.
    """

    def __init__(self, *, ack_delay: float) -> None:
        self._ack_delay = ack_delay
        self._reset(0.0)

    def _reset(self, now: float) -> None:
        self._window = float(INITIAL_WINDOW)
        self._in_startup = True
        self._base = 0.0
        self._next_base = 0.0
        self._base_since = now
        self._round_started = now
        self._round_delivered = 0
        self._round_minimum = 0.0
        self._round_limited = True
        self._smoothed = 0.1 + self._ack_delay
        self._delivery_rates: deque[float] = deque(maxlen=DELIVERY_ROUNDS)

    @property
    def window(self) -> int:
        """
        How many packets may be in flight.
        """
        return int(self._window)

    @property
    def pacing_rate(self) -> float:
        """
        Packets a second: the window in four fifths of a round trip, in half of one at start-up.
        """
        gain = 2.0 if self._in_startup else 1.25
        return gain * self._window / max(self._smoothed, 0.0005)

    def on_packets_acked(
        self, count: int, *, in_flight: int, rtt: float | None, is_app_limited: bool, now: float
    ) -> None:
        """
        Count the delivery, and move the window once a round.
        """
        self._round_delivered += count
        self._round_limited = self._round_limited and is_app_limited
        if rtt is not None:
            self._observe(rtt, now)
        if self._base and now - self._round_started >= max(self._smoothed, MINIMUM_ROUND):
            self._end_round(now)

    def on_packets_lost(self, count: int, *, now: float) -> None:
        """
        Loss alone says nothing about congestion here.
        """

    def on_path_changed(self, *, now: float) -> None:
        """
        Start over.
        """
        self._reset(now)

    def _observe(self, rtt: float, now: float) -> None:
        self._smoothed += (rtt - self._smoothed) / 8 if self._base else rtt - self._smoothed
        self._round_minimum = min(self._round_minimum or rtt, rtt)
        self._next_base = min(self._next_base or rtt, rtt)
        if not self._base or rtt < self._base:
            self._base = rtt
        elif now - self._base_since > BASE_LIFETIME:
            self._base, self._next_base, self._base_since = self._next_base, rtt, now

    def _end_round(self, now: float) -> None:
        elapsed = now - self._round_started
        self._delivery_rates.append(self._round_delivered / elapsed)
        if self._round_minimum:
            self._move_window(max(self._delivery_rates))
        self._round_started = now
        self._round_delivered = 0
        self._round_minimum = 0.0
        self._round_limited = True

    def _move_window(self, delivery_rate: float) -> None:
        rtt, base = self._round_minimum, self._base
        if self._in_startup and rtt > base + max(STARTUP_DELAY, base / 8):
            self._in_startup = False
            # What was sent above the path's rate stands in its queue, or was dropped.
            drained = STARTUP_EXCESS * delivery_rate * base + QUEUE_TARGET
            self._window = min(self._window, max(drained, MINIMUM_WINDOW))
        target = base / rtt * self._window + QUEUE_TARGET
        if self._in_startup:
            window = 2 * self._window
        else:
            window = min(2 * self._window, (self._window + target) / 2)
        if self._round_limited:
            # The application, not the window, held the sender back: nothing was learnt.
            window = min(window, self._window)
        ceiling = SOCKET_BUFFER + EXCESS * delivery_rate * base
        self._window = max(MINIMUM_WINDOW, min(window, ceiling, MAXIMUM_WINDOW))
