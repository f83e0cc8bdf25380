"""
Tests for :mod:`resip.core.congestion.erasure` and :mod:`resip.core.congestion.evidence`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.evidence import learn
from resip.core.congestion.experiment import LossExperiment
from resip.core.congestion.phases import State
from tests.core.congestion.support import make_model, make_phase, make_run


class ErasureFloorTests(SynchronousTestCase):
    """
    How the floor moves.
    """

    def test_the_floor_sinks_at_once(self) -> None:
        """
        A path that stopped losing is believed.
        """
        floor = make_model(loss=0.3).floor
        for _ in range(10):
            floor.learn(make_phase(sent=1000, lost=0))
        self.assertLess(floor.value, 0.01)

    def test_the_floor_creeps_up_only_to_its_cap(self) -> None:
        """
        Without a proof the floor rises a little, and asks for the proof.
        """
        floor = make_model(loss=0.1).floor
        wants_proof = [floor.learn(make_phase(sent=500, lost=100)) for _ in range(20)]
        self.assertTrue(wants_proof[-1])
        self.assertLess(floor.value, 0.16)
        self.assertAlmostEqual(floor.estimate, 0.2, places=2)

    def test_a_jump_needs_packets_and_surplus(self) -> None:
        """
        Few packets, or little surplus, are no jump.
        """
        floor = make_model(loss=0.1).floor
        self.assertFalse(floor.is_jump(make_phase(sent=30, lost=20)))
        self.assertFalse(floor.is_jump(make_phase(sent=200, lost=25)))
        self.assertTrue(floor.is_jump(make_phase(sent=200, lost=60)))

    def test_a_floor_that_rests_on_few_packets_creeps_further(self) -> None:
        """
        Start-up that lost none of 70 packets does not rule out 2.5 %; of 2000 it does.
        """
        for packets, wants_proof in ((70, False), (2000, True)):
            floor = make_model().floor
            floor.prove(0.0, packets=packets)
            phase = make_phase(sent=1000, lost=25)
            self.assertEqual(floor.is_jump(phase) or floor.learn(phase), wants_proof)

    def test_a_floor_of_long_bursts_creeps_further(self) -> None:
        """
        In bursts of five, 20 % of 300 packets does not rule out 32 %. Where most packets are lost
        such bursts are chance, and it does.
        """
        cases = (1, 3, True), (3, 7, True), (5, 15, False), (5, 1, True)
        for length, arrived, wants_proof in cases:
            floor = make_model().floor
            floor.prove(0.2, packets=300)
            for number in range(400):
                floor.bursts.add([make_run(20 * number, length, time=0.0)])
                floor.bursts.add_arrived(arrived)
            for _ in range(10):
                has_asked = floor.learn(make_phase(sent=1000, lost=320))
            self.assertEqual(has_asked, wants_proof, f"{length} lost, {arrived} arrived")


class EvidenceTests(SynchronousTestCase):
    """
    What a finished phase leads to.
    """

    def test_a_jump_without_a_queue_asks_for_the_experiment(self) -> None:
        """
        Loss that jumps while the queue is short may be erasure; the floor waits for proof.
        """
        model = make_model()
        experiment = LossExperiment(model, lambda: 0.5)
        self.assertTrue(
            learn(model, experiment, make_phase(sent=200, lost=60), can_test=True, now=2.0)
        )
        self.assertEqual(model.floor.value, 0.0)

    def test_a_jump_with_a_queue_is_congestion(self) -> None:
        """
        Loss that jumps while the queue is long lowers the rate.
        """
        model = make_model()
        for _ in range(20):
            model.delay.update(0.2, now=1.0)
        model.delay.end_round(now=1.0)
        phase = make_phase(sent=200, lost=60)
        phase.queue_delay = 0.1
        model.rounds.served = 0.9 * model.rate
        before = model.rate
        self.assertFalse(
            learn(model, LossExperiment(model, lambda: 0.5), phase, can_test=True, now=2.0)
        )
        self.assertLess(model.rate, before)

    def test_a_jump_soon_after_a_rejected_one_is_congestion(self) -> None:
        """
        The answer is known: the rate falls without another experiment.
        """
        model = make_model()
        experiment = LossExperiment(model, lambda: 0.5)
        experiment.begin_jump(loss=0.3, packets=200)
        cut = make_phase(State.CUT, sent=150, lost=0)
        experiment.judge(cut, is_queue_low=True, now=2.0)
        before = model.rate
        model.rounds.served = 0.8 * before
        jump = make_phase(sent=200, lost=60)
        self.assertFalse(learn(model, experiment, jump, can_test=True, now=2.1))
        self.assertLess(model.rate, 0.9 * before)

    def test_a_competitor_s_overflow_does_not_raise_the_floor(self) -> None:
        """
        In competition mode only good news counts.
        """
        model = make_model(loss=0.1)
        model.is_competing = True
        experiment = LossExperiment(model, lambda: 0.5)
        self.assertFalse(
            learn(model, experiment, make_phase(sent=500, lost=300), can_test=True, now=2.0)
        )
        self.assertAlmostEqual(model.floor.value, 0.1)

    def test_an_overloading_phase_teaches_nothing(self) -> None:
        """
        Loss in UP, which overloads on purpose, leaves the floor alone.
        """
        model = make_model(loss=0.1)
        phase = make_phase(State.UP, sent=500, lost=0)
        self.assertFalse(
            learn(model, LossExperiment(model, lambda: 0.5), phase, can_test=True, now=2.0)
        )
        self.assertAlmostEqual(model.floor.value, 0.1)
