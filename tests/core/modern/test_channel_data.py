"""
Tests of :mod:`resip.core.modern.channels`: datagrams, and streams that are compressed.
"""

from __future__ import annotations

import random
from dataclasses import replace

from resip.core.errors import ResetCode
from resip.core.events import ChannelClosed, ChannelEnded, ChannelReset, DataReceived
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.frames import stream_frames
from tests.support.modern import DOWN, Insider, ModernCase, send_as_client
from tests.support.pair import PLAIN, UDP_TARGET, get_events, get_received


class DatagramTests(ModernCase):
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

    def test_a_probe_timeout_repeats_none(self) -> None:
        """
        What is sent several times to have an answer has no datagram in it (M-29).
        """
        channel_id = self.open(UDP_TARGET)
        self.client.session.write(channel_id, b"lost", now=self.pair.now)
        self.client.session.datagrams_to_send(now=self.pair.now)
        late = self.pair.now + 1
        self.client.session.handle_timer(now=late)
        self.client.session.write(channel_id, b"once", now=late)
        packets = [
            packet
            for path, batch in self.client.session.datagrams_to_send(now=late)
            for packet in batch
        ]
        self.assertGreater(len(packets), 1, "the timeout asks for several")
        for packet in packets:
            self.server.receive(packet, self.pair.client_path)
        self.assertEqual(self.get_datagrams(), [b"once"])

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


class CompressionTests(ModernCase):
    """
    Channels that are compressed.
    """

    def test_both_ways(self) -> None:
        """
        What arrives is what was written, in fewer bytes, and the channel closes.
        """
        self.make(replace(PLAIN, mtu=1500))  # larger probes of the MTU would outweigh the text
        text = b"the same words again and again. " * 6000
        channel_id = self.open(compress=True)
        before = self.pair.up.counters.sent_bytes
        for host, other in ((self.client, self.server), (self.server, self.client)):
            self.write(host, channel_id, text)
            host.session.end(channel_id, now=self.pair.now)
            other.session.consume(channel_id, len(text), now=self.pair.now)
            self.assertEqual(get_received(other, channel_id), text)
        self.pair.run_for(2)
        self.assertLess(self.pair.up.counters.sent_bytes - before, len(text) // 5)
        self.assertEqual(get_events(self.client, ChannelClosed), [ChannelClosed(channel_id)])

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
