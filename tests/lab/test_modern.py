"""
Whole sessions on simulated links, alone and with others.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender
from resip.lab.competitors import CubicController
from resip.lab.flows import WIRE_SIZE, Flow
from resip.lab.link import LinkConditions, LinkCounters, LinkModel
from resip.lab.modern import make_modern_pair
from resip.lab.pair import SimulatedPair
from resip.lab.simulator import Simulator

TARGET = Target(Protocol.TCP, "bulk.example", 1)
RATE = 2e6
LINK = LinkConditions(rate=RATE, delay=0.02, queue_limit=20, mtu=1500)
#: Everything that a link can do to packets at once.
AWFUL = replace(
    LINK,
    loss=0.1,
    loss_burst=3,
    jitter=0.02,
    keeps_order=False,
    duplicate=0.05,
    reorder=0.05,
    mtu=1300,
)
SIZE = 1 << 30
SECONDS = 2.0


def upload(pair: SimulatedPair, size: int = SIZE) -> BulkReceiver:
    """
    A stream to the server.
    """
    receiver = BulkReceiver(TARGET, size=size)
    receiver.serve(pair.server)
    BulkSender(TARGET, size=size).start(pair.client)
    return receiver


def run_awful(seed: int) -> tuple[LinkCounters, int]:
    """
    What the link counted in a run with an outage and a new address, and how much arrived.
    """
    pair = make_modern_pair(AWFUL, seed=seed)
    receiver = upload(pair)
    pair.run_for(SECONDS)
    pair.up.conditions = replace(AWFUL, is_down=True)
    pair.run_for(0.5)
    pair.up.conditions = AWFUL
    pair.change_address()
    pair.run_for(SECONDS)
    return pair.up.counters, receiver.progress.total


class SeedTests(SynchronousTestCase):
    """
    One seed for everything.
    """

    def test_a_seed_repeats_a_run(self) -> None:
        """
        Losses, jitter, copies and all else are the same for the same seed, and others for another.
        """
        first, again, other = run_awful(7), run_awful(7), run_awful(8)
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)
        for count in (first[0].lost, first[0].duplicated, first[0].reordered, first[0].too_big):
            self.assertGreater(count, 0)

    def test_an_awful_link_delivers_every_byte(self) -> None:
        """
        What arrives is compared byte by byte, to the end of the stream.
        """
        pair = make_modern_pair(AWFUL, seed=9)
        receiver = upload(pair, size=200_000)
        is_done = pair.run_while(lambda: not receiver.is_finished, pair.now + 30)
        self.assertTrue(is_done, pair.seeds)


class SharedLinkTests(SynchronousTestCase):
    """
    Several users of one link.
    """

    def test_two_sessions_share_a_bottleneck(self) -> None:
        """
        Both get through, and together no more than the link carries.
        """
        simulator = Simulator()
        link = LinkModel(LINK, 11)
        receivers = [
            upload(
                make_modern_pair(
                    link, down=replace(LINK, rate=None), simulator=simulator, seed=seed
                )
            )
            for seed in (1, 2)
        ]
        simulator.run_until(simulator.now + 2 * SECONDS)
        totals = [receiver.progress.total for receiver in receivers]
        self.assertGreater(min(totals), max(totals) / 10)
        self.assertLess(sum(totals) * 8, RATE * 2 * SECONDS)

    def test_a_session_shares_with_a_cubic_flow(self) -> None:
        """
        A competitor that is no session crosses the same bottleneck.
        """
        simulator = Simulator()
        link = LinkModel(LINK, 12)
        back = replace(LINK, rate=None)
        receiver = upload(make_modern_pair(link, down=back, simulator=simulator))
        flow = Flow(simulator, link, LinkModel(back, 13), CubicController(now=simulator.now))
        flow.start()
        simulator.run_until(simulator.now + 2 * SECONDS)
        theirs = flow.receiver.delivered * WIRE_SIZE
        self.assertGreater(min(receiver.progress.total, theirs), 0)
        self.assertLess((receiver.progress.total + theirs) * 8, RATE * 2 * SECONDS)
