"""
Packets of the classic dialect: the inner packet, its wrapper, and the outer wrapper.

::

    inner plaintext P   random(1) | flags | channel | packet number | size u16 | data | random
    inner ciphertext I  the session's double cipher over P
    outer plaintext O   random(1) | type | session id u32 | I | random | HMAC(sign, I)
    on the wire         the master's double cipher over O, 512 bytes unless granted otherwise

All integers are big-endian. The random bytes of O fill it up to 32 bytes more than I.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from resip.core.classic.cipher import BLOCK_SIZE, CipherKeys, DoubleCipher, SessionKeys, Signer
from resip.core.classic.integers import packed_size
from resip.core.errors import ProtocolError
from resip.core.types import RandomBytes

#: What the outer wrapper adds to the inner packet.
OUTER_OVERHEAD = 32
DEFAULT_PACKET_SIZE = 512
#: The prototype's sender, once its inner block has overflowed by one byte, sends these for good.
OVERFLOWED_PACKET_SIZE = 528
MINIMUM_PACKET_SIZE = 64
#: Packets of more bytes than any grant allows are not worth a decryption.
MAXIMUM_PACKET_SIZE = 65_504
#: Low nibble of the type byte; the high nibble is ignored.
PACKET_TYPE = 0

_HEADER_SIZE = 6


class Flag(IntEnum):
    """
    Bits of the inner packet's flags byte; its other bits hold two integer sizes.

    Not an ``IntFlag``, whose operators make objects: they cost 4 % of a bulk transfer.
    """

    FROM_SERVER = 0x80
    COMPRESSED = 0x40
    MORE = 0x20


_CHANNEL_SIZE_SHIFT = 3


class InnerPacket(NamedTuple):
    """
    One inner packet, unwrapped.

    :ivar flags: :class:`Flag` bits only.
    :ivar channel_id: 0 for commands.
    :ivar number: from 1 for each channel and direction; 0 on channel 0 is unordered.
    :ivar data: 0 to 474 bytes with one-byte channel and number.
    """

    flags: int
    channel_id: int
    number: int
    data: bytes


def capacity(inner_size: int, channel_id: int, number: int) -> int:
    """
    How many bytes of data an inner packet of ``inner_size`` bytes holds.
    """
    return inner_size - 4 - packed_size(channel_id) - packed_size(number)


def build_inner(packet: InnerPacket, padding: bytes) -> bytes:
    """
    The plaintext of an inner packet.

    :param padding: first byte and tail; its length decides the length of the result.
    """
    channel_size = packed_size(packet.channel_id)
    number_size = packed_size(packet.number)
    flags = packet.flags | (channel_size - 1) << _CHANNEL_SIZE_SHIFT | (number_size - 1)
    return b"".join(
        (
            padding[:1],
            flags.to_bytes(),
            packet.channel_id.to_bytes(channel_size),
            packet.number.to_bytes(number_size),
            len(packet.data).to_bytes(2),
            packet.data,
            padding[1:],
        )
    )


def parse_inner(plaintext: bytes) -> InnerPacket:
    """
    Read the plaintext of an inner packet. Integers need not be minimal.

    :raises ProtocolError: when its data would be longer than the packet.
    """
    if len(plaintext) < 2:
        raise ProtocolError(f"inner packet of {len(plaintext)} bytes")
    flags = plaintext[1]
    number_at = 3 + (flags >> _CHANNEL_SIZE_SHIFT & 0x03)
    size_at = number_at + 1 + (flags & 0x07)
    data_at = size_at + 2
    end = data_at + int.from_bytes(plaintext[size_at:data_at])
    if end > len(plaintext) or data_at > len(plaintext):
        raise ProtocolError(f"data up to byte {end} of an inner packet of {len(plaintext)}")
    return InnerPacket(
        flags & 0xE0,
        int.from_bytes(plaintext[2:number_at]),
        int.from_bytes(plaintext[number_at:size_at]),
        plaintext[data_at:end],
    )


class OuterPacket(NamedTuple):
    """
    The outer wrapper taken off. Nothing here is authenticated yet.

    :ivar session_id: whose packet it claims to be.
    :ivar inner: the inner ciphertext.
    :ivar tail: the last 20 bytes, at whose end the HMAC stands.
    """

    session_id: int
    inner: bytes
    tail: bytes


class OuterWrapper:
    """
    The wrapper with the master keys, which one server uses for all its sessions.

    :param packet_size: bytes on the wire, a multiple of 16, from 64 on.
    """

    def __init__(self, master: CipherKeys, packet_size: int = DEFAULT_PACKET_SIZE) -> None:
        if (
            packet_size % BLOCK_SIZE
            or not MINIMUM_PACKET_SIZE <= packet_size <= MAXIMUM_PACKET_SIZE
        ):
            raise ValueError(f"packet size {packet_size} is not a multiple of 16 in range")
        self.packet_size = packet_size
        #: Sizes that :meth:`open` accepts; the second is the prototype's overflow.
        self._accepted_sizes = {packet_size, packet_size + BLOCK_SIZE}
        self._cipher = DoubleCipher(master)

    def seal(self, session_id: int, inner: bytes, signature: bytes, filler: bytes) -> bytes:
        """
        Wrap an inner ciphertext.

        :param filler: random; the first byte and what stands before the signature.
        """
        header = filler[:1] + PACKET_TYPE.to_bytes() + session_id.to_bytes(4)
        return self._cipher.encrypt(b"".join((header, inner, filler[1:], signature)))

    def open(self, packet: bytes) -> OuterPacket:
        """
        Unwrap a packet from the wire.

        :raises ProtocolError: for a size or type that no classic packet has.
        """
        if len(packet) not in self._accepted_sizes:
            raise ProtocolError(f"packet of {len(packet)} bytes, not {self.packet_size}")
        outer = self._cipher.decrypt(packet)
        if outer[1] & 0x0F != PACKET_TYPE:
            raise ProtocolError(f"packet type {outer[1] & 0x0F}, not {PACKET_TYPE}")
        inner_end = len(outer) - OUTER_OVERHEAD + _HEADER_SIZE
        return OuterPacket(
            int.from_bytes(outer[2:_HEADER_SIZE]), outer[_HEADER_SIZE:inner_end], outer[-20:]
        )


@dataclass(slots=True)
class PacketCodec:
    """
    Seals and opens the packets of one session.

    :ivar session_id: u32.
    :ivar outer: shared by all sessions of a server.
    :ivar ends_with_marker: every inner plaintext ends with 0x01, for a peer whose decryption
        strips block padding. Costs one byte of capacity.
    """

    session_id: int
    outer: OuterWrapper
    keys: SessionKeys
    random_bytes: RandomBytes
    ends_with_marker: bool = False

    _cipher: DoubleCipher | None = None
    _signer: Signer | None = None

    def capacity(self, channel_id: int, number: int) -> int:
        """
        How many bytes of data a packet of this channel with this number holds.
        """
        room = capacity(self.outer.packet_size - OUTER_OVERHEAD, channel_id, number)
        return room - self.ends_with_marker

    def seal(self, packet: InnerPacket) -> bytes:
        """
        The packet as it goes on the wire. Its data must fit :meth:`capacity`.
        """
        cipher, signer = self._contexts()
        inner_size = self.outer.packet_size - OUTER_OVERHEAD
        padding_size = capacity(inner_size, packet.channel_id, packet.number) - len(packet.data) + 1
        filler_size = OUTER_OVERHEAD - signer.digest_size - _HEADER_SIZE + 1
        random = self.random_bytes(padding_size + filler_size)
        padding = random[:padding_size]
        if self.ends_with_marker:
            padding = padding[:-1] + b"\x01"
        inner = cipher.encrypt(build_inner(packet, padding))
        return self.outer.seal(self.session_id, inner, signer.sign(inner), random[padding_size:])

    def open(self, packet: OuterPacket) -> InnerPacket:
        """
        Authenticate and decrypt.

        :raises ProtocolError: for a wrong signature, and for what :func:`parse_inner` refuses.
        """
        cipher, signer = self._contexts()
        if not signer.verify(packet.inner, self.signature(packet)):
            raise ProtocolError("the signature does not belong to the packet")
        return parse_inner(cipher.decrypt(packet.inner))

    def signature(self, packet: OuterPacket) -> bytes:
        """
        The HMAC alone: what stands before a short one in the tail is not authenticated.
        """
        return packet.tail[-self.keys.hash_name.digest_size :]

    def _contexts(self) -> tuple[DoubleCipher, Signer]:
        # Built on first use: a session that was granted but never used costs only its keys.
        if self._cipher is None or self._signer is None:
            self._cipher = DoubleCipher(self.keys.ciphers)
            self._signer = Signer(self.keys)
        return self._cipher, self._signer
