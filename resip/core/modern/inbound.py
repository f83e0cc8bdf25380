"""
The receiving side of a modern session: from packets to what its channels and paths hear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resip.core.errors import ResetCode
from resip.core.modern.channels import Channels
from resip.core.modern.connection import Connection
from resip.core.modern.frame_parser import parse_frames
from resip.core.modern.frames import STREAM_LAYOUTS, FrameType
from resip.core.modern.pieces import LEAST_VIEW_SIZE
from resip.core.modern.protection import OVERHEAD
from resip.core.types import Path, Target

#: What a packet begins with that only probes a path (M-65).
_PROBING = (FrameType.PATH_CHALLENGE, FrameType.PATH_RESPONSE)


class PeerClosed(Exception):
    """
    A CLOSE frame came; nothing behind it counts any more.

    :ivar code: why, perhaps none of :class:`~resip.core.modern.frames.CloseCode`.
    :ivar reason: in the peer's words, printable.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Inbound:
    """
    Opens batches of packets and hands their frames on. A FrameSink.

    :param on_path_change: packets go elsewhere from now on.
    """

    __slots__ = (
        "_channels",
        "_connection",
        "_has_probes",
        "_is_old",
        "_now",
        "_on_path_change",
        "_path",
    )

    def __init__(
        self,
        connection: Connection,
        channels: Channels,
        *,
        on_path_change: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._channels = channels
        self._on_path_change = on_path_change
        self._path: Path | None = None
        self._now = 0.0
        self._has_probes = False
        #: The data in a packet had all arrived before.
        self._is_old = False

    def receive(self, packets: Sequence[bytes], path: Path, *, now: float) -> bool:
        """
        Take packets that came by one path.

        :return: whether any was new and genuine.
        :raises ProtocolError: when the peer breaks the rules in a genuine packet.
        :raises PeerClosed: when the peer ends the session.
        """
        self._path = path
        self._now = now
        self._has_probes = False
        opened = self._connection.open(packets, now=now)
        authentic = [one for one in opened if one is not None]
        if len(authentic) < len(packets):
            self._connection.on_dropped(now=now)
        if not authentic:
            return False
        numbers = [number for number, _ in authentic]
        plaintexts = [plaintext for _, plaintext in authentic]
        copies = 0
        for start, stop in _consecutive(numbers):
            asks, is_news = self._dispatch(plaintexts[start:stop])
            self._connection.acks.add(
                numbers[start], numbers[stop - 1], asks=asks, is_news=is_news, now=now
            )
            copies += 0 if is_news or not asks else stop - start
        size = sum(map(len, plaintexts)) + OVERHEAD * len(plaintexts)
        number = newest = max(numbers)
        if self._has_probes:
            ordinary = (number for number, data in authentic if data[0] not in _PROBING)
            newest = max(ordinary, default=-1)
        if self._connection.on_received(
            path,
            number=number,
            newest=newest,
            count=len(numbers),
            copies=copies,
            size=size,
            now=now,
        ):
            self._on_path_change()
        return True

    def _dispatch(self, plaintexts: Sequence[bytes]) -> tuple[bool, bool]:
        """
        Hand on the frames of some packets; returns whether any asks for an acknowledgement, and
        whether any that does brings something new.

        Packets that continue one stream, as in any bulk transfer, are handed on together.
        """
        asks = is_news = False
        pieces: list[bytes | memoryview] = []
        stream = start = end = -1
        for plaintext in plaintexts:
            layout = STREAM_LAYOUTS.get(plaintext[0])
            if layout is None or len(plaintext) <= layout.size:
                if pieces:
                    is_news = self._channels.on_stream(stream, start, pieces) or is_news
                    pieces, end = [], -1
                self._is_old = False
                if parse_frames(plaintext, self):
                    asks = True
                    is_news = is_news or not self._is_old
                continue
            asks = True
            _, channel_id, offset = layout.unpack_from(plaintext)
            if offset != end or channel_id != stream:
                if pieces:
                    is_news = self._channels.on_stream(stream, start, pieces) or is_news
                    pieces = []
                stream, start = channel_id, offset
            is_large = len(plaintext) >= LEAST_VIEW_SIZE
            piece = (memoryview(plaintext) if is_large else plaintext)[layout.size :]
            pieces.append(piece)
            end = offset + len(piece)
        if pieces:
            is_news = self._channels.on_stream(stream, start, pieces) or is_news
        return asks, is_news

    # A FrameSink: what is not the channels'.

    def on_ack(
        self, largest_low32: int, delay: float, counts: tuple[int, ...], arrived_at: float | None
    ) -> None:
        """
        ACK.
        """
        self._connection.on_ack(largest_low32, delay, counts, arrived_at, now=self._now)

    def on_path_challenge(self, data: bytes) -> None:
        """
        PATH_CHALLENGE.
        """
        self._has_probes = True
        if self._path is not None:
            self._connection.on_challenge(data, self._path)

    def on_path_response(self, data: bytes) -> None:
        """
        PATH_RESPONSE.
        """
        self._has_probes = True
        if self._connection.on_response(data, now=self._now):
            self._on_path_change()

    def on_new_id(self, sequence: int, session_id: int, token: bytes) -> None:
        """
        NEW_ID.
        """
        self._connection.ids.on_new_id(sequence, session_id, token)

    def on_retire_id(self, sequence: int) -> None:
        """
        RETIRE_ID.
        """
        self._connection.ids.on_retire_id(sequence)

    # A FrameSink: what is.

    def on_open(self, channel_id: int, target: Target, is_compressed: bool) -> None:
        """
        OPEN.
        """
        self._channels.on_open(channel_id, target, is_compressed=is_compressed)

    def on_opened(self, channel_id: int) -> None:
        """
        OPENED.
        """
        self._channels.on_opened(channel_id)

    def on_end(self, channel_id: int, final_size: int) -> None:
        """
        END.
        """
        self._channels.on_end(channel_id, final_size)

    def on_reset(self, channel_id: int, code: ResetCode, sent: int) -> None:
        """
        RESET.
        """
        self._channels.on_reset(channel_id, code, sent)

    def on_credit(self, channel_id: int, delivered: int, limit: int) -> None:
        """
        CREDIT.
        """
        self._channels.on_credit(channel_id, delivered, limit)

    def on_stream(self, channel_id: int, offset_low32: int, data: bytes) -> None:
        """
        PIECE, or STREAM behind other frames.
        """
        self._is_old = not self._channels.on_stream(channel_id, offset_low32, (data,))

    def on_datagram(self, channel_id: int, data: bytes) -> None:
        """
        DATAGRAM.
        """
        self._channels.on_datagram(channel_id, data)

    def on_session_credit(self, limit: int) -> None:
        """
        SESSION_CREDIT.
        """
        self._channels.on_session_credit(limit)

    def on_close(self, code: int, reason: str) -> None:
        """
        CLOSE.
        """
        raise PeerClosed(code, reason)


def _consecutive(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """
    Where runs of consecutive numbers start and stop; all of them are one most of the time.
    """
    first, count = numbers[0], len(numbers)
    if numbers == list(range(first, first + count)):
        return [(0, count)]
    edges = [at for at in range(1, count) if numbers[at] != numbers[at - 1] + 1]
    return list(zip([0, *edges], [*edges, count], strict=True))
