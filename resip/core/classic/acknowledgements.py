"""
Which numbers to acknowledge, and when.
"""

from __future__ import annotations

from collections.abc import Iterator

from resip.core.rangeset import RangeSet

#: Each number stands in at least so many acknowledgements, sent or overtaken: nobody
#: acknowledges an acknowledgement, and one in three may be lost. 30 % loss leaves 3 % unknown.
REPETITIONS = 3
#: Ranges kept for one channel. More gaps than these fit one packet anyway.
MAX_RANGES = 64


class _Channel:
    """
    The numbers of one channel, in two generations of :data:`REPETITIONS` acknowledgements.
    """

    __slots__ = ("age", "is_fresh", "is_retired", "newer", "older")

    def __init__(self) -> None:
        self.newer = RangeSet()
        self.older = RangeSet()
        self.age = 0
        self.is_fresh = False
        self.is_retired = False


class AckCollector:
    """
    Collects received numbers and turns them into ranges, a few acknowledgements at a time.

    :ivar fresh: numbers added since the last acknowledgement.
    :ivar due_time: when the next acknowledgement has to go, ``None`` when nothing waits.
    """

    def __init__(self, *, delay: float, threshold: int) -> None:
        self._delay = delay
        self._threshold = threshold
        self._channels: dict[int, _Channel] = {}
        self.fresh = 0
        self.due_time: float | None = None

    def add(self, channel_id: int, number: int, *, now: float) -> None:
        """
        ``number`` arrived, perhaps again.
        """
        channel = self._channels.get(channel_id)
        if channel is None:
            channel = self._channels[channel_id] = _Channel()
        channel.newer.add(number)
        channel.is_fresh = True
        self.fresh += 1
        if self.fresh >= self._threshold:
            self.due_time = now
        elif self.due_time is None:
            self.due_time = now + self._delay

    def add_late(self, channel_id: int, number: int, *, now: float) -> None:
        """
        ``number`` of a channel that is done arrived; say so, and keep nothing.
        """
        self.add(channel_id, number, now=now)
        self.retire(channel_id)

    def retire(self, channel_id: int) -> None:
        """
        The channel is done: its last acknowledgement still goes, then it is forgotten.
        """
        channel = self._channels.get(channel_id)
        if channel is not None:
            channel.is_retired = True
            if not channel.is_fresh:
                del self._channels[channel_id]

    def discard(self, channel_id: int) -> None:
        """
        Forget the channel's numbers: its id starts anew.
        """
        self._channels.pop(channel_id, None)

    def take(self) -> Iterator[tuple[int, int, int]]:
        """
        Channel id, first and last number of every range to acknowledge now.
        """
        self.fresh = 0
        self.due_time = None
        for channel_id, channel in list(self._channels.items()):
            if not channel.is_fresh:
                continue
            channel.is_fresh = False
            for numbers in (channel.newer, channel.older):
                for first, last in numbers:
                    yield channel_id, first, last
            if channel.is_retired:
                del self._channels[channel_id]
                continue
            channel.age += 1
            if channel.age >= REPETITIONS or len(channel.newer) > MAX_RANGES:
                channel.age = 0
                channel.older, channel.newer = channel.newer, channel.older
                channel.newer.clear()
                if len(channel.older) > MAX_RANGES:
                    channel.older.drop_lowest(len(channel.older) - MAX_RANGES)
