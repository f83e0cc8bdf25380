"""
Tests of requests that are made several times at once.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.errors import PinMismatch, Unreachable
from resip.bootstrap.https import ATTEMPT_INTERVAL, MAX_ATTEMPTS, ParallelAttempts


class ParallelAttemptsTests(SynchronousTestCase):
    """
    The first answer counts.
    """

    def setUp(self) -> None:
        """
        A request whose attempts do nothing by themselves.
        """
        self.clock = Clock()
        self.attempts: list[Deferred[str]] = []
        self.cancelled: list[int] = []
        self.result = ParallelAttempts(self.clock, self.begin).run()

    def begin(self) -> Deferred[str]:
        """
        One attempt.
        """
        number = len(self.attempts)
        attempt: Deferred[str] = Deferred(lambda _: self.cancelled.append(number))
        self.attempts.append(attempt)
        return attempt

    def test_a_quick_answer_needs_one(self) -> None:
        """
        Nothing is repeated, and no timer is left.
        """
        self.attempts[0].callback("yes")
        self.clock.advance(100)
        self.assertEqual(self.successResultOf(self.result), "yes")
        self.assertEqual(len(self.attempts), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silence_is_met_with_more_attempts(self) -> None:
        """
        Another one starts at each interval, up to the limit, beside those that hang.
        """
        self.clock.pump([ATTEMPT_INTERVAL] * (MAX_ATTEMPTS + 3))
        self.assertEqual(len(self.attempts), MAX_ATTEMPTS)
        self.assertEqual(self.cancelled, [])

    def test_the_first_answer_ends_the_others(self) -> None:
        """
        Whichever attempt it is, those still running are given up.
        """
        self.clock.advance(ATTEMPT_INTERVAL)
        self.clock.advance(ATTEMPT_INTERVAL)
        self.attempts[1].callback("yes")
        self.assertEqual(self.successResultOf(self.result), "yes")
        self.assertEqual(self.cancelled, [0, 2])

    def test_a_lost_attempt_waits_for_the_others(self) -> None:
        """
        That the network failed one of several says nothing about the rest.
        """
        self.clock.advance(ATTEMPT_INTERVAL)
        self.attempts[0].errback(Unreachable("lost"))
        self.assertNoResult(self.result)
        self.attempts[1].callback("yes")
        self.assertEqual(self.successResultOf(self.result), "yes")

    def test_the_only_attempt_fails_at_once(self) -> None:
        """
        A server that refuses connections is not asked again by us; whoever asked will.
        """
        self.attempts[0].errback(Unreachable("refused"))
        self.failureResultOf(self.result, Unreachable)
        self.clock.advance(100)
        self.assertEqual(len(self.attempts), 1)

    def test_what_the_server_is_decides(self) -> None:
        """
        A wrong certificate ends all attempts.
        """
        self.clock.advance(ATTEMPT_INTERVAL)
        self.attempts[1].errback(PinMismatch("another server"))
        self.failureResultOf(self.result, PinMismatch)
        self.assertEqual(self.cancelled, [0])

    def test_several_ways(self) -> None:
        """
        Each failure leads to the next way at once, whatever it says; the answer of any counts.
        """
        self.result = ParallelAttempts(self.clock, self.begin, ways=3).run()
        self.attempts[1].errback(Unreachable("refused"))
        self.attempts[2].errback(PinMismatch("another server"))
        self.assertNoResult(self.result)
        self.attempts[3].callback("yes")
        self.assertEqual(self.successResultOf(self.result), "yes")

    def test_no_way(self) -> None:
        """
        After the last of several the request fails.
        """
        self.result = ParallelAttempts(self.clock, self.begin, ways=2).run()
        self.attempts[1].errback(PinMismatch("another server"))
        self.attempts[2].errback(Unreachable("refused"))
        self.failureResultOf(self.result, Unreachable)

    def test_one_way_of_several_hangs(self) -> None:
        """
        The failure of another one does not end it.
        """
        self.result = ParallelAttempts(self.clock, self.begin, ways=2).run()
        self.clock.advance(ATTEMPT_INTERVAL)
        self.attempts[-1].errback(PinMismatch("another server"))
        self.attempts[1].callback("yes")
        self.assertEqual(self.successResultOf(self.result), "yes")

    def test_giving_up_ends_all(self) -> None:
        """
        A cancelled request leaves neither attempts nor timers.
        """
        self.clock.advance(ATTEMPT_INTERVAL)
        self.result.cancel()
        self.failureResultOf(self.result, CancelledError)
        self.assertEqual(self.cancelled, [0, 1])
        self.assertEqual(self.clock.getDelayedCalls(), [])
