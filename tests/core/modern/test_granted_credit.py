"""
Tests of :mod:`resip.core.modern.granted_credit`: the accounts, without a network.
"""

from __future__ import annotations

from resip.core.modern.channel import Channel, ChannelState
from resip.core.modern.flow import Flow
from resip.core.modern.flow_control import CreditWindow, FlowControlError, SendCredit
from resip.core.modern.granted_credit import GrantedCredit
from resip.core.modern.send_stream import SendStream
from tests.support.modern import ModernCase, modern
from tests.support.pair import TCP_TARGET


class AbandonTests(ModernCase):
    """
    What a channel that this side resets leaves on the session's account.
    """

    def setUp(self) -> None:
        """
        Grant 1000 bytes; 100 of a channel arrived.
        """
        super().setUp()
        connection = modern(self.server).connection
        self.window = CreditWindow(initial=1000, maximum=1000)
        self.granted = GrantedCredit(connection, self.window)
        flow = Flow(
            1, SendStream(limit=1000), SendCredit(1000), datagram_lifetime=1, datagram_queue=1
        )
        self.channel = Channel(
            flow,
            connection.outbox,
            state=ChannelState.OPEN,
            target=TCP_TARGET,
            window=1000,
            max_window=1000,
        )
        self.granted.on_received(self.channel, 100, now=self.pair.now)

    def abandon(self) -> None:
        """
        Reset the channel.
        """
        self.granted.abandon(self.channel, now=self.pair.now)
        self.granted.forget(self.channel, now=self.pair.now)

    def test_what_arrived_is_given_back(self) -> None:
        """
        At once; what is on its way waits until the peer tells how much that is.
        """
        self.abandon()
        self.assertEqual((self.window.received, self.window.delivered), (100, 100))
        self.granted.settle(1, 700, now=self.pair.now)
        self.assertEqual((self.window.received, self.window.delivered), (700, 700))

    def test_a_known_end_settles_it(self) -> None:
        """
        After an END nothing is owed, and no answer counts a second time.
        """
        self.channel.stream.end(300)
        self.abandon()
        self.assertEqual((self.window.received, self.window.delivered), (300, 300))
        self.granted.settle(1, 300, now=self.pair.now)
        self.assertEqual((self.window.received, self.window.delivered), (300, 300))

    def test_an_answer_beyond_the_credit(self) -> None:
        """
        It breaks the protocol (M-31).
        """
        self.abandon()
        with self.assertRaises(FlowControlError):
            self.granted.settle(1, 1001, now=self.pair.now)
