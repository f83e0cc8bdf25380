"""
Tests of what bounds the channels of a session: their number, and the bytes that they keep.
"""

from __future__ import annotations

from resip.core.errors import LimitError, ResetCode
from resip.core.events import ChannelRequested, ChannelWritable
from resip.core.modern import granted_credit
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.frames import open_frame, stream_frames
from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender
from resip.lab.link import LinkConditions
from tests.support.modern import (
    DOWN,
    Insider,
    ModernCase,
    available,
    make_modern_pair,
    modern,
    send_as_client,
)
from tests.support.pair import PLAIN, TCP_TARGET, get_events


class ChannelLimitTests(ModernCase):
    """
    How many channels there may be.
    """

    def test_too_many_channels_of_our_own(self) -> None:
        """
        The caller hears of the limit.
        """
        self.make(configuration=ModernConfiguration(max_channels=2))
        for _ in range(2):
            self.client.session.open_channel(TCP_TARGET, now=self.pair.now)
        with self.assertRaises(LimitError):
            self.client.session.open_channel(TCP_TARGET, now=self.pair.now)

    def test_too_many_channels_of_the_peer(self) -> None:
        """
        They are refused, those known by their data alone like the others.
        """
        self.make(configuration=ModernConfiguration(max_channels=2))
        insider = Insider()
        for number in (1, 3, 5):
            send_as_client(self.pair, insider, *stream_frames(number, 0, [b"x"]))
        self.assertEqual(modern(self.server).channel_count, 2)
        send_as_client(self.pair, insider, open_frame(5, TCP_TARGET))
        self.assertEqual(get_events(self.server, ChannelRequested), [])

    def test_a_peer_that_never_learns_of_resets(self) -> None:
        """
        One that opens on and on, without an answer to a reset, ends the session.
        """
        self.make(configuration=ModernConfiguration(max_channels=1))
        insider = Insider()
        self.patch(granted_credit, "MAX_ABANDONED", 10)
        for number in range(1, 41, 2):
            send_as_client(self.pair, insider, open_frame(number, TCP_TARGET))
        self.assertIn("too many", repr(self.server.events[-1]))
        self.assertEqual(modern(self.server).channel_count, 0)

    def test_resets_that_the_peer_cannot_hear(self) -> None:
        """
        In an outage a program that opens and resets for ever meets a limit.
        """
        self.patch(granted_credit, "MAX_ABANDONED", 10)
        self.pair.up.conditions = self.pair.down.conditions = DOWN
        session, now = self.client.session, self.pair.now
        for _ in range(10):
            session.reset(session.open_channel(TCP_TARGET, now=now), ResetCode.CANCELLED, now=now)
        with self.assertRaises(LimitError):
            session.open_channel(TCP_TARGET, now=now)
        self.pair.up.conditions = self.pair.down.conditions = PLAIN
        self.pair.run_for(5)
        session.open_channel(TCP_TARGET, now=self.pair.now)


class BackpressureTests(ModernCase):
    """
    Writers that are too fast, readers that sleep.
    """

    def test_writable(self) -> None:
        """
        A write that was cut short is followed by an event when there is room, once.
        """
        self.make(configuration=ModernConfiguration(send_buffer=100_000))
        channel_id = self.open()
        self.assertEqual(self.write(self.client, channel_id, bytes(150_000)), 100_000)
        self.pair.run_for(1)
        self.assertEqual(get_events(self.client, ChannelWritable), [])
        self.server.session.consume(channel_id, 100_000, now=self.pair.now)
        self.pair.run_for(1)
        self.assertEqual(get_events(self.client, ChannelWritable), [ChannelWritable(channel_id)])

    def test_send_memory_in_an_outage(self) -> None:
        """
        The channel's limit, then the session's but for a small reserve, stop the writers, however
        long it lasts.
        """
        limits = ModernConfiguration(send_buffer=100_000, session_send_buffer=250_000)
        self.make(configuration=limits)
        opened = [self.open() for _ in range(4)]
        self.pair.up.conditions = self.pair.down.conditions = DOWN
        accepted = [self.write(self.client, number, bytes(1_000_000)) for number in opened]
        self.assertEqual(accepted, [100_000, 100_000, 50_000, 16_384])
        self.pair.run_for(3600)
        self.assertEqual(self.write(self.client, opened[0], b"x"), 0)
        self.client.session.reset(opened[1], ResetCode.CANCELLED, now=self.pair.now)
        self.client.flush()
        writable = {event.channel_id for event in get_events(self.client, ChannelWritable)}
        self.assertEqual(writable, {opened[2], opened[3]})

    def test_a_reader_that_sleeps(self) -> None:
        """
        It keeps no more than its window, slows none of the others, and gets all when it wakes.
        """
        self.pair = make_modern_pair(LinkConditions(rate=50e6, delay=0.02), keeps_events=False)
        receivers = []
        for number in range(100):
            target = Target(Protocol.TCP, "x", 1 + number)
            size = 3_000_000 if number == 50 else 20_000
            receivers.append(BulkReceiver(target, size=size))
            receivers[-1].serve(self.pair.server)
            BulkSender(target, size=size).start(self.pair.client)
        sleeper = receivers[50]
        sleeper.pause()
        self.pair.run_for(5)
        self.assertEqual([r for r in receivers if not r.is_finished], [sleeper])
        self.assertLessEqual(sleeper.unread, ModernConfiguration().receive_buffer)
        self.assertGreaterEqual(
            available(self.pair.client), INITIAL_SESSION_WINDOW - INITIAL_CHANNEL_WINDOW
        )
        sleeper.resume()
        self.pair.run_for(10)
        self.assertTrue(sleeper.is_finished)

    def test_many_readers_that_sleep(self) -> None:
        """
        Twenty of them, whose windows are more than the session's was at first, stop no other.
        """
        self.pair = make_modern_pair(LinkConditions(rate=100e6, delay=0.02), keeps_events=False)
        receivers = []
        for number in range(22):
            target = Target(Protocol.TCP, "x", 1 + number)
            receivers.append(BulkReceiver(target, size=1_500_000))
            receivers[-1].serve(self.pair.server)
            if number < 20:
                receivers[-1].pause()
                BulkSender(target, size=1_500_000).start(self.pair.client)
        self.pair.run_for(10)
        for number in (20, 21):
            target = Target(Protocol.TCP, "x", 1 + number)
            BulkSender(target, size=1_500_000).start(self.pair.client)
        self.pair.run_for(3)
        self.assertEqual([r.is_finished for r in receivers], [False] * 20 + [True] * 2)
        for receiver in receivers[:20]:
            receiver.resume()
        self.pair.run_for(20)
        self.assertTrue(all(receiver.is_finished for receiver in receivers))
