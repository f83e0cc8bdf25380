"""
The experiment that tells erasure from congestion: does loss follow the own rate?

The sender cuts its rate to a tenth or a third for about a round trip. Loss that stays is the
path's own, erasure; loss that falls was congestion, and the part of the model that rests on it
goes. Without this, several senders that compensate for each other's overflow push a shared
bottleneck into collapse.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from enum import Enum

from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import Phase

#: Bounds of the cut rate as a share of the rate; the more is lost, the deeper the cut.
CUT_MINIMUM = 0.1
CUT_MAXIMUM = 0.35
CUT_BASE = 0.4
CUT_LOSS_SLOPE = 0.5
#: Packets that the cut should send, within the limits of time below.
CUT_PACKETS = 150
#: And at least, even if it must be less deep.
MIN_PACKETS = 40
CUT_LOOPS = 2.5
CUT_TIME = 0.3
#: While the answers come in, the sender goes on at this share of the rate.
RESULT_GAIN_VALIDATION = 0.95
RESULT_GAIN_JUMP = 0.7
#: A verdict on a jump needs the packets of so many seconds, within the two bounds above.
ENOUGH_TIME = 0.3
#: Experiments so close together are judged as one, seconds.
POOL_TIME = 10.0
#: Standard deviations that an accepted, and a still undecided, experiment may stay below.
ACCEPT_DEVIATIONS = 1.5
UNDECIDED_DEVIATIONS = 2.5
#: A validation finds congestion at once when loss falls by more than this. The floor then sinks
#: to what was seen and a part of a deviation, for only experiments that saw little are noticed.
EXCESS_CORRECTION = 0.7
EXCESS_DEVIATIONS = 2.2
EXCESS_MARGIN = 0.02
#: Above this floor overflow alone is an unlikely cause, and a first cut that finds less than so
#: many deviations is chance more often: it only asks for others, on which the verdict then rests.
HIGH_LOSS = 0.35
HIGH_LOSS_DEVIATIONS = 4.5
#: The cut of one of so many flows that overload the path together lowers the loss a little. A
#: fall of more than this share of that is doubtful, unless chance explains it, as with bursts.
FLOWS = 6
DOUBT_SHARE = 0.5
DOUBT_DEVIATIONS = 1.5
#: So many cuts decide a doubt, these seconds apart. If it stays, it is congestion.
TRIALS = 3
TRIAL_PAUSE = 1.0
#: Where congestion was found within so many seconds, others may share the path, and what they do
#: meanwhile hides what a cut does. Loss is then taken for erasure only after all those cuts.
SUSPICION_TIME = 30.0
#: What a verdict leaves of the rate at least.
UNDECIDED_DECREASE = 0.9
REJECTED_DECREASE = 0.7
EXCESS_DECREASE = 0.3
#: After a rejection, pause before the next experiment on a jump, seconds.
FIRST_PAUSE = 1.0
PAUSE_GROWTH = 1.6
LONGEST_PAUSE = 5.0
#: Growth beyond the last validated rate must be proven.
UNPROVEN_GROWTH = 1.3
VALIDATION_STEPS = 200
VALIDATION_INTERVAL = 20.0
#: Each time that the floor held, the interval grows by the first, up to so many times its length;
#: less where the floor is high (:data:`HIGH_LOSS`), for one that is wrong does most harm there.
INTERVAL_GROWTH, LONGEST_INTERVAL = 2.0, 4.0
HIGH_LOSS_GROWTH, LONGEST_HIGH_LOSS_INTERVAL = 1.5, 2.0
#: A doubt that stayed may have found a part of the excess only.
EXCESS_INTERVAL = 0.25
#: A floor above this found by start-up is put to the test at once.
STARTUP_DOUBT = 0.03


class Verdict(Enum):
    """
    What an experiment showed.
    """

    #: Loss jumped and does not follow the rate: the floor is higher than thought.
    ACCEPTED = "accepted"
    #: Loss jumped and follows the rate: congestion.
    REJECTED = "rejected"
    #: Too few packets to say.
    UNDECIDED = "undecided"
    #: The floor holds at a lower rate too.
    CONFIRMED = "confirmed"
    #: A part of the floor follows the rate: congestion was taken for erasure.
    EXCESS = "excess"


class PooledCuts:
    """
    Cuts shortly one after the other, which are judged as one.

    :ivar sent: packets. :ivar lost: of them. :ivar trials: how many cuts.
    """

    __slots__ = ("_added_at", "lost", "sent", "trials")

    def __init__(self) -> None:
        self.sent = self.lost = self.trials = 0
        self._added_at = -math.inf

    @property
    def loss(self) -> float:
        """
        Share of the packets.
        """
        return self.lost / max(1, self.sent)

    def add(self, phase: Phase, *, now: float) -> None:
        """
        Count a cut; those of long ago no longer count.
        """
        if now - self._added_at > POOL_TIME:
            self.forget()
        self._added_at = now
        self.sent += phase.sent
        self.lost += phase.lost
        self.trials += 1

    def start_over(self) -> None:
        """
        Remember only how many cuts there were.
        """
        self.sent = self.lost = 0

    def forget(self) -> None:
        """
        The next cut is judged alone.
        """
        self.sent = self.lost = self.trials = 0


class LossExperiment:
    """
    Plans experiments, judges them, and applies the verdicts to the model.

    :ivar verdicts: how often each was reached.
    :ivar gain: share of the rate while the cut lasts.

    :param random: evenly distributed numbers from 0 to below 1; flows that share a bottleneck
        must not cut in step.
    """

    __slots__ = (
        "_base",
        "_cuts",
        "_delivered_before",
        "_interval_factor",
        "_is_due",
        "_is_jump",
        "_jump_allowed_at",
        "_jump_loss",
        "_jump_packets",
        "_model",
        "_pause",
        "_proven_rate",
        "_random",
        "_rate_before",
        "_suspected_until",
        "_validate_at",
        "gain",
        "verdicts",
    )

    def __init__(self, model: PathModel, random: Callable[[], float]) -> None:
        self.verdicts: Counter[Verdict] = Counter()
        self.gain = CUT_MAXIMUM
        self._model = model
        self._random = random
        self._is_jump = False
        self._is_due = False
        self._base = self._rate_before = self._delivered_before = 0.0
        self._jump_loss = 0.0
        self._jump_packets = 0
        self._cuts = PooledCuts()
        self._jump_allowed_at = -math.inf
        self._pause = FIRST_PAUSE
        self._suspected_until = -math.inf
        self._proven_rate = math.inf
        self._interval_factor = 1.0
        self._validate_at = math.inf

    @property
    def cut_rate(self) -> float:
        """
        Bytes a second while the cut lasts.
        """
        return self.gain * self._base

    @property
    def result_rate(self) -> float:
        """
        Bytes a second while the answers come in.
        """
        return self._base * (RESULT_GAIN_JUMP if self._is_jump else RESULT_GAIN_VALIDATION)

    @property
    def settle_time(self) -> float:
        """
        Seconds until the queue has noticed the cut.
        """
        return 0.25 * self._model.loop

    @property
    def cut_time(self) -> float:
        """
        Seconds of the cut proper.
        """
        wanted = CUT_PACKETS * self._model.datagram_size / max(self.cut_rate, 1.0)
        return max(0.5 * self._model.loop, min(wanted, CUT_LOOPS * self._model.loop + CUT_TIME))

    def on_startup_finished(self, *, now: float) -> None:
        """
        The floor came from start-up, which could not tell what it saw.
        """
        self._proven_rate = self._model.rate
        self._is_due = self._model.floor.certain > STARTUP_DOUBT
        self._schedule_validation(now)

    def trust_rate(self) -> None:
        """
        The rate is still that of start-up, which goes on being answered.
        """
        self._proven_rate = max(self._proven_rate, self._model.rate)

    def may_test_jump(self, *, now: float) -> bool:
        """
        Whether the pause after a rejection is over.
        """
        return now >= self._jump_allowed_at

    def wants_validation(self, *, now: float) -> bool:
        """
        Whether the floor should be put to the test.
        """
        if not self._model.is_lossy:
            self._proven_rate = self._model.rate
            self._is_due = False
            return False
        has_grown = self._model.rate > UNPROVEN_GROWTH * self._proven_rate
        return self._is_due or has_grown or now >= self._validate_at

    def begin_jump(self, *, loss: float, packets: int) -> None:
        """
        Find out about more loss than the floor explains.

        :param loss: share that was lost. :param packets: of so many.
        """
        self._jump_loss, self._jump_packets = loss, packets
        self._begin(max(self._model.floor.value, loss), is_jump=True)

    def begin_validation(self) -> None:
        """
        Find out whether the floor holds at a lower rate.
        """
        self._begin(self._model.floor.value, is_jump=False)

    def _begin(self, loss: float, *, is_jump: bool) -> None:
        model = self._model
        if is_jump is not self._is_jump:
            self._cuts.forget()
        self._is_jump = is_jump
        self._is_due = False
        self._rate_before = model.rate
        self._delivered_before = model.rounds.delivered
        self._base = min(model.rate, max(model.delivered_capacity, 0.3 * model.rate))
        gain = CUT_BASE - CUT_LOSS_SLOPE * loss
        longest = CUT_LOOPS * model.loop + CUT_TIME
        needed = MIN_PACKETS * model.datagram_size / longest / self._base
        self.gain = min(CUT_MAXIMUM, max(CUT_MINIMUM, gain, needed))

    def judge(self, phase: Phase, *, is_queue_low: bool, now: float) -> Verdict:
        """
        Draw the conclusion from the cut.

        :param phase: the cut, with the fate of all its packets.
        :param is_queue_low: the queue was short in it.
        """
        self._cuts.add(phase, now=now)
        if self._is_jump:
            verdict = self._judge_jump(is_queue_low, now)
            self._apply_to_jump(verdict, now)
        else:
            verdict = self._judge_validation()
            self._apply_to_floor(verdict, is_queue_low, now)
        if verdict in (Verdict.REJECTED, Verdict.EXCESS):
            self._suspected_until = now + SUSPICION_TIME
        self.verdicts[verdict] += 1
        return verdict

    def _is_suspected(self, now: float) -> bool:
        return now < self._suspected_until

    def _judge_jump(self, is_queue_low: bool, now: float) -> Verdict:
        """
        Is as much lost at the lower rate as before?
        """
        cuts, floor = self._cuts, self._model.floor
        before, weight = floor.baseline(self._jump_loss)
        inflation = floor.bursts.inflation(min(before, 0.95))
        variance = inflation * before * (1 - before) * (1 / max(1, cuts.sent) + 1 / weight)
        fall = before - cuts.loss
        deviations = fall / math.sqrt(max(variance, 1e-9))
        is_doubtful = deviations > DOUBT_DEVIATIONS and self._is_shared(fall, before)
        if not is_queue_low or deviations >= UNDECIDED_DEVIATIONS:
            return Verdict.REJECTED
        needs_trials = is_doubtful or self._is_suspected(now)
        if cuts.sent < self._enough_packets or (needs_trials and cuts.trials < TRIALS):
            return Verdict.UNDECIDED
        if is_doubtful or deviations >= ACCEPT_DEVIATIONS:
            return Verdict.REJECTED
        return Verdict.ACCEPTED

    def _judge_validation(self) -> Verdict:
        """
        Is less lost at the lower rate than the floor says, or than was lost lately?
        """
        cuts, floor = self._cuts, self._model.floor
        fall = max(floor.value, floor.recent) - cuts.loss
        deviation = floor.deviation(cuts.sent)
        certain = EXCESS_DEVIATIONS * deviation + EXCESS_MARGIN * (1 - floor.value)
        is_doubtful = fall > DOUBT_DEVIATIONS * deviation and self._is_shared(fall, floor.value)
        if not is_doubtful:
            return Verdict.CONFIRMED
        is_surprising = floor.value > HIGH_LOSS and fall < HIGH_LOSS_DEVIATIONS * deviation
        if is_surprising and cuts.trials == 1:
            cuts.start_over()
            return Verdict.UNDECIDED
        if fall <= certain and cuts.trials < TRIALS:
            return Verdict.UNDECIDED
        return Verdict.EXCESS

    def _is_shared(self, fall: float, loss: float) -> bool:
        """
        Whether the fall is nearer to what one of :data:`FLOWS` equal flows sees than to nothing.

        :param loss: before the cut.
        """
        spared = (1 - self.gain) / FLOWS
        return fall > DOUBT_SHARE * (1 - loss) * spared / (1 - spared)

    @property
    def _enough_packets(self) -> float:
        second = self._rate_before / self._model.datagram_size
        return max(MIN_PACKETS, min(0.9 * CUT_PACKETS, ENOUGH_TIME * second))

    def _apply_to_jump(self, verdict: Verdict, now: float) -> None:
        model = self._model
        # What was delivered before the cut; the last round only saw the cut itself.
        capacity = min(self._rate_before, self._delivered_before / (1 - model.floor.value))
        if verdict is Verdict.ACCEPTED:
            self._accept()
        elif verdict is Verdict.UNDECIDED:
            # Whoever tests several times must not lose to those who test less.
            share = 1.0 if self._is_suspected(now) else UNDECIDED_DECREASE
            model.rates.reset(max(capacity, share * self._rate_before))
            self._jump_allowed_at = now + max(3 * model.step, 0.2)
        else:
            model.rates.reset(max(capacity, REJECTED_DECREASE * self._rate_before))
            self._jump_allowed_at = now + self._pause * (0.5 + self._random())
            self._pause = min(LONGEST_PAUSE, self._pause * PAUSE_GROWTH)

    def _accept(self) -> None:
        cuts = self._cuts
        total = cuts.sent + self._jump_packets
        value = (cuts.lost + self._jump_loss * self._jump_packets) / max(1, total)
        self._model.floor.prove(value, packets=total)
        self._model.rates.reset(self._rate_before)
        self._proven_rate = self._rate_before
        self._pause = FIRST_PAUSE
        cuts.forget()

    def _apply_to_floor(self, verdict: Verdict, is_queue_low: bool, now: float) -> None:
        if verdict is Verdict.UNDECIDED:
            self._validate_at = now + TRIAL_PAUSE * (0.5 + self._random())
            return
        if verdict is Verdict.EXCESS:
            self._lower_floor()
            self._interval_factor = EXCESS_INTERVAL
        else:
            if is_queue_low and not self._is_suspected(now):
                self._raise_floor()
            self._lengthen_interval()
        self._proven_rate = self._model.rate
        self._cuts.forget()
        self._schedule_validation(now)

    def _lengthen_interval(self) -> None:
        growth, longest = INTERVAL_GROWTH, LONGEST_INTERVAL
        if self._model.floor.value > HIGH_LOSS:
            growth, longest = HIGH_LOSS_GROWTH, LONGEST_HIGH_LOSS_INTERVAL
        self._interval_factor = min(longest, max(1.0, growth * self._interval_factor))

    def _lower_floor(self) -> None:
        """
        A part of what was taken for erasure follows the own rate.
        """
        model, cuts = self._model, self._cuts
        found = cuts.loss + EXCESS_CORRECTION * model.floor.deviation(cuts.sent)
        found = min(model.floor.value, found)
        rate = min(self._rate_before, self._proven_rate, self._delivered_before / (1 - found))
        model.floor.prove(found, packets=cuts.sent)
        model.rates.reset(max(EXCESS_DECREASE * self._rate_before, rate))

    def _raise_floor(self) -> None:
        """
        Lost at the full rate and in the cut alike: it is not of our own doing.
        """
        floor, cuts = self._model.floor, self._cuts
        found, _ = floor.baseline(cuts.loss)
        if found > floor.value + floor.deviation(cuts.sent):
            floor.prove(found, packets=cuts.sent)

    def _schedule_validation(self, now: float) -> None:
        interval = max(VALIDATION_STEPS * self._model.step, VALIDATION_INTERVAL)
        self._validate_at = now + self._interval_factor * interval * (0.75 + 0.5 * self._random())
