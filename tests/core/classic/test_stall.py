"""
Tests of :mod:`resip.core.classic.stall`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.stall import (
    FIRST_PROBE_INTERVAL,
    LEAST_PACKETS,
    MAX_PROBE_INTERVAL,
    VAIN_REPETITIONS,
    StallDetector,
)

PATIENCE = 0.5


def repeat(
    stall: StallDetector,
    times: int,
    *,
    last_number: int = LEAST_PACKETS,
    session_progress_time: float = 1010.0,
    now: float = 1010.0,
) -> bool:
    """
    Repeat packets in vain; by default nothing but their number is in doubt.
    """
    for _ in range(times):
        stall.on_repetition(
            last_number=last_number,
            session_progress_time=session_progress_time,
            patience=PATIENCE,
            now=now,
        )
    return stall.is_stalled


def make_stall() -> StallDetector:
    """
    A detector whose channel made progress ten seconds ago.
    """
    stall = StallDetector()
    stall.on_progress(now=1000.0)
    return stall


class StallDetectorTests(SynchronousTestCase):
    """
    A reader that sleeps, or a path that loses.
    """

    def test_many_repetitions_in_vain(self) -> None:
        """
        While others make progress, a channel that makes none is stalled.
        """
        stall = make_stall()
        self.assertFalse(repeat(stall, VAIN_REPETITIONS - 1))
        self.assertTrue(repeat(stall, 1))
        self.assertEqual(stall.probe_time, 1010.0 + FIRST_PROBE_INTERVAL)

    def test_when_nobody_makes_progress_the_path_is_to_blame(self) -> None:
        """
        The whole session stands still, and so it says nothing about the reader.
        """
        self.assertFalse(repeat(make_stall(), 1000, session_progress_time=1000.0))

    def test_a_channel_that_sent_little_is_not_stalled(self) -> None:
        """
        It cannot have filled its reader's buffer.
        """
        self.assertFalse(repeat(make_stall(), 1000, last_number=LEAST_PACKETS - 1))

    def test_a_channel_that_just_moved_is_not_stalled(self) -> None:
        """
        Its acknowledgements may be on their way.
        """
        self.assertFalse(repeat(make_stall(), 1000, now=1000.0 + PATIENCE))

    def test_progress_wakes_it(self) -> None:
        """
        And it takes as many repetitions again until it stalls again.
        """
        stall = make_stall()
        repeat(stall, VAIN_REPETITIONS)
        stall.on_progress(now=1000.0)
        self.assertFalse(stall.is_stalled)
        self.assertFalse(repeat(stall, VAIN_REPETITIONS - 1))

    def test_probes_get_rarer(self) -> None:
        """
        Each one doubles the interval to the next, up to a limit.
        """
        stall = make_stall()
        repeat(stall, VAIN_REPETITIONS)
        pauses = []
        now = 1010.0
        for _ in range(8):
            repeat(stall, 1, now=now)
            pauses.append(round(stall.probe_time - now, 6))
            now = stall.probe_time
        self.assertEqual(pauses, [0.2, 0.4, 0.8, 1.6] + [MAX_PROBE_INTERVAL] * 4)

    def test_postponing(self) -> None:
        """
        The next look is a long interval away.
        """
        stall = make_stall()
        stall.postpone(now=1010.0)
        self.assertEqual(stall.probe_time, 1010.0 + MAX_PROBE_INTERVAL)
