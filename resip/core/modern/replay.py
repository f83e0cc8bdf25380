"""
Packet numbers at the receiver, each once, and each hello once: what it remembers so that a
recording starts nothing.
"""

from __future__ import annotations

from resip.core.rangeset import RangeSet

#: Low bits of its number that a packet carries (M-11).
NUMBER_BITS = 30

#: How far below the highest number a packet may still arrive (M-13).
REPLAY_WINDOW = 65_536

#: Ranges that are kept; more would let a lossy path, or a peer that skips numbers on purpose,
#: take megabytes. 1,024 are about 80 KiB, and at half of all packets lost they still reach
#: 4,000 numbers back.
MAX_RANGES = 1_024

#: How many of the lowest ranges go at once, so that the next loss does not move the lists again.
_RANGES_DROPPED = MAX_RANGES // 4

#: Static keys that a :class:`HelloFilter` remembers, about 12 MiB.
MAX_FILTERED_KEYS = 65_536


def decode_number(low: int, next_number: int, *, bits: int = NUMBER_BITS) -> int:
    """
    The packet number closest to ``next_number`` whose low ``bits`` are ``low`` (M-11).

    :param next_number: one more than the highest number that was authenticated.

    Source: RFC 9000 appendix A.3.
    """
    span = 1 << bits
    number = next_number - next_number % span + low
    if number <= next_number - span // 2:
        return number + span
    if number > next_number + span // 2 and number >= span:
        return number - span
    return number


class ReplayWindow:
    """
    The numbers accepted so far, as ranges above a floor.

    Everything below the floor counts as accepted: forgetting raises the floor and thereby
    refuses late packets, it never lets a number pass a second time. Only numbers of packets
    whose tag was verified belong in here (M-12).
    """

    __slots__ = ("_floor", "_ranges")

    def __init__(self) -> None:
        self._floor = 0
        self._ranges = RangeSet()

    @property
    def next_number(self) -> int:
        """
        One more than the highest number accepted; 0 at first.
        """
        last = self._ranges.last
        return 0 if last is None else last + 1

    @property
    def ranges(self) -> RangeSet:
        """
        The numbers accepted, as far as they are remembered; an ACK is made from them. To read only.
        """
        return self._ranges

    def is_too_old(self, number: int) -> bool:
        """
        Whether ``number`` is so far below the highest that nothing is known about it any more.
        """
        return number < self._floor or number < self.next_number - 1 - REPLAY_WINDOW

    def accept(self, number: int) -> bool:
        """
        Accept ``number``, unless it was accepted before or is too old.

        :return: whether it is new.
        """
        if self.is_too_old(number) or number in self._ranges:
            return False
        self._ranges.add(number)
        self._trim()
        return True

    def accept_run(self, first: int, end: int) -> None:
        """
        Accept ``first`` up to, not including, ``end``: a run above all that was accepted.

        :raises ValueError: when it is not above, or empty.
        """
        if not self.next_number <= first < end:
            raise ValueError(f"{first} to {end} is not a run above {self.next_number - 1}")
        self._ranges.add(first, end - 1)
        self._trim()

    def _trim(self) -> None:
        if len(self._ranges) <= MAX_RANGES:
            return
        self._ranges.remove_below(self.next_number - 1 - REPLAY_WINDOW)
        if len(self._ranges) > MAX_RANGES:
            self._ranges.drop_lowest(_RANGES_DROPPED)
            self._floor, _ = next(iter(self._ranges))


class HelloFilter:
    """
    Accepts each hello once, so that a recorded one starts nothing (M-7).

    Remembers the newest time of each static key. When there are too many keys, the half with
    the oldest times is forgotten, and times up to theirs are refused from then on whatever
    the key: forgetting never lets a recorded hello in.

    :param floor_ms: hellos up to this time are refused. A restarted server, which remembers
        nothing, gives the time of its start; clients whose clocks are behind then wait as long.
    :param limit: how many keys to remember.
    """

    def __init__(self, *, floor_ms: int = 0, limit: int = MAX_FILTERED_KEYS) -> None:
        self._floor_ms = floor_ms
        self._limit = limit
        self._newest: dict[bytes, int] = {}

    def __len__(self) -> int:
        """
        How many keys are remembered.
        """
        return len(self._newest)

    def accept(self, client_public_key: bytes, time_ms: int) -> bool:
        """
        Whether a hello is the newest of its key; if so, it is remembered.

        :param client_public_key: of a client that is known, from an authentic message 1.
        """
        if time_ms <= self._newest.get(client_public_key, self._floor_ms):
            return False
        self._newest[client_public_key] = time_ms
        if len(self._newest) > self._limit:
            self._forget_older_half()
        return True

    def _forget_older_half(self) -> None:
        by_age = sorted(self._newest.items(), key=lambda item: item[1])
        forgotten = by_age[: (len(by_age) + 1) // 2]
        self._newest = dict(by_age[len(forgotten) :])
        self._floor_ms = max(self._floor_ms, forgotten[-1][1])
