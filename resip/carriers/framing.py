"""
How packets lie in a stream of bytes: one way for each dialect.

A modern connection begins with :data:`PREAMBLE_SIZE` bytes from the side that dialled, the id of
its session, by which a server that speaks both dialects tells the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from resip.core.errors import ProtocolError
from resip.core.trains import MIN_PACKET_SIZE

#: Bytes by which a listening side tells the dialects apart.
PREAMBLE_SIZE = 4
#: Bytes of the largest packet whose length the prefix can tell.
MAX_PACKET_SIZE = 0xFFFF
#: Modern packets in a row that may fail to authenticate before the stream is given up. Few fail
#: in one that is in order: duplicates, and those sealed with a key from before an update.
MAX_BAD_PACKETS = 16

_LENGTH_SIZE = 2


class Framing(Protocol):
    """
    One connection's way between packets and bytes.
    """

    @property
    def has_preamble(self) -> bool:
        """
        Whether the bytes by which a listening side chose this framing are no packet's.
        """

    @property
    def max_bad_packets(self) -> int:
        """
        So many packets in a row that are not authentic mean that the stream is out of step.
        """

    @property
    def kept(self) -> int:
        """
        Bytes of an incomplete packet that are kept.
        """

    def feed(self, data: bytes) -> list[bytes]:
        """
        Take bytes of the stream, return the packets that they complete.

        :raises ProtocolError: when no packet can look like this. What the same bytes completed
            before is lost; so is the stream.
        """

    def wrap(self, packets: Sequence[bytes]) -> list[bytes]:
        """
        The bytes that stand for packets, in pieces: large packets are not copied.

        :raises ValueError: when a packet has a size that the framing cannot carry.
        """


class BlockFraming:
    """
    Packets of one size, back to back: the classic dialect.

    Nothing marks where a packet begins, so one that is not authentic is the end of the stream.

    :param packet_size: bytes of every packet, at least 1.
    """

    has_preamble = False
    max_bad_packets = 1

    def __init__(self, packet_size: int) -> None:
        if packet_size < 1:
            raise ValueError(f"packets of {packet_size} bytes; at least 1")
        self._packet_size = packet_size
        self._buffer = b""

    @property
    def kept(self) -> int:
        """
        See :class:`Framing`; less than a packet.
        """
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """
        See :class:`Framing`; raises nothing.
        """
        size = self._packet_size
        data = self._buffer + data
        end = len(data) - len(data) % size
        self._buffer = data[end:]
        return [data[start : start + size] for start in range(0, end, size)]

    def wrap(self, packets: Sequence[bytes]) -> list[bytes]:
        """
        See :class:`Framing`.
        """
        for packet in packets:
            if len(packet) != self._packet_size:
                raise ValueError(f"a packet of {len(packet)} bytes, not {self._packet_size}")
        return list(packets)


class PrefixFraming:
    """
    Each packet behind its length: the modern dialect.

    ::

        0        2                length + 2
        +--------+----------------+
        | length | packet         |
        +--------+----------------+
    """

    has_preamble = True
    max_bad_packets = MAX_BAD_PACKETS

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def kept(self) -> int:
        """
        See :class:`Framing`; at most a length and :data:`MAX_PACKET_SIZE`.
        """
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """
        See :class:`Framing`; a length below 25 bytes is the one error (M-14).
        """
        packets, at = self._complete(data)
        while len(data) - at >= _LENGTH_SIZE:
            start = at + _LENGTH_SIZE
            end = start + _packet_size(data, at)
            if end > len(data):
                break
            packets.append(data[start:end])
            at = end
        self._buffer += data[at:]
        return packets

    def wrap(self, packets: Sequence[bytes]) -> list[bytes]:
        """
        See :class:`Framing`.
        """
        pieces = []
        for packet in packets:
            size = len(packet)
            if not MIN_PACKET_SIZE <= size <= MAX_PACKET_SIZE:
                raise ValueError(
                    f"a packet of {size} bytes, not {MIN_PACKET_SIZE} to {MAX_PACKET_SIZE}"
                )
            pieces += [size.to_bytes(_LENGTH_SIZE, "big"), packet]
        return pieces

    def _complete(self, data: bytes) -> tuple[list[bytes], int]:
        """
        Only the packet that is kept is put together; all others are cut out of ``data`` itself.

        :return: that packet, if it is whole now, and how much of ``data`` it took.
        """
        kept = self._buffer
        taken = 0
        while kept:
            whole = _LENGTH_SIZE
            if len(kept) >= _LENGTH_SIZE:
                whole += _packet_size(kept, 0)
            piece = data[taken : taken + whole - len(kept)]
            if not piece:
                break
            kept += piece
            taken += len(piece)
            if len(kept) == whole > _LENGTH_SIZE:
                packet = bytes(kept[_LENGTH_SIZE:])
                kept.clear()
                return [packet], taken
        return [], taken


def _packet_size(stream: bytes | bytearray, at: int) -> int:
    size = stream[at] << 8 | stream[at + 1]
    if size < MIN_PACKET_SIZE:
        raise ProtocolError(f"a packet of {size} bytes; at least {MIN_PACKET_SIZE}")
    return size
