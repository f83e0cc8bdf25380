"""
Controllers to compete with: CUBIC and one like BBR version 1, as simple as they can be.

They stand for what other people's traffic does on a shared bottleneck. Both run in the same
:class:`~resip.lab.flows.Flow` as ours, so only the controllers differ.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from resip.core.congestion.competition import CubicWindow
from resip.core.congestion.delivery import DeliverySampler, RoundMeter
from resip.core.congestion.phases import Phase, State
from resip.core.congestion.rate import AckReport
from resip.core.modern.sent import SentRun
from resip.lab.flows import DATAGRAM_SIZE

INITIAL_WINDOW = 10.0
#: What Linux paces a window with: in slow start, and later.
SLOW_START_PACING = 2.0
AVOIDANCE_PACING = 1.2
#: Probe timeouts in a row that count as a retransmission timeout.
TIMEOUTS = 3

BBR_STARTUP_GAIN = 2.89
BBR_CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
BBR_WINDOW_GAIN = 2.0
BBR_FILTER_ROUNDS = 10
BBR_FULL_ROUNDS = 3
BBR_FULL_GROWTH = 1.25
BBR_MIN_RTT_LIFETIME = 10.0
BBR_MIN_RTT_TIME = 0.2
BBR_MIN_WINDOW = 4


class _OnOnePath:
    """
    A controller whose path never changes.
    """

    def on_path_changed(self, *, is_known: bool, now: float) -> None:
        """
        Never happens here.
        """

    def remember(self) -> object:
        """
        Nothing.
        """
        return None

    def recall(self, memory: object, *, now: float) -> None:
        """
        Never happens here.
        """


class CubicController(_OnOnePath):
    """
    CUBIC (RFC 9438) with slow start, paced as Linux would.

    :ivar datagram_size: bytes of a full packet.
    """

    def __init__(self, *, now: float) -> None:
        self.datagram_size = DATAGRAM_SIZE
        self.stats: dict[str, float | str] = {}
        self._window = INITIAL_WINDOW
        self._cubic: CubicWindow | None = None
        self._rtt = 0.1
        self._reduced_at = -math.inf

    @property
    def congestion_window(self) -> int:
        """
        Bytes that may be in flight.
        """
        return int(self._window * DATAGRAM_SIZE)

    @property
    def pacing_rate(self) -> float:
        """
        Bytes a second.
        """
        gain = SLOW_START_PACING if self._cubic is None else AVOIDANCE_PACING
        return gain * self._window * DATAGRAM_SIZE / self._rtt

    def on_sent(self, run: SentRun, *, bytes_in_flight: int, now: float) -> None:
        """
        Nothing to remember.
        """

    def on_app_limited(self, *, bytes_in_flight: int, now: float) -> None:
        """
        Endless flows only.
        """

    def on_ack(self, report: AckReport, *, now: float) -> None:
        """
        Grow, or shrink once for the losses of a round trip.
        """
        if report.rtt is not None:
            self._rtt += (report.rtt - self._rtt) / 8
        if any(run.time > self._reduced_at for run in report.lost):
            self._reduce(now)
        elif self._cubic is None:
            self._window += sum(run.count for run in report.acked)
        else:
            self._window = min(
                self._cubic.value(rtt=self._rtt, now=now), 1.5 * self._window + len(report.acked)
            )

    def _reduce(self, now: float) -> None:
        self._reduced_at = now
        if self._cubic is None:
            self._cubic = CubicWindow(self._window, now=now)
        self._cubic.reduce(rtt=self._rtt, now=now)
        self._window = self._cubic.value(rtt=self._rtt, now=now)

    def on_losses(self, lost: Sequence[SentRun], *, bytes_in_flight: int, now: float) -> None:
        """
        Nothing: the timeout itself counts.
        """

    def on_probe_timeout(self, *, count: int, now: float) -> None:
        """
        Several in a row are a retransmission timeout.
        """
        if count == TIMEOUTS:
            self._reduce(now)
            self._cubic = None
            self._window = 2.0


class BbrController(_OnOnePath):
    """
    The skeleton of BBR version 1: max filter, 1.25/0.75 cycle, two products in flight.

    :ivar datagram_size: bytes of a full packet.

    :param phase: where in the cycle it begins, 0 to 7.
    """

    def __init__(self, *, now: float, phase: int = 2) -> None:
        self.datagram_size = DATAGRAM_SIZE
        self.stats: dict[str, float | str] = {}
        self._sampler = DeliverySampler(now=now)
        self._rounds = RoundMeter(now=now)
        self._phase = Phase(State.CRUISE, rate=0.0, now=now)
        self._rates: deque[float] = deque([INITIAL_WINDOW * DATAGRAM_SIZE / 0.1])
        self._best_in_round = 0.0
        self._min_rtt = math.inf
        self._min_rtt_at = self._cycle_at = now
        self._min_rtt_until = -math.inf
        self._cycle = phase
        self._now = now
        self._full = 0.0
        self._full_rounds = 0
        self._is_filled = self._is_drained = False
        self._next_number = 0

    @property
    def _rate(self) -> float:
        return max(self._rates)

    @property
    def _product(self) -> float:
        return self._rate * min(self._min_rtt, 1.0)

    @property
    def congestion_window(self) -> int:
        """
        Bytes that may be in flight.
        """
        if self._min_rtt_until > self._now:
            return BBR_MIN_WINDOW * DATAGRAM_SIZE
        gain = BBR_WINDOW_GAIN if self._is_filled else BBR_STARTUP_GAIN
        least = (BBR_MIN_WINDOW if self._is_filled else INITIAL_WINDOW) * DATAGRAM_SIZE
        return int(max(gain * self._product, least) if self._min_rtt < math.inf else least)

    @property
    def pacing_rate(self) -> float:
        """
        Bytes a second.
        """
        if not self._is_filled:
            return BBR_STARTUP_GAIN * self._rate
        if not self._is_drained:
            return self._rate / BBR_STARTUP_GAIN
        return BBR_CYCLE[self._cycle] * self._rate

    def on_sent(self, run: SentRun, *, bytes_in_flight: int, now: float) -> None:
        """
        Keep what a rate sample needs.
        """
        self._next_number = run.end
        is_idle = bytes_in_flight <= run.wire_bytes
        self._sampler.on_sent(run, self._phase, is_idle=is_idle, is_app_limited=False, now=now)

    def on_app_limited(self, *, bytes_in_flight: int, now: float) -> None:
        """
        Endless flows only.
        """

    def on_ack(self, report: AckReport, *, now: float) -> None:
        """
        Update the model, then the state.
        """
        self._now = now
        self._update_min_rtt(report, now)
        shortest = min(self._min_rtt, 1.0)
        sample = self._sampler.on_ack(
            report.acked, floor=0.0, shortest=shortest, jitter=0.0, now=now
        )
        if sample is not None:
            self._best_in_round = max(self._best_in_round, sample.delivered_rate)
            self._rates[-1] = max(self._rates[-1], sample.delivered_rate)
        self._rounds.add(sum(run.count for run in report.acked), 0, sample)
        largest = report.acked[-1].end - 1
        if self._rounds.end(largest=largest, next_number=self._next_number, now=now):
            self._end_round()
        if self._is_filled and not self._is_drained:
            self._is_drained = report.bytes_in_flight <= self._product
        self._advance_cycle(report, shortest, now)

    def _update_min_rtt(self, report: AckReport, now: float) -> None:
        if report.rtt is None:
            return
        is_stale = now - self._min_rtt_at > BBR_MIN_RTT_LIFETIME
        if report.rtt <= self._min_rtt or is_stale:
            self._min_rtt = report.rtt
            self._min_rtt_at = now
            if is_stale:
                self._min_rtt_until = now + BBR_MIN_RTT_TIME

    def _end_round(self) -> None:
        if not self._is_filled:
            if self._best_in_round > BBR_FULL_GROWTH * self._full:
                self._full, self._full_rounds = self._best_in_round, 0
            else:
                self._full_rounds += 1
            self._is_filled = self._full_rounds >= BBR_FULL_ROUNDS
        self._rates.append(self._best_in_round)
        if len(self._rates) > BBR_FILTER_ROUNDS:
            self._rates.popleft()
        self._best_in_round = 0.0

    def _advance_cycle(self, report: AckReport, shortest: float, now: float) -> None:
        elapsed = now - self._cycle_at
        is_over = elapsed >= shortest
        if BBR_CYCLE[self._cycle] > 1:
            is_full = report.bytes_in_flight >= BBR_CYCLE[self._cycle] * self._product
            is_over = is_over and (is_full or bool(report.lost))
        elif BBR_CYCLE[self._cycle] < 1:
            is_over = is_over or report.bytes_in_flight <= self._product
        if is_over:
            self._cycle = (self._cycle + 1) % len(BBR_CYCLE)
            self._cycle_at = now

    def on_losses(self, lost: Sequence[SentRun], *, bytes_in_flight: int, now: float) -> None:
        """
        Loss is ignored.
        """

    def on_probe_timeout(self, *, count: int, now: float) -> None:
        """
        Timeouts are ignored.
        """
