"""
Tests of :mod:`resip.core.classic.sender`.
"""

from __future__ import annotations

import zlib
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.packet import Flag, InnerPacket, capacity
from resip.core.classic.sender import STREAM_MESSAGE_SIZE, ChannelSender

CHANNEL = 7
BUFFER = 256 * 1024


def make_sender(
    *,
    is_datagram: bool = False,
    compress: bool = False,
    buffer_size: int = BUFFER,
    max_message: int = 128 * 468,
    flags: int = 0,
) -> ChannelSender:
    """
    A sender; what is not given is as in a session.
    """
    return ChannelSender(
        CHANNEL,
        flags=flags,
        is_datagram=is_datagram,
        compress=compress,
        buffer_size=buffer_size,
        max_message=max_message,
    )


def fits(channel_id: int, number: int) -> int:
    """
    The capacity of packets of the usual size.
    """
    return capacity(480, channel_id, number)


def send_all(sender: ChannelSender) -> list[InnerPacket]:
    """
    Every packet there is to send.
    """
    packets = []
    while sender.has_data:
        packets.append(sender.next_packet(fits))
    return packets


def messages(packets: list[InnerPacket]) -> list[list[InnerPacket]]:
    """
    The packets of each message.
    """
    grouped: list[list[InnerPacket]] = [[]]
    for packet in packets:
        grouped[-1].append(packet)
        if not packet.flags & Flag.MORE:
            grouped.append([])
    assert not grouped.pop(), "the last message is complete"
    return grouped


def payload(packets: list[InnerPacket]) -> bytes:
    """
    All data, in order.
    """
    return b"".join(packet.data for packet in packets)


