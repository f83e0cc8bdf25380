"""
The frames inside a packet (docs/protocol.md, section 3): their layouts, and arguments to bytes.

There are no frame objects. Encoders return bytes; what reads them is
:mod:`resip.core.modern.frame_parser`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct

from resip.core.errors import ResetCode
from resip.core.modern.pieces import Pieces
from resip.core.types import Target


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
#: Set in the number of those pairs when a time follows them (M-73).
FLAG_TIME = 0x80
#: Seconds in one unit of the times of an ACK frame.
ACK_TIME_UNIT = 16e-6
#: Seconds after which the clock in ACK frames begins again (M-73).
CLOCK_RANGE = ACK_TIME_UNIT * 2**32
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

#: The other frames, each with its type and without its data, text or counts.
ACK_LAYOUT = Struct(">BIHB")
OPEN_LAYOUT = Struct(">BIBBHB")
OPENED_LAYOUT = Struct(">BI")
END_LAYOUT = Struct(">BIQ")
RESET_LAYOUT = Struct(">BIBQ")
CREDIT_LAYOUT = Struct(">BIQQ")
PIECE_LAYOUT = Struct(">BIIH")
DATAGRAM_LAYOUT = Struct(">BIH")
SESSION_CREDIT_LAYOUT = Struct(">BQ")
PATH_LAYOUT = Struct(">B8s")
NEW_ID_LAYOUT = Struct(">BII16s")
RETIRE_ID_LAYOUT = Struct(">BI")
CLOSE_LAYOUT = Struct(">BBB")

_MASK32 = 0xFFFFFFFF


def stream_header(channel_id: int) -> tuple[int, Struct]:
    """
    The type and the header of the shortest STREAM frame for a channel (M-25).
    """
    if channel_id < 0x100:
        return 0x08, STREAM8
    return (0x09, STREAM16) if channel_id < 0x10000 else (0x0A, STREAM32)


def stream_frames(channel_id: int, offset: int, pieces: Pieces) -> list[bytes]:
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
    return PIECE_LAYOUT.pack(FrameType.PIECE, channel_id, offset & _MASK32, len(data)) + data


def datagram_frame(channel_id: int, data: bytes) -> bytes:
    """
    DATAGRAM.
    """
    return DATAGRAM_LAYOUT.pack(FrameType.DATAGRAM, channel_id, len(data)) + data


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
    return OPEN_LAYOUT.pack(*fixed) + host


def opened_frame(channel_id: int) -> bytes:
    """
    OPENED.
    """
    return OPENED_LAYOUT.pack(FrameType.OPENED, channel_id)


def end_frame(channel_id: int, final_size: int) -> bytes:
    """
    END.
    """
    return END_LAYOUT.pack(FrameType.END, channel_id, final_size)


def reset_frame(channel_id: int, code: ResetCode, sent: int) -> bytes:
    """
    RESET.
    """
    return RESET_LAYOUT.pack(FrameType.RESET, channel_id, code, sent)


def credit_frame(channel_id: int, delivered: int, limit: int) -> bytes:
    """
    CREDIT.
    """
    return CREDIT_LAYOUT.pack(FrameType.CREDIT, channel_id, delivered, limit)


def session_credit_frame(limit: int) -> bytes:
    """
    SESSION_CREDIT.
    """
    return SESSION_CREDIT_LAYOUT.pack(FrameType.SESSION_CREDIT, limit)


def path_challenge_frame(data: bytes) -> bytes:
    """
    PATH_CHALLENGE with its 8 random bytes.
    """
    return PATH_LAYOUT.pack(FrameType.PATH_CHALLENGE, data)


def path_response_frame(data: bytes) -> bytes:
    """
    PATH_RESPONSE with the 8 bytes of the challenge.
    """
    return PATH_LAYOUT.pack(FrameType.PATH_RESPONSE, data)


def new_id_frame(sequence: int, session_id: int, token: bytes) -> bytes:
    """
    NEW_ID with its stateless reset token of 16 bytes.
    """
    return NEW_ID_LAYOUT.pack(FrameType.NEW_ID, sequence, session_id, token)


def retire_id_frame(sequence: int) -> bytes:
    """
    RETIRE_ID.
    """
    return RETIRE_ID_LAYOUT.pack(FrameType.RETIRE_ID, sequence)


def close_frame(code: CloseCode, reason: str = "") -> bytes:
    """
    CLOSE; of the reason, as many bytes as fit.
    """
    text = reason.encode()[:MAX_TEXT_SIZE]
    return CLOSE_LAYOUT.pack(FrameType.CLOSE, code, len(text)) + text
