"""
:class:`resip.core.modern.recovery.LossRecovery` over simulated links, for up to hours.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from struct import pack, unpack_from

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.in_flight import IDLE_MEMORY_LIMIT, MEMORY_LIMIT
from resip.core.modern.probe_timeout import MAX_PROBES
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.sent import SentRun
from resip.core.rangeset import RangeSet
from resip.lab.link import LinkConditions, LinkModel
from resip.lab.simulator import Simulator
from tests.core.modern.test_recovery import FixedWindow

PACKET_SIZE = 1200
BURST = 8
ACK_DELAY = 0.005
MAX_RANGES = 65
#: What acknowledgements come back over when only the way there is of interest.
CLEAN = LinkConditions(delay=0.02)


class Backlog:
    """
    A stream of so many packets; offsets count packets.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.acked = RangeSet()
        self.acked_count = 0
        self._next = 0
        self._lost: list[int] = []

    @property
    def is_done(self) -> bool:
        """
        Whether all of it was acknowledged.
        """
        return self.acked_count == self.total

    def on_acked(self, start: int, end: int) -> None:
        """
        Copies may arrive more than once.
        """
        for offset in range(start, end):
            if offset not in self.acked:
                self.acked.add(offset)
                self.acked_count += 1

    def has_arrived(self, start: int, end: int) -> bool:
        """
        Whether all of the range was acknowledged.
        """
        return all(offset in self.acked for offset in range(start, end))

    def on_lost(self, start: int, end: int) -> None:
        """
        To be sent again, before anything new.
        """
        self._lost += range(start, end)

    def take(self, limit: int) -> tuple[int, int] | None:
        """
        The next range to send.
        """
        while self._lost:
            offset = self._lost.pop(0)
            if offset not in self.acked:
                return offset, offset + 1
        if self._next == self.total:
            return None
        start = self._next
        self._next = min(self.total, start + limit)
        return start, self._next


class Receiver:
    """
    Acknowledges every second packet, at once after a gap, and otherwise after 5 ms.
    """

    def __init__(self, simulator: Simulator, send: Callable[[bytes], None]) -> None:
        self._simulator = simulator
        self._send = send
        self._numbers = RangeSet()
        self._unacknowledged = 0
        self._largest_time = 0.0

    def receive(self, packet: bytes) -> None:
        """
        A packet arrived.
        """
        (number,) = unpack_from(">Q", packet)
        if number in self._numbers:
            return
        last = self._numbers.last
        is_in_order = last is None or number == last + 1
        if last is None or number > last:
            self._largest_time = self._simulator.now
        self._numbers.add(number)
        self._unacknowledged += 1
        if self._unacknowledged >= 2 or not is_in_order:
            self._acknowledge()
        else:
            self._simulator.call_at(self._simulator.now + ACK_DELAY, self._acknowledge)

    def _acknowledge(self) -> None:
        if not self._unacknowledged:
            return
        self._unacknowledged = 0
        ranges = list(islice(reversed(self._numbers), MAX_RANGES))
        values = [value for range_ in ranges for value in range_]
        delay = self._simulator.now - self._largest_time
        self._send(pack(f">d{len(values)}Q", delay, *values))


