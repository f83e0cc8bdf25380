"""
The channel ids that a session has seen, so that a repetition is told from something new.
"""

from __future__ import annotations

from resip.core.rangeset import RangeSet

#: Runs of channel ids remembered as used. Ids in sequence are one run.
KNOWN_CHANNEL_RANGES = 1024


class UsedIds:
    """
    Forgets the lowest run when there are too many.
    """

    def __init__(self) -> None:
        self._ranges = RangeSet()

    def __contains__(self, channel_id: int) -> bool:
        """
        Whether there was such a channel, as far as is remembered.
        """
        return channel_id in self._ranges

    def add(self, channel_id: int) -> None:
        """
        Remember a channel.
        """
        self._ranges.add(channel_id)
        if len(self._ranges) > KNOWN_CHANNEL_RANGES:
            self._ranges.drop_lowest(1)
