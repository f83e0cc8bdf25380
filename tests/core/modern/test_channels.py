"""
Tests of :mod:`resip.core.modern.channels`: the life of a channel, between real sessions.
"""

from __future__ import annotations

import random

from resip.core.errors import ChannelError, ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    ChannelOpened,
    ChannelRequested,
    ChannelReset,
)
from resip.core.modern.flow_control import INITIAL_SESSION_WINDOW
from resip.core.modern.frames import open_frame, stream_frames
from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender
from resip.lab.link import LinkConditions
from resip.lab.pair import Host
from tests.support.modern import Insider, ModernCase, available, modern, send_as_client
from tests.support.pair import TCP_TARGET, get_events, get_received


class OpeningTests(ModernCase):
    """
    Asking for channels.
    """

    def test_open_and_accept(self) -> None:
        """
        The server hears the target, a name even, and the client that it is connected.
        """
        channel_id = self.open()
        self.assertEqual(channel_id, 1)
        requested = get_events(self.server, ChannelRequested)
        self.assertEqual(requested, [ChannelRequested(1, TCP_TARGET)])
        self.assertEqual(get_events(self.client, ChannelOpened), [ChannelOpened(1)])

    def test_the_server_opens_too(self) -> None:
        """
        Its channels have even ids (M-25).
        """
        self.open()
        channel_id = self.server.session.open_channel(TCP_TARGET, now=self.pair.now)
        self.pair.run_for(0.2)
        self.assertEqual(channel_id, 2)
        requested = get_events(self.client, ChannelRequested)
        self.assertEqual(requested, [ChannelRequested(2, TCP_TARGET)])

    def test_refuse(self) -> None:
        """
        The client hears why, and neither side keeps anything.
        """
        for code in (ResetCode.REFUSED, ResetCode.CONNECT_FAILED):
            self.make()
            channel_id = self.client.session.open_channel(TCP_TARGET, now=self.pair.now)
            self.pair.run_for(0.2)
            self.server.session.refuse_channel(channel_id, code, now=self.pair.now)
            self.pair.run_for(0.2)
            self.assertEqual(get_events(self.client, ChannelReset), [ChannelReset(1, code)])
            self.assertEqual(modern(self.client).channel_count, 0)
            self.assertEqual(modern(self.server).channel_count, 0)

    def test_data_before_the_answer(self) -> None:
        """
        What is written at once waits at the far side until the channel is accepted (M-26).
        """
        channel_id = self.client.session.open_channel(TCP_TARGET, now=self.pair.now)
        self.write(self.client, channel_id, b"early")
        self.assertEqual(get_received(self.server, channel_id), b"")
        self.server.session.accept_channel(channel_id, now=self.pair.now)
        self.pair.run_for(0.2)
        self.assertEqual(get_received(self.server, channel_id), b"early")

    def test_data_overtakes_its_open(self) -> None:
        """
        It is kept, and delivered after the OPEN came (M-26).
        """
        insider = Insider()
        send_as_client(self.pair, insider, *stream_frames(1, 0, [b"fast"]))
        self.assertEqual(self.server.events[1:], [])
        send_as_client(self.pair, insider, open_frame(1, TCP_TARGET))
        self.server.session.accept_channel(1, now=self.pair.now)
        self.server.flush()
        self.assertEqual(get_received(self.server, 1), b"fast")

    def test_a_target_that_cannot_be_carried(self) -> None:
        """
        Nothing is opened, and no id used.
        """
        for host in ("", "x" * 256, "n\xe4me"):
            with self.assertRaises(ValueError):
                target = Target(Protocol.TCP, host, 1)
                self.client.session.open_channel(target, now=self.pair.now)
        self.assertEqual(self.open(), 1)


class MisuseTests(ModernCase):
    """
    The caller's mistakes raise the documented error.
    """

    def test_channels_that_are_not_there(self) -> None:
        """
        No verb works on them, but for consume, which is always late.
        """
        session, now = self.client.session, self.pair.now
        for call in (
            lambda: session.write(1, b"x", now=now),
            lambda: session.end(1, now=now),
            lambda: session.reset(1, ResetCode.CANCELLED, now=now),
            lambda: session.accept_channel(1, now=now),
            lambda: session.refuse_channel(1, ResetCode.REFUSED, now=now),
        ):
            with self.assertRaises(ChannelError):
                call()
        session.consume(1, 100, now=now)

    def test_two_answers(self) -> None:
        """
        A request is answered once.
        """
        channel_id = self.open()
        with self.assertRaises(ChannelError):
            self.server.session.accept_channel(channel_id, now=self.pair.now)
        with self.assertRaises(ChannelError):
            self.client.session.accept_channel(channel_id, now=self.pair.now)

    def test_writing_after_the_end(self) -> None:
        """
        It is refused; ending twice is not.
        """
        channel_id = self.open()
        self.client.session.end(channel_id, now=self.pair.now)
        self.client.session.end(channel_id, now=self.pair.now)
        with self.assertRaises(ChannelError):
            self.client.session.write(channel_id, b"x", now=self.pair.now)

    def test_consuming_what_never_came(self) -> None:
        """
        Credit cannot be invented.
        """
        channel_id = self.open()
        self.write(self.client, channel_id, b"12345")
        for count in (6, -1):
            with self.assertRaises(ChannelError):
                self.server.session.consume(channel_id, count, now=self.pair.now)
        self.server.session.consume(channel_id, 5, now=self.pair.now)

    def test_after_the_session(self) -> None:
        """
        No channel is opened.
        """
        self.client.session.close(now=self.pair.now)
        with self.assertRaises(ChannelError):
            self.client.session.open_channel(TCP_TARGET, now=self.pair.now)


