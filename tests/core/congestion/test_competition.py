"""
Tests for :mod:`resip.core.congestion.competition`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.competition import Competition, CompetitorDetector, CubicWindow
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import Phase, State
from tests.core.congestion.support import end_round, make_model, make_sample


def set_queue(model: PathModel, delay: float, *, now: float) -> None:
    """
    A round with this queue delay, seconds.
    """
    for _ in range(20):
        model.delay.update(0.1 + delay, now=now)
    model.delay.end_round(now=now)
    end_round(model, served=1e6, delivered=1e6, now=now)


class CubicWindowTests(SynchronousTestCase):
    """
    RFC 9438.
    """

    def test_the_window_returns_to_its_maximum_and_grows_beyond(self) -> None:
        """
        After a reduction by 0.7 the window reaches the old maximum after K seconds.
        """
        window = CubicWindow(100.0, now=0.0)
        window.reduce(rtt=10.0, now=0.0)
        self.assertAlmostEqual(window.value(rtt=10.0, now=0.0), 70.0)
        plateau = (30 / 0.4) ** (1 / 3)
        self.assertAlmostEqual(window.value(rtt=10.0, now=plateau), 100.0, delta=1)
        self.assertGreater(window.value(rtt=10.0, now=3 * plateau), 150.0)


class CompetitorDetectorTests(SynchronousTestCase):
    """
    Does the queue drain when the sender holds back?
    """

    def detect(self, delays: list[float]) -> bool:
        """
        Whether a queue that goes through these delays, 0.1 s apart, has another source.
        """
        model = make_model(rate=1e6)
        set_queue(model, delays[0], now=2.0)
        detector = CompetitorDetector(model, now=2.0)
        found = False
        for tick, delay in enumerate(delays):
            now = 2.0 + 0.1 * (tick + 1)
            set_queue(model, delay, now=now)
            detector.on_round()
            found = found or detector.finds_competitor(now=now)
        return found

    def test_a_queue_that_stays_is_filled_by_somebody_else(self) -> None:
        """
        A queue of 100 ms that does not move betrays a competitor.
        """
        self.assertTrue(self.detect([0.1] * 20))

    def test_a_queue_that_drains_was_the_own(self) -> None:
        """
        A queue that falls by a quarter of the time is nobody else's.
        """
        self.assertFalse(self.detect([max(0.0, 0.1 - 0.025 * n) for n in range(20)]))

    def test_a_short_queue_is_left_to_loss(self) -> None:
        """
        Several flows of our own keep a queue of 15 ms full; none of them has a competitor.
        """
        self.assertFalse(self.detect([0.015] * 20))


class CompetitionTests(SynchronousTestCase):
    """
    Competition mode.
    """

    def test_the_best_sample_of_a_round_counts(self) -> None:
        """
        A competitor goes by its own; otherwise the mean counts.
        """
        for is_competing, expected in ((False, 2e6), (True, 3e6)):
            model = make_model(rate=1e6)
            model.is_competing = is_competing
            for rate in (1e6, 3e6):
                phase = Phase(State.CRUISE, rate=rate, now=1.0)
                model.rounds.add(50, 0, make_sample(phase, served=rate))
            self.assertTrue(model.rounds.end(largest=1 << 40, next_number=0, now=2.0))
            model.end_round(is_probing=False)
            self.assertEqual(model.rate, expected)

    def test_it_ends_when_the_queue_stays_short(self) -> None:
        """
        After twelve rounds without a queue the competitor has left.
        """
        model = make_model(rate=1e6)
        competition = Competition(model, window=2e5, now=2.0)
        left = False
        for tick in range(13):
            now = 2.1 + tick / 10
            set_queue(model, 0.0, now=now)
            left = competition.on_round(now=now)
        self.assertTrue(left)

    def test_unexplained_loss_shrinks_the_window(self) -> None:
        """
        A round that loses more than the floor reduces CUBIC's window.
        """
        model = make_model(rate=1e6)
        competition = Competition(model, window=1e6, now=2.0)
        before = competition.cubic_window(now=3.0)
        model.rounds.packets, model.rounds.lost = 100, 20
        competition.on_round(now=3.0)
        self.assertLess(competition.cubic_window(now=3.0), 0.75 * before)

    def test_the_window_never_falls_below_the_model_s(self) -> None:
        """
        The rate model's part is a lower bound.
        """
        model = make_model(rate=1e6)
        competition = Competition(model, window=1e4, now=2.0)
        self.assertGreaterEqual(competition.window(now=2.0), 2.5 * 1e6 * 0.1)
