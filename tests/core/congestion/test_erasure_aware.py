"""
Tests for :mod:`resip.core.congestion.erasure_aware`: the controller as a whole, by scenario.

The limits are measured values with 5 % allowance. Seeds are fixed; they stand in the calls.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import geometric_mean

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.congestion.rate import AckReport, RateController
from resip.lab.competitors import BbrController, CubicController
from resip.lab.flows import DATAGRAM_SIZE, WIRE_SIZE, Flow
from resip.lab.link import LinkConditions, LinkModel
from resip.lab.shared_link import SharedLink
from resip.lab.simulator import Simulator
from tests.core.congestion.support import SIZE, make_run

LINK = LinkConditions(rate=20e6, delay=0.05, queue_limit=170, keeps_order=False)


def run(conditions: LinkConditions, seconds: float, *, seed: int = 1) -> SharedLink:
    """
    One endless flow of ours.
    """
    link = SharedLink(conditions, seed=seed)
    link.add()
    link.run(seconds)
    return link


class InterfaceTests(SynchronousTestCase):
    """
    What loss recovery sees.
    """

    def make(self) -> ErasureAwareController:
        """
        A fresh controller.
        """
        return ErasureAwareController(datagram_size=SIZE, random=lambda: 0.5, now=0.0)

    def test_it_starts_with_a_paced_initial_window(self) -> None:
        """
        Before any answer, 32 packets may leave, spread over 50 ms.
        """
        controller: RateController = self.make()
        self.assertEqual(controller.congestion_window, 32 * SIZE)
        self.assertEqual(controller.pacing_rate, 32 * SIZE / 0.05)

    def test_probes_of_the_path_mtu_are_not_loss(self) -> None:
        """
        A lost probe of the path MTU does not raise the floor.
        """
        controller = self.make()
        probe = make_run(0, 20, time=0.0)
        probe.is_probe = True
        run = make_run(20, 20, time=0.01)
        for each in (probe, run):
            controller.on_sent(each, bytes_in_flight=20 * SIZE, now=each.time)
        controller.on_ack(AckReport([run], [], 0.1, 0), now=0.11)
        self.assertEqual(controller.stats["erasure_floor"], 0.0)

    def test_a_report_may_bring_losses_alone(self) -> None:
        """
        When all that was acknowledged belongs to an earlier path, only the losses count.
        """
        controller = self.make()
        run = make_run(0, 20, time=0.0)
        controller.on_sent(run, bytes_in_flight=20 * SIZE, now=0.0)
        controller.on_ack(AckReport([], [run], None, 0), now=0.2)
        self.assertEqual(controller.stats["rounds"], 0)

    def test_another_path_starts_over(self) -> None:
        """
        What was learnt is forgotten with the path, and kept when only an address changed.
        """
        link = run(LINK, 3.0)
        controller = link.flows[0].controller
        assert isinstance(controller, ErasureAwareController)
        rate = controller.stats["rate"]
        controller.on_path_changed(is_known=True, now=link.simulator.now)
        self.assertEqual(controller.stats["rate"], rate)
        controller.on_path_changed(is_known=False, now=link.simulator.now)
        self.assertEqual(controller.stats["state"], "startup")
        link.run(4.0)
        self.assertGreater(link.goodput(start=5.0), 17.0)


class WayBackTests(SynchronousTestCase):
    """
    A queue in which only acknowledgements wait.
    """

    def test_an_upload_does_not_slow_a_download(self) -> None:
        """
        CUBIC keeps half a second of queue on the way back. The way there is filled all the same,
        and nobody is taken for a competitor.
        """
        simulator = Simulator()
        there, back = LinkModel(LINK, 1000), LinkModel(replace(LINK, rate=5e6, queue_limit=200), 1)
        random = Random(2).random
        ours = ErasureAwareController(datagram_size=DATAGRAM_SIZE, random=random, now=simulator.now)
        download = Flow(simulator, there, back, ours)
        upload = Flow(simulator, back, there, CubicController(now=simulator.now))
        for flow in (download, upload):
            flow.start()
        simulator.run_until(simulator.now + 4.0)
        before = download.receiver.delivered
        simulator.run_until(simulator.now + 10.0)
        rate = (download.receiver.delivered - before) * WIRE_SIZE * 8 / 10.0
        self.assertGreater(rate, 17.5e6)
        self.assertEqual(ours.stats["competitions"], 0)


class LossTests(SynchronousTestCase):
    """
    Erasure is not congestion.
    """

    def test_a_clean_link_is_filled_with_a_short_queue(self) -> None:
        """
        Without loss the link is used, and the median queue is a few milliseconds.
        """
        link = run(LINK, 8.0)
        self.assertGreater(link.goodput(start=1.0), 18.6)
        self.assertLess(link.median_queue_delay(start=1.0), 0.005)

    def test_a_third_of_the_packets_may_vanish(self) -> None:
        """
        At 30 % loss the link is still filled.
        """
        self.assertGreater(run(replace(LINK, loss=0.3), 10.0).goodput(start=1.0), 12.7)

    def test_a_third_may_vanish_in_bursts(self) -> None:
        """
        In bursts of five, what few packets of start-up showed needs no further experiment.
        """
        link = run(replace(LINK, loss=0.3, loss_burst=5.0), 8.0, seed=812)
        self.assertGreater(link.goodput(start=4.0), 13.0)

    def test_nine_of_ten_packets_may_vanish(self) -> None:
        """
        At 90 % loss data keeps moving at most of what is possible.
        """
        self.assertGreater(run(replace(LINK, loss=0.9), 15.0).goodput(start=5.0), 1.3)

    def test_jitter_is_neither_queue_nor_loss(self) -> None:
        """
        With round trips of 100 to 300 ms and 10 % loss, 10 Mbit/s are used.
        """
        link = run(replace(LINK, rate=10e6, loss=0.1, jitter=0.1), 10.0)
        self.assertGreater(link.goodput(start=3.0), 7.9)
        flow = link.flows[0]
        self.assertLess(flow.spurious, 0.01 * flow.sent)

    def test_a_step_of_the_loss_is_found_out(self) -> None:
        """
        When the path begins to lose 30 %, an experiment shows that it is erasure.
        """
        link = run(LINK, 4.0)
        link.change(replace(LINK, loss=0.3))
        link.run(5.0)
        self.assertGreater(link.goodput(start=6.0), 12.0)


class CongestionTests(SynchronousTestCase):
    """
    Congestion is congestion.
    """

    def test_a_policer_is_not_overdriven(self) -> None:
        """
        Where nothing queues, less than a tenth of the packets is dropped.
        """
        link = run(replace(LINK, queue_limit=0), 8.0)
        flow = link.flows[0]
        self.assertLess(flow.dropped, 0.1 * flow.sent)
        self.assertGreater(link.goodput(start=1.0), 17.0)

    def test_own_flows_share(self) -> None:
        """
        A second flow soon gets a fair part, in the mean of four seeds.
        """
        ratios = []
        for seed in range(1, 5):
            link = SharedLink(LINK, seed=seed)
            link.add()
            link.add(start=2.0)
            link.run(16.0)
            shares = sorted(link.goodput(flow, start=10.0) for flow in (0, 1))
            ratios.append(shares[1] / shares[0])
        self.assertLess(geometric_mean(ratios), 1.67, ratios)

    def test_cubic_is_neither_starved_nor_starves(self) -> None:
        """
        Against CUBIC that joined a queue of one product 10 s ago, both keep a part.
        """
        link = SharedLink(replace(LINK, queue_limit=200), seed=3)
        link.add()
        link.add(CubicController(now=link.simulator.now), start=3.0)
        link.run(24.0)
        ratio = link.goodput(0, start=13.0) / link.goodput(1, start=13.0)
        self.assertTrue(0.38 < ratio < 2.6, ratio)

    def test_bbr_is_neither_starved_nor_starves(self) -> None:
        """
        Against BBR that joins in a queue of one product, both keep a part.
        """
        link = SharedLink(replace(LINK, queue_limit=200), seed=3)
        link.add()
        link.add(BbrController(now=link.simulator.now), start=3.0)
        link.run(16.0)
        ratio = link.goodput(0, start=6.0) / link.goodput(1, start=6.0)
        self.assertTrue(0.38 < ratio < 2.6, ratio)


class RecoveryTests(SynchronousTestCase):
    """
    Paths change.
    """

    def test_a_slower_link_is_noticed(self) -> None:
        """
        When the rate falls to a quarter, the queue is gone within 3 seconds; then it rises.
        """
        link = run(LINK, 4.0)
        link.change(replace(LINK, rate=5e6))
        link.run(3.0)
        self.assertLess(link.median_queue_delay(start=6.5), 0.04)
        link.change(LINK)
        link.run(4.0)
        self.assertGreater(link.goodput(start=9.0), 17.0)

    def test_a_blackout_leaves_the_model_alone(self) -> None:
        """
        A second after a blackout of 3 seconds the link is full again.
        """
        link = run(LINK, 3.0)
        link.change(replace(LINK, is_down=True))
        link.run(3.0)
        link.change(LINK)
        link.run(2.0)
        self.assertGreater(link.goodput(start=7.0), 17.0)

    def test_a_transfer_starts_fast(self) -> None:
        """
        1 MB arrives within 1.6 times what an omniscient sender needs.
        """
        link = SharedLink(LINK, seed=3)
        flow = link.add(total=800)
        start = link.simulator.now
        link.run(1.0)
        assert flow.finished_at is not None
        self.assertLess(flow.finished_at - start, 0.75)
