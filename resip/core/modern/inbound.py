"""
The receiving side of a modern session: from packets to what its channels and paths hear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resip.core.errors import ResetCode
from resip.core.modern.channels import Channels
from resip.core.modern.connection import Connection
from resip.core.modern.frames import STREAM8, STREAM16, STREAM32, FrameType, parse_frames
from resip.core.modern.ids import IssuedId
from resip.core.types import Path, Target


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

    def receive(self, packets: Sequence[bytes], path: Path, *, now: float) -> bool:
        """
        Take packets that came by one path.

        :return: whether any was new and genuine.
        :raises ProtocolError: when the peer breaks the rules in a genuine packet.
        :raises PeerClosed: when the peer ends the session.
        """
        self._path = path
        self._now = now
        highest = -1
        size = 0
        run_first = run_end = 0
        run_asks = False
        acks = self._connection.acks
        for packet, opened in zip(packets, self._connection.open(packets), strict=True):
            if opened is None:
                continue
            number, plaintext = opened
            asks = self._dispatch(plaintext)
            if number != run_end:
                if run_end > run_first:
                    acks.add(run_first, run_end - 1, asks=run_asks, now=now)
                run_first, run_asks = number, False
            run_end = number + 1
            run_asks = run_asks or asks
            highest = max(highest, number)
            size += len(packet)
        if run_end > run_first:
            acks.add(run_first, run_end - 1, asks=run_asks, now=now)
        if highest < 0:
            return False
        if self._connection.on_received(path, number=highest, size=size, now=now):
            self._on_path_change()
        return True

    def _dispatch(self, plaintext: bytes) -> bool:
        match plaintext[0]:
            case FrameType.STREAM8.value if len(plaintext) > STREAM8.size:
                header = STREAM8
            case FrameType.STREAM16.value if len(plaintext) > STREAM16.size:
                header = STREAM16
            case FrameType.STREAM32.value if len(plaintext) > STREAM32.size:
                header = STREAM32
            case _:
                return parse_frames(plaintext, self)
        _, channel_id, offset = header.unpack_from(plaintext)
        self._channels.on_stream(channel_id, offset, plaintext[header.size :])
        return True

    # A FrameSink: what is not the channels'.

    def on_ack(self, largest_low32: int, delay: float, counts: tuple[int, ...]) -> None:
        """
        ACK.
        """
        self._connection.on_ack(largest_low32, delay, counts, now=self._now)

    def on_path_challenge(self, data: bytes) -> None:
        """
        PATH_CHALLENGE.
        """
        if self._path is not None:
            self._connection.on_challenge(data, self._path)

    def on_path_response(self, data: bytes) -> None:
        """
        PATH_RESPONSE.
        """
        if self._connection.on_response(data, now=self._now):
            self._on_path_change()

    def on_new_id(self, sequence: int, session_id: int, token: bytes) -> None:
        """
        NEW_ID.
        """
        self._connection.on_new_id(IssuedId(sequence, session_id, token))

    def on_retire_id(self, sequence: int) -> None:
        """
        RETIRE_ID.
        """
        self._connection.on_retire_id(sequence)

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
        self._channels.on_stream(channel_id, offset_low32, data)

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
