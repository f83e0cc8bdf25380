"""
Tests of :mod:`resip.core.modern.allowance`.
"""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.modern.allowance import (
    LEAST_BURST,
    LEAST_BURST_TIME,
    QUICK_RATE,
    QUICK_RTT,
    QUICK_SHARE,
    QUICK_TIME,
    QUICK_TURNS,
    QUICK_WINDOW,
    UNPACED_RATE,
    SendAllowance,
)
from resip.core.modern.recovery import LossRecovery

SIZE = 1472
MOST = 128 * SIZE
WINDOW = QUICK_TURNS * MOST


class ScriptedController(ErasureAwareController):
    """
    One whose answers the test sets.
    """

    rate = 1e6
    window = 1 << 30

    @property
    def pacing_rate(self) -> float:
        """
        Bytes a second.
        """
        return self.rate

    @property
    def congestion_window(self) -> int:
        """
        Bytes.
        """
        return self.window


class AllowanceTests(SynchronousTestCase):
    """
    By window, by pace, or not at all.
    """

    def setUp(self) -> None:
        """
        A session that has sent nothing for a second.
        """
        self.controller = ScriptedController(datagram_size=SIZE, random=random.Random(1).random)
        self.recovery = LossRecovery(self.controller)
        self.allowance = SendAllowance(self.controller, self.recovery)
        self.now = 1e7 / 3

    def get(self) -> int:
        """
        Ask, and send what is allowed.
        """
        allowed = self.allowance.get(datagram_size=SIZE, most=MOST, now=self.now)
        if not self.allowance.is_short:
            self.allowance.spend(max(0, allowed))
        return allowed

    def test_slow_paths_get_single_packets(self) -> None:
        """
        Below the rate at which a tick has enough packets nothing is held back.
        """
        self.controller.rate = 2.5e6
        self.get()
        self.now += SIZE / self.controller.rate
        self.assertGreaterEqual(self.get(), SIZE - 1)
        self.assertFalse(self.allowance.is_short)

    def test_fast_paths_get_bursts(self) -> None:
        """
        A busy channel waits for enough packets, and does so in one step: at the time that is
        named there are enough.
        """
        self.controller.rate = 1e9 / 7
        self.get()
        for _ in range(1000):
            self.now += 2 * SIZE / self.controller.rate
            self.get()
            self.assertTrue(self.allowance.is_short)
            ready = self.allowance.ready_at(now=self.now)
            assert ready is not None
            self.assertGreater(ready, self.now)
            self.now = ready
            self.assertGreaterEqual(self.get() * 1.01, LEAST_BURST * SIZE)
            self.assertFalse(self.allowance.is_short)

    def test_the_fastest_paths_get_whole_turns(self) -> None:
        """
        The faster the path, the more packets are waited for, but not for more than leave at once.
        """
        for rate, least in ((5e7, 5e7 * LEAST_BURST_TIME), (5e8, MOST)):
            self.controller.rate = rate
            self.now += 1
            self.get()
            while not self.allowance.is_short:
                self.get()
            ready = self.allowance.ready_at(now=self.now)
            assert ready is not None
            self.now = ready
            self.assertGreaterEqual(self.get() * 1.01, least)
            self.assertFalse(self.allowance.is_short)

    def test_a_small_window(self) -> None:
        """
        What the window leaves goes out, however little that is; the pace names no time.
        """
        self.controller.rate, self.controller.window = 1e8, SIZE
        self.assertEqual(self.get(), SIZE)
        self.controller.window = 0
        self.get()
        self.assertIsNone(self.allowance.ready_at(now=self.now))

    def test_quick_paths(self) -> None:
        """
        Where answers come at once and much passes, the window alone rules; it is the same for
        whoever measured more, and nothing is owed when the path turns out to be slow.
        """
        self.recovery.rtt.update(QUICK_RTT / 2, now=self.now, ack_delay=0.0)
        slow = int(QUICK_RATE * QUICK_TIME)
        for rate, window in ((QUICK_RATE, min(slow, WINDOW)), (1e8, WINDOW), (1e9, WINDOW)):
            self.controller.rate = rate
            for _ in range(10):
                self.assertEqual(self.get(), window)
                self.assertFalse(self.allowance.is_short)
                self.assertIsNone(self.allowance.ready_at(now=self.now))
        self.controller.window = SIZE
        self.assertEqual(self.get(), SIZE)
        self.controller.rate, self.controller.window = QUICK_RATE / 2, 1 << 30
        self.now += 1
        self.assertLess(self.get(), WINDOW / 2)
        ready = self.allowance.ready_at(now=self.now)
        assert ready is not None
        self.assertLess(ready - self.now, 0.01)

    def test_quick_paths_wait_for_a_part_of_the_window(self) -> None:
        """
        Answers to single packets let nothing go.
        """
        self.recovery.rtt.update(QUICK_RTT / 2, now=self.now, ack_delay=0.0)
        self.controller.rate = 1e8
        part = int(QUICK_SHARE * WINDOW)
        for free, is_short in ((SIZE, True), (part - 1, True), (part, False)):
            self.recovery.in_flight.bytes = WINDOW - free
            self.get()
            self.assertIs(self.allowance.is_short, is_short)

    def test_turns_of_any_size(self) -> None:
        """
        The window holds three turns, but it is bounded.
        """
        self.recovery.rtt.update(QUICK_RTT / 2, now=self.now, ack_delay=0.0)
        self.controller.rate = 1e9
        for most, window in ((100_000, 300_000), (10_000_000, QUICK_WINDOW)):
            allowed = self.allowance.get(datagram_size=SIZE, most=most, now=self.now)
            self.assertEqual(allowed, window)
            self.assertTrue(self.allowance.is_quick)

    def test_fast_paths_that_are_long_are_paced(self) -> None:
        """
        With a round trip of some milliseconds a timer is fine enough.
        """
        self.recovery.rtt.update(2 * QUICK_RTT, now=self.now, ack_delay=0.0)
        self.controller.rate = QUICK_RATE
        self.assertLess(self.get(), WINDOW / 2)
        self.assertIsNotNone(self.allowance.ready_at(now=self.now))

    def test_reliable_carriers(self) -> None:
        """
        A slow one is paced like any other; a fast one bounds what it takes by itself.
        """
        self.allowance.is_reliable = True
        self.controller.rate = UNPACED_RATE / 2
        self.assertLess(self.get(), MOST)
        self.controller.rate, self.controller.window = UNPACED_RATE, SIZE
        self.assertEqual(self.get(), MOST)
        self.assertEqual(self.get(), MOST)
        self.assertIsNone(self.allowance.ready_at(now=self.now))

    def test_what_left_without_a_pace_is_not_paid_back(self) -> None:
        """
        A carrier that was left to itself took gigabytes; now its rate falls, and it is paced.
        """
        self.get()
        self.allowance.is_reliable = True
        self.controller.rate = 100 * UNPACED_RATE
        for _ in range(10_000):
            self.assertEqual(self.get(), MOST)
        self.controller.rate = UNPACED_RATE / 2
        self.get()
        ready = self.allowance.ready_at(now=self.now)
        assert ready is not None
        self.assertLess(ready - self.now, 0.01)

    def test_another_path_owes_nothing(self) -> None:
        """
        What one path took beyond its pace does not keep the next one waiting, which may be slow.
        """
        self.controller.rate = 1e7
        self.get()
        self.allowance.spend(1 << 20)
        self.controller.rate = 1e4
        self.allowance.start_path(is_reliable=False)
        self.get()
        self.now += SIZE / self.controller.rate
        self.assertGreaterEqual(self.get(), SIZE - 1)