class EndingTests(ModernCase):
    """
    Half-closes and clean ends.
    """

    def finish(self, first: Host, second: Host, data: bytes) -> None:
        """
        Write and end on one side, then on the other.
        """
        channel_id = self.open()
        for host, other in ((first, second), (second, first)):
            if data:
                self.write(host, channel_id, data)
                other.session.consume(channel_id, len(data), now=self.pair.now)
            host.session.end(channel_id, now=self.pair.now)
            self.pair.run_for(1)
            self.assertEqual(get_events(other, ChannelEnded), [ChannelEnded(channel_id)])
            self.assertEqual(get_received(other, channel_id), data)
        for host in (first, second):
            self.assertEqual(get_events(host, ChannelClosed), [ChannelClosed(channel_id)])
            self.assertEqual(modern(host).channel_count, 0)

    def test_each_side_may_end_first(self) -> None:
        """
        The other one goes on writing; the channel closes when both ended.
        """
        for data in (b"", b"some bytes"):
            for is_client in (True, False):
                self.make()
                sides = (self.client, self.server) if is_client else (self.server, self.client)
                self.finish(*sides, data)

    def test_nothing_closes_before_all_is_consumed(self) -> None:
        """
        CREDIT tells of delivery to the application, and the writer waits for it (M-30).
        """
        channel_id = self.open()
        self.write(self.client, channel_id, b"kept")
        self.client.session.end(channel_id, now=self.pair.now)
        self.server.session.end(channel_id, now=self.pair.now)
        self.pair.run_for(60)
        self.assertEqual(get_events(self.client, ChannelClosed), [])
        self.server.session.consume(channel_id, 4, now=self.pair.now)
        self.pair.run_for(1)
        self.assertEqual(get_events(self.client, ChannelClosed), [ChannelClosed(channel_id)])
        self.assertEqual(get_events(self.server, ChannelClosed), [ChannelClosed(channel_id)])

    def test_many_small_channels_under_loss(self) -> None:
        """
        All close on both sides, whatever gets lost at the end.
        """
        self.make(LinkConditions(delay=0.02, loss=0.4))
        for number in range(50):
            target = Target(Protocol.TCP, "x", 1 + number)
            BulkReceiver(target, size=10).serve(self.server)
            BulkSender(target, size=10).start(self.client)
        self.pair.run_for(60)
        self.assertEqual(modern(self.client).channel_count, 0)
        self.assertEqual(modern(self.server).channel_count, 0)


class ResetTests(ModernCase):
    """
    Channels that end early.
    """

    def test_each_side_and_each_code(self) -> None:
        """
        The other side hears the code, the one that reset nothing.
        """
        for code in ResetCode:
            for is_client in (True, False):
                self.make()
                channel_id = self.open()
                us, them = (self.client, self.server) if is_client else (self.server, self.client)
                us.session.reset(channel_id, code, now=self.pair.now)
                self.pair.run_for(0.5)
                resets = get_events(them, ChannelReset)
                self.assertEqual(resets, [ChannelReset(channel_id, code)])
                self.assertEqual(get_events(us, ChannelReset), [])

    def test_no_event_follows_a_reset(self) -> None:
        """
        Not even one that was waiting to be fetched.
        """
        channel_id = self.open()
        insider = Insider()
        packet = insider.seal(*stream_frames(channel_id, 0, [b"data"]))
        session = self.server.session
        session.receive_datagrams([packet], self.pair.client_path, now=self.pair.now)
        session.reset(channel_id, ResetCode.CANCELLED, now=self.pair.now)
        self.assertIsNone(session.next_event())

    def test_both_at_once(self) -> None:
        """
        Neither hears anything more.
        """
        channel_id = self.open()
        for host in (self.client, self.server):
            host.session.reset(channel_id, ResetCode.CANCELLED, now=self.pair.now)
        self.pair.run_for(1)
        self.assertEqual(get_events(self.client, ChannelReset), [])
        self.assertEqual(get_events(self.server, ChannelReset), [])

    def test_the_credit_of_a_thousand_reset_channels(self) -> None:
        """
        Channels that are reset in mid-transfer, by either side, under loss, leave no trace in
        the session's credit (M-28).
        """
        self.make(LinkConditions(rate=50e6, delay=0.01, loss=0.1))
        dice = random.Random(4)
        for _ in range(50):
            opened = [
                self.client.session.open_channel(TCP_TARGET, now=self.pair.now) for _ in range(20)
            ]
            for channel_id in opened:
                self.client.session.write(channel_id, bytes(30_000), now=self.pair.now)
            self.pair.run_for(0.1)
            self.reset_all(opened, dice)
        self.pair.run_for(10)
        self.assertEqual(modern(self.client).channel_count, 0)
        self.assertEqual(modern(self.server).channel_count, 0)
        for host in (self.client, self.server):
            self.assertGreaterEqual(available(host), INITIAL_SESSION_WINDOW)

    def reset_all(self, opened: list[int], dice: random.Random) -> None:
        """
        Reset channels, each on a side that knows it.
        """
        known = {event.channel_id for event in get_events(self.server, ChannelRequested)}
        gone = {event.channel_id for event in get_events(self.client, ChannelReset)}
        for channel_id in opened:
            host = self.server if channel_id in known and dice.random() < 0.5 else self.client
            if channel_id not in gone:
                host.session.reset(channel_id, ResetCode.CANCELLED, now=self.pair.now)
        self.pair.flush()
