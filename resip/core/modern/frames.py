"""
The frames inside a packet (docs/protocol.md, section 3): bytes to calls, arguments to bytes.

There are no frame objects. Encoders return bytes; the parser calls a :class:`FrameSink`. A
packet that is one STREAM frame, as nearly all of a busy session are, needs no parser: read it
with one of :data:`STREAM_LAYOUTS`, the rest being data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from struct import Struct, unpack_from
from typing import Protocol as Interface

from resip.core.errors import ProtocolError, ResetCode
from resip.core.types import Protocol, Target


class FrameType(IntEnum):
    """
    The first byte of a frame.
    """

    PADDING = 0x00
    PING = 0x01
    ACK = 0x02
    OPEN = 0x03
    OPENED = 0x04
    END = 0x05
    RESET = 0x06
    CREDIT = 0x07
    STREAM8 = 0x08
    STREAM16 = 0x09
    STREAM32 = 0x0A
    PIECE = 0x0B
    DATAGRAM = 0x0C
    SESSION_CREDIT = 0x0D
    PATH_CHALLENGE = 0x0E
    PATH_RESPONSE = 0x0F
    NEW_ID = 0x10
    RETIRE_ID = 0x11
    CLOSE = 0x12


class CloseCode(IntEnum):
    """
    Why a session ended (section 8).
    """

    NONE = 0x00
    PROTOCOL = 0x01
    FLOW_CONTROL = 0x02
    REVOKED = 0x03
    SHUTDOWN = 0x04
    LIMIT = 0x05


#: Pairs of gap and length in one ACK frame (section 3.1).
MAX_ACK_PAIRS = 64
#: Seconds in one unit of the delay of an ACK frame.
ACK_DELAY_UNIT = 16e-6
#: The flag of an OPEN frame for a channel whose streams are compressed.
FLAG_COMPRESSED = 0x01
#: Bytes of the host of an OPEN frame, and of the reason of a CLOSE frame.
MAX_TEXT_SIZE = 255

#: The STREAM frames' headers: type, channel, low 32 bits of the offset.
STREAM8 = Struct(">BBI")
STREAM16 = Struct(">BHI")
STREAM32 = Struct(">BII")
#: By the type.
STREAM_LAYOUTS: dict[int, Struct] = {0x08: STREAM8, 0x09: STREAM16, 0x0A: STREAM32}
#: Bytes of a PIECE frame and of a DATAGRAM frame that are not data.
PIECE_OVERHEAD = 11
DATAGRAM_OVERHEAD = 7
PING_FRAME = bytes([FrameType.PING])

_MASK32 = 0xFFFFFFFF
_ACK = Struct(">BIHB")
_OPEN = Struct(">BIBBHB")
_OPENED = Struct(">BI")
_END = Struct(">BIQ")
_RESET = Struct(">BIBQ")
_CREDIT = Struct(">BIQQ")
_PIECE = Struct(">BIIH")
_DATAGRAM = Struct(">BIH")
_SESSION_CREDIT = Struct(">BQ")
_PATH = Struct(">B8s")
_NEW_ID = Struct(">BII16s")
_RETIRE_ID = Struct(">BI")
_CLOSE = Struct(">BBB")


class FrameSink(Interface):
    """
    Told of every frame of a packet, in order. May raise ProtocolError.
    """

    def on_ack(self, largest_low32: int, delay: float, counts: tuple[int, ...]) -> None:
        """
        ACK.

        :param delay: seconds for which the peer held it back.
        :param counts: numbers directly below the largest, then gap, length, gap, length...;
            see :func:`resip.core.modern.acks.acknowledged_ranges`.
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
        CLOSE. The reason is printable; the code may be one that :class:`CloseCode` lacks.
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


def stream_header(channel_id: int) -> tuple[int, Struct]:
    """
    The type and the header of the shortest STREAM frame for a channel (M-25).
    """
    if channel_id < 0x100:
        return 0x08, STREAM8
    return (0x09, STREAM16) if channel_id < 0x10000 else (0x0A, STREAM32)


def stream_frames(channel_id: int, offset: int, pieces: Sequence[bytes]) -> list[bytes]:
    """
    A STREAM frame for each piece of a burst.

    :param offset: of the first piece; each following one starts where the one before ended.
    :param pieces: all of one size; only the last may be shorter.
    """
    frame_type, header = stream_header(channel_id)
    pack = header.pack
    step = (len(pieces[0]) if pieces else 0) or 1
    low = offset & _MASK32
    offsets: Sequence[int] = range(low, low + step * len(pieces), step)
    if pieces and offsets[-1] > _MASK32:
        offsets = [at & _MASK32 for at in offsets]
    return [pack(frame_type, channel_id, at) + p for at, p in zip(offsets, pieces, strict=True)]


def piece_frame(channel_id: int, offset: int, data: bytes) -> bytes:
    """
    PIECE: stream data that other frames may follow.
    """
    return _PIECE.pack(FrameType.PIECE, channel_id, offset & _MASK32, len(data)) + data


def datagram_frame(channel_id: int, data: bytes) -> bytes:
    """
    DATAGRAM.
    """
    return _DATAGRAM.pack(FrameType.DATAGRAM, channel_id, len(data)) + data


