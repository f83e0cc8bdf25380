"""
A session among carriers that fail and come back, in virtual time: nothing is lost, and the way
there and back is short.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from resip.core.events import ChannelReset
from resip.lab.link import LinkConditions
from tests.support.carriers import CarrierNetwork, start_bulk
from tests.support.pair import get_events

LINE = LinkConditions(rate=8e6, delay=0.05, queue_limit=60, mtu=1500)
#: Bytes that show that a carrier carries: more than what was on its way when it came into use.
MOVED = 300_000


class FailoverTests(SynchronousTestCase):
    """
    UDP, TCP and WebSocket at 8 Mbit/s and a round trip of 100 ms.
    """

    def begin(self, *, is_download: bool = False, line: LinkConditions = LINE) -> None:
        """
        A bulk transfer that goes on for ever.
        """
        self.network = CarrierNetwork({"udp": line, "tcp": line, "websocket": line})
        self.receiver = start_bulk(self.network, is_download=is_download)

    def run_until_used(self, carrier: str, *, limit: float) -> float:
        """
        Seconds until a carrier is in use and data arrives by it.
        """
        network = self.network
        start, before = network.now, self.receiver.progress.total
        while network.now < start + limit:
            network.run_for(0.05)
            if network.in_use == carrier and self.receiver.progress.total > before + MOVED:
                return network.now - start
        raise AssertionError(f"{network.in_use} after {limit} s: {network.used}")

    def test_udp_is_blackholed_and_returns(self) -> None:
        """
        It is left within two seconds, returned to within thirty, and the program notices nothing.
        """
        self.begin()
        self.network.run_for(3)
        self.network.carriers["udp"].is_down = True
        self.assertLess(self.run_until_used("tcp", limit=5), 2)
        self.network.run_for(32)
        self.network.carriers["udp"].is_down = False
        self.assertLess(self.run_until_used("udp", limit=40), 30)
        self.assertEqual(get_events(self.network.client, ChannelReset), [])
        self.network.run_for(2)
        self.assertEqual(self.network.in_use, "udp")

    def test_a_download(self) -> None:
        """
        Whoever only receives notices, too: a stream of packets that stops is asked after.
        """
        self.begin(is_download=True)
        self.network.run_for(3)
        self.network.carriers["udp"].is_down = True
        self.assertLess(self.run_until_used("tcp", limit=5), 2.5)

    def test_a_thin_download(self) -> None:
        """
        So does whoever receives little, at whatever moment it stops.
        """
        for moment in (3.0, 3.4, 3.8):
            self.begin(is_download=True, line=replace(LINE, rate=1e6))
            self.network.run_for(moment)
            self.network.carriers["udp"].is_down = True
            self.network.run_for(3)
            self.assertEqual(self.network.in_use, "tcp", f"stopped at {moment} s")

    def test_only_the_last_is_left(self) -> None:
        """
        UDP blocked and TCP not even dialled: the third kind carries it within two seconds.
        """
        self.begin()
        self.network.run_for(3)
        for name in ("udp", "tcp"):
            self.network.carriers[name].is_down = True
        self.assertLess(self.run_until_used("websocket", limit=5), 2.5)

    def test_udp_never_worked(self) -> None:
        """
        A client in a network without UDP is at work within a second.
        """
        network = CarrierNetwork({"udp": LINE, "tcp": LINE})
        network.carriers["udp"].is_down = True
        network.run_for(1)
        self.assertEqual(network.in_use, "tcp")
        self.assertEqual([name for _, name in network.used], ["udp", "tcp"])

    def test_a_connection_that_is_reset(self) -> None:
        """
        With UDP blocked a connection that dies again and again is dialled again and used again.
        """
        self.begin()
        self.network.carriers["udp"].is_down = True
        self.network.run_for(3)
        for _ in range(5):
            self.network.cut("tcp")
            self.assertLess(self.run_until_used("tcp", limit=5), 3)
        self.assertEqual(get_events(self.network.client, ChannelReset), [])

    def test_a_good_path_is_kept(self) -> None:
        """
        Neither loss nor jitter nor pauses of the program make a client leave UDP for long, and
        while UDP works nothing else is probed.
        """
        bad = replace(LINE, jitter=0.05, loss=0.1)
        self.begin(line=bad)
        self.network.run_for(20)
        self.assertEqual([name for _, name in self.network.used], ["udp"])
        self.assertEqual(self.network.probed, [])

    def test_an_outage_of_everything(self) -> None:
        """
        When the network is back, so is the data, whatever carried it before.
        """
        self.begin()
        self.network.run_for(2)
        for carrier in self.network.carriers.values():
            carrier.is_down = True
        self.network.run_for(30)
        probes = len(self.network.probed)
        for carrier in self.network.carriers.values():
            carrier.is_down = False
        before = self.receiver.progress.total
        self.network.run_for(2.5)
        self.assertGreater(self.receiver.progress.total, before)
        self.assertLess(probes, 40)

    def test_retry(self) -> None:
        """
        Whoever knows that UDP is back need not wait for the next question.
        """
        self.begin()
        self.network.run_for(2)
        self.network.carriers["udp"].is_down = True
        self.network.run_for(30)
        self.network.carriers["udp"].is_down = False
        self.network.retry()
        self.network.run_for(0.2)
        self.assertEqual(self.network.in_use, "udp")
