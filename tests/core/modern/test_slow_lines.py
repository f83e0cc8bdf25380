"""
Whole sessions on lines so slow that the first packets fill their queue. Seeds are printed on
failure.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.conditions import ECHO, start_bulk
from resip.lab.applications import EchoClient, EchoServer
from resip.lab.link import LinkConditions
from resip.lab.pair import SimulatedPair
from tests.support.modern import make_modern_pair

RATE = 1e6
#: A slow satellite, with a queue of one product.
LINE = LinkConditions(rate=RATE, delay=0.3, queue_limit=50, mtu=1500)
SEEDS = (1, 2)


def get_share(pair: SimulatedPair, *, is_up: bool, warm_up: float) -> float:
    """
    What a stream that begins now gets of the line, from some seconds after its start on.
    """
    receiver = start_bulk(pair, is_up=is_up)
    since = pair.now + warm_up
    pair.run_until(since + 8.0)
    return receiver.progress.get_goodput(since, since + 8.0) / RATE


class SlowLineTests(SynchronousTestCase):
    """
    Bulk transfers at 1 Mbit/s and a round trip of 600 ms.
    """

    def test_the_first_packets_show_the_rate(self) -> None:
        """
        Start-up ends with their queue, in half of a round trip; it has found what the line carries
        all the same.
        """
        for is_up in (True, False):
            for seed in SEEDS:
                pair = make_modern_pair(LINE, seed=seed, keeps_events=False)
                share = get_share(pair, is_up=is_up, warm_up=3.0)
                self.assertGreater(share, 0.8, f"{is_up=}, seed {seed}")

    def test_echoes_are_not_taken_for_full_packets(self) -> None:
        """
        Many small ones a second are no rate: a transfer that follows does not begin with a flood
        and the losses of it.
        """
        for seed in SEEDS:
            pair = make_modern_pair(LINE, seed=seed, keeps_events=False)
            EchoServer(ECHO).serve(pair.server)
            EchoClient(ECHO, interval=0.1).start(pair.client)
            pair.run_for(8.0)
            share = get_share(pair, is_up=True, warm_up=8.0)
            self.assertGreater(share, 0.75, f"seed {seed}")