def open_frame(channel_id: int, target: Target, *, is_compressed: bool = False) -> bytes:
    """
    OPEN.

    :raises ValueError: when the host is not ASCII, or longer than 255 bytes.
    """
    host = target.host.encode("ascii")
    if not 0 < len(host) <= MAX_TEXT_SIZE:
        raise ValueError(f"a host has 1 to {MAX_TEXT_SIZE} bytes, not {len(host)}")
    flags = FLAG_COMPRESSED if is_compressed else 0
    fixed = (FrameType.OPEN, channel_id, target.protocol, flags, target.port, len(host))
    return _OPEN.pack(*fixed) + host


def opened_frame(channel_id: int) -> bytes:
    """
    OPENED.
    """
    return _OPENED.pack(FrameType.OPENED, channel_id)


def end_frame(channel_id: int, final_size: int) -> bytes:
    """
    END.
    """
    return _END.pack(FrameType.END, channel_id, final_size)


def reset_frame(channel_id: int, code: ResetCode, sent: int) -> bytes:
    """
    RESET.
    """
    return _RESET.pack(FrameType.RESET, channel_id, code, sent)


def credit_frame(channel_id: int, delivered: int, limit: int) -> bytes:
    """
    CREDIT.
    """
    return _CREDIT.pack(FrameType.CREDIT, channel_id, delivered, limit)


def session_credit_frame(limit: int) -> bytes:
    """
    SESSION_CREDIT.
    """
    return _SESSION_CREDIT.pack(FrameType.SESSION_CREDIT, limit)


def path_challenge_frame(data: bytes) -> bytes:
    """
    PATH_CHALLENGE with its 8 random bytes.
    """
    return _PATH.pack(FrameType.PATH_CHALLENGE, data)


def path_response_frame(data: bytes) -> bytes:
    """
    PATH_RESPONSE with the 8 bytes of the challenge.
    """
    return _PATH.pack(FrameType.PATH_RESPONSE, data)


def new_id_frame(sequence: int, session_id: int, token: bytes) -> bytes:
    """
    NEW_ID with its stateless reset token of 16 bytes.
    """
    return _NEW_ID.pack(FrameType.NEW_ID, sequence, session_id, token)


def retire_id_frame(sequence: int) -> bytes:
    """
    RETIRE_ID.
    """
    return _RETIRE_ID.pack(FrameType.RETIRE_ID, sequence)


def close_frame(code: CloseCode, reason: str = "") -> bytes:
    """
    CLOSE; of the reason, as many bytes as fit.
    """
    text = reason.encode()[:MAX_TEXT_SIZE]
    return _CLOSE.pack(FrameType.CLOSE, code, len(text)) + text


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
    start = _need(data, at, _ACK.size)
    _, largest, delay, pairs = _ACK.unpack_from(data, at)
    if pairs > MAX_ACK_PAIRS:
        raise ProtocolError(f"an ACK frame has {pairs} pairs; {MAX_ACK_PAIRS} are allowed")
    end = _need(data, at, _ACK.size + 2 + 4 * pairs)
    counts = unpack_from(f">{1 + 2 * pairs}H", data, start)
    sink.on_ack(largest, delay * ACK_DELAY_UNIT, counts)
    return end


def _parse_open(data: bytes, at: int, sink: FrameSink) -> int:
    start = _need(data, at, _OPEN.size)
    _, channel_id, protocol, flags, port, length = _OPEN.unpack_from(data, at)
    end = _need(data, at, _OPEN.size + length)
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
    end = _need(data, at, _RESET.size)
    _, channel_id, code, sent = _RESET.unpack_from(data, at)
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
    start = _need(data, at, _PIECE.size)
    _, channel_id, offset, length = _PIECE.unpack_from(data, at)
    end = _need(data, at, _PIECE.size + length)
    sink.on_stream(channel_id, offset, data[start:end])
    return end


def _parse_datagram(data: bytes, at: int, sink: FrameSink) -> int:
    start = _need(data, at, _DATAGRAM.size)
    _, channel_id, length = _DATAGRAM.unpack_from(data, at)
    end = _need(data, at, _DATAGRAM.size + length)
    sink.on_datagram(channel_id, data[start:end])
    return end


def _parse_close(data: bytes, at: int, sink: FrameSink) -> int:
    start = _need(data, at, _CLOSE.size)
    _, code, length = _CLOSE.unpack_from(data, at)
    end = _need(data, at, _CLOSE.size + length)
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
    FrameType.OPENED: _fixed(_OPENED, "on_opened"),
    FrameType.END: _fixed(_END, "on_end"),
    FrameType.RESET: _parse_reset,
    FrameType.CREDIT: _fixed(_CREDIT, "on_credit"),
    FrameType.STREAM8: _parse_stream,
    FrameType.STREAM16: _parse_stream,
    FrameType.STREAM32: _parse_stream,
    FrameType.PIECE: _parse_piece,
    FrameType.DATAGRAM: _parse_datagram,
    FrameType.SESSION_CREDIT: _fixed(_SESSION_CREDIT, "on_session_credit"),
    FrameType.PATH_CHALLENGE: _fixed(_PATH, "on_path_challenge"),
    FrameType.PATH_RESPONSE: _fixed(_PATH, "on_path_response"),
    FrameType.NEW_ID: _fixed(_NEW_ID, "on_new_id"),
    FrameType.RETIRE_ID: _fixed(_RETIRE_ID, "on_retire_id"),
    FrameType.CLOSE: _parse_close,
}
