"""
Channel 0 on its way in: ordered commands in their order, unordered ones once.
"""

from __future__ import annotations

from collections.abc import Iterator

from resip.core.classic.receiver import Arrival

#: Unordered packets carry no number, so replays of them are known by their signatures: the
#: last so many, in two generations.
REMEMBERED_SIGNATURES = 2048
#: Ordered commands that may wait for an earlier one.
COMMAND_WINDOW = 1024


class CommandInbox:
    """
    Keeps what came too early, and recognises what came before.
    """

    __slots__ = ("_next_number", "_signatures", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[int, bytes] = {}
        self._next_number = 1
        self._signatures: tuple[set[bytes], set[bytes]] = (set(), set())

    @property
    def pending_count(self) -> int:
        """
        How many ordered commands wait for an earlier one, below :data:`COMMAND_WINDOW`.
        """
        return len(self._waiting)

    @property
    def signature_count(self) -> int:
        """
        How many signatures are remembered, below two times :data:`REMEMBERED_SIGNATURES`.
        """
        return sum(map(len, self._signatures))

    def receive(self, number: int, data: bytes) -> Arrival:
        """
        Keep an ordered command if it is new and near enough; :meth:`take` hands it out.
        """
        if number >= self._next_number + COMMAND_WINDOW:
            return Arrival.REFUSED
        if number < self._next_number or number in self._waiting:
            return Arrival.DUPLICATE
        self._waiting[number] = data
        return Arrival.NEW

    def take(self) -> Iterator[bytes]:
        """
        The commands whose turn it is.
        """
        while (data := self._waiting.pop(self._next_number, None)) is not None:
            self._next_number += 1
            yield data

    def is_first_sight(self, signature: bytes) -> bool:
        """
        Whether an unordered packet was not seen before; remembers it.
        """
        newer, older = self._signatures
        if signature in newer or signature in older:
            return False
        newer.add(signature)
        if len(newer) >= REMEMBERED_SIGNATURES:
            self._signatures = (set(), newer)
        return True
