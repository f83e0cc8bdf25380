"""
Tests of :mod:`resip.core.modern.delivery_meter`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.events import Event, PathDelivered
from resip.core.modern.delivery_meter import INTERVAL, LEAST_RATE, MAX_PAUSE, DeliveryMeter
from resip.core.modern.sent import SentRun
from resip.core.types import Path

UDP, TCP = Path("udp"), Path("tcp", is_reliable=True)


class DeliveryMeterTests(SynchronousTestCase):
    """
    A meter by script, from the second 0 on.
    """

    def setUp(self) -> None:
        """
        UDP is in use.
        """
        self.events: list[Event] = []
        self.meter = DeliveryMeter(self.events)
        self.meter.on_path_changed(UDP, now=0.0)

    def receive(self, now: float, *, size: int = 12_000, count: int = 10, path: Path = UDP) -> None:
        """
        Packets come.
        """
        self.meter.on_received(path, size=size, count=count, rtt=0.1, now=now)

    def send(self, now: float, *, has_more: bool, count: int = 10) -> None:
        """
        Packets of 1200 bytes are acknowledged.
        """
        run = SentRun(first=0, end=count, time=now, size=1200, last_size=1200)
        self.meter.on_acked([run], has_more=has_more, rtt=0.1, now=now)

    def test_a_download(self) -> None:
        """
        It is told a few times a second, with what came by the path in use alone.
        """
        for number in range(1, 11):
            self.receive(number * INTERVAL / 5)
            self.receive(number * INTERVAL / 5, path=TCP)
        expected = PathDelivered(UDP, 60_000, INTERVAL, is_full=True, rtt=0.1)
        self.assertEqual(self.events, 2 * [expected])

    def test_an_upload(self) -> None:
        """
        Both directions count, and there is demand where more is waiting.
        """
        for has_more in (False, True):
            self.meter.on_path_changed(UDP, now=0.0)
            self.events.clear()
            self.send(INTERVAL / 2, has_more=has_more)
            self.receive(INTERVAL, size=40, count=1)
            expected = PathDelivered(UDP, 12_040, INTERVAL, is_full=has_more, rtt=0.1)
            self.assertEqual(self.events, [expected])

    def test_small_packets_and_few_packets_are_no_demand(self) -> None:
        """
        Whoever has more to send fills them, and does not wait long for the next.
        """
        self.receive(INTERVAL, size=9_000, count=10)
        self.receive(3 * INTERVAL, size=int(LEAST_RATE * INTERVAL), count=1)
        told = [event for event in self.events if isinstance(event, PathDelivered)]
        self.assertEqual([event.is_full for event in told], [False, False])

    def test_a_pause_is_not_measured(self) -> None:
        """
        What comes after it begins a measurement; unless data was waiting all the time.
        """
        self.receive(INTERVAL / 2)
        self.receive(INTERVAL + MAX_PAUSE)
        self.assertEqual(self.events, [])
        self.send(INTERVAL + MAX_PAUSE, has_more=True)
        self.send(INTERVAL + 3 * MAX_PAUSE, has_more=True)
        expected = PathDelivered(UDP, 36_000, 2 * MAX_PAUSE, is_full=True, rtt=0.1)
        self.assertEqual(self.events, [expected])

    def test_without_a_path(self) -> None:
        """
        Nothing is told.
        """
        self.meter.on_path_changed(None, now=0.0)
        self.send(10.0, has_more=True)
        self.assertEqual(self.events, [])
