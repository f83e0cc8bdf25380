"""
Tests of :mod:`resip.core.classic.recovery`.
"""

from __future__ import annotations

from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.recovery import (
    LATE_OUTAGE,
    MAX_LATE_PROBE_INTERVAL,
    MAX_PROBE_INTERVAL,
    OUTAGE_TIMEOUTS,
    PROBES,
    PROBES_DURING_OUTAGE,
    Recovery,
)
from resip.core.classic.sender import SentPacket
from resip.core.congestion.delay import DelayController

START = 1000.0
RTT = 0.1


class Flight:
    """
    A recovery, and packets numbered from 1 on channel 1 that were sent at :data:`START`.
    """

    def __init__(self, count: int = 0, *, channel_id: int = 1) -> None:
        self.recovery = Recovery(DelayController(ack_delay=0.0), ack_delay=0.0)
        self.packets = [SentPacket(channel_id, n, b"%d" % n) for n in range(1, count + 1)]
        for packet in self.packets:
            self.recovery.on_sent(packet, now=START)

    def acknowledge(self, *numbers: int, now: float) -> int:
        """
        The packets with these numbers arrived.
        """
        packets = [self.packets[number - 1] for number in numbers]
        return self.recovery.on_acked(packets, is_app_limited=False, now=now)

    def lost_numbers(self) -> list[int]:
        """
        What waits to be repeated.
        """
        return [packet.number for packet in self.recovery.lost if not packet.is_acked]

    def repeat(self, *, now: float) -> list[int]:
        """
        Send again everything that is lost.
        """
        numbers = []
        while (packet := self.recovery.next_lost()) is not None:
            self.recovery.on_sent(packet, now=now)
            numbers.append(packet.number)
        return numbers


class LossTests(SynchronousTestCase):
    """
    What was overtaken is lost, if it had time to arrive.
    """

    def test_an_acknowledged_packet_is_not_in_flight(self) -> None:
        """
        It gives a sample, and nothing waits any more.
        """
        flight = Flight(2)
        self.assertEqual(flight.acknowledge(1, 2, now=START + RTT), 2)
        self.assertEqual(flight.recovery.in_flight, {})
        self.assertAlmostEqual(flight.recovery.rtt.smoothed, RTT)
        self.assertIsNone(flight.recovery.get_timer())

    def test_acknowledging_nothing(self) -> None:
        """
        It changes nothing.
        """
        flight = Flight(1)
        self.assertEqual(flight.acknowledge(now=START + RTT), 0)
        self.assertFalse(flight.recovery.rtt.has_sample)

    def test_overtaken_packets_are_lost_after_a_while(self) -> None:
        """
        Not at once, since the network may reorder, but when the loss timer says so.
        """
        flight = Flight(3)
        flight.acknowledge(3, now=START + RTT)
        self.assertEqual(flight.lost_numbers(), [])
        deadline = flight.recovery.get_timer()
        assert deadline is not None
        self.assertEqual(flight.recovery.handle_timer(now=deadline - 0.001), 0)
        self.assertEqual(flight.lost_numbers(), [])
        flight.recovery.handle_timer(now=deadline)
        self.assertEqual(flight.lost_numbers(), [1, 2])
        self.assertEqual(flight.repeat(now=deadline), [1, 2])
        self.assertEqual(flight.recovery.retransmissions, 2)

    def test_what_was_not_overtaken_is_not_lost(self) -> None:
        """
        Later packets may still be on their way.
        """
        flight = Flight(3)
        flight.acknowledge(1, now=START + 10)
        self.assertEqual(flight.lost_numbers(), [])

    def test_a_lost_packet_that_arrives_after_all(self) -> None:
        """
        It is not repeated.
        """
        flight = Flight(2)
        flight.acknowledge(2, now=START + 10)
        self.assertEqual(flight.lost_numbers(), [])
        flight.recovery.declare_all_lost(now=START + 10)
        flight.acknowledge(1, now=START + 10)
        self.assertIsNone(flight.recovery.next_lost())

    def test_a_repetition_gives_no_sample(self) -> None:
        """
        Nobody knows which of the transmissions was acknowledged.
        """
        flight = Flight(1)
        flight.recovery.declare_all_lost(now=START + 1)
        flight.repeat(now=START + 1)
        flight.acknowledge(1, now=START + 5)
        self.assertFalse(flight.recovery.rtt.has_sample)

    def test_an_acknowledgement_too_early_for_the_repetition(self) -> None:
        """
        It is for the first transmission, and so overtakes nothing that was sent since.
        """
        flight = Flight(3)
        flight.acknowledge(3, now=START + RTT)
        flight.recovery.declare_all_lost(now=START + RTT)
        flight.repeat(now=START + 1)
        flight.acknowledge(2, now=START + 1 + RTT / 10)
        flight.recovery.detect_losses(now=START + 50)
        self.assertEqual(flight.lost_numbers(), [])

    def test_commands_are_repeated_first(self) -> None:
        """
        While a start is lost its channel's data is refused.
        """
        flight = Flight(2)
        command = SentPacket(0, 9, b"start")
        flight.recovery.on_sent(command, now=START)
        flight.recovery.declare_all_lost(now=START + 1)
        self.assertEqual(flight.lost_numbers(), [9, 1, 2])

    def test_forgotten_packets_are_not_repeated(self) -> None:
        """
        Nobody waits for them.
        """
        flight = Flight(2)
        flight.recovery.forget(flight.packets)
        flight.recovery.declare_all_lost(now=START + 1)
        self.assertEqual(flight.repeat(now=START + 1), [])
        self.assertIsNone(flight.recovery.get_timer())

    def test_suspended_packets_come_back_when_asked_for(self) -> None:
        """
        Until then they are neither in flight nor lost; one of them may be asked about.
        """
        flight = Flight(3)
        flight.recovery.suspend(flight.packets)
        self.assertEqual((flight.recovery.in_flight, flight.lost_numbers()), ({}, []))
        flight.recovery.requeue(flight.packets[1:])
        flight.recovery.requeue_first(flight.packets[0])
        self.assertEqual(flight.repeat(now=START + 1), [1, 2, 3])

    def test_requeued_twice_is_sent_once(self) -> None:
        """
        A packet that stands twice among the lost ones goes out once.
        """
        flight = Flight(1)
        flight.recovery.requeue(flight.packets)
        flight.recovery.requeue(flight.packets)
        self.assertEqual(flight.repeat(now=START + 1), [1])


