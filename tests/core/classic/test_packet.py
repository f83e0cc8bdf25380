"""
Tests of :mod:`resip.core.classic.packet`; the published bytes are in ``test_vectors``.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.cipher import DoubleCipher
from resip.core.classic.packet import (
    MAXIMUM_PACKET_SIZE,
    Flag,
    InnerPacket,
    OuterPacket,
    OuterWrapper,
    PacketCodec,
    build_inner,
    capacity,
    parse_inner,
)
from resip.core.errors import ProtocolError
from tests.support.classic import SessionMaker

FLAGS = st.sets(st.sampled_from([int(flag) for flag in Flag])).map(sum)
CHANNEL_IDS = st.integers(0, 2**32 - 1)
NUMBERS = st.integers(0, 2**64 - 1)
MAKER = SessionMaker()


class InnerPacketTests(SynchronousTestCase):
    """
    The inner packet's layout.
    """

    @given(FLAGS, CHANNEL_IDS, NUMBERS, st.binary(max_size=100), st.binary(max_size=40))
    def test_round_trip(
        self, flags: int, channel_id: int, number: int, data: bytes, padding: bytes
    ) -> None:
        """
        What was built parses to the same, whatever pads it.
        """
        packet = InnerPacket(flags, channel_id, number, data)
        self.assertEqual(parse_inner(build_inner(packet, b"." + padding)), packet)

    @given(st.binary(max_size=520))
    def test_any_bytes_parse_or_raise_protocol_errors(self, plaintext: bytes) -> None:
        """
        There is no other exception, and never more data than there are bytes.
        """
        try:
            packet = parse_inner(plaintext)
        except ProtocolError:
            return
        self.assertLessEqual(len(packet.data) + 6, len(plaintext))

    def test_capacities(self) -> None:
        """
        474 bytes with the smallest integers, one less for each further byte of them.
        """
        self.assertEqual(capacity(480, 1, 1), 474)
        self.assertEqual(capacity(480, 255, 256), 473)
        self.assertEqual(capacity(480, 2**32 - 1, 2**64 - 1), 464)

    def test_no_data_is_legal(self) -> None:
        """
        A packet of size 0 parses, even if nothing follows its header.
        """
        self.assertEqual(parse_inner(b".\x00\x01\x01\x00\x00"), InnerPacket(0, 1, 1, b""))

    def test_data_beyond_the_packet_is_refused(self) -> None:
        """
        The size may fill the packet, and not go a byte further.
        """
        self.assertEqual(parse_inner(b".\x00\x01\x01\x00\x02ab").data, b"ab")
        self.assertRaises(ProtocolError, parse_inner, b".\x00\x01\x01\x00\x03ab")

    def test_cut_headers_are_refused(self) -> None:
        """
        A header that is not there whole is no header.
        """
        header = b".\x00\x01\x01\x00\x00"
        for size in range(len(header)):
            self.assertRaises(ProtocolError, parse_inner, header[:size])

    def test_integers_need_not_be_minimal(self) -> None:
        """
        Channel 1 in four bytes and number 2 in eight are what they are.
        """
        plaintext = b".\x1f" + (1).to_bytes(4) + (2).to_bytes(8) + b"\x00\x01x"
        self.assertEqual(parse_inner(plaintext), InnerPacket(0, 1, 2, b"x"))


class OuterWrapperTests(SynchronousTestCase):
    """
    The wrapper that all sessions of a server share.
    """

    @given(st.binary(max_size=600))
    def test_any_bytes_open_or_raise_protocol_errors(self, packet: bytes) -> None:
        """
        There is no other exception.
        """
        try:
            MAKER.make_codec().outer.open(packet)
        except ProtocolError:
            return
        self.assertIn(len(packet), (512, 528))

    def test_only_two_sizes_open(self) -> None:
        """
        The agreed size, and that of the prototype's overflow.
        """
        outer = OuterWrapper(MAKER.master)
        for size in (0, 1, 511, 513, 496, 544, 65_536):
            self.assertRaises(ProtocolError, outer.open, bytes(size))

    def test_another_type_is_refused(self) -> None:
        """
        The low nibble of the type tells the dialect; the high one is ignored.
        """
        outer, cipher = OuterWrapper(MAKER.master), DoubleCipher(MAKER.master)
        for type_byte, is_ours in ((0x00, True), (0xF0, True), (0x01, False), (0xFF, False)):
            packet = cipher.encrypt(bytes((0, type_byte)) + bytes(510))
            if is_ours:
                self.assertEqual(outer.open(packet), OuterPacket(0, bytes(480), bytes(20)))
            else:
                self.assertRaises(ProtocolError, outer.open, packet)

    def test_impossible_sizes_are_refused(self) -> None:
        """
        Sizes are multiples of 16 from 64 on, below what a datagram holds.
        """
        for size in (0, 48, 63, 65, 500, MAXIMUM_PACKET_SIZE + 16):
            self.assertRaises(ValueError, OuterWrapper, MAKER.master, size)
        for size in (64, 512, 1024, MAXIMUM_PACKET_SIZE):
            self.assertEqual(OuterWrapper(MAKER.master, size).packet_size, size)


class PacketCodecTests(SynchronousTestCase):
    """
    One session's packets.
    """

    @given(
        FLAGS,
        CHANNEL_IDS,
        NUMBERS,
        st.binary(max_size=900),
        st.sampled_from([64, 80, 512, 1024]),
        st.sampled_from([16, 20]),
        st.booleans(),
    )
    def test_round_trip(
        self,
        flags: int,
        channel_id: int,
        number: int,
        data: bytes,
        packet_size: int,
        sign_size: int,
        has_marker: bool,
    ) -> None:
        """
        Sealed packets have the agreed size, and open to the same at the other end.
        """
        maker = SessionMaker(sign_size=sign_size, packet_size=packet_size)
        near, far = maker.make_codec(), maker.make_codec()
        near.ends_with_marker = has_marker
        data = data[: near.capacity(channel_id, number)]
        packet = InnerPacket(flags, channel_id, number, data)
        sealed = near.seal(packet)
        self.assertEqual(len(sealed), packet_size)
        self.assertEqual(far.open(far.outer.open(sealed)), packet)

    def test_any_flipped_bit_of_the_inner_packet_is_noticed(self) -> None:
        """
        The signature covers every byte of the inner ciphertext, and itself.
        """
        codec = MAKER.make_codec()
        outer = codec.outer.open(codec.seal(InnerPacket(0, 1, 1, b"data")))
        for index in range(len(outer.inner)):
            forged = bytearray(outer.inner)
            forged[index] ^= 1
            packet = OuterPacket(outer.session_id, bytes(forged), outer.tail)
            self.assertRaises(ProtocolError, codec.open, packet)
        tail = outer.tail[:-1] + bytes((outer.tail[-1] ^ 1,))
        packet = OuterPacket(outer.session_id, outer.inner, tail)
        self.assertRaises(ProtocolError, codec.open, packet)

    def test_the_signature_is_as_long_as_its_hash(self) -> None:
        """
        With MD5 the first four bytes of the tail are filler, which anybody could change.
        """
        for sign_size in (16, 20):
            codec: PacketCodec = SessionMaker(sign_size=sign_size).make_codec()
            outer = codec.outer.open(codec.seal(InnerPacket(0, 1, 1, b"data")))
            self.assertEqual(codec.signature(outer), outer.tail[-sign_size:])

    def test_keys_do_not_show(self) -> None:
        """
        The representation of a codec tells no key.
        """
        codec = MAKER.make_codec()
        self.assertNotIn(repr(MAKER.keys.sign)[2:-1], repr(codec))
        self.assertNotIn(repr(MAKER.keys.ciphers.key1)[2:-1], repr(codec))
