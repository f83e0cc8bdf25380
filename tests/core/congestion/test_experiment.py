"""
Tests for :mod:`resip.core.congestion.experiment`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.experiment import CUT_MAXIMUM, LossExperiment, Verdict
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import State
from tests.core.congestion.support import make_model, make_phase, make_run


def judge_jump(model: PathModel, *, sent: int, lost: int, low: bool = True) -> LossExperiment:
    """
    An experiment after 200 packets lost 30 %, the cut having these results.
    """
    experiment = LossExperiment(model, lambda: 0.5)
    experiment.begin_jump(loss=0.3, packets=200)
    cut = make_phase(State.CUT, sent=sent, lost=lost)
    experiment.judge(cut, is_queue_low=low, now=5.0)
    return experiment


class JumpTests(SynchronousTestCase):
    """
    Loss jumped; does it follow the rate?
    """

    def test_loss_that_stays_is_erasure(self) -> None:
        """
        When a third of the rate loses the same share, the floor rises and the rate stays.
        """
        model = make_model()
        experiment = judge_jump(model, sent=150, lost=45)
        self.assertEqual(experiment.verdicts[Verdict.ACCEPTED], 1)
        self.assertAlmostEqual(model.floor.value, 0.3, places=2)
        self.assertAlmostEqual(model.rate, 2e6)

    def test_loss_that_falls_is_congestion(self) -> None:
        """
        When a third of the rate loses nothing, the rate falls to what was delivered.
        """
        model = make_model()
        model.rounds.delivered = 1.5e6
        experiment = judge_jump(model, sent=150, lost=0)
        self.assertEqual(experiment.verdicts[Verdict.REJECTED], 1)
        self.assertEqual(model.floor.value, 0.0)
        self.assertAlmostEqual(model.rate, 1.5e6)
        self.assertFalse(experiment.may_test_jump(now=5.1))

    def test_too_few_packets_are_no_verdict(self) -> None:
        """
        A cut of some packets is repeated, and counts together with the next.
        """
        model = make_model()
        experiment = judge_jump(model, sent=30, lost=9)
        self.assertEqual(experiment.verdicts[Verdict.UNDECIDED], 1)
        self.assertEqual(model.floor.value, 0.0)
        experiment.begin_jump(loss=0.3, packets=200)
        cut = make_phase(State.CUT, sent=120, lost=36)
        self.assertIs(experiment.judge(cut, is_queue_low=True, now=6.0), Verdict.ACCEPTED)

    def test_loss_that_falls_a_little_is_doubtful(self) -> None:
        """
        As it would with six flows that overload the path: no verdict, twice, and then congestion.
        """
        model = make_model()
        experiment = judge_jump(model, sent=150, lost=27)
        self.assertEqual(experiment.verdicts[Verdict.UNDECIDED], 1)
        for now in (6.0, 7.0):
            experiment.begin_jump(loss=0.3, packets=200)
            cut = make_phase(State.CUT, sent=150, lost=27)
            verdict = experiment.judge(cut, is_queue_low=True, now=now)
        self.assertIs(verdict, Verdict.REJECTED)
        self.assertEqual(model.floor.value, 0.0)

    def test_where_congestion_was_found_erasure_needs_three_cuts(self) -> None:
        """
        Others may have overloaded the path during one; meanwhile the rate stays. Half a minute
        later one is enough again.
        """
        for since, verdicts in (
            (20.0, [Verdict.UNDECIDED, Verdict.UNDECIDED, Verdict.ACCEPTED]),
            (31.0, [Verdict.ACCEPTED]),
        ):
            model = make_model()
            experiment = judge_jump(model, sent=150, lost=0)
            model.rates.reset(2e6)
            for number, expected in enumerate(verdicts):
                experiment.begin_jump(loss=0.3, packets=200)
                cut = make_phase(State.CUT, sent=150, lost=45)
                verdict = experiment.judge(cut, is_queue_low=True, now=5.0 + since + number)
                self.assertIs(verdict, expected)
                self.assertAlmostEqual(model.rate, 2e6)
            self.assertAlmostEqual(model.floor.value, 0.3)

    def test_only_cuts_of_one_question_count_together(self) -> None:
        """
        What validations saw, whose floor was another, says nothing about a jump.
        """
        model = make_model(loss=0.5)
        experiment = LossExperiment(model, lambda: 0.5)
        for now in (5.0, 7.0):
            experiment.begin_validation()
            cut = make_phase(State.CUT, sent=150, lost=64)
            experiment.judge(cut, is_queue_low=True, now=now)
        experiment.begin_jump(loss=0.8, packets=200)
        cut = make_phase(State.CUT, sent=150, lost=120)
        self.assertIs(experiment.judge(cut, is_queue_low=True, now=8.0), Verdict.ACCEPTED)
        self.assertAlmostEqual(model.floor.value, 0.8)

    def test_a_queue_during_the_cut_proves_nothing(self) -> None:
        """
        Loss next to a filled queue is never accepted as erasure.
        """
        model = make_model()
        judge_jump(model, sent=150, lost=45, low=False)
        self.assertEqual(model.floor.value, 0.0)

    def test_the_cut_is_deeper_the_more_is_lost(self) -> None:
        """
        Half of the packets lost ask for a deeper cut than none.
        """
        model = make_model()
        experiment = LossExperiment(model, lambda: 0.5)
        experiment.begin_jump(loss=0.1, packets=100)
        self.assertEqual(experiment.gain, CUT_MAXIMUM)
        experiment.begin_jump(loss=0.5, packets=100)
        self.assertLess(experiment.cut_rate, 0.2 * model.rate)


class ValidationTests(SynchronousTestCase):
    """
    Does the floor hold at a lower rate?
    """

    def validate(self, model: PathModel, lost: int) -> Verdict:
        """
        A validation whose cut loses so many of 150 packets.
        """
        experiment = LossExperiment(model, lambda: 0.5)
        experiment.begin_validation()
        cut = make_phase(State.CUT, sent=150, lost=lost)
        return experiment.judge(cut, is_queue_low=True, now=5.0)

    def test_a_floor_that_holds_is_confirmed(self) -> None:
        """
        The same loss at a lower rate changes nothing.
        """
        model = make_model(loss=0.3)
        self.assertIs(self.validate(model, lost=44), Verdict.CONFIRMED)
        self.assertAlmostEqual(model.floor.value, 0.3)
        self.assertAlmostEqual(model.rate, 2e6)

    def test_a_floor_that_was_too_low_rises(self) -> None:
        """
        More loss than the floor, at the full rate and in the cut alike, is erasure too.
        """
        model = make_model(loss=0.3)
        model.floor.note_baseline(make_phase(State.CRUISE, sent=200, lost=92))
        self.assertIs(self.validate(model, lost=75), Verdict.CONFIRMED)
        self.assertAlmostEqual(model.floor.value, 0.46)

    def test_where_congestion_was_found_no_floor_rises_so(self) -> None:
        """
        Half a minute long others may have overloaded the path, at the full rate and in the cut.
        """
        for since, floor in ((20.0, 0.3), (31.0, 0.46)):
            model = make_model(loss=0.5)
            experiment = LossExperiment(model, lambda: 0.5)
            experiment.begin_validation()
            cut = make_phase(State.CUT, sent=150, lost=5)
            self.assertIs(experiment.judge(cut, is_queue_low=True, now=5.0), Verdict.EXCESS)
            model.floor.prove(0.3, packets=800)
            model.floor.note_baseline(make_phase(State.CRUISE, sent=200, lost=92))
            experiment.begin_validation()
            cut = make_phase(State.CUT, sent=150, lost=75)
            verdict = experiment.judge(cut, is_queue_low=True, now=5.0 + since)
            self.assertIs(verdict, Verdict.CONFIRMED)
            self.assertAlmostEqual(model.floor.value, floor)

    def test_a_floor_that_fits_the_full_rate_stays(self) -> None:
        """
        What only the cut lost is somebody else's doing, or chance.
        """
        model = make_model(loss=0.3)
        model.floor.note_baseline(make_phase(State.CRUISE, sent=200, lost=62))
        self.assertIs(self.validate(model, lost=75), Verdict.CONFIRMED)
        self.assertAlmostEqual(model.floor.value, 0.3)

    def test_a_floor_that_was_congestion_goes(self) -> None:
        """
        When the loss all but vanishes, so do the floor and the rate that rested on it.
        """
        model = make_model(loss=0.5)
        self.assertIs(self.validate(model, lost=5), Verdict.EXCESS)
        self.assertLess(model.floor.value, 0.12)
        self.assertLess(model.rate, 1.3e6)

    def test_a_doubt_that_stays_is_congestion(self) -> None:
        """
        Loss that falls a little is what one of six flows sees that overload a path together: the
        cut is repeated, the cuts count together, and the third decides.
        """
        model = make_model(loss=0.5)
        experiment = LossExperiment(model, lambda: 0.5)
        verdicts = []
        for trial in range(3):
            experiment.begin_validation()
            cut = make_phase(State.CUT, sent=150, lost=64)
            now = 5.0 + 2 * trial
            verdicts.append(experiment.judge(cut, is_queue_low=True, now=now))
            self.assertTrue(trial == 2 or experiment.wants_validation(now=now + 2))
        self.assertEqual(verdicts, [Verdict.UNDECIDED, Verdict.UNDECIDED, Verdict.EXCESS])
        self.assertLess(model.floor.value, 0.48)

    def test_what_raised_a_doubt_does_not_decide_it(self) -> None:
        """
        Where most is lost anyway, one cut that lost little is chance: only those after it count.
        """
        model = make_model(loss=0.5)
        experiment = LossExperiment(model, lambda: 0.5)
        verdicts = []
        for now, lost in ((5.0, 54), (7.0, 75)):
            experiment.begin_validation()
            cut = make_phase(State.CUT, sent=150, lost=lost)
            verdicts.append(experiment.judge(cut, is_queue_low=True, now=now))
        self.assertEqual(verdicts, [Verdict.UNDECIDED, Verdict.CONFIRMED])
        self.assertAlmostEqual(model.floor.value, 0.5)

    def test_bursts_explain_more(self) -> None:
        """
        The same fall is chance when losses come in bursts, and doubtful when they do not.
        """
        lost_alone, lost_in_bursts = make_model(loss=0.5), make_model(loss=0.5)
        bursts = [make_run(100 * n, 10, time=0.0) for n in range(200)]
        lost_in_bursts.floor.bursts.add(bursts)
        self.assertIs(self.validate(lost_alone, lost=64), Verdict.UNDECIDED)
        self.assertIs(self.validate(lost_in_bursts, lost=64), Verdict.CONFIRMED)

    def test_the_floor_may_lag_behind_what_is_lost(self) -> None:
        """
        A cut that loses no more than the floor says, but less than the packets before, is doubtful.
        """
        model = make_model(loss=0.3)
        model.floor.note_baseline(make_phase(State.CRUISE, sent=400, lost=152))
        self.assertIs(self.validate(model, lost=44), Verdict.UNDECIDED)

    def test_excess_that_was_found_may_not_be_all(self) -> None:
        """
        The next validation follows soon.
        """
        experiment = LossExperiment(make_model(loss=0.5), lambda: 0.5)
        experiment.begin_validation()
        cut = make_phase(State.CUT, sent=150, lost=30)
        self.assertIs(experiment.judge(cut, is_queue_low=True, now=5.0), Verdict.EXCESS)
        self.assertFalse(experiment.wants_validation(now=9.0))
        self.assertTrue(experiment.wants_validation(now=11.0))

    def test_a_floor_that_held_is_tested_less_often(self) -> None:
        """
        Each cut costs the line a part of a second: the next comes after 40, then after 80. A high
        floor, which does most harm when it is wrong, is tested after 30 and 40.
        """
        for loss, pauses in ((0.3, (40.0, 80.0, 80.0)), (0.5, (30.0, 40.0, 40.0))):
            experiment = LossExperiment(make_model(loss=loss), lambda: 0.5)
            now = 0.0
            for pause in pauses:
                experiment.begin_validation()
                cut = make_phase(State.CUT, sent=150, lost=int(150 * loss))
                experiment.judge(cut, is_queue_low=True, now=now)
                self.assertFalse(experiment.wants_validation(now=now + pause - 1))
                self.assertTrue(experiment.wants_validation(now=now + pause + 1))
                now += pause

    def test_growth_must_be_proven(self) -> None:
        """
        On a lossy path a rate well above the validated one asks for a validation.
        """
        model = make_model(loss=0.3)
        experiment = LossExperiment(model, lambda: 0.5)
        experiment.on_startup_finished(now=0.0)
        experiment.begin_validation()
        experiment.judge(make_phase(State.CUT, sent=150, lost=45), is_queue_low=True, now=1.0)
        self.assertFalse(experiment.wants_validation(now=2.0))
        model.rates.reset(1.4 * model.rate)
        self.assertTrue(experiment.wants_validation(now=2.0))
