"""
Credit: what is granted, when it is announced, and that nobody passes it.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.flow_control import (
    DELIVERED_DELAY,
    INITIAL_CHANNEL_WINDOW,
    INITIAL_SESSION_WINDOW,
    LARGE_DELIVERY,
    MAX_CHANNEL_WINDOW,
    MAX_SESSION_WINDOW,
    SMALL_DELIVERY,
    SMALL_DELIVERY_DELAY,
    CreditWindow,
    FlowControlError,
    SendCredit,
)
from resip.core.modern.send_stream import SEND_LIMIT


class CreditWindowTests(SynchronousTestCase):
    """
    The receiver's side.
    """

    def test_sending_beyond_the_limit(self) -> None:
        """
        M-31: what the peer sends beyond the limit is an error.
        """
        window = CreditWindow(initial=100, maximum=100)
        window.on_received(100)
        self.assertRaises(FlowControlError, window.on_received, 1)

    def test_half_a_window_is_announced(self) -> None:
        """
        Credit is announced when half a window can be granted, not for every byte.
        """
        window = CreditWindow(initial=100, maximum=100)
        window.on_received(60)
        window.consumed(49, now=0.0, rtt=0.1)
        self.assertFalse(window.is_due(now=0.0))
        window.consumed(1, now=0.0, rtt=0.1)
        self.assertTrue(window.is_due(now=0.0))
        self.assertEqual((window.announce(), window.delivered), (150, 50))
        self.assertFalse(window.is_due(now=0.0))

    def test_much_is_announced_whatever_the_window(self) -> None:
        """
        The sender keeps what is not said to be delivered, and does not keep a whole window.
        """
        window = CreditWindow(initial=MAX_CHANNEL_WINDOW, maximum=MAX_CHANNEL_WINDOW)
        self.assertLessEqual(4 * LARGE_DELIVERY, SEND_LIMIT)
        window.on_received(LARGE_DELIVERY)
        window.consumed(LARGE_DELIVERY - 1, now=0.0, rtt=0.1)
        self.assertFalse(window.is_due(now=0.0))
        window.consumed(1, now=0.0, rtt=0.1)
        self.assertTrue(window.is_due(now=0.0))

    def test_a_sender_about_to_run_dry_is_told_early(self) -> None:
        """
        When most of the credit is used, an eighth of a window is worth announcing.
        """
        window = CreditWindow(initial=80, maximum=80)
        window.on_received(60)
        window.consumed(9, now=0.0, rtt=0.1)
        self.assertFalse(window.is_due(now=0.0))
        window.consumed(1, now=0.0, rtt=0.1)
        self.assertTrue(window.is_due(now=0.0))

    def test_a_delivery_is_announced_in_time(self) -> None:
        """
        M-30: also a delivery that grants little is announced, a little later; one that grants
        next to nothing, some seconds later.
        """
        window = CreditWindow(initial=1_000_000, maximum=1_000_000)
        self.assertIsNone(window.due_time)
        window.on_received(SMALL_DELIVERY)
        window.consumed(1, now=1.0, rtt=0.1)
        self.assertEqual(window.due_time, 1.0 + SMALL_DELIVERY_DELAY)
        window.consumed(SMALL_DELIVERY - 1, now=2.0, rtt=0.1)
        self.assertEqual(window.due_time, 2.0 + DELIVERED_DELAY)
        self.assertFalse(window.is_due(now=2.0))
        self.assertTrue(window.is_due(now=2.0 + DELIVERED_DELAY))
        window.announce()
        self.assertIsNone(window.due_time)

    def test_limits_never_shrink(self) -> None:
        """
        M-32: announcing without progress repeats the limit.
        """
        window = CreditWindow(initial=100, maximum=100)
        self.assertEqual([window.announce(), window.announce()], [100, 100])

    def read(self, window: CreditWindow, *, rate: float, rtt: float, seconds: float) -> None:
        """
        A sender uses all credit at a rate, and a reader takes everything at once.
        """
        now, limits = 0.0, [(0.0, window.limit)]
        while now < seconds:
            now += 0.001
            known = max(limit for time, limit in limits if time <= now - rtt or not time)
            count = min(int(rate / 1000), known - window.received)
            window.on_received(count)
            window.consumed(count, now=now, rtt=rtt)
            if window.is_due(now=now):
                limits.append((now, window.announce()))

    def test_the_window_grows_to_the_path(self) -> None:
        """
        A window smaller than the bandwidth-delay product doubles until it holds nobody back,
        and not much further.
        """
        window = CreditWindow(initial=10_000, maximum=10_000_000)
        self.read(window, rate=1_000_000, rtt=0.1, seconds=3.0)
        self.assertGreater(window.window, 200_000)
        self.assertLess(window.window, 500_000)
        self.assertGreater(window.received, 2_400_000)

    def test_half_a_window_behind_a_hole_widens_it(self) -> None:
        """
        What waits for a repeat takes credit, and a wider window must be announced in time.
        """
        window = CreditWindow(initial=10_000, maximum=50_000)
        window.on_received(4_900)
        self.assertFalse(window.widen(now=0.0, rtt=0.1))
        window.on_received(100)
        self.assertTrue(window.widen(now=0.0, rtt=0.1))
        self.assertEqual(window.window, 20_000)

    def test_the_cap_holds(self) -> None:
        """
        However fast the path, the peer gets no more than the maximum.
        """
        window = CreditWindow(initial=10_000, maximum=50_000)
        self.read(window, rate=10_000_000, rtt=0.1, seconds=2.0)
        self.assertEqual(window.window, 50_000)
        self.assertLessEqual(window.limit - window.delivered, 50_000)

    def test_a_slow_reader_does_not_grow_it(self) -> None:
        """
        A window that lasts for more than two round trips is large enough.
        """
        window = CreditWindow(initial=10_000, maximum=10_000_000)
        self.read(window, rate=40_000, rtt=0.1, seconds=3.0)
        self.assertEqual(window.window, 10_000)

    def test_a_reader_that_catches_up_does_not_grow_it(self) -> None:
        """
        A full window taken at once after a pause says nothing about the path.
        """
        window = CreditWindow(initial=1000, maximum=100_000)
        for pause in range(10):
            window.on_received(window.limit - window.received)
            for _ in range(10):
                window.consumed(100, now=float(pause), rtt=0.1)
            window.announce()
        self.assertEqual(window.window, 1000)

    def test_named_limits(self) -> None:
        """
        M-27: the largest window is far below 2^31, and the session's holds several channels'.
        """
        self.assertLess(MAX_SESSION_WINDOW, 2**31)
        self.assertLessEqual(INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW)
        self.assertLess(MAX_CHANNEL_WINDOW, MAX_SESSION_WINDOW)


class SendCreditTests(SynchronousTestCase):
    """
    The sender's side.
    """

    def test_credit_is_used_up(self) -> None:
        """
        M-31: credit is blocked exactly when all of it is used; more cannot be.
        """
        credit = SendCredit(100)
        credit.use(60)
        self.assertEqual((credit.available, credit.is_blocked), (40, False))
        self.assertRaises(ValueError, credit.use, 41)
        credit.use(40)
        self.assertTrue(credit.is_blocked)

    def test_a_limit_unblocks(self) -> None:
        """
        A higher limit unblocks, and says so once.
        """
        credit = SendCredit(100)
        credit.use(100)
        self.assertTrue(credit.on_limit(150))
        self.assertFalse(credit.on_limit(200))
        self.assertEqual(credit.available, 100)

    def test_an_old_limit_is_ignored(self) -> None:
        """
        M-32: a lower limit is an old one that was overtaken.
        """
        credit = SendCredit(100)
        credit.use(100)
        self.assertFalse(credit.on_limit(50))
        self.assertEqual(credit.limit, 100)
