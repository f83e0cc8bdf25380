"""
What is sent: a file, which can be read again from any offset, or a stream, which cannot.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from resip.direct.errors import TransferError
from resip.direct.messages import Checkpoint, FailureCode, Offer

#: Bytes that are hashed at once, some milliseconds.
HASH_CHUNK = 1 << 21
#: Bytes of a stream that are kept until the receiver has written them.
STREAM_BUFFER = 32 << 20
#: What a stream without a name is called.
STREAM_NAME = b"stdin"


class Source(Protocol):
    """
    Gives bytes once, and again from where the receiver lacks them.
    """

    @property
    def offer(self) -> Offer:
        """
        What it is.
        """

    @property
    def is_at_end(self) -> bool:
        """
        Whether :meth:`read` has given everything.
        """

    @property
    def digest(self) -> bytes:
        """
        SHA-256 of everything up to where reading is now.
        """

    def seek_common(self, checkpoints: Sequence[Checkpoint]) -> Iterator[int]:
        """
        Go to the furthest checkpoint with the same bytes before it, or else to the beginning.
        Gives how far it has looked, between pieces of work that take milliseconds each; the last
        is where reading goes on.

        :raises TransferError: when there is no way back to there.
        """

    def read(self, size: int) -> bytes:
        """
        The next bytes; empty when there are none now.

        :raises TransferError: when they cannot be had.
        """

    def confirm(self, offset: int) -> None:
        """
        What is below ``offset`` is not needed any more.
        """

    def close(self) -> None:
        """
        Be done with it.
        """


@dataclass(frozen=True, slots=True)
class _Version:
    """
    What changes when a file does.
    """

    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Version:
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class FileSource:
    """
    A regular file, as it is when it is opened.

    :param descriptor: open for reading; closed by :meth:`close`.
    :param name: what the receiver shall call it.
    """

    def __init__(self, descriptor: int, name: bytes) -> None:
        status = os.fstat(descriptor)
        self._descriptor = descriptor
        self._version = _Version.of(status)
        self._offset = 0
        self._hash = hashlib.sha256()
        self.offer = Offer(name, status.st_size, stat.S_IMODE(status.st_mode) & 0o777)

    @property
    def is_at_end(self) -> bool:
        """
        See :class:`Source`.
        """
        return self._offset == self._version.size

    @property
    def digest(self) -> bytes:
        """
        See :class:`Source`.

        :raises TransferError: when the file has changed since it was opened.
        """
        self._check_version()
        return self._hash.digest()

    def seek_common(self, checkpoints: Sequence[Checkpoint]) -> Iterator[int]:
        """
        See :class:`Source`.
        """
        self._offset, self._hash = 0, hashlib.sha256()
        best = self._offset, self._hash.copy()
        for checkpoint in checkpoints:
            if checkpoint.offset > self._version.size:
                break
            while self._offset < checkpoint.offset:
                self.read(min(HASH_CHUNK, checkpoint.offset - self._offset))
                yield self._offset
            if self._hash.digest() == checkpoint.digest:
                best = self._offset, self._hash.copy()
        self._offset, self._hash = best
        yield self._offset

    def read(self, size: int) -> bytes:
        """
        See :class:`Source`.
        """
        size = min(size, self._version.size - self._offset)
        try:
            data = os.pread(self._descriptor, size, self._offset)
        except OSError as error:
            raise TransferError(
                f"cannot read the file ({error.strerror}): check the disk and send it again; what "
                "has arrived is kept",
                FailureCode.READ_FAILED,
            ) from error
        if size and not data:
            self._check_version()
        self._offset += len(data)
        self._hash.update(data)
        return data

    def confirm(self, offset: int) -> None:
        """
        See :class:`Source`; a file can be read again.
        """

    def close(self) -> None:
        """
        See :class:`Source`.
        """
        os.close(self._descriptor)

    def _check_version(self) -> None:
        if _Version.of(os.fstat(self._descriptor)) != self._version:
            raise TransferError(
                "the file was changed while it was sent: send it again when it rests",
                FailureCode.CHANGED,
            )


class StreamSource:
    """
    What somebody else reads and puts in, such as standard input. It is kept until the receiver
    has written it, so that this process can go on when the receiver was started anew.

    :param name: what the receiver shall call it.
    """

    def __init__(self, name: bytes = STREAM_NAME) -> None:
        self.offer = Offer(name, None, 0o666)
        self._kept = bytearray()
        self._kept_from = 0
        self._kept_hash = hashlib.sha256()
        self._offset = 0
        self._hash = hashlib.sha256()
        self._has_ended = False
        self.error: TransferError | None = None

    @property
    def room(self) -> int:
        """
        Bytes that may be put in now.
        """
        return max(0, STREAM_BUFFER - len(self._kept))

    @property
    def is_at_end(self) -> bool:
        """
        See :class:`Source`.
        """
        return self._has_ended and self._offset == self._kept_from + len(self._kept)

    @property
    def digest(self) -> bytes:
        """
        See :class:`Source`.
        """
        return self._hash.digest()

    def put(self, data: bytes) -> None:
        """
        More of the stream; empty for its end.
        """
        self._kept += data
        self._has_ended = not data

    def seek_common(self, checkpoints: Sequence[Checkpoint]) -> Iterator[int]:
        """
        See :class:`Source`.
        """
        known = [*checkpoints]
        if not self._kept_from:
            known.insert(0, Checkpoint(0, hashlib.sha256().digest()))
        best = None
        at, running = self._kept_from, self._kept_hash.copy()
        for checkpoint in known:
            if not at <= checkpoint.offset <= self._kept_from + len(self._kept):
                continue
            running.update(self._slice(at, checkpoint.offset - at))
            at = checkpoint.offset
            if running.digest() == checkpoint.digest:
                best = at, running.copy()
            yield at
        if best is None:
            raise TransferError(
                "the receiver does not have what it had of this stream, and a stream cannot be "
                "read again: send it from the start",
                FailureCode.CANNOT_RESUME,
            )
        self._offset, self._hash = best
        yield self._offset

    def read(self, size: int) -> bytes:
        """
        See :class:`Source`.
        """
        if self.error is not None:
            raise self.error
        data = self._slice(self._offset, size)
        self._offset += len(data)
        self._hash.update(data)
        return data

    def confirm(self, offset: int) -> None:
        """
        See :class:`Source`.
        """
        count = offset - self._kept_from
        if count > 0:
            self._kept_hash.update(self._kept[:count])
            del self._kept[:count]
            self._kept_from = offset

    def close(self) -> None:
        """
        See :class:`Source`.
        """
        self._kept.clear()

    def _slice(self, offset: int, size: int) -> bytes:
        start = offset - self._kept_from
        return bytes(self._kept[start : start + size])
