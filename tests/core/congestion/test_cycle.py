"""
Tests for :mod:`resip.core.congestion.cycle`: what thin traffic may teach, what jitter hides,
and what a competitor may take.
"""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.cycle import FAIR_SHARE, ProbeCycle
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


def probe_once(*, jitter: float, cruise: float, down: float) -> State:
    """
    Cruise, probe and slow down, while round trips show a little more than a short queue.

    :param jitter: seconds from one round trip to the next.
    :param cruise: the shortest queue delay of the packets of CRUISE. :param down: of DOWN.
    :return: the state after as much of DOWN as it lasts at least.
    """
    model, log = make_model(rate=RATE), PhaseLog(now=1.0)
    for number in range(40):
        model.delay.update(0.1 + jitter * (number % 2), now=1.0)
    model.delay.end_round(now=1.0)
    cycle = ProbeCycle(model, log, lambda: 0.5)
    log.enter(State.CRUISE, rate=RATE, now=1.0)
    log.current.queue_delay = cruise
    now, rtt = 1.0, 0.1 + 1.5 * model.low_delay
    while cycle.state is not State.DOWN:
        now += 0.11
        go_on(cycle, model, log, rtt=rtt, served=RATE, now=now)
    log.current.queue_delay = down
    go_on(cycle, model, log, rtt=rtt, served=RATE, now=now + 0.11)
    return cycle.state


class JitterTests(SynchronousTestCase):
    """
    Where round trips differ much, a round of them does not say how long the queue is.
    """

    def test_any_packet_of_cruise_tells_that_the_queue_was_short(self) -> None:
        """
        Then DOWN counts on what drains unseen.
        """
        self.assertIs(probe_once(jitter=0.012, cruise=0.0, down=0.03), State.CRUISE)

    def test_a_queue_that_all_of_cruise_saw_is_drained_to_the_end(self) -> None:
        """
        It may be somebody else's.
        """
        self.assertIs(probe_once(jitter=0.012, cruise=0.03, down=0.03), State.DOWN)

    def test_only_answers_to_down_end_it(self) -> None:
        """
        Those to earlier packets may not know yet what UP put into the queue.
        """
        self.assertIs(probe_once(jitter=0.012, cruise=0.0, down=math.inf), State.DOWN)

    def test_without_jitter_a_round_tells(self) -> None:
        """
        The newest round counts, whatever the phases saw.
        """
        self.assertIs(probe_once(jitter=0.0, cruise=0.0, down=0.0), State.DOWN)


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
