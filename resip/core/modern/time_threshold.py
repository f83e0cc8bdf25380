"""
When a packet counts as lost: a later one arrived that was sent a *reordering window* after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from resip.core.modern.loss import ReorderingWindow
from resip.core.modern.sent import SentRun
from resip.core.rtt import RttEstimator


class TimeThreshold:
    """
    The time threshold of RFC 9002 section 6.1.2, with the learnt window for the fixed eighth.

    :ivar largest_acked: the highest number acknowledged, -1 before any.
    :ivar reordering: how far packets of the path in use overtake each other.
    """

    __slots__ = ("_largest_acked_time", "largest_acked", "reordering")

    def __init__(self) -> None:
        self.largest_acked = -1
        self._largest_acked_time = -math.inf
        self.reordering = ReorderingWindow()

    def observe(
        self,
        oldest: SentRun,
        late_lost: Sequence[SentRun],
        rtt: RttEstimator,
        *,
        path_start: int,
        now: float,
    ) -> None:
        """
        Learn from what came after packets that were sent later.

        The times of sending miss part of the lateness where bursts are far apart. For a packet
        that was wrongly called lost the time until its answer makes up for it.

        :param oldest: of what was acknowledged just now, before :meth:`on_acked`.
        :param late_lost: what of that was called lost, lowest first.
        :param path_start: packets below this number took another network.
        """
        if path_start <= oldest.first < self.largest_acked:
            extent = self._largest_acked_time - oldest.time
            self.reordering.observe(extent, rtt, now=now)
        if late_lost and late_lost[0].first >= path_start:
            lateness = now - late_lost[0].time - max(rtt.smoothed, rtt.latest)
            self.reordering.observe(lateness, rtt, now=now)

    def on_acked(self, newest: SentRun) -> None:
        """
        An acknowledgement came; ``newest`` is the last run that it resolved.
        """
        if newest.first > self.largest_acked:
            self.largest_acked = newest.end - 1
            self._largest_acked_time = newest.time

    def get_time(self, oldest: SentRun | None, rtt: RttEstimator) -> float | None:
        """
        When ``oldest`` counts as lost if nothing more arrives; ``None`` when nothing sent after it
        was acknowledged.
        """
        if oldest is None or oldest.first > self.largest_acked:
            return None
        return oldest.time + self._delay(rtt, now=oldest.time)

    def sent_by(self, rtt: RttEstimator, *, now: float) -> float:
        """
        What was sent then or before, and before :attr:`largest_acked`, is lost.
        """
        overtaken = self._largest_acked_time - self.reordering.get(rtt, now=now)
        return max(overtaken, now - self._delay(rtt, now=now))

    def _delay(self, rtt: RttEstimator, *, now: float) -> float:
        # When nothing but time says so, acknowledgements may also be late: hence the variation.
        slack = max(self.reordering.get(rtt, now=now), 2 * rtt.variation)
        return max(rtt.smoothed, rtt.latest) + slack
