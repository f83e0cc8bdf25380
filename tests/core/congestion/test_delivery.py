"""
Tests for :mod:`resip.core.congestion.delivery`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.delivery import DeliverySampler, RateSample, RoundMeter, served_bytes
from resip.core.congestion.phases import Phase, State
from resip.core.modern.sent import SentRun
from tests.core.congestion.support import SIZE, make_run, make_sample

PHASE = Phase(State.CRUISE, rate=0.0, now=0.0)


class ServedBytesTests(SynchronousTestCase):
    """
    How much progress counts as service.
    """

    def test_progress_counts_as_far_as_the_floor_explains_it(self) -> None:
        """
        With a floor of a half, twice the deliveries are service.
        """
        served = served_bytes(100_000, 50_000, floor=0.5, packet=SIZE)
        self.assertEqual(served, 100_000)

    def test_unexplained_progress_does_not_count(self) -> None:
        """
        Without a floor, what did not arrive was not served.
        """
        self.assertEqual(served_bytes(100_000, 50_000, floor=0.0, packet=SIZE), 50_000)

    def test_late_packets_count(self) -> None:
        """
        Deliveries above the progress, of packets that were overtaken, are service.
        """
        self.assertEqual(served_bytes(10_000, 50_000, floor=0.0, packet=SIZE), 50_000)


class DeliverySamplerTests(SynchronousTestCase):
    """
    Samples from snapshots.
    """

    def deliver(self, lost: frozenset[int] = frozenset(), floor: float = 0.0) -> list[RateSample]:
        """
        Send a packet each 10 ms over 100 ms of path for 1 s, and return the samples.
        """
        sampler = DeliverySampler(now=0.0)
        runs: list[SentRun] = []
        samples = []
        for tick in range(100):
            now = tick / 100
            if tick >= 10 and tick - 10 not in lost:
                sample = sampler.on_ack(
                    [runs[tick - 10]], floor=floor, shortest=0.1, jitter=0.0, now=now
                )
                samples += [sample] if sample else []
            runs.append(make_run(tick, 1, time=now))
            sampler.on_sent(runs[-1], PHASE, is_idle=tick == 0, is_app_limited=False, now=now)
        return samples

    def test_a_paced_flow_is_measured_at_its_rate(self) -> None:
        """
        A packet each 10 ms gives 100 packets a second.
        """
        sample = self.deliver()[-1]
        self.assertAlmostEqual(sample.delivered_rate, 100 * SIZE, delta=SIZE)
        self.assertAlmostEqual(sample.served_rate, 100 * SIZE, delta=SIZE)

    def test_erasures_reduce_deliveries_but_not_service(self) -> None:
        """
        When every fifth packet is erased and the floor knows, service stays what it was.
        """
        sample = self.deliver(frozenset(range(0, 100, 5)), floor=0.2)[-1]
        self.assertAlmostEqual(sample.delivered_rate, 80 * SIZE, delta=8 * SIZE)
        self.assertAlmostEqual(sample.served_rate, 100 * SIZE, delta=8 * SIZE)

    def test_packets_from_before_a_restart_give_no_sample(self) -> None:
        """
        After an outage, the packets sent before it do not measure it.
        """
        sampler = DeliverySampler(now=0.0)
        run = make_run(0, 4, time=0.0)
        sampler.on_sent(run, PHASE, is_idle=True, is_app_limited=False, now=0.0)
        sampler.restart(now=5.0)
        sample = sampler.on_ack([run], floor=0.0, shortest=0.1, jitter=0.0, now=5.0)
        self.assertIsNone(sample)
        self.assertEqual(sampler.delivered, 4 * SIZE)


class RoundMeterTests(SynchronousTestCase):
    """
    Rounds.
    """

    def test_a_round_waits_for_its_end_and_for_enough_packets(self) -> None:
        """
        A round ends when its last packet is acknowledged and 8 packets were delivered.
        """
        meter = RoundMeter(now=0.0)
        meter.restart(end_number=10, now=0.0)
        sample = make_sample(PHASE, served=100.0, delivered=50.0)
        meter.add(7, 1, sample)
        self.assertFalse(meter.end(largest=10, next_number=20, now=1.0))
        meter.add(1, 0, sample)
        self.assertFalse(meter.end(largest=9, next_number=20, now=1.0))
        self.assertTrue(meter.end(largest=10, next_number=20, now=1.0))
        self.assertEqual((meter.served, meter.delivered), (100.0, 50.0))
        self.assertEqual((meter.packets, meter.lost), (9, 1))

    def test_a_round_has_a_mean_and_a_best_sample(self) -> None:
        """
        The best of one round says nothing about the next.
        """
        meter = RoundMeter(now=0.0)
        for now, rates, mean, best in (
            (1.0, (300.0, 100.0), 200.0, 300.0),
            (2.0, (50.0, 70.0), 60.0, 70.0),
        ):
            for rate in rates:
                meter.add(5, 0, make_sample(PHASE, served=rate))
            self.assertTrue(meter.end(largest=20, next_number=20, now=now))
            self.assertEqual((meter.served, meter.best), (mean, best))
