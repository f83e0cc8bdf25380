"""
Sessions on networks that slow one carrier down, in virtual time: they find the faster one, come
back, and pay little for looking.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from resip.core.events import ChannelReset
from resip.lab.link import LinkConditions
from resip.services import trials
from resip.services.trials import MAX_TRIAL
from tests.support.carriers import CarrierNetwork, start_bulk
from tests.support.pair import get_events

RATE = 500e3
LINE = LinkConditions(rate=RATE, delay=0.05, queue_limit=10, mtu=1500)
POLICED = replace(LINE, rate=0.3 * RATE, queue_limit=0)
SHAPED = replace(LINE, rate=0.3 * RATE)
#: Seconds of demand before a trial: here the minute is shorter.
TRIAL_INTERVAL = 16.0


class ThrottleTests(SynchronousTestCase):
    """
    A bulk transfer over UDP and TCP, at 500 kbit/s unless something else is said.
    """

    def setUp(self) -> None:
        """
        Shorten the minute.
        """
        self.patch(trials, "TRIAL_INTERVAL", TRIAL_INTERVAL)

    def begin(
        self,
        udp: LinkConditions,
        *,
        tcp: LinkConditions = LINE,
        is_download: bool = False,
        seed: int = 1,
    ) -> None:
        """
        Start it.
        """
        self.network = CarrierNetwork({"udp": udp, "tcp": tcp}, seed=seed)
        self.receiver = start_bulk(self.network, is_download=is_download)

    def change_udp(self, conditions: LinkConditions) -> None:
        """
        Let UDP be better or worse.
        """
        carrier = self.network.carriers["udp"]
        carrier.up.conditions = carrier.down.conditions = conditions

    @property
    def used(self) -> list[str]:
        """
        What came into use, in this order.
        """
        return [name for _, name in self.network.used]

    def rate_over(self, seconds: float) -> float:
        """
        Goodput of the next seconds, bit/s.
        """
        before = self.receiver.progress.total
        self.network.run_for(seconds)
        return (self.receiver.progress.total - before) * 8 / seconds

    def run_until_kept(self, carrier: str) -> None:
        """
        Let time pass until a carrier is in use for longer than a trial; those are the longer, and
        the later, the longer a round trip is.
        """
        limit = self.network.now + 4 * TRIAL_INTERVAL
        kept_since = limit
        while self.network.now < kept_since + MAX_TRIAL:
            self.assertLess(self.network.now, limit, str(self.network.used))
            self.network.run_for(1)
            is_used = self.network.in_use == carrier
            kept_since = min(kept_since, self.network.now) if is_used else limit

    def test_udp_is_slowed_down_and_returns(self) -> None:
        """
        TCP is found after the minute, and UDP as soon after what slowed it down is gone.
        """
        self.begin(POLICED)
        self.run_until_kept("tcp")
        self.assertGreater(self.rate_over(5), 0.7 * RATE)
        self.change_udp(LINE)
        self.run_until_kept("udp")
        self.assertEqual(self.used, ["udp", "tcp", "udp"])
        self.assertGreater(self.rate_over(5), 0.5 * RATE)
        self.assertEqual(get_events(self.network.client, ChannelReset), [])

    def test_other_ways_to_be_slow(self) -> None:
        """
        A long queue, and the other direction.
        """
        for conditions in (SHAPED, POLICED):
            self.begin(conditions, is_download=True)
            self.run_until_kept("tcp")
            self.assertGreater(self.rate_over(2), 0.7 * RATE, str(conditions))

    def test_both_are_slow(self) -> None:
        """
        Then UDP is kept.
        """
        self.begin(SHAPED, tcp=SHAPED)
        while len(self.used) < 3:
            self.network.run_for(1)
        self.assertEqual(self.used, ["udp", "tcp", "udp"])

    def measure_cost(self, *, is_download: bool, seed: int) -> float:
        """
        Compare the time around a trial with that before; returns the seconds lost by it.
        """
        rate = 4 * RATE
        line = replace(LINE, rate=rate, queue_limit=20)
        slow = replace(line, rate=0.1 * rate)
        self.begin(line, tcp=slow, is_download=is_download, seed=seed)
        self.network.run_for(5)
        before = self.rate_over(TRIAL_INTERVAL - 6)
        self.assertEqual((self.used, self.network.probed), (["udp"], []))
        after = self.rate_over(8)
        self.assertEqual(self.used, ["udp", "tcp", "udp"])
        return (1 - after / before) * 8

    def check_cost(self, *, is_download: bool) -> None:
        """
        Trials differ by a tenth of a second; three must keep the limit on average.
        """
        costs = [self.measure_cost(is_download=is_download, seed=seed) for seed in (1, 2, 3)]
        self.assertLess(statistics.mean(costs), 0.02 * 60)

    def test_what_an_upload_pays(self) -> None:
        """
        Nothing for a minute, and then less than two percent of it, were the other carrier slow.
        """
        self.check_cost(is_download=False)

    def test_what_a_download_pays(self) -> None:
        """
        The same.
        """
        self.check_cost(is_download=True)

    def test_a_network_that_flaps(self) -> None:
        """
        One trial a minute is all that it causes, a probe or two with each.
        """
        self.begin(LINE)
        for turn in range(10):
            self.change_udp(POLICED if turn % 2 else LINE)
            self.network.run_for(8)
        limit = int(10 * 8 / TRIAL_INTERVAL)
        self.assertIn(len(self.used), range(2, 2 + 2 * limit))
        self.assertLessEqual(len(self.network.probed), 2 * limit)
