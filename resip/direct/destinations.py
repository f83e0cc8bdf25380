"""
Where what arrives goes: a file, which keeps what has come of it, or a stream.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from resip.direct.errors import TransferError
from resip.direct.messages import MAX_CHECKPOINTS, Checkpoint, FailureCode, Offer
from resip.direct.names import PARTIAL_SUFFIX, safe_name
from resip.direct.sources import HASH_CHUNK

#: Bytes between two checkpoints, at least.
CHECKPOINT_DISTANCE = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Destination(Protocol):
    """
    Takes bytes in order and knows what it has.
    """

    @property
    def label(self) -> str:
        """
        What to call it; safe to print.
        """

    def look(self) -> Iterator[int]:
        """
        Find out what is there already. Gives how far it has looked, between pieces of work that
        take milliseconds each; afterwards :attr:`checkpoints` are there.

        :raises TransferError: when nothing can be received.
        """

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """
        What is there, with growing offsets.
        """

    def start(self, offset: int) -> None:
        """
        Go on from one of the checkpoints, or the beginning.

        :raises TransferError: when it cannot be.
        """

    def write(self, data: bytes) -> None:
        """
        Take the next bytes.

        :raises TransferError: when they cannot be written.
        """

    def finish(self, digest: bytes) -> None:
        """
        That was all, with that SHA-256.

        :raises TransferError: when it is not what has come, or cannot be put in its place.
        """

    def close(self) -> None:
        """
        Be done with it; what has come of it stays. Harmless when repeated.
        """


class FileDestination:
    """
    A file, under a name with :data:`~resip.direct.names.PARTIAL_SUFFIX` until it is complete. It
    takes its own name only then, with the sender's permission bits within this process's umask.

    What is there is hashed anew each time: nothing but the bytes themselves says what they are.

    :param path: its own name.
    :param overwrite: whether another file may be there; it goes when this one is complete.
    """

    def __init__(self, path: Path, offer: Offer, *, overwrite: bool = False) -> None:
        self._path = path
        self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self._offer = offer
        self._overwrite = overwrite
        self._descriptor: int | None = None
        self._is_complete = False
        self._offset = 0
        self._hash = hashlib.sha256()
        self._marks: list[tuple[Checkpoint, Any]] = []

    @property
    def label(self) -> str:
        """
        See :class:`Destination`.
        """
        return str(self._path) if str(self._path).isprintable() else ascii(str(self._path))

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """
        See :class:`Destination`.
        """
        return tuple(checkpoint for checkpoint, _ in self._marks)

    def look(self) -> Iterator[int]:
        """
        See :class:`Destination`.
        """
        # A complete file counts, too: its sender may not have heard that it is.
        self._is_complete = not self._overwrite and os.path.lexists(self._path)
        if self._is_complete:
            self._descriptor = self._open(self._path, os.O_RDONLY)
            if os.fstat(self._descriptor).st_size != self._offer.size:
                raise self._exists()
        else:
            self._descriptor = self._open(self._partial, os.O_RDWR | os.O_CREAT)
            self._check_space()
        yield from self._hash_what_is_there()

    def _hash_what_is_there(self) -> Iterator[int]:
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        if self._offer.size is not None:
            size = min(size, self._offer.size)
        distance = max(CHECKPOINT_DISTANCE, -(-size // MAX_CHECKPOINTS))
        running, at = hashlib.sha256(), 0
        while at < size:
            wanted = min(HASH_CHUNK, distance - at % distance, size - at)
            data = self._do(os.pread, self._descriptor, wanted, at)
            if not data:
                break
            running.update(data)
            at += len(data)
            if at % distance == 0 or at == size:
                self._marks.append((Checkpoint(at, running.digest()), running.copy()))
            yield at

    def start(self, offset: int) -> None:
        """
        See :class:`Destination`.
        """
        assert self._descriptor is not None, "look comes first"
        if self._is_complete and offset != self._offer.size:
            raise self._exists()
        known = {checkpoint.offset: running for checkpoint, running in self._marks}
        self._offset, self._hash = offset, known.get(offset, hashlib.sha256())
        if not self._is_complete:
            self._do(os.ftruncate, self._descriptor, offset)

    def write(self, data: bytes) -> None:
        """
        See :class:`Destination`.
        """
        assert self._descriptor is not None
        rest = memoryview(data)
        while rest:
            count = self._do(os.pwrite, self._descriptor, rest, self._offset)
            self._offset += count
            rest = rest[count:]
        self._hash.update(data)

    def finish(self, digest: bytes) -> None:
        """
        See :class:`Destination`.
        """
        assert self._descriptor is not None
        if self._hash.digest() != digest:
            raise TransferError(
                f"what has arrived as {self.label} is not what was sent: remove "
                f"{self._partial.name} and send it again",
                FailureCode.MISMATCH,
            )
        if not self._is_complete:
            self._do(os.fsync, self._descriptor)
            self._do(os.fchmod, self._descriptor, self._offer.mode & ~_umask())
            self._do(self._take_name)
            self._is_complete = True
        self.close()

    def close(self) -> None:
        """
        See :class:`Destination`.
        """
        if self._descriptor is None:
            return
        is_empty = not self._is_complete and not os.fstat(self._descriptor).st_size
        os.close(self._descriptor)
        self._descriptor = None
        if is_empty:
            with contextlib.suppress(OSError):
                self._partial.unlink()

    def _take_name(self) -> None:
        if self._overwrite:
            os.replace(self._partial, self._path)
        else:
            try:
                os.link(self._partial, self._path)  # which never replaces anything
                os.unlink(self._partial)
            except FileExistsError:
                raise self._exists() from None
            except OSError:  # a file system without links
                if os.path.lexists(self._path):
                    raise self._exists() from None
                os.rename(self._partial, self._path)

    def _open(self, path: Path, flags: int) -> int:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise self._failure(error) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (flags & os.O_CREAT and not _is_ours(status)):
            os.close(descriptor)
            raise TransferError(
                f"{path} is there, and is not a plain file of this user: move it away",
                FailureCode.WRITE_FAILED,
            )
        return descriptor

    def _check_space(self) -> None:
        if self._offer.size is None:
            return
        assert self._descriptor is not None
        missing = self._offer.size - os.fstat(self._descriptor).st_size
        if missing > self._do(shutil.disk_usage, self._path.parent).free:
            raise self._full()

    def _do(self, function: Callable[..., object], *arguments: object) -> Any:
        try:
            return function(*arguments)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> TransferError:
        if error.errno in _FULL:
            return self._full()
        return TransferError(
            f"the receiver cannot write {self.label} ({error.strerror}): see to its directory, or "
            "receive with another --output",
            FailureCode.WRITE_FAILED,
        )

    def _full(self) -> TransferError:
        return TransferError(
            f"the receiver's disk is too full for {self.label}: free some space there and send it "
            "again; what has arrived is kept",
            FailureCode.NO_SPACE,
        )

    def _exists(self) -> TransferError:
        return TransferError(
            f"the receiver has another {self.label} already: move it away, or receive with "
            "--overwrite",
            FailureCode.EXISTS,
        )


class StreamDestination:
    """
    What somebody else writes on, such as standard output.

    It cannot take anything back: a sender that comes anew has to go on where the last one
    stopped.

    :param write: takes bytes. :param is_full: whether it should be spared more for now.
    """

    label = "standard output"

    def __init__(
        self, write: Callable[[bytes], None], is_full: Callable[[], bool] = lambda: False
    ) -> None:
        self._write = write
        self.is_full = is_full
        self._offset = 0
        self._hash = hashlib.sha256()

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """
        See :class:`Destination`.
        """
        return (Checkpoint(self._offset, self._hash.digest()),) if self._offset else ()

    def look(self) -> Iterator[int]:
        """
        See :class:`Destination`.
        """
        yield self._offset

    def start(self, offset: int) -> None:
        """
        See :class:`Destination`.
        """
        if offset != self._offset:
            raise TransferError(
                "the receiver has written another beginning to its standard output and cannot "
                "take it back: start 'resip receive' anew, too",
                FailureCode.CANNOT_RESUME,
            )

    def write(self, data: bytes) -> None:
        """
        See :class:`Destination`.
        """
        self._offset += len(data)
        self._hash.update(data)
        self._write(data)

    def finish(self, digest: bytes) -> None:
        """
        See :class:`Destination`.
        """
        if self._hash.digest() != digest:
            raise TransferError("what has arrived is not what was sent", FailureCode.MISMATCH)
        # The next transfer is another stream.
        self._offset, self._hash = 0, hashlib.sha256()

    def close(self) -> None:
        """
        See :class:`Destination`.
        """


def file_path(output: Path, offer: Offer) -> Path:
    """
    The file that an offer is received as.

    :param output: a directory, in which the sender chooses the name, or the file.
    :raises TransferError: when the sender's name is none to use.
    """
    if output.is_dir():
        return output / safe_name(offer.name)
    return output


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and status.st_nlink == 1


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
