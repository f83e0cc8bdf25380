"""
How much a session may send now: by the congestion window, and by the pace.
"""

from __future__ import annotations

from resip.core.congestion.rate import RateController
from resip.core.modern.recovery import LossRecovery
from resip.core.pacer import Pacer

#: Seconds of the rate that one burst of the pacer holds; a reactor's timer is no finer.
PACING_TICK = 0.002
#: Bytes a second from which on a reliable carrier is left to itself. Below, it is paced as well:
#: it would fill the queues on its way, and what is said meanwhile would wait behind them.
UNPACED_RATE = 12.5e6
#: Packets that a busy channel waits for where that is less than a tick, from some 50 Mbit/s on:
#: a turn costs as much as dozens of packets. From some 200 Mbit/s on it waits for this time of the
#: rate, which no queue notices.
LEAST_BURST = 16
LEAST_BURST_TIME = 0.001
#: Seconds of a shortest round trip, and bytes a second, from which on the window alone sets the
#: pace: a timer wakes up as late as an answer comes, and on such paths it is the processors that
#: are slow. The window holds so many seconds of the rate, which bounds the queue if it is the
#: network after all; and so many bytes at most, the same for everybody who is faster, hence fair
#: to both directions.
QUICK_RTT = 0.002
QUICK_RATE = 25e6
QUICK_TIME = 0.01
QUICK_TURNS = 3
QUICK_WINDOW = 1536 * 1024
#: Busy channels wait there until this share of the window is free: else they would send a packet
#: for each that arrived, which would be answered one by one, for ever.
QUICK_SHARE = 0.25

#: Seconds that the pacer's times may be early, as sums of floats round; tokens are whole besides.
_ROUNDING = 1e-6


class SendAllowance:
    """
    Asked once in each turn, and told what was sent.

    :ivar is_reliable: the carrier repeats what is lost.
    :ivar is_quick: nothing is paced, since answers come at once and the network is fast.
    :ivar is_short: busy channels had better wait until more may be sent.
    """

    __slots__ = (
        "_controller",
        "_is_paced",
        "_least_burst",
        "_pacer",
        "_recovery",
        "_window",
        "is_quick",
        "is_reliable",
        "is_short",
    )

    def __init__(self, controller: RateController, recovery: LossRecovery) -> None:
        self._controller = controller
        self._recovery = recovery
        self._pacer = Pacer(rate=100_000.0, burst=0.0)
        self._least_burst = 0.0
        self._window = 0
        self._is_paced = True
        self.is_reliable = False
        self.is_quick = False
        self.is_short = False

    def get(self, *, datagram_size: int, most: int, now: float) -> int:
        """
        Bytes that may leave in this turn; below 0 when more than the window is in flight.

        :param datagram_size: bytes of a full packet.
        :param most: bytes of a whole turn; a carrier that is left to itself bounds them.
        """
        self.is_quick = self.is_short = False
        if self._recovery.is_outage:
            return 0
        self._window = self._controller.congestion_window
        rate = self._controller.pacing_rate
        self._is_paced = not self.is_reliable or rate < UNPACED_RATE
        if not self._is_paced:
            return most
        if rate >= QUICK_RATE and self._recovery.rtt.minimum < QUICK_RTT:
            self._is_paced = False
            self.is_quick = True
            limit = min(QUICK_TURNS * most, QUICK_WINDOW, int(rate * QUICK_TIME))
            self._window = min(self._window, limit)
            room = self._window - self._recovery.in_flight.bytes
            self.is_short = room < QUICK_SHARE * self._window
            return room
        self._pacer.rate = rate
        self._pacer.burst = max(2.0 * datagram_size, rate * PACING_TICK)
        least = max(LEAST_BURST * datagram_size, min(rate * LEAST_BURST_TIME, most))
        self._least_burst = min(self._pacer.burst, least)
        tokens = self._pacer.available(now=now)
        is_fast = self._pacer.burst >= least
        self.is_short = is_fast and tokens + 1 + rate * _ROUNDING < self._least_burst
        return min(self._window - self._recovery.in_flight.bytes, tokens)

    def start_path(self, *, is_reliable: bool) -> None:
        """
        Another path is in use, which owes nothing for what the one before took.

        :param is_reliable: the carrier repeats what is lost.
        """
        self.is_reliable = is_reliable
        self._pacer.forgive()

    def spend(self, size: int) -> None:
        """
        ``size`` bytes left; more than were allowed are paid back by waiting, unless there was no
        pace to keep.
        """
        if self._is_paced:
            self._pacer.spend(size)

    def ready_at(self, *, now: float) -> float | None:
        """
        When the pace lets the next burst go; ``None`` when something else is in the way.
        """
        recovery = self._recovery
        if self._window <= recovery.in_flight.bytes or recovery.is_outage or not self._is_paced:
            return None
        return max(now, self._pacer.ready_at(wanted=self._least_burst))
