"""
What a change of path loses: acknowledgements, and what they would have told.
"""

from __future__ import annotations

from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.session import ModernSession
from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender
from resip.lab.link import LinkConditions
from tests.support.carriers import CarrierNetwork

LINE = LinkConditions(rate=2e6, delay=0.1, queue_limit=40, mtu=1500)
TARGET = Target(Protocol.TCP, "server.example", 80)


class PathChangeTests(SynchronousTestCase):
    """
    A transfer by UDP and TCP.
    """

    def setUp(self) -> None:
        """
        Both are open; the tests choose.
        """
        self.network = CarrierNetwork({"udp": LINE, "tcp": LINE}, head_starts=(0.0, 0.0))
        self.network.run_for(1)

    def use(self, carrier: str) -> None:
        """
        Let the client send by a carrier.
        """
        path = self.network.carriers[carrier].server_path
        self.network.client.session.use_path(path, now=self.network.now)
        self.network.client.flush()

    def test_acknowledgements_lost_with_the_path_before(self) -> None:
        """
        They are said again: a server that sends by a connection has no timer to ask for them.
        """
        receiver = BulkReceiver(TARGET, size=1 << 30)
        receiver.serve(self.network.client)
        BulkSender(TARGET, size=1 << 30).start(self.network.server)
        self.use("tcp")
        self.network.run_for(2)
        self.network.carriers["udp"].is_down = True
        self.use("udp")
        self.network.run_for(1)
        before = receiver.progress.total
        self.use("tcp")
        self.network.run_for(2)
        self.assertGreater(receiver.progress.total, before + 100_000)

    def test_late_acknowledgements_of_the_path_before(self) -> None:
        """
        They undo no loss on the path in use, which was never counted there.
        """
        receiver = BulkReceiver(TARGET, size=1 << 30)
        receiver.serve(self.network.server)
        BulkSender(TARGET, size=1 << 30).start(self.network.client)
        connection = cast(ModernSession, self.network.client.session).connection
        for carrier in ("udp", "tcp", "udp"):
            self.use(carrier)
            self.network.run_for(2)
        self.assertEqual(connection.recovery.stats.spurious_losses, 0)
        self.assertGreater(receiver.progress.total, 800_000)
