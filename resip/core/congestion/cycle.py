"""
The probe cycle: cruise, send more, wait for the answers, send less, and again.

After BBR's ProbeBW, with additive increase and multiplicative decrease on top, so that equal
flows converge. :data:`RULES` is the state table: the pacing rate of each state, and the
function that looks, at each acknowledgement, for the way to the next one::

    STARTUP -> DRAIN -> CRUISE -> UP -> HOLD -> DOWN -> CRUISE
    HOLD -> UP            more arrived than expected: there is more to be had
    CRUISE -> DOWN        the queue grew meanwhile
    CRUISE -> MIN_RTT -> CRUISE    the shortest round trip was not seen for long
    CRUISE, DOWN -> CUT_SETTLE -> CUT -> CUT_RESULT -> CRUISE      the loss experiment
    CRUISE -> YIELD -> CRUISE      competition mode: has the competitor left?
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from resip.core.congestion.competition import Competition, CompetitorDetector
from resip.core.congestion.delivery import RateSample
from resip.core.congestion.evidence import is_queue_low, learn
from resip.core.congestion.experiment import LossExperiment
from resip.core.congestion.growth import GrowthProbe
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import Phase, PhaseLog, State
from resip.core.congestion.startup import Startup

DRAIN_GAIN = 0.5
DRAIN_STEPS = 3.0
#: Cruise slows down from this share of the high delay on, but not below the minimum.
CRUISE_DELAY_SHARE = 0.6
CRUISE_MINIMUM = 0.85
#: Its length is random, so that flows do not probe in step.
CRUISE_STEPS = 4.0
CRUISE_RANDOM_STEPS = 3.0
#: The multiplicative decrease when the queue has grown.
DECREASE = 0.9
HOLD_MINIMUM = 0.9
HOLD_LOOPS = 3.0
DOWN_GAIN = 0.75
#: With much jitter the end of DOWN shows late, and the queue runs dry. Flows that take loss for
#: congestion need DOWN that deep, but where more than the first share gets lost they send little.
#: Above the second too few answers are left to tell what a gentle DOWN did.
GENTLE_DOWN_GAIN = 0.95
GENTLE_DOWN_LOSSES = (0.05, 0.2)
#: A queue of so many high delays, or half a round trip, is drained at DRAIN_GAIN.
DEEP_QUEUE = 3.0
#: Who sends less than so many packets a round trip fills no queue, and can test nothing.
FEWEST_PACKETS = 2.0
#: Before a competitor is found, the sender yields to it: what it then claims of what the path
#: carried before. When that is too much, the filter forgets it.
FAIR_SHARE = 0.8
#: In each round with a short queue, so much of that is kept.
FREE_RATE_DECAY = 0.95
#: With more jitter than this share of the shortest round trip, the few samples of a round say
#: little about the queue, and answers to earlier packets still come in.
LARGE_JITTER = 0.15
#: DOWN gives up after so many loops.
DOWN_LOOPS = 12.0
MIN_RTT_GAIN = 0.5
MIN_RTT_STEPS = 1.5
YIELD_GAIN = 0.5
YIELD_LOOPS = 2.0
#: What the loss experiment sends, and answers to it.
CUTS = frozenset({State.CUT_SETTLE, State.CUT, State.CUT_RESULT})
#: A cut stays unjudged when its packets are not resolved after so many loops and seconds.
RESULT_LOOPS = 6.0
RESULT_TIME = 1.0


class ProbeCycle:
    """
    Walks through the states and applies what they show to the model.

    :ivar competition: ``None`` outside of competition mode.
    :ivar competitions: how often that began.

    :param random: evenly distributed numbers from 0 to below 1.
    """

    __slots__ = (
        "_cruise_time",
        "_detector",
        "_experiment",
        "_free_rate",
        "_growth",
        "_is_own_queue",
        "_largest",
        "_log",
        "_model",
        "_random",
        "_sample",
        "_startup",
        "competition",
        "competitions",
    )

    def __init__(self, model: PathModel, log: PhaseLog, random: Callable[[], float]) -> None:
        self.competition: Competition | None = None
        self.competitions = 0
        self._model = model
        self._log = log
        self._random = random
        self._startup = Startup(model)
        self._experiment: LossExperiment | None = None
        self._growth = GrowthProbe(model)
        self._detector: CompetitorDetector | None = None
        self._cruise_time = 0.0
        # The best of the model while the queue was short: what the path carries.
        self._free_rate = 0.0
        self._is_own_queue = False
        self._largest = -1
        self._sample: RateSample | None = None

    @property
    def experiment(self) -> LossExperiment:
        """
        The loss experiment. A session that never leaves start-up, as thousands may be, has none.
        """
        if self._experiment is None:
            self._experiment = LossExperiment(self._model, self._random)
        return self._experiment

    @property
    def state(self) -> State:
        """
        The current state.
        """
        return self._log.current.state

    def pacing_rate(self, *, now: float) -> float:
        """
        Bytes a second.
        """
        rate = RULES[self.state].rate(self)
        if self.competition is not None and self.state is not State.YIELD:
            rate = max(rate, self.competition.minimum_rate(now=now))
        return rate

    def on_ack(
        self, sample: RateSample | None, *, largest: int, has_round: bool, now: float
    ) -> None:
        """
        Take in an acknowledgement, then look for the way to the next state.

        :param largest: number of its newest packet. :param has_round: it ended a round.
        """
        self._largest, self._sample = largest, sample
        if sample is not None:
            self._growth.on_sample(sample)
            if sample.phase.state is State.STARTUP and self.state is not State.STARTUP:
                self._startup.on_late_sample(sample, now=now)
                self.experiment.trust_rate()
        for phase in self._log.take_resolved():
            self._on_resolved(phase, now)
        if has_round:
            self._on_round(now)
        RULES[self.state].advance(self, now)

    def resume(self, *, now: float) -> None:
        """
        Go on after an outage: what is on its way tells nothing, the model is kept.
        """
        self._leave_competition()
        self._enter(State.STARTUP if self.state is State.STARTUP else State.CRUISE, now)
        self._log.abandon()

    def _on_round(self, now: float) -> None:
        model, state = self._model, self.state
        if state is State.STARTUP:
            if self._startup.on_round():
                self._leave_startup(now)
        elif state is State.DRAIN:
            model.rates.grow(model.rounds.served)
        else:
            # A cut lasts for as many rounds as the rate remembers, and with much jitter the rounds
            # after it do not make up for that at once.
            if state not in CUTS or not self._has_jitter:
                model.end_round(is_probing=state in (State.UP, State.HOLD))
            if model.delay.current <= model.low_delay and not model.is_competing:
                self._free_rate = max(model.rate, FREE_RATE_DECAY * self._free_rate)
        if state is State.DOWN and self._detector is not None:
            self._detector.on_round()
        if self.competition is not None and self.competition.on_round(now=now):
            self._leave_competition()

    def _on_resolved(self, phase: Phase, now: float) -> None:
        if phase.state is State.UP:
            self._growth.judge(phase)
        elif phase.state is State.CUT and self.state is State.CUT_RESULT:
            low = is_queue_low(self._model, phase)
            self.experiment.judge(phase, is_queue_low=low, now=now)
            self._enter(State.CRUISE, now)
        elif learn(
            self._model,
            self.experiment,
            phase,
            can_test=self.state in (State.CRUISE, State.DOWN),
            now=now,
        ):
            self._enter(State.CUT_SETTLE, now)

    def _enter(self, state: State, now: float) -> None:
        phase = self._log.enter(state, rate=self._model.rate, now=now)
        if state is State.CRUISE:
            steps = CRUISE_STEPS + CRUISE_RANDOM_STEPS * self._random()
            self._cruise_time = steps * self._model.step
        elif state is State.UP:
            self._growth.begin(phase)
        elif state is State.DOWN:
            self._detector = CompetitorDetector(self._model, now=now)
        elif state is State.YIELD and self.competition is not None:
            self.competition.begin_yield(now=now)

    def _elapsed(self, now: float) -> float:
        return now - self._log.current.started_at

    @property
    def _shown_delay(self) -> float:
        """
        Seconds in queues; with much jitter the smallest that packets of the current state saw.
        """
        return self._log.current.queue_delay if self._has_jitter else self._model.delay.current

    @property
    def _has_jitter(self) -> bool:
        delay = self._model.delay
        return delay.jitter > LARGE_JITTER * delay.minimum

    @property
    def _down_gain(self) -> float:
        least, most = GENTLE_DOWN_LOSSES
        is_lossy = least < self._model.floor.value < most
        is_gentle = is_lossy and self._has_jitter and self._is_own_queue
        return GENTLE_DOWN_GAIN if is_gentle else DOWN_GAIN

    def _leave_startup(self, now: float) -> None:
        self._startup.finish()
        self.experiment.on_startup_finished(now=now)
        self._enter(State.DRAIN, now)

    def _compete(self, detector: CompetitorDetector, now: float) -> None:
        model, fair = self._model, FAIR_SHARE * self._free_rate
        model.is_competing = True
        model.rates.grow(fair)
        window = max(detector.initial_window(), fair * model.delay.smoothed)
        self.competition = Competition(model, window=window, now=now)
        self.competitions += 1

    def _leave_competition(self) -> None:
        self._model.is_competing = False
        self.competition = None

    # The ways out of each state, in the order of the cycle.

    def _advance_startup(self, now: float) -> None:
        if self._startup.on_ack(self._sample, now=now):
            self._leave_startup(now)

    def _advance_drain(self, now: float) -> None:
        model = self._model
        product = model.rate * (model.delay.minimum + model.delay.jitter)
        is_drained = model.delay.recent < model.low_delay or model.bytes_in_flight <= product
        if is_drained or self._elapsed(now) > DRAIN_STEPS * model.step:
            self._enter(State.CRUISE, now)

    def _advance_cruise(self, now: float) -> None:
        model, elapsed = self._model, self._elapsed(now)
        if elapsed < model.step or model.is_thin(FEWEST_PACKETS):
            return
        if self.competition is not None:
            if self.competition.wants_yield(now=now):
                self._enter(State.YIELD, now)
                return
        elif model.delay.current > model.high_delay:
            model.rates.reset(max(min(model.rate, model.rounds.served), DECREASE * model.rate))
            self._is_own_queue = False
            self._enter(State.DOWN, now)
            return
        elif model.delay.needs_confirmation(now=now):
            self._enter(State.MIN_RTT, now)
            return
        elif self.experiment.wants_validation(now=now):
            self.experiment.begin_validation()
            self._enter(State.CUT_SETTLE, now)
            return
        # While the application sends less than the path carries, probing shows nothing.
        if elapsed >= self._cruise_time and not model.rounds.is_app_limited:
            self._is_own_queue = self._shown_delay <= model.low_delay
            self._enter(State.UP, now)

    def _advance_up(self, now: float) -> None:
        if self._elapsed(now) >= self._model.step or self._growth.must_stop():
            self._enter(State.HOLD, now)

    def _advance_hold(self, now: float) -> None:
        elapsed, model = self._elapsed(now), self._model
        is_answered = self._growth.is_answered(self._largest)
        if (is_answered and elapsed >= HOLD_MINIMUM * model.step) or (
            elapsed > HOLD_LOOPS * model.loop
        ):
            self._enter(State.UP if self._growth.finish() else State.DOWN, now)

    def _advance_down(self, now: float) -> None:
        model, elapsed, detector = self._model, self._elapsed(now), self._detector
        if elapsed < model.step:
            return
        if self._is_own_queue:
            # What was sent since a round trip ago is not yet in the delay: it drains unseen.
            unseen = (1 - self._down_gain) * model.step
            is_drained = self._shown_delay <= model.low_delay + unseen
        else:
            is_drained = model.delay.current <= model.low_delay
        is_over = self.competition is not None or is_drained or model.is_thin(FEWEST_PACKETS)
        if is_over or elapsed > DOWN_LOOPS * model.loop:
            self._enter(State.CRUISE, now)
        elif detector is not None and detector.finds_competitor(now=now):
            self._compete(detector, now)
            self._enter(State.CRUISE, now)

    def _advance_min_rtt(self, now: float) -> None:
        if self._elapsed(now) >= MIN_RTT_STEPS * self._model.step:
            self._enter(State.CRUISE, now)

    def _advance_cut_settle(self, now: float) -> None:
        if self._elapsed(now) >= self.experiment.settle_time:
            self._enter(State.CUT, now)

    def _advance_cut(self, now: float) -> None:
        if self._elapsed(now) >= self.experiment.cut_time:
            self._enter(State.CUT_RESULT, now)

    def _advance_cut_result(self, now: float) -> None:
        if self._elapsed(now) >= RESULT_LOOPS * self._model.loop + RESULT_TIME:
            self._enter(State.CRUISE, now)

    def _advance_yield(self, now: float) -> None:
        competition = self.competition
        if competition is None:
            self._enter(State.CRUISE, now)
        elif self._elapsed(now) >= YIELD_LOOPS * self._model.loop:
            if competition.end_yield(now=now):
                self._leave_competition()
            self._enter(State.CRUISE, now)

    # The pacing rates that are not a constant share of the model's.

    def _cruise_rate(self) -> float:
        model = self._model
        if model.is_competing:
            return model.rate
        excess = model.delay.current - CRUISE_DELAY_SHARE * model.high_delay
        return model.rate * max(CRUISE_MINIMUM, 1 - max(0.0, excess) / model.step)

    def _down_rate(self) -> float:
        model = self._model
        deep = max(DEEP_QUEUE * model.high_delay, model.delay.minimum / 2)
        is_deep = model.delay.current > deep and not model.is_competing
        base = max(min(model.rate, model.rounds.served), 0.1 * model.rate)
        return base * (DRAIN_GAIN if is_deep else self._down_gain)

    def _startup_rate(self) -> float:
        return self._startup.pacing_rate

    def _up_rate(self) -> float:
        return self._growth.pacing_rate

    def _cut_rate(self) -> float:
        return self.experiment.cut_rate

    def _result_rate(self) -> float:
        return self.experiment.result_rate

    def _share(self, gain: float) -> float:
        return gain * self._model.rate


class Rule(NamedTuple):
    """
    A row of the state table.
    """

    rate: Callable[[ProbeCycle], float]
    advance: Callable[[ProbeCycle, float], None]


RULES = {
    State.STARTUP: Rule(ProbeCycle._startup_rate, ProbeCycle._advance_startup),
    State.DRAIN: Rule(lambda cycle: cycle._share(DRAIN_GAIN), ProbeCycle._advance_drain),
    State.CRUISE: Rule(ProbeCycle._cruise_rate, ProbeCycle._advance_cruise),
    State.UP: Rule(ProbeCycle._up_rate, ProbeCycle._advance_up),
    State.HOLD: Rule(lambda cycle: cycle._share(1.0), ProbeCycle._advance_hold),
    State.DOWN: Rule(ProbeCycle._down_rate, ProbeCycle._advance_down),
    State.MIN_RTT: Rule(lambda cycle: cycle._share(MIN_RTT_GAIN), ProbeCycle._advance_min_rtt),
    State.CUT_SETTLE: Rule(ProbeCycle._cut_rate, ProbeCycle._advance_cut_settle),
    State.CUT: Rule(ProbeCycle._cut_rate, ProbeCycle._advance_cut),
    State.CUT_RESULT: Rule(ProbeCycle._result_rate, ProbeCycle._advance_cut_result),
    State.YIELD: Rule(lambda cycle: cycle._share(YIELD_GAIN), ProbeCycle._advance_yield),
}
