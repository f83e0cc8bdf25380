"""
Tests of :mod:`resip.core.modern.tails`, and of what it brings to short transfers.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from bench.conditions import start_bulk
from resip.core.modern.flow import Flow
from resip.core.modern.flow_control import SendCredit
from resip.core.modern.send_stream import SendStream
from resip.core.modern.tails import MAX_PASSES, Tails, passes_for
from resip.core.types import Path
from resip.lab.link import LinkConditions
from tests.support.modern import make_modern_pair
from tests.support.pair import TCP_TARGET

LINE = LinkConditions(rate=20e6, delay=0.05, queue_limit=170, mtu=1500)
LOSS = 0.3
RTT = 0.1
#: Room for 94 bytes of data behind the frame's header.
ROOM = 100


def make_flow(size: int) -> Flow:
    """
    A channel whose data was sent once.
    """
    stream = SendStream()
    stream.write(bytes(size))
    stream.cut(1000, 1000, credit=size)
    return Flow(1, stream, SendCredit(1 << 20), datagram_lifetime=1.0, datagram_queue=1)


class TailsTests(SynchronousTestCase):
    """
    What is due again, and when.
    """

    def setUp(self) -> None:
        """
        A channel with 250 bytes in flight since a moment.
        """
        self.tails = Tails()
        self.flow = make_flow(250)
        self.tails.on_sent(self.flow, now=1.0)

    def take(self, *, now: float, count: int = 10, loss: float = LOSS) -> tuple[int, int] | None:
        """
        Where what is due begins and ends.
        """
        due = self.tails.take(count, ROOM, loss=loss, rtt=RTT, now=now)
        return None if due is None else (due[1], due[1] + sum(map(len, due[2])))

    def test_passes_grow_with_the_loss(self) -> None:
        """
        Without much loss there are none.
        """
        passes = [passes_for(loss) for loss in (0.0, 0.019, 0.02, 0.1, 0.3, 0.9, 1.0)]
        self.assertEqual(passes, [0, 0, 1, 2, 4, 4, 4])
        self.assertEqual(max(passes), MAX_PASSES)

    def test_everything_is_sent_again_after_a_quarter_of_a_round_trip(self) -> None:
        """
        From the front, in pieces that fit into packets, and then once more.
        """
        self.assertEqual(self.tails.get_time(loss=LOSS, rtt=RTT), 1.025)
        self.assertIsNone(self.take(now=1.024))
        first = self.take(now=1.025, count=2)
        assert first is not None
        self.assertEqual(self.take(now=1.025), (first[1], 250))
        self.assertIsNone(self.take(now=1.03))
        self.assertEqual(self.take(now=1.055), (0, 250))

    def test_what_arrived_is_not(self) -> None:
        """
        Acknowledged data is left out, and with the last of it the end is over.
        """
        self.flow.stream.on_acked(0, 100)
        self.assertEqual(self.take(now=1.1), (100, 250))
        self.flow.stream.on_acked(100, 250)
        self.assertIsNone(self.take(now=2.0))
        self.assertIsNone(self.tails.get_time(loss=LOSS, rtt=RTT))

    def test_there_is_an_end_of_it(self) -> None:
        """
        Who never answers is left to the probe timeout, and new data begins anew.
        """
        taken = [self.take(now=1.0 + second) for second in range(1, 20)]
        self.assertEqual(sum(each is not None for each in taken), MAX_PASSES)
        self.tails.on_sent(self.flow, now=30.0)
        self.assertEqual(self.take(now=31.0), (0, 250))

    def test_a_path_without_loss_needs_none(self) -> None:
        """
        Nor does a channel that is gone.
        """
        self.assertIsNone(self.take(now=2.0, loss=0.01))
        self.assertIsNone(self.tails.get_time(loss=0.01, rtt=RTT))
        self.tails.forget(self.flow)
        self.assertIsNone(self.take(now=2.0))


class ReliablePathTests(SynchronousTestCase):
    """
    A carrier that repeats what is lost.
    """

    def test_nothing_is_due_there(self) -> None:
        """
        What was in flight as a lossy path was left does not keep the processor busy.
        """
        pair = make_modern_pair(replace(LINE, loss=LOSS), keeps_events=False)
        start_bulk(pair, is_up=False, size=1_000_000)
        pair.run_for(10)
        session, now = pair.client.session, pair.now
        channel_id = session.open_channel(TCP_TARGET, now=now)
        session.write(channel_id, bytes(5_000), now=now)
        session.use_path(Path("tcp", is_reliable=True), now=now)
        turns = 0
        while (deadline := session.get_timer()) is not None and deadline < pair.now + 1:
            now = max(now, deadline)
            session.handle_timer(now=now)
            while session.next_event() is not None or session.datagrams_to_send(now=now):
                pass
            turns += 1
            self.assertLess(turns, 50)
        self.assertGreater(turns, 0)


class ShortTransferTests(SynchronousTestCase):
    """
    New sessions, one transfer each.
    """

    def seconds(self, loss: float, size: int, *, is_up: bool, seed: int) -> float:
        """
        Until everything arrived.
        """
        pair = make_modern_pair(replace(LINE, loss=loss), seed=seed, keeps_events=False)
        start = pair.now
        receiver = start_bulk(pair, is_up=is_up, size=size)
        is_done = pair.run_while(lambda: receiver.progress.total < size, start + 30)
        self.assertTrue(is_done, pair.seeds)
        return pair.now - start

    def test_100_kb_at_30_percent(self) -> None:
        """
        Less than 0.7 s upwards and 0.8 s downwards at the median, and never much more.
        """
        for is_up, limit in ((True, 0.7), (False, 0.8)):
            times = [self.seconds(0.3, 100_000, is_up=is_up, seed=seed) for seed in range(5)]
            self.assertLess(statistics.median(times), limit, times)
            self.assertLess(max(times), 2 * limit, times)

    def test_a_megabyte_on_a_clean_path(self) -> None:
        """
        Within 1.6 times of what it takes who knows the path, its first round trip included.
        """
        wire_time = 1e6 * 8 / 20e6 * 1.04
        self.assertLess(self.seconds(0.0, 1_000_000, is_up=True, seed=1), 1.6 * (wire_time + 0.05))
        self.assertLess(self.seconds(0.0, 1_000_000, is_up=False, seed=1), 1.6 * (wire_time + 0.1))
