"""
Tests of :mod:`resip.core.modern.outbound`: what goes out when, seen on the line.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.outbound import BASE_DATAGRAM_SIZE, BURST
from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender, EchoClient, EchoServer
from resip.lab.link import LinkConditions
from tests.support.modern import make_modern_pair, open_accepted
from tests.support.pair import PLAIN, TCP_TARGET, UDP_TARGET


class SchedulingTests(SynchronousTestCase):
    """
    Who goes first.
    """

    def test_a_call_hands_out_a_burst(self) -> None:
        """
        A sender with much to say gets round to reading.
        """
        pair = make_modern_pair(PLAIN)
        channel_id = open_accepted(pair, TCP_TARGET)
        session = pair.client.session
        session.write(channel_id, bytes(4_000_000), now=pair.now)
        for _ in range(200):
            for _, packets in session.datagrams_to_send(now=pair.now):
                self.assertLessEqual(len(packets), BURST)
            pair.run_for(0.01)

    def test_the_first_packets_are_small_enough_for_any_path(self) -> None:
        """
        1,200 bytes, before larger ones were tried (M-18).
        """
        pair = make_modern_pair(PLAIN)
        channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.client.session.write(channel_id, bytes(100_000), now=pair.now)
        for _, packets in pair.client.session.datagrams_to_send(now=pair.now):
            self.assertLessEqual(max(map(len, packets)), BASE_DATAGRAM_SIZE)

    def test_a_keystroke_does_not_wait_for_a_bulk_transfer(self) -> None:
        """
        Typing beside an upload has the line's round trip, and a full queue's at most.
        """
        line = LinkConditions(rate=5e6, delay=0.02, queue_limit=30, mtu=1500)
        pair = make_modern_pair(line, keeps_events=False)
        bulk = Target(Protocol.TCP, "bulk", 1)
        BulkReceiver(bulk, size=20_000_000).serve(pair.server)
        BulkSender(bulk, size=20_000_000).start(pair.client)
        EchoServer(TCP_TARGET).serve(pair.server)
        echo = EchoClient(TCP_TARGET, interval=0.1, count=100)
        echo.start(pair.client)
        pair.run_for(12)
        times = sorted(echo.round_trip_times)
        self.assertEqual(len(times), 100)
        self.assertLess(times[50], 0.2)

    def test_channels_share_the_line(self) -> None:
        """
        Of ten transfers none gets much more than another.
        """
        pair = make_modern_pair(LinkConditions(rate=20e6, delay=0.02, mtu=1500), keeps_events=False)
        receivers = []
        for number in range(10):
            target = Target(Protocol.TCP, "x", 1 + number)
            receivers.append(BulkReceiver(target, size=10_000_000))
            receivers[-1].serve(pair.server)
            BulkSender(target, size=10_000_000).start(pair.client)
        pair.run_for(5)
        totals = [receiver.progress.total for receiver in receivers]
        self.assertLess(max(totals), 2 * min(totals))

    def test_datagrams_beside_a_bulk_transfer(self) -> None:
        """
        They are not starved.
        """
        pair = make_modern_pair(LinkConditions(rate=5e6, delay=0.02, mtu=1500), keeps_events=False)
        bulk = Target(Protocol.TCP, "bulk", 1)
        BulkReceiver(bulk, size=20_000_000).serve(pair.server)
        BulkSender(bulk, size=20_000_000).start(pair.client)
        EchoServer(UDP_TARGET).serve(pair.server)
        echo = EchoClient(UDP_TARGET, interval=0.05, count=100)
        echo.start(pair.client)
        pair.run_for(10)
        self.assertGreater(len(echo.round_trip_times), 90)