class Sender:
    """
    Sends a backlog in bursts, at a fixed rate and within a fixed window.

    :ivar most_remembered: runs in the memory of those given up, the most there ever were.
    """

    def __init__(
        self,
        simulator: Simulator,
        backlog: Backlog,
        send: Callable[[bytes], None],
        *,
        window: int,
        rate: float,
    ) -> None:
        self.controller = FixedWindow(window=window * PACKET_SIZE, pacing_rate=rate)
        self.recovery = LossRecovery(self.controller)
        self.answer_times: list[float] = []
        self.most_remembered = 0
        self._simulator = simulator
        self._backlog = backlog
        self._send = send
        self._next_send_time = 0.0
        self._armed_at: float | None = None
        self._is_pump_armed = False

    def pump(self) -> None:
        """
        Send what the window and the rate allow.
        """
        recovery, now = self.recovery, self._simulator.now
        while not recovery.is_outage:
            room = self.controller.congestion_window - recovery.in_flight.bytes
            if room < PACKET_SIZE:
                break
            if now < self._next_send_time:
                self._arm_pump()
                break
            piece = self._backlog.take(min(BURST, room // PACKET_SIZE))
            if piece is None:
                break
            self._transmit(*piece)
            duration = (piece[1] - piece[0]) * PACKET_SIZE / self.controller.pacing_rate
            self._next_send_time = max(now, self._next_send_time) + duration
        self._arm()

    def receive(self, packet: bytes) -> None:
        """
        An acknowledgement arrived.
        """
        delay, *values = unpack_from(f">d{len(packet) // 8 - 1}Q", packet)
        ranges = list(zip(values[::2], values[1::2], strict=True))
        report = self.recovery.on_ack(ranges[0][1], delay, ranges, now=self._simulator.now)
        if report.acked:
            self.answer_times.append(self._simulator.now)
        self._look()
        self.pump()

    def _transmit(self, start: int, end: int) -> None:
        recovery, now = self.recovery, self._simulator.now
        first = recovery.next_number
        run = SentRun(
            first=first,
            end=first + max(1, end - start),
            time=now,
            size=PACKET_SIZE,
            last_size=PACKET_SIZE,
            stream=self._backlog,
            offset=start,
            step=1,
            length=end - start,
        )
        recovery.on_sent(run, now=now)
        for number in range(run.first, run.end):
            self._send(pack(">Q", number).ljust(PACKET_SIZE, b"."))

    def _arm_pump(self) -> None:
        if not self._is_pump_armed:
            self._is_pump_armed = True
            self._simulator.call_at(self._next_send_time, self._on_pump)

    def _on_pump(self) -> None:
        self._is_pump_armed = False
        self.pump()

    def _arm(self) -> None:
        deadline = self.recovery.get_timer()
        if deadline is not None and (self._armed_at is None or deadline < self._armed_at):
            self._armed_at = deadline
            self._simulator.call_at(deadline, lambda: self._on_timer(deadline))

    def _on_timer(self, armed_at: float) -> None:
        if armed_at != self._armed_at:
            return
        self._armed_at = None
        for _ in range(self.recovery.handle_timer(now=self._simulator.now)):
            # Without data it is a PING.
            self._transmit(*(self._backlog.take(1) or (0, 0)))
        self._look()
        self.pump()

    def _look(self) -> None:
        self.most_remembered = max(self.most_remembered, self.recovery.in_flight.remembered_runs)


class Transfer:
    """
    A sender and a receiver with a link in each direction.
    """

    def __init__(
        self,
        packets: int,
        there: LinkConditions,
        back: LinkConditions | None = None,
        *,
        window: int = 200,
        rate: float = 1.25e6,
        seed: int = 1,
    ) -> None:
        self.simulator = Simulator()
        self.backlog = Backlog(packets)
        self.there = LinkModel(there, seed)
        self.back = LinkModel(back or there, seed + 1)
        self.sender = Sender(
            self.simulator,
            self.backlog,
            lambda packet: self._carry(self.there, packet, self.receiver.receive),
            window=window,
            rate=rate,
        )
        self.receiver = Receiver(
            self.simulator, lambda packet: self._carry(self.back, packet, self.sender.receive)
        )
        self.recovery = self.sender.recovery
        self.simulator.call_at(self.simulator.now, self.sender.pump)

    def _carry(self, link: LinkModel, packet: bytes, deliver: Callable[[bytes], None]) -> None:
        for when, copy in link.transmit(packet, now=self.simulator.now):
            self.simulator.call_at(when, lambda copy=copy: deliver(copy))  # type: ignore[misc]

    def finish(self, limit: float) -> float:
        """
        Run until all was acknowledged and nothing is in flight; return the seconds it took.
        """
        start = self.simulator.now
        self.simulator.run_while(self._is_busy, start + limit)
        return self.simulator.now - start

    def _is_busy(self) -> bool:
        return not self.backlog.is_done or self.recovery.in_flight.packets > 0


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
