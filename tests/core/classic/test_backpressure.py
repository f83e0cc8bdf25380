"""
Slow readers and fast writers on classic channels.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.configuration import ClassicConfiguration
from resip.core.events import ChannelWritable
from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender, EchoClient, EchoServer
from resip.lab.link import LinkConditions
from resip.lab.measurement import percentile
from tests.support.classic import (
    TCP_TARGET,
    Accepting,
    ClassicPair,
    Transfer,
    make_classic_pair,
    open_pair,
    run_until_closed,
)
from tests.support.pair import get_events, get_received, run_until_true

LINE = LinkConditions(rate=20e6, delay=0.025, queue_limit=170)
SLEEPY_TARGET = Target(Protocol.TCP, "127.0.0.9", 9)
CONFIGURATION = ClassicConfiguration()


class WriterTests(SynchronousTestCase):
    """
    A session takes no more than it can keep.
    """

    def test_a_write_is_accepted_as_far_as_there_is_room(self) -> None:
        """
        The rest is for later; the writer is told once when half of the buffer is free.
        """
        pair, channel_id = open_pair()
        client = pair.client.session
        size = CONFIGURATION.send_buffer + 1000
        self.assertEqual(
            client.write(channel_id, bytes(size), now=pair.now), CONFIGURATION.send_buffer
        )
        self.assertEqual(client.write(channel_id, b"x", now=pair.now), 0)
        pair.run_for(5)
        self.assertEqual(get_events(pair.client, ChannelWritable), [ChannelWritable(channel_id)])
        self.assertEqual(client.write(channel_id, bytes(1000), now=pair.now), 1000)

    def test_a_writer_that_was_not_held_up_is_not_told(self) -> None:
        """
        Room that nobody waits for is no event.
        """
        pair, channel_id = open_pair()
        pair.client.session.write(channel_id, bytes(100_000), now=pair.now)
        pair.run_for(5)
        self.assertEqual(get_events(pair.client, ChannelWritable), [])

    def test_a_sleeping_reader_stops_the_writer(self) -> None:
        """
        What the sender keeps and what the receiver keeps is bounded, whatever is offered.
        """
        pair = make_classic_pair(conditions=LINE, keeps_events=False)
        sender, receiver = add_sleeper(pair, size=50_000_000, is_upload=True)
        pair.run_for(60)
        self.assert_within_limits(pair, receiver)
        accepted = sender.accepted
        pair.run_for(600)
        self.assertEqual(sender.accepted, accepted)

    def assert_within_limits(self, pair: ClassicPair, receiver: BulkReceiver) -> None:
        """
        The named limits hold.
        """
        message = 32 * 1024
        self.assertLessEqual(receiver.unread, CONFIGURATION.receive_buffer + message)
        for session in (pair.client_session, pair.server_session):
            self.assertLessEqual(session.packets_held, CONFIGURATION.reorder_window)
            self.assertLessEqual(session.packets_unacknowledged, CONFIGURATION.reorder_window + 64)


def add_sleeper(
    pair: ClassicPair, *, size: int, is_upload: bool
) -> tuple[BulkSender, BulkReceiver]:
    """
    A transfer whose reader sleeps from the beginning.
    """
    sender = BulkSender(SLEEPY_TARGET, size=size)
    receiver = BulkReceiver(SLEEPY_TARGET, size=size)
    receiver.pause()
    served, started = (receiver, sender) if is_upload else (sender, receiver)
    served.serve(pair.server)
    started.start(pair.client)
    return sender, receiver


class SleepingReaderTests(SynchronousTestCase):
    """
    One of twenty readers sleeps.
    """

    SIZE = 400_000
    SLEEPY_SIZE = 6_000_000

    def run_nineteen(self, *, with_sleeper: bool, is_upload: bool, loss: float) -> float:
        """
        How long nineteen transfers take; with a sleeper, check it and wake it in the end.
        """
        conditions = LinkConditions(rate=20e6, delay=0.025, queue_limit=170, loss=loss)
        pair = make_classic_pair(21, conditions, keeps_events=False)
        sender, receiver = add_sleeper(pair, size=self.SLEEPY_SIZE, is_upload=is_upload)
        if not with_sleeper:
            receiver.is_paused = False
        # Time for it to fill whatever it can.
        pair.run_for(20)
        transfers: list[Transfer] = []
        for index in range(19):
            target = Target(Protocol.TCP, "127.0.0.1", 1000 + index)
            sending = BulkSender(target, size=self.SIZE // 19, seed=index)
            receiving = BulkReceiver(target, size=self.SIZE // 19, seed=index)
            served, started = (receiving, sending) if is_upload else (sending, receiving)
            served.serve(pair.server)
            started.start(pair.client)
            transfers += [sending, receiving]
        took = run_until_closed(pair, transfers, limit=60)
        if with_sleeper:
            self.assertFalse(receiver.is_finished)
            for session in (pair.client_session, pair.server_session):
                self.assertLessEqual(session.packets_held, CONFIGURATION.reorder_window)
            receiver.resume()
            woken = run_until_closed(pair, [sender, receiver], limit=60)
            # The whole of it, at a line that carries 2.3 MB/s.
            self.assertLess(woken, 3 * self.SLEEPY_SIZE / 2.3e6 / (1 - loss))
        return took

    def test_it_slows_no_other(self) -> None:
        """
        In either direction, and on a line that loses, the others take about as long as without
        it; when it wakes, everything arrives, promptly.
        """
        for is_upload, loss in ((True, 0.0), (False, 0.2)):
            alone = self.run_nineteen(with_sleeper=False, is_upload=is_upload, loss=loss)
            beside = self.run_nineteen(with_sleeper=True, is_upload=is_upload, loss=loss)
            self.assertLess(beside, 1.5 * alone + 0.5, (is_upload, loss))

    def test_echoes_are_as_quick_as_ever(self) -> None:
        """
        A keystroke beside a sleeper takes a round trip.
        """
        pair = make_classic_pair(22, LINE, keeps_events=False)
        add_sleeper(pair, size=self.SLEEPY_SIZE, is_upload=True)
        pair.run_for(20)
        echo = EchoClient(TCP_TARGET, interval=0.1, count=100)
        EchoServer(TCP_TARGET).serve(pair.server)
        echo.start(pair.client)
        run_until_true(pair, lambda: echo.is_finished, limit=30)
        self.assertLess(percentile(echo.round_trip_times, 95), 0.1)

    def test_a_reader_that_wakes_is_served_at_once(self) -> None:
        """
        Its side announces the room; the sender does not wait for its next look.
        """
        for pause in (60.0, 60.5, 61.0, 61.5):
            self.assertLess(self.time_waking(pause), 0.7)

    def time_waking(self, pause: float) -> float:
        """
        How long a reader that wakes after ``pause`` waits for half a megabyte that is new.
        """
        pair = make_classic_pair(23, LINE, keeps_events=False)
        _, receiver = add_sleeper(pair, size=20_000_000, is_upload=True)
        pair.run_for(pause)
        receiver.resume()
        held = receiver.progress.total
        return run_until_true(pair, lambda: receiver.progress.total > held + 500_000, limit=60)


class ConsumeTests(SynchronousTestCase):
    """
    The application's credit.
    """

    def test_little_by_little(self) -> None:
        """
        A reader that takes small portions gets everything.
        """
        pair = make_classic_pair(
            configuration=ClassicConfiguration(receive_buffer=2000, reorder_window=16)
        )
        pair.server.attach(Accepting(consumes=False))
        client, server = pair.client.session, pair.server.session
        channel_id = client.open_channel(TCP_TARGET, now=pair.now)
        client.write(channel_id, bytes(100_000), now=pair.now)
        for _ in range(400):
            pair.run_for(0.25)
            server.consume(channel_id, 500, now=pair.now)
            pair.flush()
        self.assertEqual(get_received(pair.server, channel_id), bytes(100_000))
