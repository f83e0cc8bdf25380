"""
Tests of :mod:`resip.core.modern.recovery`: what happens when nothing is answered.
"""

from __future__ import annotations

import math

from resip.core.modern.probe_timeout import (
    FIRST_PROBES,
    LONG_OUTAGE,
    MAX_PROBES,
    MIN_PROBES,
    PROBE_TIMEOUT_LIMIT,
    SHORT_OUTAGE,
    WAITING_PROBE_TIMEOUT_LIMIT,
    WAITING_TIME,
    ProbeTimeout,
)
from resip.core.modern.recovery import MAX_ACK_DELAY
from resip.core.modern.sent import CopyGroup
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

    def test_nobody_asks_for_copies_of_what_arrived(self) -> None:
        """
        They are given up in silence when their time has come; what somebody waits for is asked
        for when it is due, although an older copy is in flight.
        """
        self.measure()
        copies = [self.send() for _ in range(3)]
        group = CopyGroup()
        for copy in copies:
            copy.group = group
        self.now += RTT
        self.ack((copies[0].first, copies[0].first))
        self.assertEqual((self.fire(), self.recovery.pto_count), (0, 0))
        self.assertIsNone(self.recovery.get_timer())
        first, second = self.send(), self.send()
        first.group = second.group = group = CopyGroup()
        self.now += 0.05
        wanted = self.send()
        self.now += RTT - 0.05
        self.ack((first.first, first.first))
        self.assertEqual(self.recovery.get_timer(), wanted.time + self.recovery.probe_timeout)
        self.assertGreater(self.fire(), 0)

    def test_doubles_up_to_its_limits(self) -> None:
        """
        400 ms for the first seconds, 2 s for the first hour, then 10 s.
        """
        self.measure(200)
        self.send()
        base = RTT + 0.001 + MAX_ACK_DELAY
        patient = math.ceil((SHORT_OUTAGE - 2 * base) / PROBE_TIMEOUT_LIMIT)
        gaps = self.intervals(patient + 6)
        wanted = [base, 2 * base, *[PROBE_TIMEOUT_LIMIT] * patient, 2, 2, 2, 2]
        for gap, expected in zip(gaps, wanted, strict=True):
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
        long silence it is one.
        """
        self.send()
        counts = []
        for _ in range(12):
            counts.append(self.fire())
            self.send()
        self.assertEqual(counts, [FIRST_PROBES] * 9 + [1] * 3)

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

    def test_what_had_copies_is_asked_for_with_less(self) -> None:
        """
        Mostly only the answers got lost, so that the first timeout sends one packet, two at 50 %
        loss; the next one as many as for anything else.
        """
        for lost, counts in ((3, [1, 3]), (5, [2, 4])):
            self.setUp()
            self.measure(50)
            self.recovery.loss.count(lost=[(0, 100 * lost)], acked=1000 - 100 * lost)
            fired = []
            for _ in range(2):
                self.send().group = CopyGroup()
                fired.append(self.fire())
            self.assertEqual(fired, counts)

    def test_older_copies_of_what_arrived_are_no_probes(self) -> None:
        """
        The timeout gives up what is waited for, although such copies are older.
        """
        self.measure()
        copies = [self.send() for _ in range(5)]
        group = CopyGroup()
        for copy in copies:
            copy.group = group
        wanted = self.send()
        self.now += RTT
        self.ack((copies[0].first, copies[0].first))
        self.now = wanted.time + self.recovery.probe_timeout
        self.assertGreater(self.recovery.handle_timer(now=self.now), 0)
        self.assertIn((10 * wanted.first, 10 * wanted.first + 10), self.stream.lost)

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

    def test_where_much_is_lost_three_are_no_outage(self) -> None:
        """
        At 70 % loss it takes ten, else the data stops all the time; no more at any loss.
        """
        for lost in (700, 990):
            self.setUp()
            self.measure()
            self.recovery.loss.count(lost=[(0, lost)], acked=1000 - lost)
            states = []
            for _ in range(10):
                self.send()
                self.fire()
                states.append(self.recovery.is_outage)
            self.assertEqual(states, [False] * 9 + [True])

    def test_what_the_peer_loses_tells(self) -> None:
        """
        Who only receives knows no loss of its own; what is missing of the peer's packets says how
        many probes to send, and that three timeouts are no outage.
        """
        self.measure()
        self.recovery.on_heard(loss=0.9)
        self.send()
        self.assertEqual(self.fire(), MAX_PROBES)
        self.intervals(4)
        self.assertFalse(self.recovery.is_outage)

    def test_a_peer_that_is_heard_is_asked_often(self) -> None:
        """
        While its packets come, probes stay 400 ms apart however many were lost.
        """
        self.measure(200)
        self.send()
        gaps = []
        for _ in range(20):
            self.recovery.on_heard(loss=0.9)
            gaps += self.intervals(1)
        self.assertAlmostEqual(gaps[-1], 0.4, places=3)

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
        controller hears both.
        """
        self.measure()
        late = self.send()
        self.intervals(1)
        self.now += RTT
        report = self.ack((late.first + 1, late.first + 1))
        self.assertEqual([(run.first, run.end) for run in report.lost], [(late.first, late.end)])
        self.assertGreater(self.recovery.loss.rate, 0)
        report = self.ack((late.first, late.first + 1))
        self.assertEqual((self.recovery.loss.rate, report.spurious_packets), (0.0, 1))

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

    def test_a_server_waits(self) -> None:
        """
        It asks once a minute for ten minutes, then it leaves that to its client (M-35); asked to,
        it goes on at once.
        """
        timeout = ProbeTimeout(is_driving=False)
        now, delays = 0.0, []
        while not timeout.is_over:
            timeout.on_timeout(now=now)
            delays.append(timeout.get_delay(0.1))
            now += delays[-1]
        self.assertEqual((max(delays), delays[-1]), (WAITING_PROBE_TIMEOUT_LIMIT, delays[-2]))
        self.assertLess(abs(now - WAITING_TIME), 2 * WAITING_PROBE_TIMEOUT_LIMIT)
        self.assertLess(len(delays), 25)
        timeout.on_heard()
        self.assertFalse(timeout.is_over)

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
