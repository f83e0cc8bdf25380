"""
Tests of :mod:`resip.core.modern.handshake_packets`, by the numbers of docs/protocol.md.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.framing import PREAMBLE_SIZE
from resip.core.modern.handshake_packets import MAX_MESSAGE1_SIZE, HandshakePackets
from tests.core.modern.test_handshake import (
    HELLO,
    SERVER_PUBLIC_KEY,
    WELCOME,
    client_handshake,
    seeded,
    server_handshake,
)


class HandshakePacketsTests(SynchronousTestCase):
    """
    Both messages of a handshake.
    """

    def setUp(self) -> None:
        """
        Make the codec and both packets of a handshake.
        """
        self.packets = HandshakePackets(SERVER_PUBLIC_KEY)
        client, server = client_handshake(), server_handshake()
        server.read(client.message1)
        self.message1, self.message2 = client.message1, server.answer(WELCOME)[0]
        self.packet1 = self.packets.wrap_message1(self.message1, seeded(5).randbytes)
        self.packet2 = self.packets.wrap_message2(HELLO.session_id, self.message2)

    def test_round_trip(self) -> None:
        """
        Both messages come out as they went in, message 2 with the client's id.
        """
        self.assertEqual(self.packets.unwrap_message1(self.packet1), self.message1)
        unwrapped = self.packets.unwrap_message2(self.packet2)
        self.assertEqual(unwrapped, (HELLO.session_id, self.message2))

    def test_sizes(self) -> None:
        """
        Message 1 fills 1,200 bytes and the answer is smaller, so nothing is amplified (M-20).
        """
        self.assertEqual(len(self.packet1), 1200)
        self.assertLess(len(self.packet2), 1200)

    def test_nothing_stands_in_the_clear(self) -> None:
        """
        The id 0 is masked, differently for each message 1, and the padding is random.
        """
        other = self.packets.wrap_message1(client_handshake(seed=8).message1, seeded(6).randbytes)
        self.assertNotEqual(self.packet1[:2], bytes(2))
        self.assertNotEqual(self.packet1[:4], other[:4])
        self.assertGreater(len(set(self.packet1[-400:])), 100)

    def test_every_changed_byte_is_noticed(self) -> None:
        """
        A packet with any bit flipped has no valid mac and is ignored (M-19).
        """
        for at in range(1200):
            forged = bytearray(self.packet1)
            forged[at] ^= 1
            self.assertIsNone(self.packets.unwrap_message1(bytes(forged)))
        for at in range(len(self.packet2)):
            forged = bytearray(self.packet2)
            forged[at] ^= 1
            self.assertIsNone(self.packets.unwrap_message2(bytes(forged)))

    def test_other_sizes(self) -> None:
        """
        A message 1 that is cut short, or larger than 1,200 bytes, is ignored (M-20).
        """
        for packet in (self.packet1[:-1], self.packet1 + b"\0", b"", self.packet1[:300]):
            self.assertIsNone(self.packets.unwrap_message1(packet))
        self.assertIsNone(self.packets.unwrap_message2(self.packet2[:40]))

    def test_another_server(self) -> None:
        """
        The mac of one server is nothing to another (M-19).
        """
        self.assertIsNone(HandshakePackets(bytes(32)).unwrap_message1(self.packet1))

    def test_the_longest_message(self) -> None:
        """
        The longest message 1 fills its packet without padding; a longer one is refused.
        """
        longest = seeded(7).randbytes(MAX_MESSAGE1_SIZE)
        packet = self.packets.wrap_message1(longest, seeded(8).randbytes)
        self.assertEqual(self.packets.unwrap_message1(packet), longest)
        with self.assertRaises(ValueError):
            self.packets.wrap_message1(longest + b"\0", seeded(8).randbytes)

    def test_stream_id(self) -> None:
        """
        What a connection with a handshake begins with depends on the server's key alone (M-53).
        """
        again = HandshakePackets(SERVER_PUBLIC_KEY)
        self.assertEqual(len(self.packets.stream_id), PREAMBLE_SIZE)
        self.assertEqual(self.packets.stream_id, again.stream_id)
        self.assertNotEqual(self.packets.stream_id, HandshakePackets(bytes(32)).stream_id)
