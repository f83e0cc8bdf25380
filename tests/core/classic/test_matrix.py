"""
Every byte, once and in order, whatever the network does. Seeds are printed on failure.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.configuration import PROTOTYPE, ClassicConfiguration
from resip.lab.link import LinkConditions
from tests.support.classic import (
    ClassicPair,
    make_classic_pair,
    run_until_closed,
    start_transfers,
)

RATE = 20e6
OUTAGE = 80 * 3600.0
DOWN = LinkConditions(is_down=True, delay=0.05)


def make_conditions(
    *, loss: float = 0.0, duplicate: float = 0.0, reorder: float = 0.0
) -> LinkConditions:
    """
    A line of 20 Mbit/s and 100 ms, with a default queue.
    """
    return LinkConditions(
        rate=RATE, delay=0.05, queue_limit=170, loss=loss, duplicate=duplicate, reorder=reorder
    )


def transfer(
    conditions: LinkConditions, *, channels: int, size: int, seed: int, limit: float
) -> ClassicPair:
    """
    Upload and download on so many channels each, and check every byte.
    """
    pair = make_classic_pair(seed, conditions, keeps_events=False)
    programs = start_transfers(pair, channels, size, seed=seed)
    run_until_closed(pair, programs, limit=limit)
    return pair


class LossMatrixTests(SynchronousTestCase):
    """
    1, 10 and 100 channels in each direction at 0, 30 and 60 % loss in both directions.
    """

    SIZES = ((1, 300_000), (10, 50_000), (100, 5_000))

    def check(self, loss: float, *, limit: float) -> None:
        """
        All sizes, twice.
        """
        for channels, size in self.SIZES:
            for seed in (7, 8):
                pair = transfer(
                    make_conditions(loss=loss),
                    channels=channels,
                    size=size,
                    seed=seed,
                    limit=limit,
                )
                for session in (pair.client_session, pair.server_session):
                    self.assertEqual((session.channel_count, session.packets_held), (0, 0))

    def test_no_loss(self) -> None:
        """
        On a good line it takes a few round trips.
        """
        self.check(0.0, limit=5)

    def test_30_percent(self) -> None:
        """
        At 30 % it takes seconds.
        """
        self.check(0.3, limit=30)

    def test_60_percent(self) -> None:
        """
        At 60 % only one packet in six comes through and is acknowledged, and still.
        """
        self.check(0.6, limit=300)


class DisorderTests(SynchronousTestCase):
    """
    Copies, and packets out of order.
    """

    def test_duplication_and_reordering(self) -> None:
        """
        Neither makes a byte arrive twice or out of its place.
        """
        for loss in (0.0, 0.3):
            for channels, size in ((1, 300_000), (10, 50_000)):
                conditions = make_conditions(loss=loss, duplicate=0.2, reorder=0.2)
                transfer(conditions, channels=channels, size=size, seed=9, limit=60)

    def test_jitter(self) -> None:
        """
        Packets that overtake each other all the time are not taken for lost for ever.
        """
        conditions = LinkConditions(delay=0.02, jitter=0.08, keeps_order=False, loss=0.1)
        transfer(conditions, channels=3, size=100_000, seed=10, limit=60)

    def test_bursts_of_loss(self) -> None:
        """
        Losses in a row cost no more than time.
        """
        conditions = LinkConditions(rate=RATE, delay=0.05, loss=0.3, loss_burst=20)
        transfer(conditions, channels=3, size=100_000, seed=11, limit=60)


class ChangeTests(SynchronousTestCase):
    """
    A network that goes away, and one that moves.
    """

    def test_an_outage_of_eighty_hours(self) -> None:
        """
        Transfers in full swing go on after it, soon, and it costs a bounded number of packets.
        """
        conditions = make_conditions(loss=0.1)
        pair = make_classic_pair(12, conditions, keeps_events=False)
        programs = start_transfers(pair, 3, 500_000)
        pair.run_for(0.5)
        pair.up.conditions = pair.down.conditions = DOWN
        sent_before = pair.up.counters.sent + pair.down.counters.sent
        pair.run_for(OUTAGE)
        sent = pair.up.counters.sent + pair.down.counters.sent - sent_before
        # Two probes and a keep-alive at a time, every two seconds, after an hour every ten. The
        # server has soon forgotten where its client was, and sends nothing.
        self.assertLess(sent, 100_000)
        self.assertGreater(sent, OUTAGE / 10)
        pair.up.conditions = pair.down.conditions = conditions
        took = run_until_closed(pair, programs, limit=30)
        self.assertLess(took, 20)

    def test_a_new_address_every_second(self) -> None:
        """
        Uploads and downloads follow a client that changes its address all the time.
        """
        pair = make_classic_pair(13, make_conditions(loss=0.1), keeps_events=False)
        programs = start_transfers(pair, 3, 2_000_000)

        def change() -> None:
            pair.change_address()
            pair.simulator.call_at(pair.now + 1, change)

        pair.simulator.call_at(pair.now + 1, change)
        run_until_closed(pair, programs, limit=60)
        self.assertGreater(pair.client_address[1], 40_002)

    def test_two_sessions_that_take_each_other_for_the_prototype(self) -> None:
        """
        Every counter-measure at once does no harm where it is not needed.
        """
        configuration = ClassicConfiguration(peer=PROTOTYPE)
        pair = make_classic_pair(
            14, make_conditions(loss=0.2), configuration=configuration, keeps_events=False
        )
        programs = start_transfers(pair, 3, 50_000)
        run_until_closed(pair, programs, limit=120)
