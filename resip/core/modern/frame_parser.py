"""
Reads the frames of a packet (docs/protocol.md, section 3): bytes to calls of a :class:`FrameSink`.

A packet that is one STREAM frame, as nearly all of a busy session are, needs no parser: read it
with one of :data:`~resip.core.modern.frames.STREAM_LAYOUTS`, the rest being data.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, unpack_from
from typing import Protocol as Interface

from resip.core.errors import ProtocolError, ResetCode
from resip.core.modern.frames import (
    ACK_LAYOUT,
    ACK_TIME_UNIT,
    CLOSE_LAYOUT,
    CREDIT_LAYOUT,
    DATAGRAM_LAYOUT,
    END_LAYOUT,
    FLAG_COMPRESSED,
    FLAG_TIME,
    MAX_ACK_PAIRS,
    NEW_ID_LAYOUT,
    OPEN_LAYOUT,
    OPENED_LAYOUT,
    PATH_LAYOUT,
    PIECE_LAYOUT,
    RESET_LAYOUT,
    RETIRE_ID_LAYOUT,
    SESSION_CREDIT_LAYOUT,
    STREAM_LAYOUTS,
    FrameType,
)
from resip.core.types import Protocol, Target


class FrameSink(Interface):
    """
    Told of every frame of a packet, in order. May raise ProtocolError.
    """

    def on_ack(
        self, largest_low32: int, delay: float, counts: tuple[int, ...], arrived_at: float | None
    ) -> None:
        """
        ACK.

        :param delay: seconds for which the peer held it back.
        :param counts: numbers directly below the largest, then gap, length, gap, length...;
            see :func:`resip.core.modern.acks.acknowledged_ranges`.
        :param arrived_at: seconds of the peer's clock, 0 to below ``CLOCK_RANGE`` (M-73), if told.
        """

    def on_open(self, channel_id: int, target: Target, is_compressed: bool) -> None:
        """
        OPEN. The host is printable ASCII without blanks, the port not 0.
        """

    def on_opened(self, channel_id: int) -> None:
        """
        OPENED.
        """

    def on_end(self, channel_id: int, final_size: int) -> None:
        """
        END.
        """

    def on_reset(self, channel_id: int, code: ResetCode, sent: int) -> None:
        """
        RESET. ``sent`` is the highest offset that the peer has used.
        """

    def on_credit(self, channel_id: int, delivered: int, limit: int) -> None:
        """
        CREDIT.
        """

    def on_stream(self, channel_id: int, offset_low32: int, data: bytes) -> None:
        """
        STREAM8, STREAM16, STREAM32 or PIECE.
        """

    def on_datagram(self, channel_id: int, data: bytes) -> None:
        """
        DATAGRAM.
        """

    def on_session_credit(self, limit: int) -> None:
        """
        SESSION_CREDIT.
        """

    def on_path_challenge(self, data: bytes) -> None:
        """
        PATH_CHALLENGE.
        """

    def on_path_response(self, data: bytes) -> None:
        """
        PATH_RESPONSE.
        """

    def on_new_id(self, sequence: int, session_id: int, token: bytes) -> None:
        """
        NEW_ID.
        """

    def on_retire_id(self, sequence: int) -> None:
        """
        RETIRE_ID.
        """

    def on_close(self, code: int, reason: str) -> None:
        """
        CLOSE. The reason is printable; the code may be one that
        :class:`~resip.core.modern.frames.CloseCode` lacks.
        """


_Parser = Callable[[bytes, int, FrameSink], int]


def expand(low: int, bits: int, near: int) -> int:
    """
    The number with the low ``bits`` bits ``low`` that is closest to ``near`` and not negative.

    Source: RFC 9000 appendix A.3.
    """
    span = 1 << bits
    number = (near & -span) | low
    if number + (span >> 1) <= near:
        return number + span
    if number > near + (span >> 1) and number >= span:
        return number - span
    return number


def parse_frames(plaintext: bytes, sink: FrameSink) -> bool:
    """
    Tell ``sink`` of every frame of a packet.

    :return: whether the packet asks for an acknowledgement (M-22).
    :raises ProtocolError: on a frame that is cut short, of an unknown type or with values that
        the page does not know (M-21); frames before it have been told.
    """
    at = 0
    size = len(plaintext)
    asks = False
    while at < size:
        frame_type = plaintext[at]
        parser = _PARSERS.get(frame_type)
        if parser is None:
            raise ProtocolError(f"there is no frame of type 0x{frame_type:02x}")
        asks = asks or frame_type not in _SILENT
        at = parser(plaintext, at, sink)
    return asks


def _need(data: bytes, at: int, size: int) -> int:
    if len(data) - at < size:
        raise ProtocolError(f"a {FrameType(data[at]).name} frame is cut short")
    return at + size


def _fixed(layout: Struct, method: str) -> _Parser:
    def parse(data: bytes, at: int, sink: FrameSink) -> int:
        end = _need(data, at, layout.size)
        getattr(sink, method)(*layout.unpack_from(data, at)[1:])
        return end

    return parse


def _parse_ack(data: bytes, at: int, sink: FrameSink) -> int:
    start = _need(data, at, ACK_LAYOUT.size)
    _, largest, delay, flagged = ACK_LAYOUT.unpack_from(data, at)
    pairs = flagged & ~FLAG_TIME
    if pairs > MAX_ACK_PAIRS:
        raise ProtocolError(f"an ACK frame has {pairs} pairs; {MAX_ACK_PAIRS} are allowed")
    end = _need(data, at, ACK_LAYOUT.size + 2 + 4 * pairs)
    counts = unpack_from(f">{1 + 2 * pairs}H", data, start)
    arrived_at = None
    if flagged & FLAG_TIME:
        start, end = end, _need(data, at, end + 4 - at)
        arrived_at = int.from_bytes(data[start:end]) * ACK_TIME_UNIT
    sink.on_ack(largest, delay * ACK_TIME_UNIT, counts, arrived_at)
    return end


def _parse_open(data: bytes, at: int, sink: FrameSink) -> int:
    start = _need(data, at, OPEN_LAYOUT.size)
    _, channel_id, protocol, flags, port, length = OPEN_LAYOUT.unpack_from(data, at)
    end = _need(data, at, OPEN_LAYOUT.size + length)
    host = data[start:end]
    if protocol not in (Protocol.TCP, Protocol.UDP):
        raise ProtocolError(f"an OPEN frame names protocol {protocol}; 6 and 17 are known")
    if flags & ~FLAG_COMPRESSED:
        raise ProtocolError(f"an OPEN frame has unknown flags: 0x{flags:02x}")
    if not port or not host or not all(0x21 <= byte <= 0x7E for byte in host):
        raise ProtocolError("an OPEN frame's host or port is not one")
    target = Target(Protocol(protocol), host.decode("ascii"), port)
    sink.on_open(channel_id, target, bool(flags & FLAG_COMPRESSED))
    return end


def _parse_reset(data: bytes, at: int, sink: FrameSink) -> int:
    end = _need(data, at, RESET_LAYOUT.size)
    _, channel_id, code, sent = RESET_LAYOUT.unpack_from(data, at)
    try:
        known = ResetCode(code)
    except ValueError:
        raise ProtocolError(f"a RESET frame has an unknown code: 0x{code:02x}") from None
    sink.on_reset(channel_id, known, sent)
    return end


def _parse_stream(data: bytes, at: int, sink: FrameSink) -> int:
    header = STREAM_LAYOUTS[data[at]]
    start = _need(data, at, header.size)
    _, channel_id, offset = header.unpack_from(data, at)
    sink.on_stream(channel_id, offset, data[start:])
    return len(data)


def _parse_piece(data: bytes, at: int, sink: FrameSink) -> int:
    start = _need(data, at, PIECE_LAYOUT.size)
    _, channel_id, offset, length = PIECE_LAYOUT.unpack_from(data, at)
    end = _need(data, at, PIECE_LAYOUT.size + length)
    sink.on_stream(channel_id, offset, data[start:end])
    return end


def _parse_datagram(data: bytes, at: int, sink: FrameSink) -> int:
    start = _need(data, at, DATAGRAM_LAYOUT.size)
    _, channel_id, length = DATAGRAM_LAYOUT.unpack_from(data, at)
    end = _need(data, at, DATAGRAM_LAYOUT.size + length)
    sink.on_datagram(channel_id, data[start:end])
    return end


def _parse_close(data: bytes, at: int, sink: FrameSink) -> int:
    start = _need(data, at, CLOSE_LAYOUT.size)
    _, code, length = CLOSE_LAYOUT.unpack_from(data, at)
    end = _need(data, at, CLOSE_LAYOUT.size + length)
    text = data[start:end].decode(errors="replace")
    sink.on_close(code, "".join(c if c.isprintable() else "\ufffd" for c in text))
    return end


#: Frames that do not ask for an acknowledgement of their packet (M-22).
_SILENT = frozenset(
    (
        FrameType.PADDING,
        FrameType.ACK,
        FrameType.PATH_CHALLENGE,
        FrameType.PATH_RESPONSE,
        FrameType.CLOSE,
    )
)

_PARSERS: dict[int, _Parser] = {
    FrameType.PADDING: lambda data, at, sink: len(data),
    FrameType.PING: lambda data, at, sink: at + 1,
    FrameType.ACK: _parse_ack,
    FrameType.OPEN: _parse_open,
    FrameType.OPENED: _fixed(OPENED_LAYOUT, "on_opened"),
    FrameType.END: _fixed(END_LAYOUT, "on_end"),
    FrameType.RESET: _parse_reset,
    FrameType.CREDIT: _fixed(CREDIT_LAYOUT, "on_credit"),
    FrameType.STREAM8: _parse_stream,
    FrameType.STREAM16: _parse_stream,
    FrameType.STREAM32: _parse_stream,
    FrameType.PIECE: _parse_piece,
    FrameType.DATAGRAM: _parse_datagram,
    FrameType.SESSION_CREDIT: _fixed(SESSION_CREDIT_LAYOUT, "on_session_credit"),
    FrameType.PATH_CHALLENGE: _fixed(PATH_LAYOUT, "on_path_challenge"),
    FrameType.PATH_RESPONSE: _fixed(PATH_LAYOUT, "on_path_response"),
    FrameType.NEW_ID: _fixed(NEW_ID_LAYOUT, "on_new_id"),
    FrameType.RETIRE_ID: _fixed(RETIRE_ID_LAYOUT, "on_retire_id"),
    FrameType.CLOSE: _parse_close,
}
