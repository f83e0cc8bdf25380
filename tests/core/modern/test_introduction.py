"""
Tests of :mod:`resip.core.modern.introduction`.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.introduction import Introduction
from resip.lab.applications import BulkReceiver, BulkSender, EchoClient, EchoServer
from resip.lab.link import LinkConditions
from tests.support.modern import DOWN, make_modern_pair
from tests.support.pair import TCP_TARGET

LINE = LinkConditions(rate=2e6, delay=0.05, queue_limit=20, mtu=1500)


class IntroductionTests(SynchronousTestCase):
    """
    Until when a client's packets pay for the answer.
    """

    def test_ends_when_the_proof_arrived(self) -> None:
        """
        What is lost proves nothing.
        """
        introduction = Introduction(is_over=False)
        introduction.on_lost()
        self.assertFalse(introduction.is_over)
        introduction.on_acked()
        self.assertTrue(introduction.is_over)

    def test_a_server_answers_at_90_percent(self) -> None:
        """
        It takes seconds, but no loss leaves both waiting: every server sends a long answer.
        """
        for seed in range(10, 14):
            pair = make_modern_pair(replace(LINE, loss=0.9), seed=seed, keeps_events=False)
            BulkSender(TCP_TARGET, size=100_000).serve(pair.server)
            receiver = BulkReceiver(TCP_TARGET, size=100_000)
            receiver.start(pair.client)
            pair.run_for(40)
            self.assertEqual(receiver.progress.total, 100_000, f"seed {seed}")

    def test_an_unproven_address_gets_three_times_as_much_at_most(self) -> None:
        """
        M-20 holds for all that a server has to say, copies and probes too.
        """
        for seed in range(10, 14):
            pair = make_modern_pair(replace(LINE, loss=0.5), down=DOWN, seed=seed)
            EchoServer(TCP_TARGET).serve(pair.server)
            EchoClient(TCP_TARGET, interval=0.1, count=50).start(pair.client)
            for _ in range(100):
                pair.run_for(0.1)
                received = pair.up.counters.delivered_bytes
                self.assertLessEqual(pair.down.counters.sent_bytes, 3 * received, f"seed {seed}")
