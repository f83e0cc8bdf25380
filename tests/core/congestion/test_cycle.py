"""
Tests for :mod:`resip.core.congestion.cycle`: what thin traffic may teach, what jitter hides,
and what a competitor may take.
"""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.cycle import DOWN_GAIN, FAIR_SHARE, GENTLE_DOWN_GAIN, ProbeCycle
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import PhaseLog, State
from tests.core.congestion.support import make_model, make_sample

RATE = 2e6


def go_on(
    cycle: ProbeCycle,
    model: PathModel,
    log: PhaseLog,
    *,
    rtt: float,
    served: float,
    now: float,
    is_app_limited: bool = False,
) -> None:
    """
    A round trip passes, and ends a round.

    :param served: bytes a second that the path takes of ours.
    """
    sample = make_sample(
        log.current, served=served, sent_at=now - 0.2, is_app_limited=is_app_limited
    )
    model.delay.update(rtt, now=now)
    model.rounds.add(10, 0, sample)
    has_round = model.rounds.end(largest=1 << 40, next_number=0, now=now)
    model.delay.end_round(now=now)
    cycle.on_ack(sample, largest=1 << 40, has_round=has_round, now=now)


def cruise_in_a_queue(*, served: float, is_app_limited: bool) -> tuple[ProbeCycle, PathModel]:
    """
    A cycle that cruises while each round trip takes 100 ms more than the shortest.

    :param served: bytes a second that the application sends.
    """
    model, log = make_model(rate=RATE), PhaseLog(now=1.0)
    cycle = ProbeCycle(model, log, lambda: 0.5)
    log.enter(State.CRUISE, rate=RATE, now=1.0)
    for number in range(20):
        now = 2.0 + number / 5
        go_on(cycle, model, log, rtt=0.2, served=served, now=now, is_app_limited=is_app_limited)
    return cycle, model


class ThinTrafficTests(SynchronousTestCase):
    """
    Who sends a message now and then fills no queue.
    """

    def test_a_queue_that_others_fill_does_not_lower_the_rate(self) -> None:
        """
        What is known of the path is kept for when there is much to send.
        """
        cycle, model = cruise_in_a_queue(served=5e3, is_app_limited=True)
        self.assertEqual(model.rate, RATE)
        self.assertIs(cycle.state, State.CRUISE)

    def test_an_application_that_sends_much_makes_room(self) -> None:
        """
        Even if it sends less than it might: the path may have become slower.
        """
        _, model = cruise_in_a_queue(served=5e5, is_app_limited=True)
        self.assertLess(model.rate, RATE)


class Probe:
    """
    A cycle that cruised and probed, while round trips showed a little more than a short queue,
    and now enters DOWN.

    :param jitter: seconds from one round trip to the next.
    :param cruise: the shortest queue delay of the packets of CRUISE.
    :param loss: what the path itself loses.
    """

    def __init__(self, *, jitter: float, cruise: float, loss: float = 0.0) -> None:
        self._model, self._log = make_model(rate=RATE, loss=loss), PhaseLog(now=1.0)
        for number in range(40):
            self._model.delay.update(0.1 + jitter * (number % 2), now=1.0)
        self._model.delay.end_round(now=1.0)
        self._rtt = 0.1 + 1.5 * self._model.low_delay
        self._cycle = ProbeCycle(self._model, self._log, lambda: 0.5)
        self._log.enter(State.CRUISE, rate=RATE, now=1.0)
        self._log.current.queue_delay = cruise
        self._now = 1.0
        while self._cycle.state is not State.DOWN:
            self._pass_round_trip()

    @property
    def gain(self) -> float:
        """
        The pacing rate as a share of the bottleneck's.
        """
        return self._cycle.pacing_rate(now=self._now) / RATE

    def answer(self, queue_delay: float) -> State:
        """
        The state after as much of DOWN as it lasts at least, whose packets saw this queue.
        """
        self._log.current.queue_delay = queue_delay
        self._pass_round_trip()
        return self._cycle.state

    def _pass_round_trip(self) -> None:
        self._now += 0.11
        go_on(self._cycle, self._model, self._log, rtt=self._rtt, served=RATE, now=self._now)


