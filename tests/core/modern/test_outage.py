"""
Hours without a packet, with bytes that wait.
"""

from __future__ import annotations

from resip.core.events import DataReceived
from tests.support.modern import DOWN, ModernCase, modern
from tests.support.pair import PLAIN, get_events

HOUR = 3600.0


class OutageTests(ModernCase):
    """
    One channel, and an outage.
    """

    def test_a_server_waits_for_its_client(self) -> None:
        """
        It sends little, soon nothing and has no timer; when the client finds the way
        back, its data comes at once.
        """
        channel_id = self.open()
        self.pair.up.conditions = self.pair.down.conditions = DOWN
        sent = self.pair.down.counters.sent
        self.client.events.clear()
        self.write(self.server, channel_id, bytes(1000))
        self.pair.run_for(0.25 * HOUR)
        self.assertLess(self.pair.down.counters.sent - sent, 100)
        sent = self.pair.down.counters.sent
        self.pair.run_for(10 * HOUR)
        self.assertEqual(self.pair.down.counters.sent, sent)
        self.assertIsNone(modern(self.server).get_timer())
        self.pair.up.conditions = self.pair.down.conditions = PLAIN
        self.pair.run_for(10.5)
        data = b"".join(event.data for event in get_events(self.client, DataReceived))
        self.assertEqual(data, bytes(1000))

    def test_a_client_asks_a_little(self) -> None:
        """
        In the first hour every two seconds, then every ten, one packet each (M-35).
        """
        channel_id = self.open()
        self.pair.up.conditions = self.pair.down.conditions = DOWN
        self.write(self.client, channel_id, bytes(1000))
        self.pair.run_for(60)
        sent = self.pair.up.counters.sent
        self.pair.run_for(HOUR)
        self.assertLess(abs(self.pair.up.counters.sent - sent - HOUR / 2), 60)
        sent = self.pair.up.counters.sent
        self.pair.run_for(HOUR)
        self.assertLess(abs(self.pair.up.counters.sent - sent - HOUR / 10), 20)
