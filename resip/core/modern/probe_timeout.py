"""
The probe timeout (docs/protocol.md M-35, M-36): when to ask, with how many packets, and from
when on a path counts as down.
"""

from __future__ import annotations

import math

#: Bounds of the probe timeout, seconds, and how long each of them holds.
PROBE_TIMEOUT_LIMIT = 0.4
PATIENT_PROBE_TIMEOUTS = 10
SHORT_OUTAGE = 15.0
OUTAGE_PROBE_TIMEOUT_LIMIT = 2.0
LONG_OUTAGE = 3600.0
LONG_OUTAGE_PROBE_TIMEOUT_LIMIT = 10.0
#: The same for a server, which only waits for its client to come back; and for how long it asks.
WAITING_PROBE_TIMEOUT_LIMIT = 60.0
WAITING_TIME = 600.0
#: From this timeout in a row on only probes are sent: the path is down, not lossy. The more is
#: lost, the more timeouts in a row are ordinary, up to the second number.
OUTAGE_TIMEOUTS = 3
MAX_OUTAGE_TIMEOUTS = 10
#: Probes for each timeout: enough that two get through, within these limits.
MIN_PROBES = 2
MAX_PROBES = 16
#: The same while too little has arrived to know the loss.
FIRST_PROBES = 10

_NEVER = -math.inf


class ProbeTimeout:
    """
    Counts the timeouts in a row.

    Those without an *answer* double the time, those in *silence* raise its limit: a peer from
    which packets come is there, and hears us badly.

    :param is_driving: this side finds the way back after an outage; the other one waits.
    :ivar count: timeouts in a row without an answer.
    :ivar time: when the last of them was, -inf without any.
    """

    __slots__ = ("_is_driving", "_silence_start", "_silent", "count", "time")

    def __init__(self, *, is_driving: bool = True) -> None:
        self._is_driving = is_driving
        self.count = 0
        self.time = _NEVER
        self._silent = 0
        self._silence_start = _NEVER

    def on_answer(self) -> None:
        """
        A packet was acknowledged, or the past says nothing any more.
        """
        self.count = self._silent = 0
        self.time = _NEVER

    def on_heard(self) -> None:
        """
        Something arrived from the peer.
        """
        self._silent = 0

    def on_timeout(self, *, now: float) -> None:
        """
        It fires.
        """
        if not self._silent:
            self._silence_start = now
        self._silent += 1
        self.count += 1
        self.time = now

    @property
    def is_silence(self) -> bool:
        """
        Whether nothing at all came for so many timeouts that it must be an outage.
        """
        return self._silent >= PATIENT_PROBE_TIMEOUTS

    @property
    def is_over(self) -> bool:
        """
        Whether asking on is left to the peer.
        """
        has_waited = self.time - self._silence_start >= WAITING_TIME
        return not self._is_driving and self.is_silence and has_waited

    def get_delay(self, base: float) -> float:
        """
        Seconds until the next one.

        :param base: the timeout without backoff, seconds.
        """
        if not self.is_silence:
            limit = PROBE_TIMEOUT_LIMIT
        elif not self._is_driving:
            limit = WAITING_PROBE_TIMEOUT_LIMIT
        elif self.time - self._silence_start < SHORT_OUTAGE:
            limit = PROBE_TIMEOUT_LIMIT  # most outages are tunnels and reboots of a moment
        elif self.time - self._silence_start < LONG_OUTAGE:
            limit = OUTAGE_PROBE_TIMEOUT_LIMIT
        else:
            limit = LONG_OUTAGE_PROBE_TIMEOUT_LIMIT
        # More doublings than PATIENT_PROBE_TIMEOUTS reach every limit.
        doublings = min(self.count, PATIENT_PROBE_TIMEOUTS)
        return min(base * (1 << doublings), max(limit, base))

    def is_outage(self, loss: float) -> bool:
        """
        Whether so many brought no answer that only probes should be sent.

        :param loss: share of the packets that is lost, 0 to 1.
        """
        if self.count < OUTAGE_TIMEOUTS:
            return False
        arriving = max(1 - loss, OUTAGE_TIMEOUTS / MAX_OUTAGE_TIMEOUTS)
        return self.count * arriving >= OUTAGE_TIMEOUTS

    def count_probes(self, loss: float, *, is_new: bool, is_copied: bool = False) -> int:
        """
        So many that two of them should arrive, or in an outage, which may last, one. One also for
        the first timeout of what left in several copies: mostly only its answers got lost.

        :param loss: share of the packets that is lost, 0 to 1.
        :param is_new: that is not known yet.
        :param is_copied: the oldest packet that somebody waits for has copies.
        """
        if is_new and not self.is_silence:
            return FIRST_PROBES
        arriving = max(1 - loss, 1 / MAX_PROBES)
        if is_copied and self.count == 1:
            return round(1 / arriving)
        if self.is_silence:
            return math.ceil(1 / arriving)
        return max(MIN_PROBES, min(MAX_PROBES, math.ceil(2 / arriving)))
