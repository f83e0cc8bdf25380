"""
Standard input and output as the ends of a transfer, without waiting for either.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from zope.interface import implementer

from resip.direct.errors import TransferError
from resip.direct.messages import FailureCode
from resip.direct.sources import StreamSource

#: Bytes that are read or written at once.
CHUNK = 1 << 16
#: Bytes that wait to be written before the sender is held up.
FULL = 1 << 20


class _Descriptor:
    """
    A descriptor that is watched by the reactor. It is not made non-blocking, since it is shared
    with the shell: one that is ready takes or gives a page at least.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def fileno(self) -> int:
        """
        The number; Twisted asks.
        """
        return self._descriptor

    def logPrefix(self) -> str:
        """
        A name for logs; Twisted asks.
        """
        return "pipe"


@implementer(IReadDescriptor)
class PipeReader(_Descriptor):
    """
    Fills a source from a pipe or terminal, as far as it has room.

    :param on_data: told when there is more, or the end.
    """

    def __init__(
        self, reactor: Any, descriptor: int, source: StreamSource, on_data: Callable[[], None]
    ) -> None:
        super().__init__(reactor, descriptor)
        self._source = source
        self._on_data = on_data
        self._is_over = False
        self._is_reading = False

    def resume(self) -> None:
        """
        Read if there is room.
        """
        if not self._is_over and not self._is_reading and self._source.room:
            self._is_reading = True
            self._reactor.addReader(self)

    def stop(self) -> None:
        """
        Read no more.
        """
        self._is_over = True
        self._pause()

    def doRead(self) -> None:
        """
        There is something to read; Twisted calls this.
        """
        try:
            data = os.read(self._descriptor, CHUNK)
        except OSError as error:
            self._source.error = TransferError(
                f"cannot read standard input ({error.strerror})", FailureCode.READ_FAILED
            )
            self.stop()
        else:
            self._source.put(data)
            if not data:
                self.stop()
            elif not self._source.room:
                self._pause()
        self._on_data()

    def connectionLost(self, reason: Any) -> None:
        """
        The other end is gone: the end, as far as we can tell.
        """
        if not self._is_over:
            self.stop()
            self._source.put(b"")
            self._on_data()

    def _pause(self) -> None:
        self._is_reading = False
        self._reactor.removeReader(self)


@implementer(IWriteDescriptor)
class PipeWriter(_Descriptor):
    """
    Writes on standard output, or what takes its place.

    :param on_drained: told when it is not full any more.
    :param on_lost: told why nothing can be written any more.
    """

    def __init__(
        self,
        reactor: Any,
        descriptor: int,
        on_drained: Callable[[], None],
        on_lost: Callable[[OSError], None],
    ) -> None:
        super().__init__(reactor, descriptor)
        self._on_drained = on_drained
        self._on_lost = on_lost
        self._waiting = bytearray()
        # A file is always ready, and not to be watched.
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._was_full = False
        self._flushed: list[Deferred[None]] = []

    def flushed(self) -> Deferred[None]:
        """
        Fires when everything was written.
        """
        flushed: Deferred[None] = Deferred()
        if self._waiting:
            self._flushed.append(flushed)
        else:
            flushed.callback(None)
        return flushed

    def is_full(self) -> bool:
        """
        Whether it should be spared more for now.
        """
        return len(self._waiting) >= FULL

    def write(self, data: bytes) -> None:
        """
        Write, as soon as it is taken.

        :raises TransferError: when a file cannot be written.
        """
        self._waiting += data
        if self._is_file:
            while self._waiting:
                self.doWrite()
        else:
            self._reactor.addWriter(self)
        self._was_full = self.is_full()

    def stop(self) -> None:
        """
        Write no more.
        """
        self._waiting.clear()
        self._reactor.removeWriter(self)

    def doWrite(self) -> None:
        """
        It takes something; Twisted calls this.
        """
        try:
            # What a ready pipe takes without blocking: PIPE_BUF (pipe(7)).
            size = CHUNK if self._is_file else 4096
            del self._waiting[: os.write(self._descriptor, self._waiting[:size])]
        except OSError as error:
            self.stop()
            self._on_lost(error)
            return
        if not self._waiting:
            self._reactor.removeWriter(self)
            flushed, self._flushed = self._flushed, []
            for each in flushed:
                each.callback(None)
        if self._was_full and not self.is_full():
            self._was_full = False
            self._on_drained()

    def connectionLost(self, reason: Any) -> None:
        """
        The reader is gone.
        """
        self.stop()
        self._on_lost(BrokenPipeError("the reader is gone"))
