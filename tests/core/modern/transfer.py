"""
A transfer over simulated links with nothing of a session but
:class:`~resip.core.modern.recovery.LossRecovery`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from struct import pack, unpack_from

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
