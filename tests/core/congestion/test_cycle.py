"""
Tests for :mod:`resip.core.congestion.cycle`: what thin traffic may teach.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.cycle import ProbeCycle
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import PhaseLog, State
from tests.core.congestion.support import make_model, make_sample

RATE = 2e6


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
        sample = make_sample(
            log.current, served=served, sent_at=now - 0.2, is_app_limited=is_app_limited
        )
        model.delay.update(0.2, now=now)
        model.rounds.add(10, 0, sample)
        has_round = model.rounds.end(largest=1 << 40, next_number=0, now=now)
        model.delay.end_round(now=now)
        cycle.on_ack(sample, largest=number, has_round=has_round, now=now)
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
