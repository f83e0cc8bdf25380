"""
Trains: datagrams of one size behind each other in one buffer, as systems move many with one call.

    |<------ size ------>|<------ size ------>|<--- last --->|
    | datagram           | datagram           | datagram     |

Linux takes and gives them like this (udp(7), options ``UDP_SEGMENT`` and ``UDP_GRO``). To take
them apart in Python costs more than the call, so a field is read from all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from struct import Struct
from typing import overload

#: Bytes of what a datagram begins with, of a packet's header and of its tag, and of the shortest
#: packet (docs/protocol.md, section 2.1 and M-14).
ID_SIZE = 4
HEADER_SIZE = 8
TAG_SIZE = 16
MIN_PACKET_SIZE = HEADER_SIZE + 1 + TAG_SIZE
#: Layouts kept, and datagrams of a train that one is made for: a path has a few, Linux glues 64
#: datagrams at most, and what strangers send must not take megabytes.
MAX_LAYOUTS = 64
MAX_DATAGRAMS = 128


class Layout:
    """
    How to read or write a field of all datagrams of a train at once. From :func:`layout_of`.

    :ivar size: bytes of each datagram but the last.
    :ivar packets: id, second word and content of each, in turn.
    :ivar tails: the last 16 bytes of each. :ivar ids: the first 4.
    :ivar contents: of the contents alone, behind each other: each of them.
    :ivar content_tails: their last 16 bytes.
    """

    __slots__ = ("content_tails", "contents", "ids", "packets", "size", "tails")

    def __init__(self, count: int, size: int, last: int) -> None:
        def repeat(form: str, taken: int) -> Struct:
            return Struct("!" + form.format(size - taken) * (count - 1) + form.format(last - taken))

        self.size = size
        self.packets = repeat("II{}s", HEADER_SIZE)
        self.tails = repeat(f"{{}}x{TAG_SIZE}s", TAG_SIZE)
        self.ids = repeat(f"{ID_SIZE}s{{}}x", ID_SIZE)
        self.contents = repeat("{}s", HEADER_SIZE)
        self.content_tails = repeat(f"{{}}x{TAG_SIZE}s", HEADER_SIZE + TAG_SIZE)


@lru_cache(maxsize=MAX_LAYOUTS)
def layout_of(count: int, size: int, last: int) -> Layout:
    """
    The layout of a train.

    :param count: its datagrams. :param size: bytes of each but the last. :param last: of that one;
        both at least :data:`MIN_PACKET_SIZE`.
    """
    return Layout(count, size, last)


class Train:
    """
    One train.

    :ivar data: the datagrams. :ivar size: bytes of each; the last may be shorter.
    """

    __slots__ = ("data", "size")

    def __init__(self, data: bytes, size: int) -> None:
        self.data = data
        self.size = size

    def __len__(self) -> int:
        """
        How many datagrams; an empty one counts.
        """
        return -(-len(self.data) // self.size) if self.data else 1

    @property
    def layout(self) -> Layout | None:
        """
        How to read it; ``None`` when a datagram is too short for a packet, there are too many, or
        there is one only, for whose size a layout is not worth its while.
        """
        count = len(self)
        last = len(self.data) - (count - 1) * self.size
        is_usual = 1 < count <= MAX_DATAGRAMS and last >= MIN_PACKET_SIZE
        return layout_of(count, self.size, last) if is_usual else None

    def datagrams(self) -> Sequence[bytes]:
        """
        Each for itself.
        """
        data, size = self.data, self.size
        if len(data) <= size:
            return (data,)
        return [data[at : at + size] for at in range(0, len(data), size)]


class Trains(Sequence[bytes]):
    """
    The datagrams of some trains, in order: a sequence of datagrams to all who are in no hurry.

    :ivar trains: at least one.
    """

    __slots__ = ("_datagrams", "trains")

    def __init__(self, trains: Sequence[Train]) -> None:
        self.trains = trains
        self._datagrams: Sequence[bytes] | None = None

    def __len__(self) -> int:
        return sum(map(len, self.trains))

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        return self._flat()[at]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._flat())

    def _flat(self) -> Sequence[bytes]:
        if self._datagrams is None:
            self._datagrams = list(chain.from_iterable(each.datagrams() for each in self.trains))
        return self._datagrams


def count_bytes(packets: Sequence[bytes]) -> int:
    """
    Of all of them.
    """
    if isinstance(packets, Trains):
        return sum(len(train.data) for train in packets.trains)
    return sum(map(len, packets))


def collect_ids(packets: Sequence[bytes]) -> set[bytes]:
    """
    The different first four bytes.
    """
    if not isinstance(packets, Trains):
        return {packet[:ID_SIZE] for packet in packets}
    ids: set[bytes] = set()
    for train in packets.trains:
        layout = train.layout
        if layout is None:
            ids.update(each[:ID_SIZE] for each in train.datagrams())
        else:
            ids.update(layout.ids.unpack(train.data))
    return ids


def find_longest(packets: Sequence[bytes]) -> bytes:
    """
    One of the longest.
    """
    if not isinstance(packets, Trains):
        return max(packets, key=len)
    train = max(packets.trains, key=lambda each: min(each.size, len(each.data)))
    return train.data[: train.size]
