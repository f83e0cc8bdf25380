"""
The round-trip time of a path, after RFC 9002 section 5.
"""

from __future__ import annotations

#: RFC 9002 section 6.2.2: before the first sample.
INITIAL_RTT = 0.333
#: RFC 9002 section 6.1.2: no timer is finer than this.
GRANULARITY = 0.001
#: A minimum older than this may belong to a route that is no longer used.
MINIMUM_LIFETIME = 300.0


class RttEstimator:
    """
    Folds round-trip samples into an estimate and its variation.

    :ivar latest: the newest sample, seconds.
    :ivar smoothed: the estimate, seconds; :data:`INITIAL_RTT` before the first sample.
    :ivar variation: mean deviation of the samples, seconds.
    :ivar minimum: the smallest sample of the last five to ten minutes.
    """

    __slots__ = (
        "_newer_minimum",
        "_renewed_at",
        "has_sample",
        "latest",
        "minimum",
        "smoothed",
        "variation",
    )

    def __init__(self, initial: float = INITIAL_RTT) -> None:
        self.has_sample = False
        self.latest = initial
        self.smoothed = initial
        self.variation = initial / 2
        self.minimum = initial
        self._newer_minimum = initial
        self._renewed_at = 0.0

    def update(self, sample: float, *, now: float, ack_delay: float = 0.0) -> None:
        """
        Fold in one sample.

        :param sample: seconds from sending to acknowledgement, at least 0.
        :param ack_delay: seconds the peer says it held the acknowledgement back, already
            capped at what it promised.

        Source: RFC 9002 section 5.3.
        """
        sample = max(sample, 1e-6)
        self.latest = sample
        if not self.has_sample:
            self.has_sample = True
            self.minimum = self._newer_minimum = self.smoothed = sample
            self.variation = sample / 2
            self._renewed_at = now
            return
        self._update_minimum(sample, now)
        adjusted = sample - ack_delay if sample >= self.minimum + ack_delay else sample
        self.variation += (abs(self.smoothed - adjusted) - self.variation) / 4
        self.smoothed += (adjusted - self.smoothed) / 8

    def probe_timeout(self, max_ack_delay: float) -> float:
        """
        How long to wait for an acknowledgement before asking for one.

        Source: RFC 9002 section 6.2.1.
        """
        return self.smoothed + max(4 * self.variation, GRANULARITY) + max_ack_delay

    def _update_minimum(self, sample: float, now: float) -> None:
        self._newer_minimum = min(self._newer_minimum, sample)
        self.minimum = min(self.minimum, sample)
        if now - self._renewed_at > MINIMUM_LIFETIME:
            self.minimum = self._newer_minimum
            self._newer_minimum = sample
            self._renewed_at = now
