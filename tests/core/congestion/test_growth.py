"""
Tests for :mod:`resip.core.congestion.growth` and :mod:`resip.core.congestion.startup`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.delivery import RateSample
from resip.core.congestion.growth import GrowthProbe
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import Phase, State
from resip.core.congestion.startup import TRAIN_PACKETS, PacketTrains, Startup
from tests.core.congestion.support import SIZE, end_round, make_model, make_phase, make_sample


def probe(model: PathModel, *, served: float) -> tuple[GrowthProbe, bool]:
    """
    An UP phase of which so many bytes a second were served, and whether it should go on.
    """
    growth = GrowthProbe(model)
    phase = Phase(State.UP, rate=model.rate, now=2.0)
    growth.begin(phase)
    growth.on_sample(make_sample(phase, served=served, sent_at=2.09))
    return growth, growth.finish()


def make_answer(
    phase: Phase, *, rate: float = 1e6, size: int = 1200, is_app_limited: bool = False
) -> RateSample:
    """
    An answer to the newest acknowledged packet of a phase that sends 1,000 a second.

    :param size: of each of them, bytes.
    """
    return make_sample(
        phase,
        served=rate,
        total=size * phase.acked,
        sent_at=phase.started_at + phase.acked / 1000,
        is_app_limited=is_app_limited,
    )


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

    def test_only_a_competitor_s_queue_does_not_end_it(self) -> None:
        """
        A queue is a reason to stop growing, unless somebody else keeps it full anyway.
        """
        for is_competing in (False, True):
            model = make_model(rate=2e6)
            model.is_competing = is_competing
            for _ in range(8):
                model.delay.update(0.2, now=2.0)
            model.delay.end_round(now=2.0)
            _, goes_on = probe(model, served=2.5e6)
            self.assertIs(goes_on, is_competing)

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
        self.assertFalse(startup.on_ack(None, now=2.0))
        for _ in range(8):
            model.delay.update(0.15, now=2.0)
        self.assertTrue(startup.on_ack(None, now=2.0))

    def test_thin_traffic_shows_no_limit(self) -> None:
        """
        Whoever sends some messages a round trip neither fills a queue nor makes losses: start-up
        goes on until there is more to send.
        """
        model = make_model(rate=1e6)
        startup = Startup(model)
        phase = Phase(State.STARTUP, rate=1e4, now=0.0)
        for second in range(2, 12):
            model.rounds.add(10, 30, make_answer(phase, rate=1e4, is_app_limited=True))
            self.assertTrue(model.rounds.end(largest=1 << 40, next_number=0, now=second))
            self.assertFalse(startup.on_round())
        for _ in range(8):
            model.delay.update(0.15, now=12.0)
        self.assertFalse(startup.on_ack(None, now=12.0))

    def test_thin_traffic_makes_no_round_count(self) -> None:
        """
        Rounds that brought no growth count in a row only while there is much to send.
        """
        model = make_model(rate=1e6)
        startup = Startup(model)
        for second in range(2, 5):
            end_round(model, served=1e4, delivered=1e4, now=second)
            self.assertFalse(startup.on_round())
        phase = Phase(State.STARTUP, rate=1e4, now=0.0)
        model.rounds.add(10, 0, make_answer(phase, rate=1e4, is_app_limited=True))
        self.assertTrue(model.rounds.end(largest=1 << 40, next_number=0, now=6.0))
        self.assertFalse(startup.on_round())
        for second in range(7, 9):
            end_round(model, served=1e4, delivered=1e4, now=second)
            self.assertFalse(startup.on_round())
        end_round(model, served=1e4, delivered=1e4, now=9.0)
        self.assertTrue(startup.on_round())

    def test_losses_of_thin_traffic_are_averaged(self) -> None:
        """
        They are none of its doing, so a round that lost little does not pull the floor down.
        """
        model = make_model(rate=1e6)
        model.floor.value = 0.0
        startup = Startup(model)
        phase = Phase(State.STARTUP, rate=1e4, now=0.0)
        for second in range(2, 26):
            lost = (second % 2) * 20
            model.rounds.add(20 - lost, lost, make_answer(phase, rate=1e4, is_app_limited=True))
            model.rounds.add(8, 8, None)
            self.assertTrue(model.rounds.end(largest=1 << 40, next_number=0, now=second))
            startup.on_round()
        self.assertApproximates(model.floor.value, 0.5, 0.02)

    def test_late_answers_correct_a_rate_that_was_far_too_low(self) -> None:
        """
        On a long path start-up ends with a mean over a round trip that began with few packets;
        what it sent after that is answered when it is over, and shows what the path carries. A
        little more than was found changes nothing.
        """
        for rate, expected in ((2e6, 2e6), (1.2e6, 1e6)):
            model = make_model(rate=1e6)
            startup = Startup(model)
            phase = Phase(State.STARTUP, rate=1e6, now=0.0)
            startup.on_ack(make_answer(phase, rate=1e6), now=2.0)
            startup.finish()
            for _ in range(200):
                startup.on_late_sample(make_answer(phase, rate=rate), now=9.0)
            self.assertApproximates(model.rate, expected, 1e4)


class PacketTrainTests(SynchronousTestCase):
    """
    Rates from packets that followed each other.
    """

    def measure(self, *, answers_per_second: float, size: int = 1200) -> float:
        """
        The largest rate shown by 40 packets that left at 1,000 a second.
        """
        trains, phase = PacketTrains(), Phase(State.STARTUP, rate=0.0, now=5.0)
        best = 0.0
        for number in range(40):
            phase.acked = number
            sample = make_answer(phase, size=size)
            best = max(best, trains.measure(sample, now=5.1 + number / answers_per_second))
        return best

    def test_the_slower_of_both_ways_counts(self) -> None:
        """
        Answers that come in a bunch show no more than what had been sent, and slow ones show the
        path.
        """
        self.assertAlmostEqual(self.measure(answers_per_second=1000), 1000, delta=1)
        self.assertAlmostEqual(self.measure(answers_per_second=500), 500, delta=1)
        self.assertLessEqual(self.measure(answers_per_second=2000), 1001)

    def test_small_packets_show_nothing(self) -> None:
        """
        What a path does with echoes says little about full packets.
        """
        self.assertEqual(self.measure(answers_per_second=1000, size=100), 0)

    def test_all_answers_show_the_rate_in_bytes(self) -> None:
        """
        From the first one on, once they are enough and not a clump.
        """
        trains, phase = PacketTrains(), Phase(State.STARTUP, rate=0.0, now=5.0)
        trains.measure(make_answer(phase), now=5.1)
        phase.acked = TRAIN_PACKETS - 1
        self.assertEqual(trains.measure_all(make_answer(phase), time=0.1, now=5.3), 0)
        phase.acked = TRAIN_PACKETS
        self.assertEqual(trains.measure_all(make_answer(phase), time=0.1, now=5.15), 0)
        rate = trains.measure_all(make_answer(phase), time=0.1, now=5.3)
        self.assertAlmostEqual(rate, TRAIN_PACKETS * 1200 / 0.2)

    def test_a_short_train_shows_nothing(self) -> None:
        """
        Neither does one whose beginning was forgotten.
        """
        trains, phase = PacketTrains(), Phase(State.STARTUP, rate=0.0, now=5.0)
        for number in range(TRAIN_PACKETS):
            phase.acked = number
            self.assertEqual(trains.measure(make_answer(phase), now=5.1 + number / 1000), 0)
        long = trains.measure(make_answer(phase), time=0.03, now=5.12)
        self.assertEqual(long, 0)
        trains.forget()
        phase.acked = TRAIN_PACKETS
        self.assertEqual(trains.measure(make_answer(phase), now=5.2), 0)
