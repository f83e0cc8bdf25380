"""
The queue-delay signal: how much of a round trip is spent in queues.
"""

from __future__ import annotations

import math

#: A minimum that no sample comes near for this long may belong to an earlier route. Seconds.
MINIMUM_LIFETIME = 15.0
#: After this long without confirmation the sender should make room to look. Seconds.
CONFIRM_INTERVAL = 8.0
#: A sample confirms the minimum when it is this close to it.
CONFIRM_FACTOR = 1.02
CONFIRM_MARGIN = 0.0005
#: Weight of a sample in the mean difference of neighbours, and how many of those are jitter.
JITTER_WEIGHT = 1 / 16
JITTER_FACTOR = 3.0
#: The smallest of so few samples is still noise; the round before is taken in.
MIN_SAMPLES = 6
PEAK_LIFETIME = 10.0
#: Bounds of the low and high thresholds, seconds; the last keeps the median below 25 ms.
LOW_MINIMUM = 0.002
HIGH_MINIMUM = 0.004
HIGH_MAXIMUM = 0.015
#: Shares of the jitter in them: the smallest of some jittered samples is not 0.
LOW_JITTER = 0.25
HIGH_JITTER = 0.5
#: Samples of which the smallest says that start-up fills a queue.
RECENT = 8


class QueueDelay:
    """
    Folds round-trip samples into minimum, jitter and queue delay.

    :ivar minimum: shortest round trip, seconds; 0 before the first sample.
    :ivar smoothed: after RFC 9002 section 5.3.
    :ivar peak: largest queue delay of the last 10 seconds.
    """

    __slots__ = (
        "_confirmed_at",
        "_latest",
        "_peak_since",
        "_previous_round",
        "_recent",
        "_round",
        "_round_samples",
        "_variation",
        "minimum",
        "peak",
        "smoothed",
    )

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """
        Forget everything: packets take another path.
        """
        self.minimum = self.smoothed = self.peak = 0.0
        self._variation = 0.0
        self._latest = 0.0
        self._confirmed_at = 0.0
        self._peak_since = 0.0
        self._round = self._previous_round = math.inf
        self._round_samples = 0
        self._recent: list[float] = []

    def update(self, rtt: float, *, now: float) -> None:
        """
        Fold in one sample, seconds, > 0.
        """
        if not self.minimum:
            self.minimum = self.smoothed = self._latest = rtt
            self._confirmed_at = self._peak_since = now
        self._variation += JITTER_WEIGHT * (abs(rtt - self._latest) - self._variation)
        self._latest = rtt
        self.smoothed += (rtt - self.smoothed) / 8
        del self._recent[: 1 - RECENT]
        self._recent.append(rtt)
        self._round = min(self._round, rtt)
        self._round_samples += 1
        self._confirm(rtt, now)

    def _confirm(self, rtt: float, now: float) -> None:
        if rtt < self.minimum:
            self.minimum = rtt
        margin = CONFIRM_MARGIN + LOW_JITTER * self.jitter
        if rtt <= self.minimum * CONFIRM_FACTOR + margin:
            self._confirmed_at = now
        elif now - self._confirmed_at > MINIMUM_LIFETIME:
            self.minimum = min(self._round, self._previous_round)
            self._confirmed_at = now

    def end_round(self, *, now: float) -> None:
        """
        A round trip is over.
        """
        if now - self._peak_since > PEAK_LIFETIME:
            self.peak = 0.0
            self._peak_since = now
        self.peak = max(self.peak, self.current)
        if self._round_samples:
            self._previous_round = self._round
            self._round = math.inf
            self._round_samples = 0

    def excuse(self, *, now: float) -> None:
        """
        There were no samples because there was an outage; the minimum is as good as before.
        """
        self._confirmed_at = now

    def needs_confirmation(self, *, now: float) -> bool:
        """
        Whether no sample came near the minimum for long.
        """
        return now - self._confirmed_at > CONFIRM_INTERVAL

    @property
    def current(self) -> float:
        """
        Seconds in queues: the smallest of this round, or of two while this one is young.
        """
        smallest = self._round
        if self._round_samples < MIN_SAMPLES:
            smallest = min(smallest, self._previous_round)
        return max(0.0, smallest - self.minimum) if smallest < math.inf else 0.0

    @property
    def recent(self) -> float:
        """
        The same of the last :data:`RECENT` samples; 0 before there are so many.
        """
        if len(self._recent) < RECENT:
            return 0.0
        return max(0.0, min(self._recent) - self.minimum)

    @property
    def jitter(self) -> float:
        """
        Seconds that neighbouring samples differ without a queue, at most the minimum.
        """
        return min(JITTER_FACTOR * self._variation, self.minimum)

    def low(self, packet_time: float) -> float:
        """
        Below this there is no queue.

        :param packet_time: seconds that the bottleneck needs for one packet.
        """
        return max(LOW_MINIMUM, self.minimum / 32) + LOW_JITTER * self.jitter + 0.5 * packet_time

    def high(self, packet_time: float) -> float:
        """
        Above this there is a queue to be worked off.

        :param packet_time: seconds; a slow link cannot resolve less than one packet.
        """
        threshold = min(max(HIGH_MINIMUM, 0.12 * self.minimum), HIGH_MAXIMUM)
        return threshold + HIGH_JITTER * self.jitter + packet_time
