"""
Tests of :mod:`resip.core.modern.recovery`: what happens when nothing is answered.
"""

from __future__ import annotations

from resip.core.modern.recovery import (
    FIRST_PROBES,
    LONG_OUTAGE,
    MAX_ACK_DELAY,
    MAX_PROBES,
    MIN_PROBES,
)
from tests.core.modern.test_recovery import RTT, RecoveryTestCase


class ProbeTimeoutTests(RecoveryTestCase):
    """
    What happens when nothing is answered (M-35, M-36).
    """

    def intervals(self, count: int) -> list[float]:
        """
        The seconds between the next timeouts, one probe being sent at each.
        """
        gaps = []
        for _ in range(count):
            before = self.now
            self.fire()
            self.send()
            gaps.append(self.now - before)
        return gaps

    def test_is_that_of_rfc_9002(self) -> None:
        """
        Section 6.2.1: smoothed, plus four variations or a millisecond, plus the ack delay.
        """
        self.measure(200)
        run = self.send()
        timer = self.recovery.get_timer()
        assert timer is not None
        self.assertAlmostEqual(timer, run.time + RTT + 0.001 + MAX_ACK_DELAY, places=4)

    def test_sending_on_does_not_put_it_off(self) -> None:
        """
        The oldest packet decides, so an application that keeps writing is answered in time.
        """
        self.measure()
        oldest = self.send()
        deadline = self.recovery.get_timer()
        for _ in range(5):
            self.now += 0.01
            self.send()
        self.assertEqual(self.recovery.get_timer(), deadline)
        self.fire()
        self.assertEqual(self.stream.lost[0], (10 * oldest.first, 10 * oldest.first + 10))

    def test_doubles_up_to_its_limits(self) -> None:
        """
        400 ms for the first ten, 2 s for the first hour, then 10 s.
        """
        self.measure(200)
        self.send()
        gaps = self.intervals(14)
        base = RTT + 0.001 + MAX_ACK_DELAY
        for gap, expected in zip(gaps, [base, 2 * base, *[0.4] * 8, 2, 2, 2, 2], strict=True):
            self.assertAlmostEqual(gap, expected, places=3)
        hour = self.intervals(int(LONG_OUTAGE / 2) + 10)
        self.assertEqual({round(gap, 3) for gap in hour}, {2.0, 10.0})
        frequent = sum(gap for gap in gaps + hour if gap < 3)
        self.assertLess(abs(frequent - LONG_OUTAGE), 3)

    def test_a_slow_path_is_not_asked_earlier(self) -> None:
        """
        Where the timeout itself is longer than a limit, it is the limit.
        """
        for _ in range(50):
            run = self.send()
            self.now += 3.0
            self.ack((run.first, run.first))
        self.send()
        self.assertEqual({round(gap, 2) for gap in self.intervals(12)}, {3.03})

    def test_the_first_probes_are_many(self) -> None:
        """
        While next to nothing has arrived the loss is unknown, so ten probes ask at once; in a
        long silence it is two.
        """
        self.send()
        counts = []
        for _ in range(12):
            counts.append(self.fire())
            self.send()
        self.assertEqual(counts, [FIRST_PROBES] * 9 + [MIN_PROBES] * 3)

    def test_as_many_probes_as_the_loss_asks(self) -> None:
        """
        At 60 % loss five probes, so that two arrive; at most sixteen.
        """
        self.measure()
        self.recovery.loss.count(lost=[(0, 300)], acked=200)
        self.send()
        self.assertEqual(self.fire(), 5)
        self.recovery.loss.count(lost=[(1000, 9000)])
        self.assertEqual(self.fire(), MAX_PROBES)

    def test_probes_carry_the_oldest_data(self) -> None:
        """
        M-36: as many of the oldest packets leave flight as there are probes, so that their
        owners send them again; the others only when they are overdue by far.
        """
        self.measure()
        run = self.send(20)
        self.assertEqual(self.fire(), MIN_PROBES)
        self.assertEqual(self.stream.lost, [(10 * run.first, 10 * run.first + 20)])
        self.assertEqual(self.recovery.in_flight.packets, 18)
        self.fire()
        self.assertEqual(self.recovery.in_flight.packets, 0)
        self.assertEqual(self.controller.timeouts, [1, 2])
        self.assertEqual(self.controller.timer_losses, [])

    def test_the_third_says_that_the_path_is_down(self) -> None:
        """
        From then on only probes are to be sent, until anything is acknowledged.
        """
        self.measure()
        self.send()
        states = []
        for _ in range(3):
            self.fire()
            probe = self.send()
            states.append(self.recovery.is_outage)
        self.assertEqual(states, [False, False, True])
        self.now += RTT
        self.ack((probe.first, probe.first))
        self.assertFalse(self.recovery.is_outage)
        self.assertEqual(self.recovery.stats.pto_count_total, 3)
        self.assertLess(self.recovery.probe_timeout, 2 * RTT)

    def test_an_outage_is_not_loss(self) -> None:
        """
        A single lost packet that a probe reveals is measured; those of an outage are not.
        """
        self.measure()
        self.send()
        self.intervals(1)
        self.now += RTT
        self.ack((self.recovery.next_number - 1,) * 2)
        measured = self.recovery.loss.rate
        self.assertGreater(measured, 0)
        self.send(50)
        self.intervals(4)
        self.now += RTT
        self.ack((self.recovery.next_number - 1,) * 2)
        self.measure(1)
        self.assertLess(self.recovery.loss.rate, measured)

    def test_a_late_answer_takes_the_loss_back(self) -> None:
        """
        A packet that a probe overtook counts as lost until it is acknowledged after all; the
        controller was never told.
        """
        self.measure()
        late = self.send()
        self.intervals(1)
        self.now += RTT
        self.ack((late.first + 1, late.first + 1))
        self.assertGreater(self.recovery.loss.rate, 0)
        report = self.ack((late.first, late.first + 1))
        self.assertEqual((self.recovery.loss.rate, report.spurious_packets), (0.0, 0))

    def test_probing_goes_on_when_no_probe_was_sent(self) -> None:
        """
        Without a carrier nothing leaves, but the timer keeps asking.
        """
        self.send()
        for count in range(1, 20):
            self.assertGreater(self.fire(), 0)
            self.assertEqual(self.recovery.pto_count, count)

    def test_something_outside_changed(self) -> None:
        """
        ``probe_now`` asks at once and starts the backoff anew; with nothing awaited it is quiet.
        """
        self.measure()
        self.assertEqual(self.recovery.probe_now(now=self.now), 0)
        self.send()
        self.intervals(30)
        self.now += 0.5
        self.assertEqual(self.recovery.probe_now(now=self.now), MIN_PROBES)
        self.assertEqual(self.recovery.pto_count, 1)
        self.send()
        self.assertLess((self.recovery.get_timer() or 0.0) - self.now, 0.4)

    def test_a_filling_queue_is_not_silence(self) -> None:
        """
        On a slow link each answer of a burst comes later than the one before; no probe is sent.
        """
        per_packet = 0.04
        run = self.send(32)
        for index in range(0, 32, 2):
            arrival = run.time + 0.2 + per_packet * (index + 2)
            timer = self.recovery.get_timer()
            assert timer is not None
            self.assertGreater(timer, arrival)
            self.now = arrival
            self.ack((run.first, run.first + index + 1))
        self.assertEqual(self.recovery.stats.pto_count_total, 0)
