"""
Tests of :mod:`resip.services.choice`, by script: which path is used, probed, dialled, and when.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.types import Path
from resip.services.candidate import FRESH
from resip.services.choice import (
    ADDRESS_HEAD_START,
    ADDRESS_TRIAL,
    CALM,
    MAX_RETURN,
    SPARE_PATIENCE,
    TRUSTED_AFTER,
    WARM_INTERVAL,
    CarrierChoice,
)
from resip.services.path_actions import (
    Action,
    ProbePath,
    Reason,
    RenewKind,
    StartKind,
    StopKind,
    UsePath,
)

UDP, TCP, WEB = range(3)
UDP4, UDP6 = Path("udp", ("192.0.2.1", 1)), Path("udp6", ("2001:db8::1", 1))
TCP_PATH = Path("tcp", ("192.0.2.1", 1), is_reliable=True)
WEB_PATH = Path("websocket", ("192.0.2.1", 2), is_reliable=True)


class ChoiceTestCase(SynchronousTestCase):
    """
    A choice among UDP, TCP and WebSocket, from the second 0 on.
    """

    can_probe = True

    def setUp(self) -> None:
        """
        Begin.
        """
        self.now = 0.0
        self.choice = CarrierChoice((0.0, 0.25, 0.5), can_probe=self.can_probe, now=0.0)

    def actions(self) -> list[Action]:
        """
        What to do now.
        """
        return self.choice.take_actions()

    def open(self, kind: int, path: Path) -> list[Action]:
        """
        A path opens.
        """
        self.choice.path_open(kind, path, now=self.now)
        return self.actions()

    def answer(self, path: Path) -> list[Action]:
        """
        The server answers by a path.
        """
        self.choice.path_answered(path, now=self.now)
        return self.actions()

    def silence(self, path: Path) -> list[Action]:
        """
        The server does not answer by a path.
        """
        self.choice.path_silent(path, now=self.now)
        return self.actions()

    def close(self, path: Path) -> list[Action]:
        """
        A path is gone.
        """
        self.choice.path_closed(path, now=self.now)
        return self.actions()

    def wait(self, seconds: float) -> list[tuple[float, Action]]:
        """
        Let time pass, and return what was to be done when.
        """
        done: list[tuple[float, Action]] = []
        end = self.now + seconds
        while (timer := self.choice.get_timer()) is not None and timer <= end:
            self.now = max(self.now, timer)
            self.choice.handle_timer(now=self.now)
            done += [(round(self.now, 3), action) for action in self.actions()]
        self.now = end
        return done

    def settle_on_udp(self) -> None:
        """
        UDP works; TCP is open, too.
        """
        self.actions()
        self.open(UDP, UDP4)
        self.wait(0.3)
        self.open(TCP, TCP_PATH)
        self.answer(UDP4)
        self.wait(1.0)


class RaceTests(ChoiceTestCase):
    """
    The start.
    """

    def test_udp_answers_in_time(self) -> None:
        """
        What works at once is used, and nothing else is even dialled.
        """
        self.assertEqual(self.actions(), [StartKind(UDP)])
        self.assertEqual(self.open(UDP, UDP4), [UsePath(UDP4, Reason.NEEDED, None)])
        self.now = 0.2
        self.assertEqual(self.answer(UDP4), [])
        self.assertEqual(self.wait(1000), [])
        self.assertIsNone(self.choice.get_timer())

    def test_each_kind_has_its_head_start(self) -> None:
        """
        While nothing answers the kinds are tried one after the other.
        """
        self.actions()
        self.open(UDP, UDP4)
        self.assertEqual(self.wait(5), [(0.25, StartKind(TCP)), (0.5, StartKind(WEB))])

    def test_the_first_that_answers_is_used(self) -> None:
        """
        A connection is probed as soon as it is there, used when it answers, and left when a better
        path does.
        """
        self.actions()
        self.open(UDP, UDP4)
        self.wait(0.3)
        self.assertEqual(self.open(TCP, TCP_PATH), [ProbePath(TCP_PATH)])
        self.assertEqual(self.answer(TCP_PATH), [UsePath(TCP_PATH, Reason.SILENT, UDP4)])
        probes = [(1.3, ProbePath(UDP4)), (3.3, ProbePath(UDP4)), (7.3, ProbePath(UDP4))]
        self.assertEqual(self.wait(10), probes)
        self.assertEqual(self.answer(UDP4), [UsePath(UDP4, Reason.BETTER, TCP_PATH)])

    def test_addresses_of_one_kind(self) -> None:
        """
        They are asked one after the other (RFC 8305), too.
        """
        self.actions()
        self.open(UDP, UDP6)
        self.assertEqual(self.open(UDP, UDP4), [])
        first, *_ = self.wait(0.3)
        self.assertEqual(first, (ADDRESS_HEAD_START, StartKind(TCP)))
        self.assertEqual(self.answer(UDP4), [UsePath(UDP4, Reason.SILENT, UDP6)])
        self.assertEqual(self.answer(UDP6), [])

    def test_a_late_better_kind(self) -> None:
        """
        When TCP came first because UDP's name took its time, UDP is asked as soon as it is there.
        """
        self.actions()
        self.wait(0.3)
        self.open(TCP, TCP_PATH)
        self.answer(TCP_PATH)
        self.assertEqual(self.open(UDP, UDP4), [ProbePath(UDP4)])
        self.assertEqual(self.open(WEB, WEB_PATH), [])


class FailureTests(ChoiceTestCase):
    """
    The path in use goes bad.
    """

    def test_silence(self) -> None:
        """
        All others are probed or started at once, and the first path that answers is used.
        """
        self.settle_on_udp()
        self.assertEqual(self.silence(UDP4), [StartKind(WEB), ProbePath(TCP_PATH)])
        self.assertEqual(self.answer(TCP_PATH), [UsePath(TCP_PATH, Reason.SILENT, UDP4)])
        self.assertEqual(self.silence(UDP4), [])

    def test_silence_that_ends(self) -> None:
        """
        When the path in use answers first it is kept, and a later answer changes nothing.
        """
        self.settle_on_udp()
        self.silence(UDP4)
        self.assertEqual(self.answer(UDP4), [])
        self.assertEqual(self.answer(TCP_PATH), [])

    def test_a_spare_that_answered_just_now(self) -> None:
        """
        It is used without another question.
        """
        self.settle_on_udp()
        self.answer(TCP_PATH)
        self.wait(FRESH / 2)
        self.assertIn(UsePath(TCP_PATH, Reason.SILENT, UDP4), self.silence(UDP4))

    def test_a_dead_spare_is_dialled_again(self) -> None:
        """
        A connection that does not answer within a second may have died unnoticed.
        """
        self.settle_on_udp()
        self.silence(UDP4)
        start = self.now
        self.assertIn((start + SPARE_PATIENCE, RenewKind(TCP)), self.wait(2))

    def test_a_closed_connection(self) -> None:
        """
        Without anything that is known to work, whatever opens or answers first is used.
        """
        self.settle_on_udp()
        self.silence(UDP4)
        self.answer(TCP_PATH)
        self.wait(FRESH + 1)
        actions = self.close(TCP_PATH)
        self.assertIn(ProbePath(UDP4), actions)
        self.assertFalse([action for action in actions if isinstance(action, UsePath)])
        self.assertEqual(self.open(TCP, TCP_PATH), [UsePath(TCP_PATH, Reason.NEEDED, TCP_PATH)])

    def test_an_answer_while_there_is_no_path(self) -> None:
        """
        The better kind, left before, is used when it answers then.
        """
        self.settle_on_udp()
        self.silence(UDP4)
        self.answer(TCP_PATH)
        self.close(TCP_PATH)
        self.assertEqual(self.answer(UDP4), [UsePath(UDP4, Reason.CLOSED, TCP_PATH)])

    def test_what_is_not_known(self) -> None:
        """
        News of paths that are gone change nothing.
        """
        self.settle_on_udp()
        self.assertEqual(self.answer(WEB_PATH), [])
        self.assertEqual(self.close(WEB_PATH), [])
        self.assertEqual(self.silence(TCP_PATH), [])


class ReturnTests(ChoiceTestCase):
    """
    The way back.
    """

    def fail_udp(self) -> None:
        """
        UDP is left for TCP.
        """
        self.silence(UDP4)
        self.answer(TCP_PATH)

    def probes_of_udp(self, seconds: float) -> list[float]:
        """
        The seconds from now at which UDP is probed.
        """
        start = self.now
        done = self.wait(seconds)
        return [round(at - start, 3) for at, action in done if action == ProbePath(UDP4)]

    def test_the_intervals(self) -> None:
        """
        They double up to 20 s, so that one who can come back is back within 30.
        """
        self.settle_on_udp()
        self.fail_udp()
        self.assertEqual(self.probes_of_udp(80), [1, 3, 7, 15, 31, 51, 71])
        self.assertLess(MAX_RETURN, 30 - 3)

    def test_step_by_step(self) -> None:
        """
        Where a way is free again a better one may be, too: it is probed soon.
        """
        self.settle_on_udp()
        self.silence(UDP4)
        self.open(WEB, WEB_PATH)
        self.answer(WEB_PATH)
        self.wait(40)
        self.assertEqual(self.answer(TCP_PATH), [UsePath(TCP_PATH, Reason.BETTER, WEB_PATH)])
        self.assertEqual(self.probes_of_udp(1.0), [1.0])

    def test_one_that_fails_again_waits_longer(self) -> None:
        """
        UDP that answers questions and carries nothing else does not pull traffic back and forth.
        """
        self.settle_on_udp()
        for expected in (1, 2, 4, 8, 16, 20, 20):
            self.fail_udp()
            self.assertEqual(self.probes_of_udp(expected), [expected])
            self.assertEqual(self.answer(UDP4), [UsePath(UDP4, Reason.BETTER, TCP_PATH)])
            self.wait(FRESH + 1)

    def test_trust_comes_back(self) -> None:
        """
        After a minute without trouble the next failure counts as the first.
        """
        self.settle_on_udp()
        self.fail_udp()
        self.wait(40)
        self.answer(UDP4)
        self.wait(TRUSTED_AFTER + 1)
        self.fail_udp()
        self.assertEqual(self.probes_of_udp(4), [1, 3])

    def test_spares_are_kept_warm(self) -> None:
        """
        A spare connection is probed once in a while, a spare UDP address never.
        """
        self.settle_on_udp()
        self.open(UDP, UDP6)
        start = self.now
        done = self.wait(4 * WARM_INTERVAL)
        probes = [at - start for at, action in done if action == ProbePath(TCP_PATH)]
        self.assertEqual(len(probes), 4)
        self.assertLessEqual(len(done) - len(probes), 4)

    def test_retry(self) -> None:
        """
        Everything is asked at once, whatever the intervals were.
        """
        self.settle_on_udp()
        self.fail_udp()
        self.wait(60)
        self.choice.retry(now=self.now)
        self.assertEqual(self.actions(), [ProbePath(UDP4)])

    def test_retry_without_a_path(self) -> None:
        """
        Kinds whose turn had not come are started, too.
        """
        self.actions()
        self.choice.retry(now=self.now)
        self.assertEqual(self.actions(), [StartKind(TCP), StartKind(WEB)])

    def test_spares_are_let_go(self) -> None:
        """
        After some minutes without trouble the next kind is the only spare; later trouble starts
        the others again.
        """
        self.settle_on_udp()
        self.silence(UDP4)
        self.open(WEB, WEB_PATH)
        self.answer(UDP4)
        done = [action for _, action in self.wait(2 * CALM)]
        self.assertIn(StopKind(WEB, (WEB_PATH,)), done)
        self.assertNotIn(StopKind(TCP, (TCP_PATH,)), done)
        self.assertEqual(self.silence(UDP4), [StartKind(WEB), ProbePath(TCP_PATH)])

    def test_a_spare_that_cannot_be_reached(self) -> None:
        """
        It is not dialled for ever.
        """
        self.settle_on_udp()
        self.silence(UDP4)
        self.close(TCP_PATH)
        self.answer(UDP4)
        done = [action for _, action in self.wait(2 * CALM)]
        self.assertEqual(done[-2:], [StopKind(TCP, ()), StopKind(WEB, ())])


class WithoutProbesTests(ChoiceTestCase):
    """
    A dialect in which nothing but use tells whether a path works.
    """

    can_probe = False

    def setUp(self) -> None:
        """
        One kind is all that can be chosen from.
        """
        self.now = 0.0
        self.choice = CarrierChoice((0.0,), can_probe=False, now=0.0)
        self.actions()

    def test_addresses_take_turns(self) -> None:
        """
        Each is used for a second, round and round, until one answers.
        """
        self.open(UDP, UDP6)
        self.open(UDP, UDP4)
        used = [
            (at, action.path)
            for at, action in self.wait(3 * ADDRESS_TRIAL)
            if isinstance(action, UsePath)
        ]
        self.assertEqual(used, [(1.0, UDP4), (2.0, UDP6), (3.0, UDP4)])
        self.answer(UDP4)
        self.assertEqual(self.wait(100), [])

    def test_nothing_is_probed(self) -> None:
        """
        Not even when something changed outside.
        """
        self.open(UDP, UDP4)
        self.open(UDP, UDP6)
        self.choice.retry(now=self.now)
        self.assertEqual(self.actions(), [])
