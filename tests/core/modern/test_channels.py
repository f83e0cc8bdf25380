"""
Tests of :mod:`resip.core.modern.channels` and its neighbours: the verbs, between real sessions.
"""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ChannelError, LimitError, ProtocolError, ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    ChannelOpened,
    ChannelRequested,
    ChannelReset,
    ChannelWritable,
    DataReceived,
)
from resip.core.modern import channels as channels_module
from resip.core.modern.channel_ids import ID_LEAD, MAX_USED_RANGES, ChannelIds
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.frames import open_frame, stream_frames
from resip.core.modern.session import ModernSession
from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender
from resip.lab.link import LinkConditions
from resip.lab.pair import Host
from tests.support.modern import Insider, make_modern_pair, open_accepted, send_as_client
from tests.support.pair import PLAIN, TCP_TARGET, UDP_TARGET, get_events, get_received

DOWN = LinkConditions(delay=0.05, is_down=True)


def modern(host: Host) -> ModernSession:
    """
    The session with all its readings.
    """
    assert isinstance(host.session, ModernSession)
    return host.session


def available(host: Host) -> int:
    """
    What the session's credit lets a side send now.
    """
    return modern(host).connection.outbound.session_credit.available


class Case(SynchronousTestCase):
    """
    A pair, and short names for what is done to it.
    """

    def setUp(self) -> None:
        """
        A plain line.
        """
        self.make()

    def make(
        self, conditions: LinkConditions = PLAIN, configuration: ModernConfiguration | None = None
    ) -> None:
        """
        Take a new pair.
        """
        self.pair = make_modern_pair(conditions, configuration=configuration)
        self.client, self.server = self.pair.client, self.pair.server

    def open(self, target: Target = TCP_TARGET, *, compress: bool = False) -> int:
        """
        A channel that both sides know.
        """
        return open_accepted(self.pair, target, compress=compress)

    def write(self, host: Host, channel_id: int, data: bytes) -> int:
        """
        Write, and let the line work for a while.
        """
        count = host.session.write(channel_id, data, now=self.pair.now)
        self.pair.run_for(0.3)
        return count


class OpeningTests(Case):
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
        self.patch(channels_module, "MAX_ABANDONED", 10)
        for number in range(1, 41, 2):
            send_as_client(self.pair, insider, open_frame(number, TCP_TARGET))
        self.assertIn("too many", repr(self.server.events[-1]))
        self.assertEqual(modern(self.server).channel_count, 0)

    def test_resets_that_the_peer_cannot_hear(self) -> None:
        """
        In an outage a program that opens and resets for ever meets a limit.
        """
        self.patch(channels_module, "MAX_ABANDONED", 10)
        self.pair.up.conditions = self.pair.down.conditions = DOWN
        session, now = self.client.session, self.pair.now
        for _ in range(10):
            session.reset(session.open_channel(TCP_TARGET, now=now), ResetCode.CANCELLED, now=now)
        with self.assertRaises(LimitError):
            session.open_channel(TCP_TARGET, now=now)
        self.pair.up.conditions = self.pair.down.conditions = PLAIN
        self.pair.run_for(5)
        session.open_channel(TCP_TARGET, now=self.pair.now)


class MisuseTests(Case):
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


class EndingTests(Case):
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
            self.assertEqual(host.events[-1], ChannelClosed(channel_id))
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


class ResetTests(Case):
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
                self.assertEqual(them.events[-1], ChannelReset(channel_id, code))
                self.assertEqual(get_events(us, ChannelReset), [])

    def test_no_event_follows_a_reset(self) -> None:
        """
        Not even one that was waiting to be fetched.
        """
        channel_id = self.open()
        insider = Insider()
        packet = insider.seal(*stream_frames(channel_id, 0, [b"data"]))
        session = self.server.session
        session.receive_datagram(packet, self.pair.client_path, now=self.pair.now)
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


class BackpressureTests(Case):
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


class DatagramTests(Case):
    """
    UDP.
    """

    def get_datagrams(self) -> list[bytes]:
        """
        What the server received.
        """
        return [event.data for event in get_events(self.server, DataReceived)]

    def test_boundaries(self) -> None:
        """
        Datagrams stay whole and apart, in order, and empty ones too.
        """
        channel_id = self.open(UDP_TARGET)
        sent = [b"one", b"", b"three" * 200, b"4"]
        for data in sent:
            self.client.session.write(channel_id, data, now=self.pair.now)
        self.pair.run_for(0.3)
        self.assertEqual(self.get_datagrams(), sent)

    def test_the_first_datagram_waits_for_its_channel(self) -> None:
        """
        A DNS query is not lost because its channel is not accepted yet.
        """
        channel_id = self.client.session.open_channel(UDP_TARGET, now=self.pair.now)
        self.write(self.client, channel_id, b"query")
        self.assertEqual(self.get_datagrams(), [])
        self.server.session.accept_channel(channel_id, now=self.pair.now)
        self.server.flush()
        self.assertEqual(self.get_datagrams(), [b"query"])

    def test_none_is_delivered_late(self) -> None:
        """
        What waited during an outage is dropped (M-29).
        """
        channel_id = self.open(UDP_TARGET)
        self.pair.up.conditions = self.pair.down.conditions = DOWN
        self.pair.run_for(60)
        for number in range(1000):
            self.write(self.client, channel_id, b"%d" % number)
        self.pair.up.conditions = self.pair.down.conditions = PLAIN
        self.pair.run_for(30)
        self.write(self.client, channel_id, b"now")
        self.assertEqual(self.get_datagrams(), [b"now"])

    def test_one_that_is_too_large(self) -> None:
        """
        It vanishes alone.
        """
        channel_id = self.open(UDP_TARGET)
        self.client.session.write(channel_id, bytes(70_000), now=self.pair.now)
        self.write(self.client, channel_id, b"small")
        self.assertEqual(self.get_datagrams(), [b"small"])

    def test_nothing_follows_the_end(self) -> None:
        """
        What was written before it arrives before it.
        """
        channel_id = self.open(UDP_TARGET)
        for number in range(5):
            self.client.session.write(channel_id, bytes([number]) * 1000, now=self.pair.now)
        self.client.session.end(channel_id, now=self.pair.now)
        self.pair.run_for(0.5)
        self.assertEqual(len(self.get_datagrams()), 5)
        self.assertIsInstance(self.server.events[-1], ChannelEnded)

    def test_a_reader_that_sleeps(self) -> None:
        """
        Datagrams for it are dropped beyond its buffer.
        """
        self.make(configuration=ModernConfiguration(receive_buffer=5000))
        channel_id = self.open(UDP_TARGET)
        for _ in range(20):
            self.write(self.client, channel_id, bytes(1000))
        self.assertEqual(len(self.get_datagrams()), 5)


