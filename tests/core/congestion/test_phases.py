"""
Tests for :mod:`resip.core.congestion.phases`.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.phases import MAX_PENDING_PHASES, BurstMeter, PhaseLog, State
from tests.core.congestion.support import make_run


class PhaseLogTests(SynchronousTestCase):
    """
    Which phases are known to the end.
    """

    def test_a_phase_is_resolved_when_it_ended_and_all_packets_are_known(self) -> None:
        """
        A phase is reported once, after its end, when its last packet is acked or lost.
        """
        log = PhaseLog(now=0.0)
        first = log.current
        first.sent, first.acked = 3, 2
        log.enter(State.CRUISE, rate=1.0, now=1.0)
        self.assertEqual(log.take_resolved(), [])
        first.lost = 1
        self.assertEqual(log.take_resolved(), [first])
        self.assertEqual(log.take_resolved(), [])
        self.assertAlmostEqual(first.loss, 1 / 3)

    def test_expired_packets_do_not_hold_a_phase_up(self) -> None:
        """
        A phase whose last packets expired is settled with those that are known.
        """
        log = PhaseLog(now=0.0)
        first = log.current
        first.sent, first.acked = 3, 2
        log.enter(State.CRUISE, rate=1.0, now=1.0)
        log.settle(before=1.0)
        self.assertEqual(log.take_resolved(), [])
        log.settle(before=2.0)
        self.assertEqual(log.take_resolved(), [first])

    def test_abandoned_phases_are_never_reported(self) -> None:
        """
        After an outage nothing is concluded from earlier phases.
        """
        log = PhaseLog(now=0.0)
        log.enter(State.CRUISE, rate=1.0, now=1.0)
        log.abandon()
        self.assertEqual(log.take_resolved(), [])

    def test_unresolved_phases_are_limited(self) -> None:
        """
        When packets are never resolved, only the newest phases are followed.
        """
        log = PhaseLog(now=0.0)
        phases = [log.enter(State.CRUISE, rate=1.0, now=float(n)) for n in range(100)]
        for phase in phases:
            phase.sent = 1
        log.enter(State.UP, rate=1.0, now=100.0)
        for phase in phases:
            phase.acked = 1
        self.assertEqual(log.take_resolved(), phases[-MAX_PENDING_PHASES:])


class BurstMeterTests(SynchronousTestCase):
    """
    How losses cluster.
    """

    def test_independent_losses_do_not_inflate(self) -> None:
        """
        For independent losses the factor is about 1.
        """
        random = Random(5).random
        meter = BurstMeter()
        meter.add(make_run(n, 1, time=0.0) for n in range(5000) if random() < 0.3)
        self.assertLess(meter.inflation(0.3), 1.25)

    def test_bursts_inflate(self) -> None:
        """
        Bursts of five inflate the variance several times.
        """
        meter = BurstMeter()
        meter.add(make_run(20 * n, 5, time=0.0) for n in range(100))
        self.assertGreater(meter.inflation(0.25), 4)

    def test_few_losses_are_taken_for_bursts(self) -> None:
        """
        Before ten losses the factor is a cautious guess.
        """
        self.assertEqual(BurstMeter().inflation(0.0), BurstMeter.GUESS)
        self.assertEqual(BurstMeter().stretch, 1)

    def test_bursts_are_longer_than_those_of_as_many_independent_losses(self) -> None:
        """
        A queue that overflows by half loses pairs by chance, even if the floor is 0.
        """
        random = Random(5).random
        meter = BurstMeter()
        for number in range(5000):
            if random() < 0.5:
                meter.add([make_run(number, 1, time=0.0)])
            else:
                meter.add_arrived(1)
        self.assertAlmostEqual(meter.stretch, 1, places=1)
        self.assertGreater(meter.inflation(0.0), 2.5)

    def test_bursts_of_erasure_are_stretched(self) -> None:
        """
        At 30 %, bursts of five are 3.5 times as long as chance makes them.
        """
        meter = BurstMeter()
        for number in range(0, 5000, 20):
            meter.add([make_run(number, 5, time=0.0)])
            meter.add_arrived(12)
        self.assertAlmostEqual(meter.stretch, 3.5, places=1)
