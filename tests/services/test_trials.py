"""
Tests of :mod:`resip.services.trials`, by script: when another carrier is tried, and what for.
"""

from __future__ import annotations

from itertools import pairwise

from resip.core.events import PathDelivered
from resip.core.types import Path
from resip.services.path_actions import ProbePath, Reason, StartKind, UsePath
from resip.services.trials import (
    ANSWER_TIME,
    ENOUGH,
    GAIN,
    MAX_TRIAL,
    MAX_TRIAL_INTERVAL,
    MEASUREMENTS,
    MIN_TRIAL,
    PREFERRED_SHARE,
    TRIAL_INTERVAL,
    VERDICT_LIFETIME,
)
from tests.services.test_choice import TCP, TCP_PATH, UDP, UDP4, WEB, WEB_PATH, ChoiceTestCase

#: Seconds between two measurements.
STEP = 0.25
#: Bytes a second.
RATE = 125_000.0
PATHS = {UDP: UDP4, TCP: TCP_PATH, WEB: WEB_PATH}


class TrialTests(ChoiceTestCase):
    """
    UDP works; every path that is asked answers after 50 ms.
    """

    def setUp(self) -> None:
        """
        Use UDP.
        """
        super().setUp()
        self.in_use: Path = UDP4
        self.rates = dict.fromkeys(PATHS.values(), RATE)
        self.reasons: list[tuple[float, Path, Reason]] = []
        self.started: list[int] = []
        self.dead: set[Path] = set()
        self.rtt = 0.1
        self.act()
        self.open(UDP, UDP4)
        self.answer(UDP4)
        self.reasons.clear()

    def act(self) -> None:
        """
        Do what was decided: dials succeed, and probes are answered.
        """
        while actions := self.actions():
            for action in actions:
                match action:
                    case StartKind(kind) if kind != UDP and PATHS[kind] not in self.dead:
                        self.started.append(kind)
                        self.choice.path_open(kind, PATHS[kind], now=self.now)
                    case ProbePath(path) if path not in self.dead:
                        self.choice.path_answered(path, now=self.now)
                    case UsePath(path, reason):
                        self.in_use = path
                        self.reasons.append((self.now, path, reason))

    def transfer(self, seconds: float, *, is_full: bool = True) -> None:
        """
        Bytes flow for that long.
        """
        end = self.now + seconds
        while self.now < end - STEP / 2:
            self.now += STEP
            timer = self.choice.get_timer()
            if timer is not None and timer <= self.now:
                self.choice.handle_timer(now=self.now)
                self.act()
            size = int(self.rates[self.in_use] * STEP)
            delivery = PathDelivered(self.in_use, size, STEP, is_full, self.rtt)
            if size:
                self.choice.path_delivered(delivery, now=self.now)
            self.act()

    def transfer_until(self, path: Path) -> None:
        """
        Bytes flow until a path is on trial.
        """
        deadline = self.now + 2 * TRIAL_INTERVAL
        while self.in_use != path:
            self.assertLess(self.now, deadline)
            self.transfer(STEP)

    @property
    def told(self) -> list[tuple[Path, Reason]]:
        """
        What came into use, and why.
        """
        return [(path, reason) for _, path, reason in self.reasons]

    def test_one_that_delivers_more_is_kept(self) -> None:
        """
        After a minute of demand the next kind is tried, and stays in use by a clear margin.
        """
        self.rates[TCP_PATH] = 1.1 * GAIN * RATE
        self.transfer(TRIAL_INTERVAL - STEP)
        self.assertEqual((self.told, self.started), ([], []))
        self.transfer(TRIAL_INTERVAL / 2)
        self.assertEqual(self.told, [(TCP_PATH, Reason.TRIAL)])

    def test_one_that_delivers_as_much_is_left(self) -> None:
        """
        A trial lasts a second, and the next is a minute later, with another kind; those of one
        kind are ever rarer.
        """
        self.rates[TCP_PATH] = self.rates[WEB_PATH] = 0.9 * GAIN * RATE
        self.transfer(3600)
        trials = [(when, path) for when, path, reason in self.reasons if reason is Reason.TRIAL]
        ends = [when for when, _, reason in self.reasons if reason is Reason.SLOWER]
        for (start, _), end in zip(trials, ends, strict=True):
            self.assertEqual(end - start, MIN_TRIAL)
        for end, (start, _) in zip([0.0, *ends], trials, strict=False):
            self.assertGreaterEqual(start - end, TRIAL_INTERVAL * MIN_TRIAL)
        self.assertEqual([path for _, path in trials[:2]], [TCP_PATH, WEB_PATH])
        for path in (TCP_PATH, WEB_PATH):
            times = [when for when, tried in trials if tried == path]
            pauses = [after - before for before, after in pairwise(times)]
            self.assertGreaterEqual(pauses[0], TRIAL_INTERVAL)
            self.assertGreaterEqual(pauses[2], 3 * TRIAL_INTERVAL)
            self.assertGreaterEqual(pauses[-1], MAX_TRIAL_INTERVAL)
        self.assertLess(len(trials), 24)
        self.assertEqual(self.in_use, UDP4)

    def test_back_to_the_better_kind(self) -> None:
        """
        A kind that was beaten is not returned to for an answer, only for what it delivers.
        """
        self.rates[TCP_PATH] = self.rates[WEB_PATH] = 4 * RATE
        self.transfer(1.5 * TRIAL_INTERVAL)
        self.choice.path_answered(UDP4, now=self.now)
        self.act()
        self.assertEqual(self.in_use, TCP_PATH)
        self.transfer(TRIAL_INTERVAL)
        self.assertEqual(self.told[1:], [(UDP4, Reason.TRIAL), (TCP_PATH, Reason.SLOWER)])
        self.rates[UDP4] = 1.1 * PREFERRED_SHARE * 4 * RATE
        self.transfer(3 * TRIAL_INTERVAL)
        self.assertIn((UDP4, Reason.TRIAL), self.told[3:])
        self.assertEqual(self.in_use, UDP4)

    def test_a_verdict_lapses(self) -> None:
        """
        Who has not wanted much for ten minutes is by the better kind again.
        """
        self.rates[TCP_PATH] = 4 * RATE
        self.transfer(1.5 * TRIAL_INTERVAL)
        self.transfer(VERDICT_LIFETIME, is_full=False)
        self.assertEqual(self.told[1:], [(UDP4, Reason.BETTER)])

    def test_a_path_that_comes_and_goes(self) -> None:
        """
        Demand counts across changes of path, and the rate of the path in use has to be known.
        """
        self.rates[TCP_PATH] = 4 * RATE
        self.transfer(TRIAL_INTERVAL - 2 * STEP)
        self.choice.path_silent(UDP4, now=self.now)
        self.act()
        self.choice.path_answered(UDP4, now=self.now)
        self.act()
        self.reasons.clear()
        self.in_use = UDP4
        self.transfer((MEASUREMENTS - 1) * STEP)
        self.assertEqual(self.told, [])
        self.transfer(4 * STEP)
        self.assertEqual(self.told, [(TCP_PATH, Reason.TRIAL)])

    def test_no_demand(self) -> None:
        """
        Nothing is tried, not even where there is some for a moment now and then.
        """
        for _ in range(10):
            self.transfer(0.9 * TRIAL_INTERVAL)
            self.transfer(0.9 * TRIAL_INTERVAL, is_full=False)
        self.assertEqual((self.told, self.started), ([], []))

    def test_pauses_count_against_demand(self) -> None:
        """
        A page now and then is no transfer.
        """
        for _ in range(10):
            self.transfer(TRIAL_INTERVAL / 2)
            self.now += TRIAL_INTERVAL / 2
        self.assertEqual(self.told, [])

    def test_enough(self) -> None:
        """
        Who is that fast is not slowed down.
        """
        self.rates[UDP4] = ENOUGH
        self.transfer(10 * TRIAL_INTERVAL)
        self.assertEqual(self.told, [])

    def test_a_kind_that_does_not_answer(self) -> None:
        """
        It is not used, and the next is tried.
        """
        self.dead = {TCP_PATH}
        self.transfer(TRIAL_INTERVAL + ANSWER_TIME + 2 * STEP)
        self.assertEqual(self.told, [(WEB_PATH, Reason.TRIAL)])

    def test_nothing_comes_by_the_path_on_trial(self) -> None:
        """
        It is left in time, or when it is called silent.
        """
        self.rates[TCP_PATH] = self.rates[WEB_PATH] = 0.0
        self.transfer(TRIAL_INTERVAL + MIN_TRIAL + 2 * STEP)
        self.assertEqual(self.told, [(TCP_PATH, Reason.TRIAL), (UDP4, Reason.SLOWER)])
        (begun, _, _), (ended, _, _) = self.reasons
        self.assertEqual(ended - begun, MIN_TRIAL)
        self.transfer_until(WEB_PATH)
        self.dead = {WEB_PATH, TCP_PATH}
        self.choice.path_silent(WEB_PATH, now=self.now)
        self.act()
        self.assertEqual(self.in_use, UDP4)

    def test_a_trial_that_is_cut_short(self) -> None:
        """
        The path before is in use again at once when that on trial closes.
        """
        self.transfer_until(TCP_PATH)
        self.choice.path_closed(TCP_PATH, now=self.now)
        self.act()
        self.assertEqual(self.told[1:], [(UDP4, Reason.SLOWER)])

    def test_both_paths_close_during_a_trial(self) -> None:
        """
        What opens next is used.
        """
        self.transfer_until(TCP_PATH)
        self.choice.path_closed(UDP4, now=self.now)
        self.choice.path_closed(TCP_PATH, now=self.now)
        self.act()
        self.choice.path_open(UDP, UDP4, now=self.now)
        self.act()
        self.assertEqual(self.in_use, UDP4)

    def test_a_long_round_trip(self) -> None:
        """
        Everything takes longer there.
        """
        self.rtt = 1.0
        self.transfer(600)
        times = [when for when, _, _ in self.reasons]
        self.assertAlmostEqual(times[1] - times[0], MAX_TRIAL, delta=STEP)
        self.assertGreaterEqual(times[2] - times[1], TRIAL_INTERVAL * MAX_TRIAL - STEP)

    def test_carriers_that_flap(self) -> None:
        """
        Alternately good and bad, whatever the period: traffic moves rarely.
        """
        for period in (2.0, 7.0, 60.0):
            self.setUp()
            for turn in range(int(1800 / period)):
                is_good = turn % 2 == 0
                self.rates[UDP4] = RATE if is_good else 20 * RATE
                self.rates[TCP_PATH] = 20 * RATE if is_good else RATE
                self.rates[WEB_PATH] = RATE
                self.transfer(period)
            trials = [path for _, path, reason in self.reasons if reason is Reason.TRIAL]
            self.assertIn(len(trials), range(1, 24), f"period {period} s")
            self.assertLessEqual(len(self.reasons), 2 * len(trials))

    def test_the_winner_fails(self) -> None:
        """
        While a beaten kind is the only one that works it is used; the winner is returned to when
        it is open again.
        """
        self.rates[TCP_PATH] = 4 * RATE
        self.transfer(1.5 * TRIAL_INTERVAL)
        self.dead = {WEB_PATH}
        self.choice.path_answered(UDP4, now=self.now)
        self.choice.path_closed(TCP_PATH, now=self.now)
        self.act()
        self.assertEqual(self.in_use, UDP4)
        self.choice.path_open(TCP, TCP_PATH, now=self.now)
        self.act()
        self.assertEqual(self.in_use, TCP_PATH)
