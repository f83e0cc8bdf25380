"""
The sending half of a channel: from what the application wrote to numbered pieces.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable

from resip.core.classic.packet import Flag, InnerPacket

#: Deflate level of the published format.
COMPRESSION_LEVEL = 6
#: A stream is cut into messages of at most so many bytes before compression.
STREAM_MESSAGE_SIZE = 32 * 1024

Capacity = Callable[[int, int], int]


class SentPacket:
    """
    One numbered packet until it is acknowledged. Repetitions are the same bytes.

    :ivar serial: position in the session's order of transmissions; a repetition gets a new one.
    :ivar sent_time: of the latest transmission, seconds.
    :ivar transmissions: how often it was sent.
    :ivar message: the count of its message within the channel, from 1.
    """

    __slots__ = (
        "channel_id",
        "is_acked",
        "message",
        "number",
        "packet",
        "sent_time",
        "serial",
        "transmissions",
    )

    def __init__(self, channel_id: int, number: int, packet: bytes, *, message: int = 0) -> None:
        self.channel_id = channel_id
        self.number = number
        self.packet = packet
        self.message = message
        self.serial = 0
        self.sent_time = 0.0
        self.transmissions = 0
        self.is_acked = False


class ChannelSender:
    """
    Queues what the application writes and hands out packets, one number each.

    A stream's writes are joined into messages; a datagram is one message. Each message is
    compressed by itself where the channel is, then cut into fragments.

    :ivar unacked: packets on their way, by number, oldest first.
    :ivar next_number: the number that the next new packet gets.
    :ivar messages: how many messages were started.
    :ivar is_ended: the application writes no more.
    :ivar stop_sent: the peer was told so.
    """

    def __init__(
        self,
        channel_id: int,
        *,
        flags: int,
        is_datagram: bool,
        compress: bool,
        buffer_size: int,
        max_message: int,
    ) -> None:
        self._channel_id = channel_id
        self._flags = flags | (Flag.COMPRESSED if compress else 0)
        self._is_datagram = is_datagram
        self._compress = compress
        self._buffer_size = buffer_size
        # Deflate makes incompressible data longer: five bytes for each 16 KiB, and an end.
        self._max_plain = max_message - (max_message // 1024 + 16 if compress else 0)
        self._waiting: deque[bytes] = deque()
        self._waiting_size = 0
        self._message = b""
        self._offset = 0
        self._has_message = False
        self._pushes = 0
        self.unacked: dict[int, SentPacket] = {}
        self.next_number = 1
        self.messages = 0
        self.is_ended = False
        self.stop_sent = False

    @property
    def room(self) -> int:
        """
        How many bytes :meth:`write` would accept.
        """
        return max(0, self._buffer_size - self._waiting_size)

    @property
    def has_data(self) -> bool:
        """
        Whether there is something to send that was not sent yet.
        """
        return self._has_message or bool(self._waiting) or self._pushes > 0

    @property
    def last_number(self) -> int:
        """
        The highest number handed out, 0 for none.
        """
        return self.next_number - 1

    def write(self, data: bytes) -> int:
        """
        Queue bytes of a stream, or a datagram; returns how many bytes were accepted.

        An empty datagram is never accepted: on the wire it could not be told from a push. One
        that does not fit the fragments of a message is never accepted either.
        """
        if self._is_datagram and len(data) > self._max_plain:
            return 0
        if len(data) > self.room:
            data = b"" if self._is_datagram else data[: self.room]
        if data:
            self._waiting.append(data)
            self._waiting_size += len(data)
        return len(data)

    def push(self, count: int = 1) -> None:
        """
        Send ``count`` packets without data after what is queued; they count as one message.
        """
        self._pushes = max(self._pushes, count)

    def discard(self) -> None:
        """
        Forget everything that was not acknowledged.
        """
        self._waiting.clear()
        self._waiting_size = 0
        self._has_message = False
        self._pushes = 0
        self.unacked.clear()

    def next_packet(self, capacity: Capacity) -> InnerPacket:
        """
        The next new packet; only while :attr:`has_data`.
        """
        number = self.next_number
        self.next_number += 1
        if not self._has_message and not self._waiting:
            self._pushes -= 1
            more = Flag.MORE if self._pushes else 0
            return InnerPacket(self._flags & Flag.FROM_SERVER | more, self._channel_id, number, b"")
        if not self._has_message:
            self._start_message()
        end = self._offset + capacity(self._channel_id, number)
        data = self._message[self._offset : end]
        self._offset = end
        self._has_message = end < len(self._message)
        flags = self._flags | Flag.MORE if self._has_message else self._flags
        return InnerPacket(flags, self._channel_id, number, data)

    def _start_message(self) -> None:
        plain = self._waiting.popleft() if self._is_datagram else self._join()
        self._waiting_size -= len(plain)
        if self._compress:
            deflate = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
            plain = deflate.compress(plain) + deflate.flush()
        self._message = plain
        self._offset = 0
        self._has_message = True
        self.messages += 1

    def _join(self) -> bytes:
        limit = min(STREAM_MESSAGE_SIZE, self._max_plain)
        size = 0
        parts: list[bytes] = []
        while self._waiting and size < limit:
            part = self._waiting.popleft()
            if size + len(part) > limit:
                self._waiting.appendleft(part[limit - size :])
                part = part[: limit - size]
            parts.append(part)
            size += len(part)
        return b"".join(parts)
