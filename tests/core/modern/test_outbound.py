"""
Tests of :mod:`resip.core.modern.outbound`: what goes out when, seen on the line.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.events import DataReceived
from resip.core.modern.outbound import BASE_DATAGRAM_SIZE, BURST
from resip.core.modern.probe_timeout import FIRST_PROBES
from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender, EchoClient, EchoServer
from resip.lab.link import LinkConditions
from tests.support.modern import DOWN, make_modern_pair, open_accepted
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

    def test_probes_are_as_many_as_the_timeout_asks(self) -> None:
        """
        M-36: what little there is to say again goes as often as it takes, not once.
        """
        pair = make_modern_pair(DOWN)
        pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.client.flush()
        before = pair.up.counters.sent
        pair.run_for(1.5)
        self.assertGreaterEqual(pair.up.counters.sent - before, FIRST_PROBES)

    def test_probes_repeat_data_until_it_arrives(self) -> None:
        """
        The far end takes the same piece of a stream from any of them, once.
        """
        pair = make_modern_pair(PLAIN, seed=3)
        channel_id = open_accepted(pair, TCP_TARGET)
        pair.up.conditions = DOWN
        pair.client.session.write(channel_id, bytes(5000), now=pair.now)
        pair.client.flush()
        pair.run_for(0.05)
        pair.up.conditions = PLAIN
        pair.run_for(1.0)
        received = [e for e in pair.server.events if isinstance(e, DataReceived)]
        self.assertEqual(b"".join(event.data for event in received), bytes(5000))

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
        self.assertLess(times[50], 0.06)
        self.assertLess(times[95], 0.09)

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
