"""
Tests of :mod:`resip.core.liveness`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.liveness import (
    FIRST_RETRY,
    LATE_OUTAGE,
    MAX_LATE_RETRY,
    MAX_RETRY,
    PATIENCE,
    Liveness,
)

START = 1000.0


def make_liveness() -> Liveness:
    """
    One that asks after 15 seconds, without channels after 60.
    """
    return Liveness(keep_alive_interval=15, idle_keep_alive_interval=60, now=START)


class LivenessTests(SynchronousTestCase):
    """
    When to ask, and when to doubt.
    """

    def test_a_quiet_session_asks_for_life(self) -> None:
        """
        Sooner while it has channels.
        """
        liveness = make_liveness()
        self.assertEqual(liveness.keep_alive_time(has_channels=True), START + 15)
        self.assertEqual(liveness.keep_alive_time(has_channels=False), START + 60)

    def test_whatever_arrives_postpones_the_question(self) -> None:
        """
        The interval counts from the last sign of life.
        """
        liveness = make_liveness()
        liveness.on_received(now=START + 10)
        self.assertEqual(liveness.last_received_time, START + 10)
        self.assertEqual(liveness.keep_alive_time(has_channels=True), START + 25)

    def test_an_unanswered_question_is_repeated(self) -> None:
        """
        Soon at first, then less often, after an hour rarely.
        """
        liveness = make_liveness()
        now, asked = START, []
        while now < START + 2 * LATE_OUTAGE:
            liveness.on_asked(now=now)
            asked.append(now)
            now = liveness.keep_alive_time(has_channels=True)
        self.assertAlmostEqual(asked[1] - asked[0], FIRST_RETRY)
        self.assertAlmostEqual(asked[50] - asked[49], MAX_RETRY)
        self.assertAlmostEqual(asked[-1] - asked[-2], MAX_LATE_RETRY)
        self.assertLess(len(asked), LATE_OUTAGE / MAX_RETRY + LATE_OUTAGE / MAX_LATE_RETRY + 10)

    def test_the_peer_is_silent_after_a_while(self) -> None:
        """
        It is reported with its duration, and again no sooner than the patience is over again.
        """
        liveness = make_liveness()
        self.assertIsNone(liveness.report_time())
        liveness.on_asked(now=START + 15)
        self.assertEqual(liveness.report_time(), START + 15 + PATIENCE)
        self.assertEqual(liveness.silence(now=START + 25), 10)
        self.assertEqual(liveness.report_time(), START + 25 + PATIENCE)
        self.assertEqual(liveness.silence(now=START + 35), 20)

    def test_an_answer_ends_the_doubt(self) -> None:
        """
        Nothing is to be reported, and the interval is the usual one.
        """
        liveness = make_liveness()
        liveness.on_asked(now=START + 15)
        liveness.on_received(now=START + 16)
        self.assertIsNone(liveness.report_time())
        self.assertEqual(liveness.keep_alive_time(has_channels=True), START + 31)

    def test_a_silence_without_a_question(self) -> None:
        """
        It counts from the last sign of life.
        """
        liveness = make_liveness()
        self.assertEqual(liveness.silence(now=START + 7), 7)
