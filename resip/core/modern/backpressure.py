"""
How much may be written ahead of delivery, and who waits to write more.
"""

from __future__ import annotations

from resip.core.modern.channel import Channel
from resip.core.modern.configuration import ModernConfiguration


class Backpressure:
    """
    Bounds the bytes of all channels that were written and are not delivered.
    """

    __slots__ = ("_blocked", "_configuration", "_has_freed_room", "_kept")

    def __init__(self, configuration: ModernConfiguration) -> None:
        self._configuration = configuration
        #: Bytes of all channels that were written and are not delivered.
        self._kept = 0
        self._has_freed_room = False
        #: Channels whose last write was cut short.
        self._blocked: dict[int, Channel] = {}

    @property
    def kept(self) -> int:
        """
        Bytes of all channels that were written and are not delivered.
        """
        return self._kept

    def accept(self, channel: Channel, count: int) -> int:
        """
        A writer offers ``count`` bytes; returns how many it may write now. If that is less, it
        is told when there is room again.
        """
        reserve = self._configuration.send_reserve - channel.kept
        room = max(reserve, self._session_room)
        accepted = min(count, channel.flow.stream.room, room)
        if accepted < count:
            self._blocked[channel.channel_id] = channel
        return accepted

    def keep(self, count: int) -> None:
        """
        ``count`` bytes were written, as they go on the wire.
        """
        self._kept += count

    def free(self, count: int) -> None:
        """
        ``count`` of these bytes were delivered, or given up.
        """
        self._kept -= count
        self._has_freed_room = self._has_freed_room or count > 0

    def take_writable(self) -> list[int]:
        """
        The channels whose writers waited and have room again.
        """
        if not self._has_freed_room:
            return []
        self._has_freed_room = False
        writable = [
            channel_id for channel_id, channel in self._blocked.items() if self._has_room(channel)
        ]
        for channel_id in writable:
            del self._blocked[channel_id]
        return writable

    def forget(self, channel: Channel) -> None:
        """
        A channel is over: nobody waits to write, and its bytes are given up.
        """
        self._blocked.pop(channel.channel_id, None)
        self.free(channel.kept)

    def clear(self) -> None:
        """
        The session is over.
        """
        self._blocked.clear()

    @property
    def _session_room(self) -> int:
        return max(0, self._configuration.session_send_buffer - self._kept)

    def _has_room(self, channel: Channel) -> bool:
        # A quarter of the buffer: a writer that is woken for less is woken all the time.
        room = min(channel.flow.stream.room, self._session_room)
        is_roomy = room * 4 >= self._configuration.send_buffer
        return is_roomy or channel.kept * 2 <= self._configuration.send_reserve