class JitterTests(SynchronousTestCase):
    """
    Where round trips differ much, a round of them does not say how long the queue is.
    """

    def test_any_packet_of_cruise_tells_that_the_queue_was_short(self) -> None:
        """
        Then DOWN counts on what drains unseen.
        """
        self.assertIs(Probe(jitter=0.012, cruise=0.0).answer(0.03), State.CRUISE)

    def test_a_queue_that_all_of_cruise_saw_is_drained_to_the_end(self) -> None:
        """
        It may be somebody else's.
        """
        self.assertIs(Probe(jitter=0.012, cruise=0.03).answer(0.03), State.DOWN)

    def test_only_answers_to_down_end_it(self) -> None:
        """
        Those to earlier packets may not know yet what UP put into the queue.
        """
        self.assertIs(Probe(jitter=0.012, cruise=0.0).answer(math.inf), State.DOWN)

    def test_without_jitter_a_round_tells(self) -> None:
        """
        The newest round counts, whatever the phases saw.
        """
        self.assertIs(Probe(jitter=0.0, cruise=0.0).answer(0.0), State.DOWN)

    def test_where_much_is_lost_the_queue_is_drained_gently(self) -> None:
        """
        Else the line would run dry before answers tell.
        """
        self.assertAlmostEqual(Probe(jitter=0.012, cruise=0.0, loss=0.1).gain, GENTLE_DOWN_GAIN)

    def test_a_queue_is_drained_fast_otherwise(self) -> None:
        """
        With little loss or most packets lost, with somebody else's in the queue, without jitter.
        """
        for probe in (
            Probe(jitter=0.012, cruise=0.0, loss=0.01),
            Probe(jitter=0.012, cruise=0.0, loss=0.5),
            Probe(jitter=0.012, cruise=0.03, loss=0.1),
            Probe(jitter=0.0, cruise=0.0, loss=0.1),
        ):
            self.assertAlmostEqual(probe.gain, DOWN_GAIN)


def cut(*, jitter: float) -> float:
    """
    The rate after the dozen rounds of a cut to a third, as a share of that before.
    """
    model, log = make_model(rate=RATE, loss=0.1), PhaseLog(now=1.0)
    cycle = ProbeCycle(model, log, lambda: 0.5)
    log.enter(State.CUT, rate=RATE, now=1.0)
    for number in range(12):
        rtt = 0.1 + jitter * (number % 2)
        go_on(cycle, model, log, rtt=rtt, served=RATE / 3, now=1.0 + number * 0.01)
    return model.rate / RATE


class CutTests(SynchronousTestCase):
    """
    What the loss experiment sends is less than the path carries.
    """

    def test_with_jitter_a_cut_does_not_lower_the_rate(self) -> None:
        """
        Else it would take seconds to climb back after each.
        """
        self.assertEqual(cut(jitter=0.05), 1.0)

    def test_without_jitter_the_rounds_of_a_cut_count(self) -> None:
        """
        Several senders on a policer make room for each other so.
        """
        self.assertLess(cut(jitter=0.0), 0.5)


class CompetitorTests(SynchronousTestCase):
    """
    Somebody else fills the queue, and goes on while we make room.
    """

    def test_what_was_yielded_is_claimed_back(self) -> None:
        """
        Competition begins with most of what the path carried before, not with what was left.
        """
        model, log = make_model(rate=RATE), PhaseLog(now=1.0)
        cycle = ProbeCycle(model, log, lambda: 0.5)
        log.enter(State.CRUISE, rate=RATE, now=1.0)
        go_on(cycle, model, log, rtt=0.1, served=RATE, now=1.1)
        rates = []
        for number in range(2, 40):
            go_on(cycle, model, log, rtt=0.25, served=0.3 * RATE, now=1 + 0.25 * number)
            if cycle.competition is not None:
                break
            rates.append(model.rate)
        self.assertLess(rates[-1], 0.5 * RATE)
        self.assertEqual(cycle.competitions, 1)
        self.assertGreaterEqual(model.rate, FAIR_SHARE * RATE)