class StreamTests(SynchronousTestCase):
    """
    Writes become messages, messages become packets.
    """

    @given(st.lists(st.integers(0, 5000), max_size=20), st.integers(1, 5))
    def test_bytes_keep_their_order(self, sizes: list[int], seed: int) -> None:
        """
        However they were written, the packets carry the bytes in order, numbered from 1.
        """
        random = Random(seed)
        sender, written = make_sender(), b""
        for size in sizes:
            data = random.randbytes(size)
            self.assertEqual(sender.write(data), size)
            written += data
        packets = send_all(sender)
        self.assertEqual(payload(packets), written)
        self.assertEqual([p.number for p in packets], list(range(1, len(packets) + 1)))
        self.assertEqual(sender.last_number, len(packets))

    def test_small_writes_share_a_packet(self) -> None:
        """
        What waits is joined: two words need one packet.
        """
        sender = make_sender()
        sender.write(b"two ")
        sender.write(b"words")
        self.assertEqual(send_all(sender), [InnerPacket(0, CHANNEL, 1, b"two words")])

    def test_packets_are_filled(self) -> None:
        """
        Every packet of a long message but the last holds what fits; only the last ends it.
        """
        sender = make_sender()
        sender.write(bytes(1000))
        packets = send_all(sender)
        self.assertEqual([len(packet.data) for packet in packets], [474, 474, 52])
        self.assertEqual([packet.flags for packet in packets], [Flag.MORE, Flag.MORE, 0])

    def test_messages_are_bounded(self) -> None:
        """
        A long write becomes several messages of the usual size.
        """
        sender = make_sender()
        sender.write(bytes(100_000))
        sizes = [len(payload(message)) for message in messages(send_all(sender))]
        self.assertEqual(sizes, [STREAM_MESSAGE_SIZE] * 3 + [100_000 - 3 * STREAM_MESSAGE_SIZE])
        self.assertEqual(sender.messages, 4)

    @given(st.booleans(), st.integers(1, 128), st.integers(64, 512).map(lambda n: n // 16 * 16))
    def test_no_message_has_more_fragments_than_granted(
        self, compress: bool, max_fragments: int, packet_size: int
    ) -> None:
        """
        For every packet size and every grant, even if the data grows when compressed.
        """

        def small(channel_id: int, number: int) -> int:
            return capacity(packet_size - 32, channel_id, number)

        max_message = max_fragments * small(CHANNEL, 2**40 - 1)
        if compress and max_message < 40:
            return  # one fragment of the smallest packets holds no compressed message
        sender = make_sender(compress=compress, max_message=max_message)
        data = Random(1).randbytes(40_000)
        sender.write(data)
        packets = []
        while sender.has_data:
            packets.append(sender.next_packet(small))
        self.assertLessEqual(max(map(len, messages(packets))), max_fragments)
        if not compress:
            self.assertEqual(payload(packets), data)

    def test_the_buffer_is_bounded(self) -> None:
        """
        A write is accepted as far as there is room; sending makes room.
        """
        sender = make_sender(buffer_size=1000)
        self.assertEqual(sender.write(bytes(600)), 600)
        self.assertEqual(sender.write(bytes(600)), 400)
        self.assertEqual((sender.room, sender.write(b"x")), (0, 0))
        sender.next_packet(fits)
        self.assertEqual(sender.room, 1000)

    def test_the_direction_is_marked(self) -> None:
        """
        A server's packets say so, the empty ones too.
        """
        sender = make_sender(flags=Flag.FROM_SERVER)
        sender.write(b"x")
        sender.push()
        flags = [packet.flags for packet in send_all(sender)]
        self.assertEqual(flags, [Flag.FROM_SERVER, Flag.FROM_SERVER])


class CompressionTests(SynchronousTestCase):
    """
    Each message is a deflate stream of its own.
    """

    def test_messages_inflate_one_by_one(self) -> None:
        """
        Each message inflates without the others, and all of its packets carry the flag.
        """
        sender = make_sender(compress=True)
        text = b"".join(b"line %d\n" % index for index in range(20_000))
        self.assertEqual(sender.write(text), len(text))
        plain = b""
        for message in messages(send_all(sender)):
            self.assertTrue(all(packet.flags & Flag.COMPRESSED for packet in message))
            stream = zlib.decompressobj(-zlib.MAX_WBITS)
            plain += stream.decompress(payload(message))
            self.assertTrue(stream.eof)
        self.assertEqual(plain, text)

    def test_pushes_are_not_compressed(self) -> None:
        """
        An empty packet has nothing to inflate, and no flag that says so.
        """
        sender = make_sender(compress=True)
        sender.push()
        self.assertEqual(send_all(sender), [InnerPacket(0, CHANNEL, 1, b"")])


class DatagramTests(SynchronousTestCase):
    """
    One datagram, one message.
    """

    def test_boundaries_are_kept(self) -> None:
        """
        Each datagram is one message, a long one in fragments.
        """
        sender = make_sender(is_datagram=True)
        datagrams = [b"one", b"x" * 1400, b"three"]
        for datagram in datagrams:
            sender.write(datagram)
        self.assertEqual([payload(m) for m in messages(send_all(sender))], datagrams)

    def test_a_datagram_is_accepted_whole_or_not_at_all(self) -> None:
        """
        When it does not fit the buffer nothing of it is queued.
        """
        sender = make_sender(is_datagram=True, buffer_size=1000)
        sender.write(bytes(600))
        self.assertEqual(sender.write(bytes(600)), 0)
        self.assertEqual(sender.write(bytes(400)), 400)

    def test_an_empty_datagram_is_not_accepted(self) -> None:
        """
        There is nothing to send after it.
        """
        sender = make_sender(is_datagram=True)
        self.assertEqual(sender.write(b""), 0)
        self.assertFalse(sender.has_data)

    def test_a_datagram_that_fits_no_message_is_not_accepted(self) -> None:
        """
        Its fragments would be more than granted, and the receiver would reset the channel.
        """
        sender = make_sender(is_datagram=True, max_message=2000)
        self.assertEqual(sender.write(bytes(2001)), 0)
        self.assertEqual(sender.write(bytes(2000)), 2000)


class PushTests(SynchronousTestCase):
    """
    Packets without data.
    """

    def test_a_push_is_one_message_after_the_data(self) -> None:
        """
        Three pushes are three fragments, behind what was queued.
        """
        sender = make_sender()
        sender.write(b"data")
        sender.push(3)
        expected = [(b"data", 0), (b"", Flag.MORE), (b"", Flag.MORE), (b"", 0)]
        self.assertEqual([(p.data, p.flags) for p in send_all(sender)], expected)

    def test_pushes_do_not_add_up(self) -> None:
        """
        The largest one counts.
        """
        sender = make_sender()
        sender.push(2)
        sender.push(1)
        self.assertEqual(len(send_all(sender)), 2)

    def test_discard(self) -> None:
        """
        After it there is nothing to send, and all the room there was at first.
        """
        sender = make_sender()
        sender.write(bytes(100_000))
        sender.next_packet(fits)
        sender.push()
        sender.discard()
        self.assertEqual((sender.has_data, sender.room), (False, BUFFER))