class ProbeTests(SynchronousTestCase):
    """
    When nothing is acknowledged at all.
    """

    def next_probe(self, flight: Flight) -> tuple[float, int]:
        """
        When the next timeout fires, and how many probes it allows; they are sent.
        """
        deadline = flight.recovery.get_timer()
        assert deadline is not None
        count = flight.recovery.handle_timer(now=deadline)
        for _ in range(count):
            packet = flight.recovery.next_lost()
            assert packet is not None
            flight.recovery.lost.popleft()
            flight.recovery.on_sent(packet, now=deadline)
        return deadline, count

    def test_a_timeout_asks_with_some_packets(self) -> None:
        """
        Everything counts as lost, but only a few go out before an answer comes.
        """
        flight = Flight(50)
        _, count = self.next_probe(flight)
        self.assertEqual(count, PROBES)
        self.assertTrue(flight.recovery.is_probing)
        self.assertEqual(len(flight.recovery.in_flight), PROBES)

    def test_a_timer_that_fires_early_does_nothing(self) -> None:
        """
        Neither does one without a deadline.
        """
        flight = Flight(1)
        self.assertEqual(flight.recovery.handle_timer(now=START), 0)
        self.assertEqual(Flight().recovery.handle_timer(now=START), 0)

    def test_an_outage_is_probed_with_less(self) -> None:
        """
        After some timeouts fewer packets go out, in intervals that grow to a limit.
        """
        flight = Flight(50)
        probes = [self.next_probe(flight) for _ in range(30)]
        counts = [count for _, count in probes]
        self.assertEqual(set(counts[:OUTAGE_TIMEOUTS]), {PROBES})
        self.assertEqual(set(counts[OUTAGE_TIMEOUTS:]), {PROBES_DURING_OUTAGE})
        pauses = [b - a for (a, _), (b, _) in pairwise(probes)]
        self.assertEqual(sorted(pauses), pauses)
        self.assertAlmostEqual(pauses[-1], MAX_PROBE_INTERVAL)

    def test_a_long_outage_is_probed_less_often(self) -> None:
        """
        After an hour the limit is higher, and eighty hours cost a bounded number of packets.
        """
        flight = Flight(50)
        sent, deadline = 0, START
        while deadline < START + 80 * 3600:
            deadline, count = self.next_probe(flight)
            sent += count
        quick = LATE_OUTAGE / MAX_PROBE_INTERVAL
        late = (80 * 3600 - LATE_OUTAGE) / MAX_LATE_PROBE_INTERVAL
        self.assertLess(sent, PROBES_DURING_OUTAGE * (quick + late) * 1.05)
        self.assertGreater(sent, PROBES_DURING_OUTAGE * (quick + late) * 0.9)

    def test_an_answer_ends_the_probing(self) -> None:
        """
        The next timeout is as quick as the first.
        """
        flight = Flight(50)
        for _ in range(20):
            last, _ = self.next_probe(flight)
        flight.acknowledge(next(iter(flight.recovery.in_flight.values())).number, now=last + 0.1)
        self.assertEqual(flight.recovery.probe_count, 0)
        deadline = flight.recovery.get_timer()
        assert deadline is not None
        self.assertLess(deadline, last + MAX_PROBE_INTERVAL)

    def test_restarting_forgets_the_outage(self) -> None:
        """
        Whoever knows that the path may work again does not wait out the interval.
        """
        flight = Flight(1)
        for _ in range(20):
            last, _ = self.next_probe(flight)
        flight.recovery.restart_probing(now=last)
        deadline, count = self.next_probe(flight)
        self.assertLess(deadline - last, MAX_PROBE_INTERVAL)
        self.assertEqual(count, 1)

    def test_a_slow_path_is_given_its_time(self) -> None:
        """
        A round trip longer than the limit is not probed sooner than it can answer.
        """
        flight = Flight(1)
        flight.acknowledge(1, now=START + 5)
        packet = SentPacket(1, 2, b".")
        flight.recovery.on_sent(packet, now=START + 10)
        deadline = flight.recovery.get_timer()
        assert deadline is not None
        self.assertGreaterEqual(deadline, START + 15)
