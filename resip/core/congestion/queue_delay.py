"""
The queue-delay signal: how much of a round trip is spent in queues.
"""

from __future__ import annotations

import math
from array import array

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


class Baseline:
    """
    The smallest of a signal that queues only make larger.

    :ivar value: seconds; infinite before the first sample.
    :ivar confirmed_at: when a sample came near it.
    """

    __slots__ = ("_previous_round", "_round", "confirmed_at", "value")

    def __init__(self) -> None:
        self.value = math.inf
        self.confirmed_at = 0.0
        self._round = self._previous_round = math.inf

    def update(self, sample: float, *, margin: float, now: float) -> float:
        """
        Fold in one sample.

        :param margin: seconds; so close to it a sample confirms the value.
        :return: seconds that the sample is above the value; 0 when that was raised, since then
            the recent rounds are what is normal.
        """
        self.value = min(self.value, sample)
        self._round = min(self._round, sample)
        if sample <= self.value + margin:
            self.confirmed_at = now
        elif now - self.confirmed_at > MINIMUM_LIFETIME:
            self.value = min(self._round, self._previous_round)
            self.confirmed_at = now
            return 0.0
        return sample - self.value

    def end_round(self) -> None:
        """
        A round trip with samples is over.
        """
        self._previous_round = self._round
        self._round = math.inf


class QueueDelay:
    """
    Folds round trips, and transits where the peer tells them, into minimum, jitter and queue delay.

    A round trip has the queues and the jitter of the way back in it; a transit is the way there
    alone, but by two clocks that may drift apart or be set. So the queue delay is what round trips
    say, less what for some time only they saw: no peer's clock makes a queue look longer.

    :ivar minimum: shortest round trip, seconds; 0 before the first sample.
    :ivar smoothed: after RFC 9002 section 5.3.
    :ivar peak: largest queue delay of the last 10 seconds.
    :ivar way_back: mean seconds in queues that the transits have no part in.
    """

    __slots__ = (
        "_latest",
        "_peak_since",
        "_previous_round",
        "_recent",
        "_returns",
        "_round",
        "_round_samples",
        "_transits",
        "_trips",
        "_variation",
        "minimum",
        "peak",
        "smoothed",
        "way_back",
    )

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """
        Forget everything: packets take another path.
        """
        self.minimum = self.smoothed = self.peak = self.way_back = 0.0
        self._trips = Baseline()
        self._transits: Baseline | None = None
        self._variation = 0.0
        self._latest = 0.0
        self._peak_since = 0.0
        self._round = self._previous_round = math.inf
        self._round_samples = 0
        # Arrays, since every idle session keeps these: a float takes 32 bytes.
        self._recent = array("d")
        self._returns = array("d")

    def update(self, rtt: float, *, transit: float | None = None, now: float) -> float:
        """
        Fold in one sample.

        :param rtt: seconds, > 0.
        :param transit: as in :class:`~resip.core.congestion.rate.AckReport`.
        :return: the queue delay of this sample alone, seconds.
        """
        if not self.minimum:
            self.minimum = self.smoothed = self._latest = rtt
            self._peak_since = now
        self._variation += JITTER_WEIGHT * (abs(rtt - self._latest) - self._variation)
        self._latest = rtt
        self.smoothed += (rtt - self.smoothed) / 8
        delay = self._measure(rtt, transit, now)
        del self._recent[: 1 - RECENT]
        self._recent.append(delay)
        self._round = min(self._round, delay)
        self._round_samples += 1
        return delay

    def _measure(self, rtt: float, transit: float | None, now: float) -> float:
        margin = CONFIRM_MARGIN + LOW_JITTER * self.jitter + (CONFIRM_FACTOR - 1) * self.minimum
        delay = whole = self._trips.update(rtt, margin=margin, now=now)
        self.minimum = self._trips.value
        if transit is not None:
            if self._transits is None:
                self._transits = Baseline()
            ahead = self._transits.update(transit, margin=margin, now=now)
            del self._returns[: 1 - RECENT]
            self._returns.append(max(0.0, whole - ahead))
            self.way_back += (self._returns[-1] - self.way_back) / 8
            # What may be jitter stays in: the thresholds allow for it, and would be too high.
            delay -= max(0.0, min(self._returns) - HIGH_JITTER * self.jitter)
        return delay

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
            for baseline in self._baselines:
                baseline.end_round()

    def excuse(self, *, now: float) -> None:
        """
        There were no samples because there was an outage; the minimum is as good as before.
        """
        for baseline in self._baselines:
            baseline.confirmed_at = now

    def needs_confirmation(self, *, now: float) -> bool:
        """
        Whether no sample came near the minimum for long.
        """
        return all(now - each.confirmed_at > CONFIRM_INTERVAL for each in self._baselines)

    @property
    def _baselines(self) -> tuple[Baseline, ...]:
        return (self._trips, self._transits) if self._transits else (self._trips,)

    @property
    def current(self) -> float:
        """
        Seconds in queues: the smallest of this round, or of two while this one is young.
        """
        smallest = self._round
        if self._round_samples < MIN_SAMPLES:
            smallest = min(smallest, self._previous_round)
        return smallest if smallest < math.inf else 0.0

    @property
    def recent(self) -> float:
        """
        The same of the last :data:`RECENT` samples; 0 before there are so many.
        """
        return min(self._recent) if len(self._recent) == RECENT else 0.0

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
