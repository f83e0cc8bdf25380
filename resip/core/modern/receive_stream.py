"""
The receiving half of a channel's stream: pieces from packets to bytes in order.
"""

from __future__ import annotations

from bisect import bisect_right

from resip.core.errors import ProtocolError
from resip.core.modern.flow_control import FlowControlError
from resip.core.modern.frame_parser import expand
from resip.core.modern.pieces import Pieces

#: Pieces that wait for something before them. With all of them a byte long and none next to
#: another that is 6 MB of objects; a sender of whole packets that fills the largest window with
#: every other packet has 4,000.
MAX_EARLY_PIECES = 65_536
#: Neighbouring pieces are joined while one is smaller than the first size and the result is not
#: larger than the second: a program that writes single bytes must not cost an object for each.
SMALL_SIZE = 256
JOINED_SIZE = 4 * 1024
#: Parts in order that may be small and are left as they came while nobody takes them.
MAX_PARTS = 1024

_MASK32 = 0xFFFFFFFF


class ReceiveStream:
    """
    Puts a stream together again, and hands it out.

    :param limit: bytes that the peer may send at first.
    :ivar limit: the offset that the peer may send up to; raise it when credit is announced.
    :ivar next_offset: every byte below has arrived.
    :ivar final_size: the size of the stream; ``None`` until END came.
    """

    __slots__ = (
        "_early",
        "_early_starts",
        "_loose_parts",
        "_parts",
        "_ready",
        "final_size",
        "limit",
        "next_offset",
    )

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self.next_offset = 0
        self.final_size: int | None = None
        #: In order and not taken yet; :attr:`_ready` bytes. The last :attr:`_loose_parts` of
        #: them may be small.
        self._parts: list[bytes | memoryview] = []
        self._ready = 0
        self._loose_parts = 0
        #: Pieces beyond a gap, ascending, without overlaps; and where each one starts.
        self._early: list[bytes] = []
        self._early_starts: list[int] = []

    @property
    def highest(self) -> int:
        """
        One more than the highest offset received.
        """
        if self._early:
            return self._early_starts[-1] + len(self._early[-1])
        return self.next_offset

    @property
    def ready(self) -> int:
        """
        Bytes that :meth:`take` has.
        """
        return self._ready

    @property
    def is_finished(self) -> bool:
        """
        Whether the whole stream arrived and was taken.
        """
        return self.next_offset == self.final_size and not self._ready

    def receive_truncated(self, offset_low32: int, pieces: Pieces) -> int:
        """
        :meth:`receive` with the low 32 bits of the offset, as frames have it (M-27).
        """
        near = self.next_offset
        if offset_low32 == near & _MASK32:
            return self.receive(near, pieces)
        return self.receive(expand(offset_low32, 32, near), pieces)

    def receive(self, offset: int, pieces: Pieces) -> int:
        """
        Pieces arrived, each of which begins where the one before ends. What arrived before is
        ignored.

        :param offset: of the first piece.
        :return: by how much :attr:`highest` rose: what the session's credit is charged.
        :raises FlowControlError: when they end beyond the limit (M-31).
        :raises ProtocolError: when they end beyond the final size, or are scattered beyond reason.
        """
        size = sum(map(len, pieces))
        end = offset + size
        if end > self.limit or self.final_size is not None:
            self._check(end)
        if offset == self.next_offset and not self._early:
            self.next_offset = end
            self._parts += pieces
            self._ready += size
            if size < SMALL_SIZE * len(pieces):
                self._bound_parts(len(pieces))
            return size
        return self._receive_early(offset, b"".join(pieces))

    def end(self, final_size: int) -> None:
        """
        END arrived, perhaps again: the stream has ``final_size`` bytes.

        :raises ProtocolError: when more arrived already, or another END said otherwise.
        """
        if self.final_size is not None and self.final_size != final_size:
            raise ProtocolError(f"a stream ends at {self.final_size}, and then at {final_size}")
        if final_size < self.highest:
            raise ProtocolError(f"a stream ends at {final_size}; {self.highest} bytes came")
        if final_size > self.limit:
            raise FlowControlError(f"a stream ends at {final_size}; {self.limit} were allowed")
        self.final_size = final_size

    def take(self, limit: int | None = None) -> bytes:
        """
        The next bytes in order, all that are ready or at most ``limit``.
        """
        parts = self._parts
        if limit is not None and limit < self._ready:
            parts = self._split_parts(limit)
        else:
            self._parts = []
            self._ready = 0
        self._loose_parts = 0
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def _split_parts(self, limit: int) -> list[bytes | memoryview]:
        """
        Remove the first ``limit`` bytes of the parts; there are more.
        """
        count = 0
        rest = limit
        while rest >= len(self._parts[count]):
            rest -= len(self._parts[count])
            count += 1
        taken = self._parts[:count]
        del self._parts[:count]
        if rest:
            taken.append(self._parts[0][:rest])
            self._parts[0] = self._parts[0][rest:]
        self._ready -= limit
        return taken

    def _check(self, end: int) -> None:
        if end > self.limit:
            raise FlowControlError(f"a stream reaches {end}; {self.limit} were allowed")
        if self.final_size is not None and end > self.final_size:
            raise ProtocolError(f"a stream reaches {end}; it ended at {self.final_size}")

    def _bound_parts(self, added: int) -> None:
        """
        Parts were added that may be small: keep their number in bounds when nobody takes them.
        """
        self._loose_parts += added
        if self._loose_parts > MAX_PARTS:
            self._parts[-self._loose_parts :] = [b"".join(self._parts[-self._loose_parts :])]
            self._loose_parts = 0

    def _receive_early(self, offset: int, data: bytes) -> int:
        """
        The general case: keep of ``data`` what is new, then see what is in order now.
        """
        before = self.highest
        end = offset + len(data)
        at = max(offset, self.next_offset)
        starts, pieces = self._early_starts, self._early
        index = bisect_right(starts, at)
        if index:  # the piece before may reach into this one
            at = max(at, starts[index - 1] + len(pieces[index - 1]))
        while at < end:
            stop = min(end, starts[index]) if index < len(starts) else end
            if at < stop:
                index = self._insert(index, at, data[at - offset : stop - offset])
            if index == len(starts):
                break
            at = starts[index] + len(pieces[index])
            index += 1
        if starts and starts[0] == self.next_offset:
            self._collect()
        return self.highest - before

    def _insert(self, index: int, start: int, data: bytes) -> int:
        """
        Keep a piece between its neighbours and return the index of the one after it.
        """
        starts, pieces = self._early_starts, self._early
        if index and len(data) < SMALL_SIZE:
            previous = pieces[index - 1]
            is_next = starts[index - 1] + len(previous) == start
            if is_next and len(previous) + len(data) <= JOINED_SIZE:
                pieces[index - 1] = previous + data
                return index
        if len(pieces) >= MAX_EARLY_PIECES and start != self.next_offset:
            raise ProtocolError(f"a stream came in more than {MAX_EARLY_PIECES} pieces")
        starts.insert(index, start)
        pieces.insert(index, data)
        return index + 1

    def _collect(self) -> None:
        """
        The first gap is filled: what follows it is in order, up to the next gap.
        """
        starts, pieces = self._early_starts, self._early
        count = 0
        end = self.next_offset
        while count < len(starts) and starts[count] == end:
            end += len(pieces[count])
            count += 1
        self._parts += pieces[:count]
        self._bound_parts(count)
        self._ready += end - self.next_offset
        self.next_offset = end
        del starts[:count], pieces[:count]
