"""
Every byte, once and in order, whatever the network does. Seeds are printed on failure.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender, ChannelApplication
from resip.lab.link import LinkConditions
from resip.lab.pair import SimulatedPair
from tests.support.modern import make_modern_pair
from tests.support.pair import run_until_true

LINE = LinkConditions(rate=20e6, delay=0.05, queue_limit=170, mtu=1500)
DOWN = LinkConditions(is_down=True, delay=0.05)
OUTAGE = 80 * 3600.0
#: M-35: seconds between probes late in an outage.
PROBE_INTERVAL = 10.0


def start_transfers(pair: SimulatedPair, channels: int, size: int) -> list[ChannelApplication]:
    """
    So many uploads, and as many downloads.
    """
    programs: list[ChannelApplication] = []
    for number in range(channels):
        for is_up in (True, False):
            target = Target(Protocol.TCP, "up" if is_up else "down", 1000 + number)
            sender = BulkSender(target, size=size, seed=number)
            receiver = BulkReceiver(target, size=size, seed=number)
            server, client = (receiver, sender) if is_up else (sender, receiver)
            server.serve(pair.server)
            client.start(pair.client)
            programs += [sender, receiver]
    return programs


def finish(pair: SimulatedPair, programs: list[ChannelApplication], *, limit: float) -> float:
    """
    Run until all channels are closed; returns the virtual seconds that took.
    """
    took = run_until_true(pair, lambda: all(each.is_gone for each in programs), limit=limit)
    assert all(each.is_closed for each in programs), pair.seeds
    return took


def transfer(
    line: LinkConditions, *, channels: int, size: int, seed: int = 7, limit: float
) -> float:
    """
    Upload and download on so many channels each, and check every byte.
    """
    pair = make_modern_pair(line, seed=seed, keeps_events=False)
    return finish(pair, start_transfers(pair, channels, size), limit=limit)


class LossTests(SynchronousTestCase):
    """
    1, 10 and 100 channels in each direction.
    """

    def check(self, loss: float, *, limit: float) -> None:
        """
        All sizes at one loss, in both directions.
        """
        for channels, size in ((1, 300_000), (10, 50_000), (100, 5_000)):
            transfer(replace(LINE, loss=loss), channels=channels, size=size, limit=limit)

    def test_no_loss(self) -> None:
        """
        On a good line it takes a few round trips.
        """
        self.check(0.0, limit=5)

    def test_30_percent(self) -> None:
        """
        At 30 % it takes seconds.
        """
        self.check(0.3, limit=20)

    def test_60_percent(self) -> None:
        """
        At 60 % only one packet in six comes through and is acknowledged, and still.
        """
        self.check(0.6, limit=60)


class DisorderTests(SynchronousTestCase):
    """
    Copies, and packets out of order.
    """

    def test_duplication_and_reordering(self) -> None:
        """
        Neither makes a byte arrive twice or out of its place.
        """
        for loss in (0.0, 0.3):
            line = replace(LINE, loss=loss, duplicate=0.2, reorder=0.2)
            transfer(line, channels=10, size=50_000, limit=30)

    def test_jitter(self) -> None:
        """
        Packets that overtake each other all the time are not taken for lost for ever.
        """
        line = LinkConditions(delay=0.02, jitter=0.08, keeps_order=False, loss=0.1)
        transfer(line, channels=3, size=100_000, limit=30)

    def test_bursts_of_loss(self) -> None:
        """
        Losses in a row cost no more than time.
        """
        transfer(replace(LINE, loss=0.3, loss_burst=20), channels=3, size=100_000, limit=60)


class ChangeTests(SynchronousTestCase):
    """
    A network that goes away, and one that moves.
    """

    def bulk(self, *, changes: bool) -> float:
        """
        Seconds of one large upload at 1 % of loss.
        """
        pair = make_modern_pair(replace(LINE, loss=0.01), seed=3, keeps_events=False)
        target = Target(Protocol.TCP, "x", 1)
        receiver = BulkReceiver(target, size=12_000_000)
        receiver.serve(pair.server)
        sender = BulkSender(target, size=12_000_000)
        sender.start(pair.client)

        def change() -> None:
            pair.change_address()
            pair.simulator.call_at(pair.now + 1, change)

        if changes:
            pair.simulator.call_at(pair.now + 1, change)
        return finish(pair, [sender, receiver], limit=60)

    def test_a_new_address_every_second(self) -> None:
        """
        It costs an upload less than a fifth of its goodput: while a new address is validated the
        acknowledgements go there, too.
        """
        self.assertLess(self.bulk(changes=True), self.bulk(changes=False) / 0.8)

    def test_an_outage_of_eighty_hours(self) -> None:
        """
        It costs a bounded number of packets, and data flows within a probe interval after it.
        """
        line = replace(LINE, loss=0.1)
        pair = make_modern_pair(line, seed=12, keeps_events=False)
        programs = start_transfers(pair, 3, 500_000)
        pair.run_for(0.5)
        pair.up.conditions = pair.down.conditions = DOWN
        before = pair.up.counters.sent + pair.down.counters.sent
        pair.run_for(OUTAGE)
        sent = pair.up.counters.sent + pair.down.counters.sent - before
        looks = 3600 / 2 + (OUTAGE - 3600) / PROBE_INTERVAL
        self.assertLess(sent, 2 * 4 * looks)
        pair.up.conditions = pair.down.conditions = line
        receivers = [each for each in programs if isinstance(each, BulkReceiver)]
        totals = [each.progress.total for each in receivers]
        run_until_true(
            pair,
            lambda: [each.progress.total for each in receivers] != totals,
            limit=PROBE_INTERVAL + 0.5,
        )
        finish(pair, programs, limit=30)
