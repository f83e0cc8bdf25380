"""
The UP probe: sends more than the model's rate and sees whether more arrives.
"""

from __future__ import annotations

import math

from resip.core.congestion.delivery import RateSample
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import Phase

GAIN = 1.25
MAXIMUM_GAIN = 2.0
GAIN_GROWTH = 1.25
#: More than this share of what UP asked for arrived: there is more to be had.
SUCCESS_SHARE = 0.5
#: UP adds so many packets a step, at most this share of the rate: the additive increase.
ADDED_PACKETS = 8.0
ADDED_SHARE = 0.25
#: Products of rate and round trip, in packets, between which that addition fades in.
FADE_START = 10.0
FADE_LENGTH = 30.0
#: UP ends early this much of a round trip above the high delay, or at so much surplus loss.
DELAY_SHARE = 0.2
LOSS_DEVIATIONS = 3.0
LOSS_MARGIN = 4.0
#: Only samples of packets sent later than this share of UP show its full effect.
SETTLED_SHARE = 2 / 3


class GrowthProbe:
    """
    Follows one UP phase after the other.
    """

    __slots__ = ("_gain", "_model", "_phase", "_rates", "_samples")

    def __init__(self, model: PathModel) -> None:
        self._model = model
        self._gain = GAIN
        self._phase: Phase | None = None
        self._rates = 0.0
        self._samples = 0

    @property
    def pacing_rate(self) -> float:
        """
        Bytes a second during UP.
        """
        model = self._model
        size, rate = model.datagram_size, model.rate
        fade = (rate * model.step / size - FADE_START) / FADE_LENGTH
        added = min(ADDED_PACKETS * size / model.step, ADDED_SHARE * rate)
        return self._gain * rate + added * min(1.0, max(0.0, fade))

    def begin(self, phase: Phase) -> None:
        """
        UP begins.
        """
        self._phase = phase
        self._rates = 0.0
        self._samples = 0

    def on_sample(self, sample: RateSample) -> None:
        """
        Keep the samples of the last third of UP.
        """
        phase = self._phase
        if sample.phase is phase and phase is not None:
            settled_at = phase.started_at + SETTLED_SHARE * self._model.step
            if sample.sent_at >= settled_at:
                self._rates += sample.served_rate
                self._samples += 1

    def must_stop(self) -> bool:
        """
        Whether UP has done enough damage.
        """
        model, phase = self._model, self._phase
        if phase is None or model.is_competing:
            return False
        floor = model.floor.value
        expected = (phase.acked + phase.lost) * floor
        deviation = math.sqrt(expected * (1 - floor))
        is_lossy = phase.lost > expected + LOSS_DEVIATIONS * deviation + LOSS_MARGIN
        limit = model.high_delay + DELAY_SHARE * model.delay.minimum
        return is_lossy or model.delay.current > limit

    def is_answered(self, largest: int) -> bool:
        """
        Whether all packets of UP were acknowledged or overtaken.
        """
        return self._phase is None or largest >= self._phase.end_number - 1

    def finish(self) -> bool:
        """
        Raise the rate to what arrived.

        :return: whether so much more arrived that UP should go on, with a higher gain.
        """
        model, phase = self._model, self._phase
        if phase is None or not self._samples:
            return False
        rate = self._rates / self._samples
        model.rates.grow(rate)
        has_succeeded = rate > phase.rate * (1 + SUCCESS_SHARE * (self._gain - 1))
        if has_succeeded and (model.is_competing or model.delay.current < model.high_delay):
            self._gain = min(MAXIMUM_GAIN, GAIN_GROWTH * self._gain)
            return True
        self._gain = GAIN
        return False

    def judge(self, phase: Phase) -> None:
        """
        Take growth back if, now that all is known, UP lost more than the floor.
        """
        model, floor = self._model, self._model.floor.value
        if not model.is_lossy or not phase.sent:
            return
        inflation = model.floor.bursts.inflation(floor)
        if phase.loss > floor + math.sqrt(inflation * floor * (1 - floor) / phase.sent):
            model.rates.limit(phase.rate)
