"""
The receiving half of a channel: from numbered pieces to what the application reads.
"""

from __future__ import annotations

import zlib
from enum import Enum

from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.packet import Flag, InnerPacket
from resip.core.errors import ProtocolError


class Arrival(Enum):
    """
    What became of a packet.
    """

    #: Kept; acknowledge it.
    NEW = "new"
    #: Was there before; acknowledge it again, since the first acknowledgement may be lost.
    DUPLICATE = "duplicate"
    #: Not kept and not acknowledged: its sender will repeat it when there is room.
    REFUSED = "refused"


class ChannelReceiver:
    """
    Puts packets in order and messages together, no faster than the application consumes.

    Packets the application has no room for stay packed, as do those after a missing one. What
    does not fit the window is refused: not acknowledging is the only flow control there is.

    :ivar next_number: the first number that was not handed to the application.
    :ivar last: the last number there will be, once the peer said so.
    :ivar unconsumed: bytes handed out and not consumed.
    :ivar has_refused: packets were refused since the peer was last told of new room.
    """

    def __init__(
        self, configuration: ClassicConfiguration, *, is_datagram: bool, compress: bool
    ) -> None:
        self._configuration = configuration
        self._is_datagram = is_datagram
        self._compress = compress
        self._pending: dict[int, InnerPacket] = {}
        self._fragments: list[bytes] = []
        self.next_number = 1
        self.last: int | None = None
        self.unconsumed = 0
        self.has_refused = False

    @property
    def pending_count(self) -> int:
        """
        How many packets wait: for one before them, or for the application.
        """
        return len(self._pending)

    @property
    def highest(self) -> int:
        """
        The highest number that arrived, 0 for none.
        """
        return max(self._pending, default=self.next_number - 1)

    @property
    def is_finished(self) -> bool:
        """
        Whether everything up to the announced last packet was handed out.
        """
        return self.last is not None and self.next_number > self.last

    @property
    def is_complete(self) -> bool:
        """
        Whether everything up to the announced last packet is here, handed out or not.
        """
        if self.last is None or self.last - self.next_number >= len(self._pending):
            return False
        return all(number in self._pending for number in range(self.next_number, self.last + 1))

    @property
    def is_readable(self) -> bool:
        """
        Whether :meth:`take` would hand something out, or make progress towards it.
        """
        return (
            self.next_number in self._pending
            and self.unconsumed < self._configuration.receive_buffer
            and not self.is_finished
        )

    def receive(self, packet: InnerPacket, *, is_crowded: bool) -> Arrival:
        """
        Keep a packet if it is new and there is room.

        :param is_crowded: the session as a whole holds as much as it may.
        """
        number = packet.number
        if packet.flags & Flag.COMPRESSED and not self._compress:
            return Arrival.REFUSED
        if number < self.next_number or number in self._pending:
            return Arrival.DUPLICATE
        if self.last is not None and number > self.last:
            return Arrival.REFUSED
        if number >= self.next_number + (1 if is_crowded else self._configuration.reorder_window):
            self.has_refused = True
            return Arrival.REFUSED
        self._pending[number] = packet
        return Arrival.NEW

    def take(self) -> list[bytes]:
        """
        What the application has room for: pieces of a stream, or datagrams.

        :raises ProtocolError: for a message that does not inflate, or to more than is allowed.
        """
        taken: list[bytes] = []
        limit = self._configuration.receive_buffer
        while self.unconsumed < limit and not self.is_finished:
            packet = self._pending.pop(self.next_number, None)
            if packet is None:
                break
            self.next_number += 1
            data = self._unpack(packet)
            if data is not None:
                taken.append(data)
                self.unconsumed += len(data)
        return taken

    def consume(self, count: int) -> None:
        """
        The application took ``count`` bytes.
        """
        self.unconsumed = max(0, self.unconsumed - count)

    def _unpack(self, packet: InnerPacket) -> bytes | None:
        is_compressed = bool(packet.flags & Flag.COMPRESSED)
        if not self._is_datagram and not self._compress:
            return packet.data or None
        self._fragments.append(packet.data)
        if packet.flags & Flag.MORE:
            if len(self._fragments) > self._configuration.max_fragments:
                raise ProtocolError(f"message of more than {len(self._fragments) - 1} fragments")
            return None
        message = b"".join(self._fragments)
        self._fragments.clear()
        if is_compressed:  # the last fragment's flag counts
            return inflate(message, self._configuration.max_message)
        return message or None


def inflate(message: bytes, limit: int) -> bytes | None:
    """
    One complete raw deflate stream (RFC 1951); zlib-wrapped and sync-flushed ones are accepted.

    :return: ``None`` for an empty message.
    :raises ProtocolError: when it is neither, or inflates to more than ``limit`` bytes.
    """
    for window_bits in (-zlib.MAX_WBITS, zlib.MAX_WBITS):
        stream = zlib.decompressobj(window_bits)
        try:
            plain = stream.decompress(message, limit + 1)
        except zlib.error:
            continue
        if len(plain) > limit:
            raise ProtocolError(f"message inflates to more than {limit} bytes")
        if stream.eof or (plain and not stream.unconsumed_tail):
            return plain or None
    raise ProtocolError(f"message of {len(message)} bytes does not inflate")
