"""
Tests of :mod:`resip.core.classic.liveness`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.configuration import ClassicConfiguration, PeerTraits
from resip.core.classic.liveness import (
    FIRST_RETRY,
    LATE_OUTAGE,
    MAX_LATE_RETRY,
    MAX_RETRY,
    PATIENCE,
    Liveness,
)

CONFIGURATION = ClassicConfiguration(
    peer=PeerTraits(keep_alive_interval=15), idle_keep_alive_interval=60
)
START = 1000.0


class LivenessTests(SynchronousTestCase):
    """
    When to ask, and when to doubt.
    """

    def test_a_quiet_session_asks_for_life(self) -> None:
        """
        Sooner while it has channels.
        """
        liveness = Liveness(CONFIGURATION, now=START)
        self.assertEqual(liveness.keep_alive_time(has_channels=True), START + 15)
        self.assertEqual(liveness.keep_alive_time(has_channels=False), START + 60)

    def test_whatever_arrives_postpones_the_question(self) -> None:
        """
        The interval counts from the last sign of life.
        """
        liveness = Liveness(CONFIGURATION, now=START)
        liveness.on_received(now=START + 10)
        self.assertEqual(liveness.last_received_time, START + 10)
        self.assertEqual(liveness.keep_alive_time(has_channels=True), START + 25)

    def test_an_unanswered_question_is_repeated(self) -> None:
        """
        Soon at first, then less often, after an hour rarely.
        """
        liveness = Liveness(CONFIGURATION, now=START)
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
        liveness = Liveness(CONFIGURATION, now=START)
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
        liveness = Liveness(CONFIGURATION, now=START)
        liveness.on_asked(now=START + 15)
        liveness.on_received(now=START + 16)
        self.assertIsNone(liveness.report_time())
        self.assertEqual(liveness.keep_alive_time(has_channels=True), START + 31)

    def test_a_silence_without_a_question(self) -> None:
        """
        It counts from the last sign of life.
        """
        liveness = Liveness(CONFIGURATION, now=START)
        self.assertEqual(liveness.silence(now=START + 7), 7)
