"""
What finished phases teach about the erasure floor.
"""

from __future__ import annotations

from resip.core.congestion.erasure import CREEP_PACKETS
from resip.core.congestion.experiment import LossExperiment
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import Phase, State

#: Start-up, UP and its answers overload the path on purpose; a cut has its own judge.
LEARNING = frozenset({State.CRUISE, State.DOWN, State.MIN_RTT})
#: Of the rate, what a jump of loss that is congestion leaves at least.
DECREASE = 0.85
#: A phase saw a short queue when it took so many round-trip samples ...
MIN_SAMPLES = 2
#: ... and the smallest say so: within this margin, seconds, or half of the peak ...
MARGIN = 0.002
PEAK_SHARE = 0.5
#: ... or when no queue above this was seen for long.
NO_QUEUE = 0.004


def is_queue_low(model: PathModel, phase: Phase) -> bool:
    """
    Whether the queue was short at some time in the phase.
    """
    if phase.rtt_samples < MIN_SAMPLES:
        return False
    peak = model.delay.peak
    limit = max(model.low_delay + MARGIN, PEAK_SHARE * peak)
    return peak < NO_QUEUE or phase.queue_delay <= limit


def learn(
    model: PathModel, experiment: LossExperiment, phase: Phase, *, can_test: bool, now: float
) -> bool:
    """
    Draw conclusions from a phase of which the fate of each packet is known.

    :param can_test: the cycle is in a state that the loss experiment may interrupt.
    :return: whether the loss experiment should begin, which was told of the phase.
    """
    floor = model.floor
    if not phase.sent or phase.state not in LEARNING:
        return False
    if model.is_competing:
        # The competitor's overflow is in the loss. Only good news can be trusted.
        if phase.loss <= floor.value:
            floor.learn(phase)
        return False
    is_jump = floor.is_jump(phase)
    if not is_queue_low(model, phase):
        if is_jump:
            _decrease(model, phase)
        return False
    floor.note_baseline(phase)
    loss, packets = phase.loss, phase.sent
    if not is_jump:
        if not floor.learn(phase):
            return False
        loss, packets = floor.estimate, round(CREEP_PACKETS)
    if not experiment.may_test_jump(now=now):
        # The last test was not long ago and showed no erasure, so it is congestion.
        if is_jump:
            _decrease(model, phase)
        return False
    if not can_test:
        return False
    experiment.begin_jump(loss=loss, packets=packets)
    return True


def _decrease(model: PathModel, phase: Phase) -> None:
    if phase.state is State.CRUISE:
        model.rates.reset(max(min(model.rate, model.rounds.served), DECREASE * model.rate))
