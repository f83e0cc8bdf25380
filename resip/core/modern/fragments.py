"""
Fragments: packets that are larger than what the path takes (docs/protocol.md, section 2.7).

    0        4                               8                                n
    +--------+-------------------------------+--------------------------------+
    | id u32 | phase, number, count, place   | a part of the encrypted frames |
    +--------+-------------------------------+--------------------------------+
               masked

A packet costs one call of the cipher and everything that is done once for each packet, whatever
its size. On a path that loses nothing, and is faster than we are, that is most of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from resip.core.trains import HEADER_SIZE, Layout, layout_of

#: Tells a fragment from a packet, in the second word of both.
FRAGMENT_BIT = 1 << 30
#: Fragments of one packet at most, and where their number and the fragment's own stand.
MAX_FRAGMENTS = 64
_COUNT_SHIFT = 6
_NUMBER_SHIFT = 12
_PLACE_MASK = MAX_FRAGMENTS - 1
_PHASE_BIT = 1 << 31
#: Low bits of the packet's number that a fragment carries.
NUMBER_BITS = 18
#: A shorter datagram is no fragment, whatever it says (M-69).
LEAST_FRAGMENT = 128

#: Seconds without fragments after one was lost; twice as long each time that this happens again
#: within so many pauses, up to the longest.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
CALM_PAUSES = 10
#: Fragments of a packet, after a loss and at first.
FIRST_FRAGMENTS = 8

#: Bytes of the datagrams of a packet that is sent in fragments, which is what a system sends with
#: one call, and of the largest packet that is put together.
FRAGMENTED_SIZE = 65_507
MAX_JOINED_SIZE = 64 * 1024
#: Packets that may be incomplete at a time; of more the oldest is given up.
MAX_INCOMPLETE = 4


def count_fragments(datagram_size: int) -> int:
    """
    In how many datagrams of this size, in bytes, a large packet goes: 1 where cutting is no use.
    """
    return max(1, min(MAX_FRAGMENTS, FRAGMENTED_SIZE // datagram_size))


def cut(word: int, size: int, room: int) -> tuple[Sequence[int], Layout]:
    """
    The word of each datagram of a packet, before masking, and their layout.

    :param word: of the packet. :param size: bytes of its encrypted frames with the tag.
    :param room: bytes of content that a datagram has. What is too large even for
        :data:`MAX_FRAGMENTS` is left whole, and is the path's to refuse.
    """
    count = -(-size // room)
    if not 1 < count <= MAX_FRAGMENTS:
        return (word,), layout_of(1, HEADER_SIZE + size, HEADER_SIZE + size)
    # As equal as can be: the system sends equal datagrams together, and none is too short.
    step = -(-size // count)
    last = size - (count - 1) * step
    first = _first_word(word, count)
    return range(first, first + count), layout_of(count, HEADER_SIZE + step, HEADER_SIZE + last)


def _first_word(word: int, count: int) -> int:
    number = word & ((1 << NUMBER_BITS) - 1)
    return word & _PHASE_BIT | FRAGMENT_BIT | number << _NUMBER_SHIFT | count - 1 << _COUNT_SHIFT


def is_fragment(word: int, size: int) -> bool:
    """
    Whether a datagram is a part of a packet only.

    :param word: its second word, unmasked. :param size: its bytes.
    """
    return word & FRAGMENT_BIT > 0 and size >= LEAST_FRAGMENT


def read_number(word: int) -> int:
    """
    The low bits of the packet's number, from the word of one of its fragments.
    """
    return word >> _NUMBER_SHIFT & (1 << NUMBER_BITS) - 1


def count_train(words: Sequence[int], at: int) -> int:
    """
    How many datagrams from ``at`` on are the fragments of one packet, all of them and in order.

    :return: 0 when it is not so.
    """
    word = words[at]
    count = (word >> _COUNT_SHIFT & _PLACE_MASK) + 1
    is_whole = not word & _PLACE_MASK and words[at : at + count] == list(range(word, word + count))
    return count if is_whole else 0


class FragmentTrial:
    """
    Whether packets go in fragments: not for a while after one of those was lost, and longer when
    it happens again soon. A queue that is too short for the bursts looks like that, so they
    begin small, and grow with what arrives.

    :ivar count: fragments of a packet at most.
    """

    __slots__ = ("_pause", "_resumes_at", "count")

    def __init__(self) -> None:
        self.count = FIRST_FRAGMENTS
        self._pause = 0.0
        self._resumes_at = -math.inf

    def is_on(self, *, now: float) -> bool:
        """
        Whether it is worth a try.
        """
        return now >= self._resumes_at

    def on_acked(self) -> None:
        """
        A packet in fragments arrived.
        """
        self.count = min(2 * self.count, MAX_FRAGMENTS)

    def on_lost(self, *, now: float) -> None:
        """
        A packet in fragments was lost.
        """
        self.count = FIRST_FRAGMENTS
        if not self.is_on(now=now):
            return  # it left before the pause
        is_again = now - self._resumes_at < CALM_PAUSES * self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE) if is_again else FIRST_PAUSE
        self._resumes_at = now + self._pause


class FragmentStore:
    """
    Fragments that wait for the others of their packet. Nothing in here is authentic: a stranger
    who can make us keep something makes us give up something else, and never more than
    :data:`MAX_INCOMPLETE` times :data:`MAX_JOINED_SIZE` bytes.
    """

    __slots__ = ("_incomplete",)

    def __init__(self) -> None:
        self._incomplete: dict[int, dict[int, bytes | memoryview]] = {}

    @property
    def size(self) -> int:
        """
        Bytes kept.
        """
        return sum(len(each) for known in self._incomplete.values() for each in known.values())

    def add(self, word: int, content: bytes | memoryview) -> bytes | None:
        """
        Take a fragment; returns the encrypted frames of its packet with the tag once all are there.
        """
        count = (word >> _COUNT_SHIFT & _PLACE_MASK) + 1
        place = word & _PLACE_MASK
        if place >= count or count * len(content) > MAX_JOINED_SIZE:
            return None
        first = word - place
        known = self._incomplete.pop(first, {})
        known[place] = content
        if len(known) == count:
            return b"".join([known[at] for at in range(count)])
        self._incomplete[first] = known
        if len(self._incomplete) > MAX_INCOMPLETE:
            del self._incomplete[next(iter(self._incomplete))]
        return None
