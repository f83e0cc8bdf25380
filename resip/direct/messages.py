"""
What the two ends of a transfer say to each other on their channel; docs/transfer.md has the table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from resip.core.errors import ProtocolError
from resip.core.types import Protocol, Target

#: Where the channel of a transfer leads. No resolver knows the name (RFC 2606), so that a server
#: that is no receiver refuses it.
TARGET = Target(Protocol.TCP, "transfer.invalid", 1)

#: The version of what is said here.
VERSION = 1
#: The size of a source that does not know it.
UNKNOWN_SIZE = (1 << 64) - 1
HASH_SIZE = 32
#: Bytes of the longest body of a DATA, and of any other message.
MAX_DATA = 1 << 16
MAX_CONTROL = 4096
#: Bytes of the longest name; no file system of Linux takes longer ones.
MAX_NAME = 255
#: Offsets that a receiver may name in HAVE.
MAX_CHECKPOINTS = 64

_HEADER = struct.Struct("!BI")
_OFFER = struct.Struct("!BHQ")
_CHECKPOINT = struct.Struct(f"!Q{HASH_SIZE}s")
_OFFSET = struct.Struct("!Q")


class Kind(IntEnum):
    """
    The types of messages.
    """

    OFFER = 0x01
    HAVE = 0x02
    START = 0x03
    DATA = 0x04
    END = 0x05
    PROGRESS = 0x06
    DONE = 0x07
    FAILED = 0x08


class FailureCode(IntEnum):
    """
    Why a transfer ends early.
    """

    #: The other end broke the rules.
    PROTOCOL = 0x01
    #: The name cannot be used for a file.
    BAD_NAME = 0x02
    #: Another file of that name is there.
    EXISTS = 0x03
    #: No space for the rest.
    NO_SPACE = 0x04
    #: The receiver could not write.
    WRITE_FAILED = 0x05
    #: The source could not be read.
    READ_FAILED = 0x06
    #: The source changed meanwhile.
    CHANGED = 0x07
    #: What arrived has not the hash of what was sent.
    MISMATCH = 0x08
    #: Another transfer of that name took over.
    REPLACED = 0x09
    #: Somebody stopped it.
    CANCELLED = 0x0A
    #: What the receiver lacks is gone from the source.
    CANNOT_RESUME = 0x0B


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """
    What a receiver has: so many bytes from the start, with that SHA-256.
    """

    offset: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Offer:
    """
    What the sender wants to send.

    :ivar name: of the file, without any directory.
    :ivar size: in bytes, ``None`` when it is not known.
    :ivar mode: permission bits.
    """

    name: bytes
    size: int | None
    mode: int

    def encode(self) -> bytes:
        """
        The whole message.
        """
        size = UNKNOWN_SIZE if self.size is None else self.size
        return _message(Kind.OFFER, _OFFER.pack(VERSION, self.mode, size) + self.name)

    @classmethod
    def decode(cls, body: bytes) -> Offer:
        """
        From a body.
        """
        if len(body) < _OFFER.size:
            raise ProtocolError(f"an offer of {len(body)} bytes")
        version, mode, size = _OFFER.unpack_from(body)
        if version != VERSION:
            raise ProtocolError(f"an offer of version {version}, only {VERSION} is known")
        name = body[_OFFER.size :]
        if len(name) > MAX_NAME:
            raise ProtocolError(f"a name of {len(name)} bytes, more than {MAX_NAME}")
        return cls(name, None if size == UNKNOWN_SIZE else size, mode)


@dataclass(frozen=True, slots=True)
class Have:
    """
    What the receiver has of it already: checkpoints with growing offsets.
    """

    checkpoints: tuple[Checkpoint, ...]

    def encode(self) -> bytes:
        """
        The whole message.
        """
        packed = (_CHECKPOINT.pack(each.offset, each.digest) for each in self.checkpoints)
        return _message(Kind.HAVE, b"".join(packed))

    @classmethod
    def decode(cls, body: bytes) -> Have:
        """
        From a body.
        """
        count, rest = divmod(len(body), _CHECKPOINT.size)
        if rest or count > MAX_CHECKPOINTS:
            raise ProtocolError(f"checkpoints of {len(body)} bytes")
        checkpoints = tuple(Checkpoint(*values) for values in _CHECKPOINT.iter_unpack(body))
        offsets = [each.offset for each in checkpoints]
        if offsets != sorted(set(offsets)):
            raise ProtocolError("checkpoints whose offsets do not grow")
        return cls(checkpoints)


@dataclass(frozen=True, slots=True)
class Start:
    """
    The sender goes on from there: a checkpoint of the receiver, or the beginning.
    """

    offset: int

    def encode(self) -> bytes:
        """
        The whole message.
        """
        return _message(Kind.START, _OFFSET.pack(self.offset))

    @classmethod
    def decode(cls, body: bytes) -> Start:
        """
        From a body.
        """
        return cls(_offset(body))


@dataclass(frozen=True, slots=True)
class Data:
    """
    The next bytes.
    """

    data: bytes = field(repr=False)

    def encode(self) -> bytes:
        """
        The whole message.
        """
        return _message(Kind.DATA, self.data)

    @classmethod
    def decode(cls, body: bytes) -> Data:
        """
        From a body.
        """
        return cls(body)


@dataclass(frozen=True, slots=True)
class End:
    """
    That was all: so many bytes in all, with that SHA-256.
    """

    size: int
    digest: bytes

    def encode(self) -> bytes:
        """
        The whole message.
        """
        return _message(Kind.END, _CHECKPOINT.pack(self.size, self.digest))

    @classmethod
    def decode(cls, body: bytes) -> End:
        """
        From a body.
        """
        if len(body) != _CHECKPOINT.size:
            raise ProtocolError(f"an end of {len(body)} bytes")
        return cls(*_CHECKPOINT.unpack(body))


@dataclass(frozen=True, slots=True)
class Progress:
    """
    The receiver has written everything below this offset.
    """

    offset: int

    def encode(self) -> bytes:
        """
        The whole message.
        """
        return _message(Kind.PROGRESS, _OFFSET.pack(self.offset))

    @classmethod
    def decode(cls, body: bytes) -> Progress:
        """
        From a body.
        """
        return cls(_offset(body))


@dataclass(frozen=True, slots=True)
class Done:
    """
    The receiver has all of it, with that SHA-256, and under its name.
    """

    digest: bytes

    def encode(self) -> bytes:
        """
        The whole message.
        """
        return _message(Kind.DONE, self.digest)

    @classmethod
    def decode(cls, body: bytes) -> Done:
        """
        From a body.
        """
        if len(body) != HASH_SIZE:
            raise ProtocolError(f"a hash of {len(body)} bytes")
        return cls(body)


@dataclass(frozen=True, slots=True)
class Failed:
    """
    One end gives up.

    :ivar code: a :class:`FailureCode`, or one that a later version has.
    :ivar text: for people.
    """

    code: int
    text: str

    def encode(self) -> bytes:
        """
        The whole message.
        """
        text = self.text.encode("utf-8", "replace")[: MAX_CONTROL - 1]
        return _message(Kind.FAILED, bytes([self.code]) + text)

    @classmethod
    def decode(cls, body: bytes) -> Failed:
        """
        From a body. The text is harmless to print.
        """
        if not body:
            raise ProtocolError("a failure without a code")
        text = body[1:].decode("utf-8", "replace")
        return cls(body[0], "".join(c if c.isprintable() else "?" for c in text))


Message: TypeAlias = Offer | Have | Start | Data | End | Progress | Done | Failed

_TYPES: dict[int, type[Message]] = {
    Kind.OFFER: Offer,
    Kind.HAVE: Have,
    Kind.START: Start,
    Kind.DATA: Data,
    Kind.END: End,
    Kind.PROGRESS: Progress,
    Kind.DONE: Done,
    Kind.FAILED: Failed,
}


class MessageReader:
    """
    Finds the messages in a stream.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """
        Take bytes, give the messages that they complete.

        :raises ProtocolError: for what is none; nothing more can be read then.
        """
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= _HEADER.size:
                kind, size = _HEADER.unpack_from(self._buffer, at)
                if size > (MAX_DATA if kind == Kind.DATA else MAX_CONTROL):
                    raise ProtocolError(f"a message of type {kind:#04x} with {size} bytes")
                end = at + _HEADER.size + size
                if end > len(self._buffer):
                    break
                body = bytes(self._buffer[at + _HEADER.size : end])
                at = end
                if kind not in _TYPES:
                    raise ProtocolError(f"a message of type {kind:#04x}")
                yield _TYPES[kind].decode(body)
        finally:
            del self._buffer[:at]


def _message(kind: Kind, body: bytes) -> bytes:
    return _HEADER.pack(kind, len(body)) + body


def _offset(body: bytes) -> int:
    if len(body) != _OFFSET.size:
        raise ProtocolError(f"an offset of {len(body)} bytes")
    offset: int = _OFFSET.unpack(body)[0]
    return offset
