"""
The sending half of a channel's stream: bytes from the application to the packets, kept until
they are delivered.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from resip.core.errors import ProtocolError
from resip.core.modern.pieces import LEAST_VIEW_SIZE, Pieces
from resip.core.rangeset import RangeSet

#: Bytes of one stream that are kept: not sent yet, or sent and not delivered (M-30).
SEND_LIMIT = 4 * 1024 * 1024
#: Larger writes are kept in blocks of this size, so that a part of one can be forgotten.
MAX_BLOCK_SIZE = 1024 * 1024
#: A small block takes in the next writes, until it has the second size: a program that writes
#: single bytes would else have us keep a hundred bytes of objects for each.
SMALL_SIZE = 4 * 1024
GROWN_SIZE = 64 * 1024


class SendStream:
    """
    Takes what the application writes; hands out pieces for packets, first those that were lost.

    Bytes are in one of these states: *unsent*, *in flight* (sent, fate unknown), *lost*, *acked*
    (a packet with them arrived) and *delivered*. Only delivered ones are forgotten. Offsets
    count from 0, the first byte written. Implements
    :class:`~resip.core.modern.sent.SentStream`.

    :param limit: bytes that are kept; :meth:`write` accepts no more.
    :ivar next_offset: of the first byte that was never sent.
    :ivar end_offset: one more than that of the last byte written.
    :ivar delivered: every byte below was taken by the far application's socket.
    :ivar end_mark: what is known of the END frame; ``None`` until :meth:`end`.
    """

    __slots__ = (
        "_acked",
        "_acked_bytes",
        "_blocks",
        "_current",
        "_limit",
        "_lost",
        "_starts",
        "delivered",
        "end_mark",
        "end_offset",
        "next_offset",
    )

    def __init__(self, *, limit: int = SEND_LIMIT) -> None:
        self._limit = limit
        self.next_offset = 0
        self.end_offset = 0
        self.delivered = 0
        self.end_mark: EndMark | None = None
        #: What was written, as it was written: large blocks are never copied. One that still
        #: grows is a bytearray, until something is cut from it.
        self._blocks: list[bytes | bytearray] = []
        #: The offset of each one's first byte.
        self._starts: list[int] = []
        #: The block with the last byte that was sent.
        self._current = 0
        self._acked = _ByteRanges()
        self._acked_bytes = 0
        self._lost = _ByteRanges()

    @property
    def room(self) -> int:
        """
        How many bytes :meth:`write` would accept; 0 after :meth:`end`.
        """
        if self.end_mark is not None:
            return 0
        return max(0, self._limit - (self.end_offset - self.delivered))

    @property
    def unsent(self) -> int:
        """
        Bytes written and never sent.
        """
        return self.end_offset - self.next_offset

    @property
    def outstanding(self) -> int:
        """
        Bytes sent and neither acked nor delivered: in flight or lost.
        """
        return self.next_offset - self.delivered - self._acked_bytes

    @property
    def has_lost(self) -> bool:
        """
        Whether :meth:`cut_lost` has something to cut.
        """
        return len(self._lost) > 0

    @property
    def final_size(self) -> int | None:
        """
        What the END frame says; ``None`` until :meth:`end`.
        """
        return None if self.end_mark is None else self.end_offset

    @property
    def is_done(self) -> bool:
        """
        Whether everything was delivered and the peer knows that it was everything.
        """
        mark = self.end_mark
        return mark is not None and mark.is_acked and self.delivered == self.end_offset

    def write(self, data: bytes) -> int:
        """
        Queue as much of ``data`` as there is room for, and return how much that was.
        """
        room = self.room
        if room < len(data):
            data = data[:room]
        self.append(data)
        return len(data)

    def append(self, data: bytes) -> None:
        """
        Queue all of ``data``, past the limit if need be: what a compressor made cannot be halved.

        Not after :meth:`end`.
        """
        offset = self.end_offset
        self.end_offset += len(data)
        if not data or self._grow_last(data):
            return
        if len(data) <= MAX_BLOCK_SIZE:
            self._blocks.append(data)
            self._starts.append(offset)
            return
        for at in range(0, len(data), MAX_BLOCK_SIZE):
            self._blocks.append(data[at : at + MAX_BLOCK_SIZE])
            self._starts.append(offset + at)

    def end(self) -> None:
        """
        Nothing more will be written: from now on there is an :attr:`end_mark` to be sent.
        """
        if self.end_mark is None:
            self.end_mark = EndMark()

    def cut(self, count: int, step: int, *, credit: int) -> tuple[int, Pieces]:
        """
        Data that was never sent, as pieces for consecutive packets; it counts as sent now.

        :param count: most pieces.
        :param step: bytes of each piece, 1 to 65,535. Only the last may be shorter, and is only
            where the data or the credit ends.
        :param credit: most bytes.
        :return: the offset of the first piece, and the pieces.
        """
        offset = at = self.next_offset
        end = offset + max(0, min(count * step, credit, self.end_offset - offset))
        self.next_offset = end
        pieces: list[bytes | memoryview] = []
        while at < end:
            block: bytes | memoryview
            block, start = self._block_at(at)
            stop = min(end, start + len(block))
            if step >= LEAST_VIEW_SIZE:
                block = memoryview(block)
            whole = (stop - at) // step * step
            pieces += [block[k : k + step] for k in range(at - start, at - start + whole, step)]
            at += whole
            if at < stop:  # the last piece, or one that ends in another block
                pieces.append(self.read(at, min(at + step, end)))
                at += len(pieces[-1])
        return offset, pieces

    def cut_lost(self, count: int, step: int) -> tuple[int, list[bytes]]:
        """
        The oldest lost range, or what fits of it, like :meth:`cut`; it is in flight again.
        """
        if not len(self._lost):
            return self.next_offset, []
        first, last = next(iter(self._lost))
        end = min(last + 1, first + count * step)
        self._lost.remove_below(end)
        data = self.read(first, end)
        return first, [data[at : at + step] for at in range(0, len(data), step)]

    def read(self, start: int, end: int) -> bytes:
        """
        Bytes that were sent and are not delivered, for another copy of them.

        :raises ValueError: when they are not all of that kind.
        """
        if not self.delivered <= start <= end <= self.next_offset:
            raise ValueError(f"{start} to {end} is not kept")
        blocks, starts = self._blocks, self._starts
        at = bisect_right(starts, start) - 1
        parts = []
        while start < end:
            stop = min(starts[at + 1], end) if at + 1 < len(starts) else end
            parts.append(blocks[at][start - starts[at] : stop - starts[at]])
            start = stop
            at += 1
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def unacked_ranges(self, limit: int, *, start: int = 0) -> list[tuple[int, int]]:
        """
        What was sent and not acked, as (start, end), oldest first, ``limit`` bytes at most.

        Copies of a tail carry it. Lost ranges are included.

        :param start: bytes below are left out.
        """
        ranges = []
        start = max(start, self.delivered)
        while limit > 0 and start < self.next_offset:
            start, end = self._acked.first_gap(start, self.next_offset)
            end = min(end, start + limit)
            if start < end:
                ranges.append((start, end))
            limit -= end - start
            start = end
        return ranges

    def on_acked(self, start: int, end: int) -> None:
        """
        The bytes from ``start`` up to ``end`` arrived.
        """
        start = max(start, self.delivered)
        if start >= end:
            return
        if len(self._acked):
            self._acked_bytes += sum(b - a for a, b in self._acked.gaps(start, end))
        else:
            self._acked_bytes += end - start
        self._acked.add(start, end - 1)
        if len(self._lost):
            self._lost.remove(start, end)

    def has_arrived(self, start: int, end: int) -> bool:
        """
        Whether all bytes from ``start`` up to ``end`` arrived, in whatever packet.
        """
        start = max(start, self.delivered)
        return start >= end or self._acked.first_gap(start, end)[0] >= end

    def on_lost(self, start: int, end: int) -> None:
        """
        A packet with the bytes from ``start`` up to ``end`` is lost; no matter if they arrived
        in another one.
        """
        start = max(start, self.delivered)
        if start < end:
            for first, stop in self._acked.gaps(start, end):
                self._lost.add(first, stop - 1)

    def on_delivered(self, offset: int) -> None:
        """
        The far application took every byte below ``offset``. An older report changes nothing.

        :raises ProtocolError: when those bytes were never sent.
        """
        if offset > self.next_offset:
            raise ProtocolError(
                f"bytes below {offset} are said to be delivered; {self.next_offset} were sent"
            )
        if offset <= self.delivered:
            return
        self.delivered = offset
        for first, last in self._acked:
            if first >= offset:
                break
            self._acked_bytes -= min(last + 1, offset) - first
        self._acked.remove_below(offset)
        self._lost.remove_below(offset)
        self._free_blocks()

    def _block_at(self, offset: int) -> tuple[bytes, int]:
        """
        The block with the next byte to be sent, done with growing, and its first byte's offset.
        """
        starts, index = self._starts, self._current
        while index + 1 < len(starts) and starts[index + 1] <= offset:
            index += 1
        self._current = index
        block = self._blocks[index]
        if isinstance(block, bytearray):
            block = self._blocks[index] = bytes(block)
        return block, starts[index]

    def _grow_last(self, data: bytes) -> bool:
        """
        Add ``data`` to the last block, if both are small enough for that.
        """
        if not self._blocks:
            return False
        last = self._blocks[-1]
        is_growing = isinstance(last, bytearray)
        if len(last) + len(data) > (GROWN_SIZE if is_growing else SMALL_SIZE):
            return False
        if not is_growing:
            self._blocks[-1] = last = bytearray(last)
        last += data
        return True

    def _free_blocks(self) -> None:
        """
        Forget the blocks whose bytes are all delivered.
        """
        if self.delivered == self.end_offset:
            count = len(self._blocks)
        else:
            count = bisect_right(self._starts, self.delivered) - 1
        del self._blocks[:count], self._starts[:count]
        self._current = max(0, self._current - count)


class EndMark:
    """
    Whether END still has to be said. A :class:`~resip.core.modern.sent.Control`.

    :ivar is_due: send it, again perhaps; with the last data, or after it.
    :ivar is_acked: the peer knows the final size.
    """

    __slots__ = ("is_acked", "is_due")

    def __init__(self) -> None:
        self.is_due = True
        self.is_acked = False

    def on_sent(self) -> None:
        """
        It leaves in a packet.
        """
        self.is_due = False

    def on_acked(self) -> None:
        """
        The packet arrived.
        """
        self.is_due = False
        self.is_acked = True

    def on_lost(self) -> None:
        """
        The packet is lost.
        """
        self.is_due = not self.is_acked


class _ByteRanges(RangeSet):
    """
    A set of offsets that can also say what is missing. Here ranges are given as start and end,
    the end not included.
    """

    __slots__ = ()

    def first_gap(self, start: int, end: int) -> tuple[int, int]:
        """
        The first part of a range that is not in the set; (end, end) when all of it is.
        """
        at = bisect_left(self._lasts, start)
        if at < len(self._firsts) and self._firsts[at] <= start:
            start = min(self._lasts[at] + 1, end)
            at += 1
        if at < len(self._firsts):
            end = max(start, min(end, self._firsts[at]))
        return start, end

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """
        The parts of a range that are not in the set.
        """
        gaps = []
        while start < end:
            start, stop = self.first_gap(start, end)
            if start < stop:
                gaps.append((start, stop))
            start = stop
        return gaps

    def remove(self, start: int, end: int) -> None:
        """
        Take a range out of the set.
        """
        firsts, lasts = self._firsts, self._lasts
        low = bisect_left(lasts, start)
        high = bisect_right(firsts, end - 1)
        if low >= high:
            return
        kept = []
        if firsts[low] < start:
            kept.append((firsts[low], start - 1))
        if lasts[high - 1] >= end:
            kept.append((end, lasts[high - 1]))
        firsts[low:high] = [first for first, _ in kept]
        lasts[low:high] = [last for _, last in kept]
