"""
Thin traffic through whole sessions, their first messages included: what it takes and costs.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender, EchoClient, EchoServer
from resip.lab.link import IPV4_UDP_OVERHEAD, LinkConditions
from resip.lab.measurement import percentile
from resip.lab.pair import SimulatedPair
from tests.support.modern import make_modern_pair

LINE = LinkConditions(rate=20e6, delay=0.05, queue_limit=170, mtu=1500)
ECHO = Target(Protocol.TCP, "echo.example", 1)
BULK = Target(Protocol.TCP, "bulk.example", 2)
SEEDS = range(5)


def run_echoes(pair: SimulatedPair, count: int) -> list[float]:
    """
    Round trips of 64 bytes every 100 ms, milliseconds, in order.
    """
    EchoServer(ECHO).serve(pair.server)
    client = EchoClient(ECHO, interval=0.1, size=64, count=count)
    client.start(pair.client)
    pair.run_for(count * 0.1 + 5)
    assert len(client.round_trip_times) == count, pair.seeds
    return [1000 * time for time in client.round_trip_times]


def echo(loss: float, count: int) -> list[float]:
    """
    All round trips of some new sessions.
    """
    line = replace(LINE, loss=loss)
    return [
        time
        for seed in SEEDS
        for time in run_echoes(make_modern_pair(line, seed=seed, keeps_events=False), count)
    ]


class LossTests(SynchronousTestCase):
    """
    Nothing else in the session.
    """

    def test_thirty_percent(self) -> None:
        """
        From the first message on: 105 ms at the median, 130 for 95 %, 210 for 99 %.
        """
        times = echo(0.3, 80)
        self.assertLessEqual(percentile(times, 50), 105)
        self.assertLessEqual(percentile(times, 95), 130)
        self.assertLessEqual(percentile(times, 99), 210)

    def test_the_first_messages(self) -> None:
        """
        A new session does not learn by waiting: its first messages take no longer than later ones.
        """
        for loss in (0.1, 0.3):
            self.assertLessEqual(percentile(echo(loss, 5), 95), 130, loss)

    def test_half(self) -> None:
        """
        At 50 % one message in twenty has to be repeated when its loss is noticed.
        """
        times = echo(0.5, 80)
        self.assertLessEqual(percentile(times, 50), 115)
        self.assertLessEqual(percentile(times, 95), 150)
        self.assertLessEqual(percentile(times, 99), 400)

    def test_copies_end_where_nothing_is_lost(self) -> None:
        """
        After ten seconds a message costs one packet, and what says that it arrived.
        """
        pair = make_modern_pair(LINE, keeps_events=False)
        EchoServer(ECHO).serve(pair.server)
        EchoClient(ECHO, interval=0.1, size=64).start(pair.client)
        pair.run_for(10)
        links = (pair.up.counters, pair.down.counters)
        before = [(link.sent, link.sent_bytes) for link in links]
        pair.run_for(60)
        packets = sum(link.sent - sent for link, (sent, _) in zip(links, before, strict=True))
        size = sum(link.sent_bytes - sent for link, (_, sent) in zip(links, before, strict=True))
        self.assertLess(packets, 1200 * 1.75)
        self.assertLess(size, 1200 * 1.4 * (64 + 30))


class CostTests(SynchronousTestCase):
    """
    Bytes on the wire in both directions, over those of one packet for each message.
    """

    #: 64 bytes with the frame's header, the packet's header and tag, IP and UDP.
    OWN_PACKET = 64 + 6 + 24 + IPV4_UDP_OVERHEAD

    def cost(self, line: LinkConditions) -> float:
        """
        The mean of some sessions, their first ten seconds left out.
        """
        wire = messages = 0
        for seed in SEEDS[:3]:
            pair = make_modern_pair(line, seed=seed, keeps_events=False)
            EchoServer(ECHO).serve(pair.server)
            client = EchoClient(ECHO, interval=0.1, size=64)
            client.start(pair.client)
            pair.run_for(10)
            before = self.count_bytes(pair), client.sent
            pair.run_for(40)
            wire += self.count_bytes(pair) - before[0]
            messages += 2 * (client.sent - before[1])
        return wire / (messages * self.OWN_PACKET)

    def count_bytes(self, pair: SimulatedPair) -> int:
        """
        All that was sent so far.
        """
        counters = pair.up.counters, pair.down.counters
        return sum(one.sent_bytes + one.sent * IPV4_UDP_OVERHEAD for one in counters)

    def test_without_loss(self) -> None:
        """
        An acknowledgement for each answer, none for what is answered, hardly any credit.
        """
        self.assertLess(self.cost(LINE), 1.3)

    def test_thirty_percent(self) -> None:
        """
        Five copies and some acknowledgements, most of which ride on copies; a few more where the
        answers come between the messages, so that nothing else leaves then.
        """
        self.assertLess(self.cost(replace(LINE, loss=0.3)), 6.0)
        self.assertLess(self.cost(replace(LINE, loss=0.3, delay=0.03)), 6.5)


class BulkTests(SynchronousTestCase):
    """
    Beside a transfer of the same session.
    """

    def test_beside_an_own_download(self) -> None:
        """
        The median stays within 25 ms of the line's round trip.
        """
        pair = make_modern_pair(LINE, seed=3, keeps_events=False)
        BulkSender(BULK, size=1 << 28).serve(pair.server)
        BulkReceiver(BULK, size=1 << 28).start(pair.client)
        self.assertLess(percentile(run_echoes(pair, 60), 50), 125)