class CompressionTests(Case):
    """
    Channels that are compressed.
    """

    def test_both_ways(self) -> None:
        """
        What arrives is what was written, in fewer bytes, and the channel closes.
        """
        text = b"the same words again and again. " * 3000
        channel_id = self.open(compress=True)
        before = self.pair.up.counters.sent_bytes
        for host, other in ((self.client, self.server), (self.server, self.client)):
            self.write(host, channel_id, text)
            host.session.end(channel_id, now=self.pair.now)
            other.session.consume(channel_id, len(text), now=self.pair.now)
            self.assertEqual(get_received(other, channel_id), text)
        self.pair.run_for(2)
        self.assertLess(self.pair.up.counters.sent_bytes - before, len(text) // 10)
        self.assertEqual(self.client.events[-1], ChannelClosed(channel_id))

    def test_pieces_without_plain_bytes(self) -> None:
        """
        The end of a flush that comes in a packet of its own, after all was consumed, is no
        obstacle to the channel's end.
        """
        dice = random.Random(1)
        for size in range(1120, 1180):
            channel_id = self.open(compress=True)
            self.write(self.client, channel_id, dice.randbytes(size))
            self.server.session.consume(channel_id, size, now=self.pair.now)
            for host in (self.client, self.server):
                host.session.end(channel_id, now=self.pair.now)
        self.pair.run_for(1)
        self.assertEqual(len(get_events(self.client, ChannelClosed)), 60)
        self.assertEqual(len(get_events(self.server, ChannelClosed)), 60)

    def test_a_bomb(self) -> None:
        """
        No more than the receive buffer is inflated before the reader consumes.
        """
        self.make(configuration=ModernConfiguration(receive_buffer=50_000))
        channel_id = self.open(compress=True)
        self.write(self.client, channel_id, bytes(4_000_000))
        self.assertEqual(len(get_received(self.server, channel_id)), 50_000)
        for _ in range(79):
            self.server.session.consume(channel_id, 50_000, now=self.pair.now)
            self.server.flush()
        self.assertEqual(len(get_received(self.server, channel_id)), 4_000_000)

    def test_garbage(self) -> None:
        """
        It resets the channel, on both sides, and nothing else.
        """
        channel_id = self.open(compress=True)
        other_id = self.open()
        self.pair.down.conditions = DOWN  # the client does not know the insider's packet
        send_as_client(self.pair, Insider(), *stream_frames(channel_id, 0, [b"\xff" * 50]))
        expected = ChannelReset(channel_id, ResetCode.PROTOCOL)
        self.assertEqual(get_events(self.server, ChannelReset), [expected])
        self.write(self.client, other_id, b"fine")
        self.assertEqual(get_received(self.server, other_id), b"fine")


class IdTests(SynchronousTestCase):
    """
    :class:`ChannelIds`.
    """

    def test_each_id_is_used_once(self) -> None:
        """
        Ours by taking, the peer's by its frames (M-25).
        """
        ids = ChannelIds(is_client=False)
        self.assertEqual([ids.take(), ids.take()], [2, 4])
        self.assertTrue(ids.claim(7))
        self.assertFalse(ids.claim(7))
        self.assertTrue(ids.claim(1))

    def test_ours_cannot_be_claimed(self) -> None:
        """
        Of channels that are over nothing is wanted; others were never there.
        """
        ids = ChannelIds(is_client=True)
        ids.take()
        self.assertFalse(ids.claim(1))
        with self.assertRaises(ProtocolError):
            ids.claim(3)

    def test_far_ahead(self) -> None:
        """
        Packets overtake each other, but not thousands of channels.
        """
        ids = ChannelIds(is_client=False)
        with self.assertRaises(ProtocolError):
            ids.claim(2 * ID_LEAD + 3)
        self.assertTrue(ids.claim(2 * ID_LEAD + 1))

    def test_gaps_are_bounded(self) -> None:
        """
        A peer that leaves every other id out loses the oldest of them.
        """
        ids = ChannelIds(is_client=False)
        for number in range(2 * MAX_USED_RANGES):
            self.assertTrue(ids.claim(4 * number + 1))
        self.assertFalse(ids.claim(3))
        self.assertTrue(ids.claim(4 * (2 * MAX_USED_RANGES - 2) + 3))
