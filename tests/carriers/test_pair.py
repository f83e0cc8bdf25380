"""
Tests of two drivers with real sessions, over a network in memory.
"""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ResetCode
from tests.carriers.fixture import DriverPair


class PairTests(SynchronousTestCase):
    """
    Two drivers with real sessions, over a network in memory.
    """

    def setUp(self) -> None:
        """
        Join them.
        """
        self.pair = DriverPair()
        self.addCleanup(self.pair.stop)

    def test_echo_and_end(self) -> None:
        """
        Bytes come back, both directions end, and nobody remembers the channel.
        """
        channel, user = self.pair.open()
        channel.write(b"hello")
        channel.end()
        self.pair.run(1)
        self.assertEqual(user.heard, ["opened", b"hello", "ended", "closed"])
        self.assertEqual(self.pair.accepted[0].heard, [b"hello", "ended", "closed"])
        self.assertEqual(self.pair.client.channel_count, 0)
        self.assertEqual(self.pair.server.channel_count, 0)

    def test_heavy_loss_loses_no_byte(self) -> None:
        """
        With 30 % of all packets lost in each direction, 100 kB come back unchanged.
        """
        dice = random.Random(5)
        self.pair.reactor.drops = lambda data: dice.random() < 0.3
        payload = dice.randbytes(100_000)
        channel, user = self.pair.open()
        self.assertEqual(channel.write(payload), len(payload))
        channel.end()
        self.pair.run(60)
        self.assertEqual(user.received, payload)
        self.assertEqual(user.heard[-1], "closed")

    def test_the_server_follows_the_client(self) -> None:
        """
        When packets come from another address, the answers go there.
        """
        channel, user = self.pair.open()
        channel.write(b"one")
        self.pair.run(0.5)
        old = self.pair.server.session.path
        for port in self.pair.reactor.ports[:1]:
            port.stopListening()
        self.pair.reactor.listenUDP(0, self.pair.client_carrier)
        channel.write(b"two")
        self.pair.run(3)
        self.assertEqual(user.received, b"onetwo")
        self.assertNotEqual(self.pair.server.session.path, old)

    def test_an_outage_of_an_hour(self) -> None:
        """
        What was written when the network went away arrives when it is back.
        """
        channel, user = self.pair.open()
        self.pair.run(0.5)
        self.pair.reactor.drops = lambda data: True
        channel.write(b"patience")
        for _ in range(3600):
            self.pair.reactor.advance(1)
        self.pair.reactor.drops = lambda data: False
        self.pair.run(12)
        self.assertEqual(user.received, b"patience")

    def test_stop_resets_the_far_side(self) -> None:
        """
        When the server's driver stops, the client's channels are reset soon.
        """
        _, user = self.pair.open()
        self.pair.run(0.5)
        self.pair.server.stop()
        self.pair.run(0.5)
        self.assertIsInstance(user.heard[-1], ResetCode)
        self.pair.client.stop()
        self.pair.run(0.1)
        self.assertEqual(self.pair.reactor.getDelayedCalls(), [])
