"""
The ids of a modern session's channels: ours, one after the other, and those the peer used.
"""

from __future__ import annotations

from resip.core.errors import ProtocolError
from resip.core.rangeset import RangeSet

#: Ids above the highest that the peer has used which it may already use: packets overtake.
ID_LEAD = 4096
#: Runs of ids that are remembered as used; in order they are one.
MAX_USED_RANGES = 1024


class ChannelIds:
    """
    Gives each id once, and takes each once (M-25): the client's are odd, the server's even.
    """

    __slots__ = ("_next_id", "_used")

    def __init__(self, *, is_client: bool) -> None:
        self._next_id = 1 if is_client else 2
        #: The peer's ids, halved, since they are every other number.
        self._used = RangeSet()

    @property
    def next_id(self) -> int:
        """
        The id of the next channel that this side opens.
        """
        return self._next_id

    def take(self) -> int:
        """
        Use the next id.
        """
        channel_id = self._next_id
        self._next_id += 2
        return channel_id

    def claim(self, channel_id: int) -> bool:
        """
        The peer sent a frame for a channel that is not there.

        :return: whether the frame begins it, and uses the id; else the channel is over.
        :raises ProtocolError: for one of our ids that was never used, or an id far ahead.
        """
        if channel_id % 2 == self._next_id % 2:
            if channel_id >= self._next_id:
                raise ProtocolError(f"a frame for channel {channel_id}, which was never opened")
            return False
        number = channel_id >> 1
        if number in self._used:
            return False
        if number > (self._used.last or 0) + ID_LEAD:
            raise ProtocolError(f"a frame for channel {channel_id}, far beyond the others")
        self._used.add(number)
        if len(self._used) > MAX_USED_RANGES:
            self._close_lowest_gap()
        return True

    def _close_lowest_gap(self) -> None:
        ranges = iter(self._used)
        _, last = next(ranges)
        first, _ = next(ranges)
        self._used.add(last, first)
