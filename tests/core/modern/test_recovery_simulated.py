"""
:class:`resip.core.modern.recovery.LossRecovery` over simulated links, for up to hours.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.in_flight import IDLE_MEMORY_LIMIT, MEMORY_LIMIT
from resip.core.modern.probe_timeout import MAX_PROBES
from resip.lab.link import LinkConditions
from tests.core.modern.transfer import Transfer

#: What acknowledgements come back over when only the way there is of interest.
CLEAN = LinkConditions(delay=0.02)


class SimulatedLossTests(SynchronousTestCase):
    """
    Everything arrives and is resolved, and what is lost is told from what is late.
    """

    def assert_resolved(self, transfer: Transfer) -> None:
        """
        All data was acknowledged and nothing is waited for or remembered.
        """
        recovery = transfer.recovery
        self.assertTrue(transfer.backlog.is_done)
        self.assertEqual((recovery.in_flight.packets, recovery.in_flight.bytes), (0, 0))
        self.assertIsNone(recovery.get_timer())
        self.assertLessEqual(recovery.in_flight.remembered_runs, 2 * IDLE_MEMORY_LIMIT)
        self.assertLessEqual(transfer.sender.most_remembered, 2 * MEMORY_LIMIT)

    def test_random_loss_in_both_directions(self) -> None:
        """
        At 0 to 50 % each way all is delivered, the loss is measured, and next to nothing of it
        was spurious.
        """
        for loss in (0.0, 0.01, 0.1, 0.3, 0.5):
            transfer = Transfer(3000, LinkConditions(delay=0.05, loss=loss))
            transfer.finish(120.0)
            self.assert_resolved(transfer)
            stats, counters = transfer.recovery.stats, transfer.there.counters
            self.assertLessEqual(abs(transfer.recovery.loss.rate - loss), 0.1)
            self.assertLessEqual(stats.packets_sent, 3000 / (1 - loss) * 1.05 + 20)
            given_up = stats.packets_lost + stats.packets_expired
            self.assertLessEqual(abs(given_up - counters.lost), 0.02 * counters.sent + 3)

    def test_bursty_loss(self) -> None:
        """
        Losses of five packets in a row are recovered, and their length is measured.
        """
        transfer = Transfer(5000, LinkConditions(delay=0.05, loss=0.2, loss_burst=5), back=CLEAN)
        transfer.finish(120.0)
        self.assert_resolved(transfer)
        self.assertGreater(transfer.recovery.loss.burst_length, 3.0)
        self.assertLess(transfer.recovery.loss.burst_length, 7.0)

    def test_jitter_is_not_loss(self) -> None:
        """
        With 100 to 300 ms of one-way delay, drawn for each packet, less than 1 % of the packets
        are taken for lost wrongly, and what 10 % real loss took is found.
        """
        for loss in (0.0, 0.1):
            conditions = LinkConditions(delay=0.1, jitter=0.2, keeps_order=False, loss=loss)
            transfer = Transfer(8000, conditions, LinkConditions(delay=0.1), window=1000)
            transfer.finish(120.0)
            self.assert_resolved(transfer)
            stats = transfer.recovery.stats
            self.assertLess(stats.spurious_losses, 0.01 * stats.packets_sent)
            self.assertLess(abs(stats.packets_lost - loss * stats.packets_sent), 0.03 * 8000)
            self.assertLess(stats.pto_count_total, 5)

    def test_rare_reordering_is_learnt(self) -> None:
        """
        Single packets that are held back 20 ms make the window grow, so the first few are taken
        for lost and the others are not.
        """
        conditions = LinkConditions(delay=0.02, reorder=0.02, reorder_delay=0.02)
        transfer = Transfer(8000, conditions, LinkConditions(delay=0.02))
        transfer.finish(60.0)
        self.assert_resolved(transfer)
        self.assertLess(transfer.recovery.stats.spurious_losses, 20)

    def test_duplicates_are_harmless(self) -> None:
        """
        When each packet and each acknowledgement arrives twice, out of order, nothing is lost.
        """
        conditions = LinkConditions(delay=0.03, jitter=0.005, duplicate=1.0)
        transfer = Transfer(3000, conditions)
        transfer.finish(60.0)
        self.assert_resolved(transfer)
        stats = transfer.recovery.stats
        self.assertEqual((stats.packets_sent, stats.packets_acked), (3000, 3000))

    def test_a_lost_tail_is_found_by_a_probe(self) -> None:
        """
        When the last packets vanish the transfer takes one probe timeout longer, not more.
        """
        transfer = Transfer(100, LinkConditions(delay=0.05))
        simulator = transfer.simulator
        simulator.run_while(lambda: transfer.recovery.next_number < 90, simulator.now + 5)
        transfer.there.conditions = LinkConditions(is_down=True)
        simulator.run_while(lambda: transfer.recovery.next_number < 100, simulator.now + 5)
        transfer.there.conditions = LinkConditions(delay=0.05)
        self.assertLess(transfer.finish(10.0), 0.6)
        self.assert_resolved(transfer)
        self.assertEqual(transfer.recovery.stats.pto_count_total, 1)

    def test_one_packet_at_a_time(self) -> None:
        """
        Thin traffic is never overtaken; its losses are found by timeouts, and measured.
        """
        transfer = Transfer(600, LinkConditions(delay=0.02, loss=0.3), CLEAN, window=1)
        transfer.finish(300.0)
        self.assert_resolved(transfer)
        self.assertLess(abs(transfer.recovery.loss.rate - 0.3), 0.12)


class SimulatedOutageTests(SynchronousTestCase):
    """
    Outages of any length cost little, are noticed when they end, and leave nothing behind.
    """

    def cut(self, transfer: Transfer, seconds: float) -> float:
        """
        Take the link down for a while; return when it is up again.
        """
        simulator = transfer.simulator
        simulator.run_until(simulator.now + 1.0)
        conditions = transfer.there.conditions
        transfer.there.conditions = LinkConditions(is_down=True)
        simulator.run_until(simulator.now + seconds)
        transfer.there.conditions = conditions
        return simulator.now

    def first_answer(self, transfer: Transfer, since: float) -> float:
        """
        Seconds until the first acknowledgement of something new.
        """
        simulator = transfer.simulator
        answers = transfer.sender.answer_times
        simulator.run_while(lambda: not answers or answers[-1] < since, since + 60)
        return answers[-1] - since

    def test_short_ones_end_at_once(self) -> None:
        """
        Up to three seconds, the first probe after the outage goes out within 400 ms.
        """
        for seconds in (0.5, 1.0, 3.0):
            transfer = Transfer(20_000, LinkConditions(delay=0.025))
            since = self.cut(transfer, seconds)
            self.assertLess(self.first_answer(transfer, since), 0.4 + 0.05 + 0.01)
            self.assertFalse(transfer.recovery.is_outage)
            transfer.finish(60.0)
            self.assertTrue(transfer.backlog.is_done)

    def test_hours_cost_a_probe_now_and_then(self) -> None:
        """
        In five hours the probes are those of M-35, nothing grows, and ten seconds later the
        peer has answered and all that was in flight arrives.
        """
        transfer = Transfer(20_000, LinkConditions(delay=0.025))
        since = self.cut(transfer, 5 * 3600.0)
        stats = transfer.recovery.stats
        timeouts = 15 / 0.4 + 3585 / 2 + 4 * 3600 / 10
        self.assertLess(abs(stats.pto_count_total - timeouts), 15)
        self.assertLess(stats.packets_sent, 2 * timeouts + 2000)
        self.assertLessEqual(transfer.recovery.in_flight.packets, MAX_PROBES)
        self.assertLessEqual(transfer.recovery.in_flight.remembered_runs, 2 * MEMORY_LIMIT)
        self.assertLess(self.first_answer(transfer, since), 10.1)
        self.assertEqual(transfer.recovery.loss.rate, 0.0)
        transfer.finish(60.0)
        self.assertTrue(transfer.backlog.is_done)

    def test_an_outage_on_a_lossy_link(self) -> None:
        """
        With 30 % loss each way the probes are so many that the end is noticed within a second.
        """
        for seed in range(10):
            transfer = Transfer(20_000, LinkConditions(delay=0.025, loss=0.3), seed=seed)
            since = self.cut(transfer, 2.0)
            self.assertLess(self.first_answer(transfer, since), 1.0)

    def test_a_round_trip_that_grows_beyond_all_timeouts(self) -> None:
        """
        When 50 ms become 3 s, the late answers end the outage and the new round trip is learnt.
        """
        transfer = Transfer(2_000, LinkConditions(delay=0.025), CLEAN)
        transfer.simulator.run_until(transfer.simulator.now + 1.0)
        transfer.there.conditions = LinkConditions(delay=3.0)
        transfer.finish(120.0)
        self.assertTrue(transfer.backlog.is_done)
        self.assertGreater(transfer.recovery.rtt.smoothed, 2.5)
        self.assertFalse(transfer.recovery.is_outage)
