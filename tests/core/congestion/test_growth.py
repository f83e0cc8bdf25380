"""
Tests for :mod:`resip.core.congestion.growth` and :mod:`resip.core.congestion.startup`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.delivery import RateSample
from resip.core.congestion.growth import GrowthProbe
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import Phase, State
from resip.core.congestion.startup import Startup
from tests.core.congestion.support import SIZE, end_round, make_model, make_phase


def probe(model: PathModel, *, served: float) -> tuple[GrowthProbe, bool]:
    """
    An UP phase of which so many bytes a second were served, and whether it should go on.
    """
    growth = GrowthProbe(model)
    phase = Phase(State.UP, rate=model.rate, now=2.0)
    growth.begin(phase)
    sample = RateSample(
        delivered=served, served=served, phase=phase, sent_at=2.09, is_app_limited=False
    )
    growth.on_sample(sample)
    return growth, growth.finish()


class GrowthProbeTests(SynchronousTestCase):
    """
    UP.
    """

    def test_it_sends_more_than_the_model(self) -> None:
        """
        UP sends a quarter more, and 8 packets a round trip.
        """
        model = make_model(rate=2e6)
        self.assertAlmostEqual(GrowthProbe(model).pacing_rate, 2.5e6 + 8 * SIZE / 0.1)

    def test_success_raises_the_rate_and_goes_on(self) -> None:
        """
        When all that was sent more arrives, the rate rises and the next UP is steeper.
        """
        model = make_model(rate=2e6)
        growth, goes_on = probe(model, served=2.5e6)
        self.assertTrue(goes_on)
        self.assertEqual(model.rate, 2.5e6)
        self.assertGreater(growth.pacing_rate, 1.5 * model.rate)

    def test_a_full_link_ends_it(self) -> None:
        """
        When nothing more arrives, the rate stays.
        """
        model = make_model(rate=2e6)
        _, goes_on = probe(model, served=2e6)
        self.assertFalse(goes_on)
        self.assertEqual(model.rate, 2e6)

    def test_growth_that_lost_more_than_the_floor_is_taken_back(self) -> None:
        """
        On a lossy path, an UP that lost more than the floor proves nothing.
        """
        model = make_model(rate=2e6, loss=0.3)
        growth, _ = probe(model, served=2.5e6)
        phase = make_phase(State.UP, sent=200, lost=80)
        phase.rate = 2e6
        growth.judge(phase)
        self.assertEqual(model.rate, 2e6)


class StartupTests(SynchronousTestCase):
    """
    Start-up.
    """

    def test_it_ends_when_deliveries_stop_growing(self) -> None:
        """
        Three rounds without growth end it; the rate is what was delivered.
        """
        model = make_model(rate=1e6)
        startup = Startup(model)
        verdicts: list[bool] = []
        for rate in (5e5, 1e6, 1e6, 1e6, 1e6):
            end_round(model, served=rate, delivered=rate, now=2.0 + len(verdicts))
            verdicts.append(startup.on_round())
        self.assertEqual(verdicts, [False, False, False, False, True])
        startup.finish()
        self.assertAlmostEqual(model.rate, 1e6)

    def test_it_ends_when_a_queue_fills(self) -> None:
        """
        Eight samples 20 ms above the minimum are a queue.
        """
        model = make_model(rate=1e6)
        startup = Startup(model)
        self.assertFalse(startup.on_ack(None))
        for _ in range(8):
            model.delay.update(0.15, now=2.0)
        self.assertTrue(startup.on_ack(None))
