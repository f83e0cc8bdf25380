"""
Tests for :mod:`resip.bootstrap.ratelimit`.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.ratelimit import RateLimiter


class RateLimiterTests(SynchronousTestCase):
    """
    One bucket per address, and a bounded number of addresses.
    """

    def setUp(self) -> None:
        """
        Three at once, then one in two seconds; two addresses are remembered.
        """
        self.clock = Clock()
        self.limiter = RateLimiter(burst=3, rate=0.5, now=self.clock.seconds, max_addresses=2)

    def empty(self, address: str) -> None:
        """
        Take all that there is.
        """
        while not self.limiter.take(address):
            pass

    def test_burst_then_rate(self) -> None:
        """
        A burst passes, then the wait is told, and after it one more passes.
        """
        self.assertEqual([self.limiter.take("192.0.2.1") for _ in range(4)], [0, 0, 0, 2.0])
        self.clock.advance(1)
        self.assertEqual(self.limiter.take("192.0.2.1"), 1.0)
        self.clock.advance(1)
        self.assertEqual([self.limiter.take("192.0.2.1") for _ in range(2)], [0, 2.0])

    def test_quiet_address_gets_no_more_than_the_burst(self) -> None:
        """
        An hour of silence fills the bucket, and no further.
        """
        self.empty("192.0.2.1")
        self.clock.advance(3600)
        waits = [self.limiter.take("192.0.2.1") for _ in range(4)]
        self.assertEqual(waits[:3], [0, 0, 0])
        self.assertGreater(waits[3], 0)

    def test_addresses_do_not_share(self) -> None:
        """
        One address's excess is not held against another.
        """
        self.empty("192.0.2.1")
        self.assertEqual(self.limiter.take("192.0.2.2"), 0)

    def test_ipv6_network_is_one_source(self) -> None:
        """
        A host does not escape by using another address of its /64.
        """
        self.empty("2001:db8::1")
        self.assertGreater(self.limiter.take("2001:db8::ffff"), 0)
        self.assertEqual(self.limiter.take("2001:db8:0:1::1"), 0)

    def test_mapped_ipv4_is_ipv4(self) -> None:
        """
        A dual-stack socket's spelling of an IPv4 address is the same source.
        """
        self.empty("192.0.2.1")
        self.assertGreater(self.limiter.take("::ffff:192.0.2.1"), 0)

    def test_table_is_bounded(self) -> None:
        """
        Many addresses do not fill the memory; the longest quiet one is forgotten first.
        """
        self.empty("192.0.2.1")
        for last in range(2, 200):
            self.limiter.take("192.0.2.1")
            self.limiter.take(f"192.0.2.{last}")
            self.assertLessEqual(self.limiter.address_count, 2)
        self.assertGreater(self.limiter.take("192.0.2.1"), 0)

    def test_clock_that_goes_back_is_harmless(self) -> None:
        """
        Time that runs backwards neither adds nor takes.
        """
        self.clock.advance(100)
        self.limiter.take("192.0.2.1")
        self.clock.rightNow = 0.0
        self.assertEqual(self.limiter.take("192.0.2.1"), 0)
