"""
The sending half of a channel, as the scheduler sees it.
"""

from __future__ import annotations

from collections import deque

from resip.core.modern.flow_control import SendCredit
from resip.core.modern.frames import DATAGRAM_OVERHEAD, datagram_frame
from resip.core.modern.pieces import Pieces
from resip.core.modern.redundancy import ThinTraffic
from resip.core.modern.send_stream import SendStream


class Flow:
    """
    A stream with the credit that the peer gave it, and datagrams with the time they may wait.

    :ivar stream: what the application wrote. :ivar credit: how much of it may be sent.
    :ivar thin: whether it sends little.
    :ivar is_queued: the scheduler has it in one of its queues.
    :ivar dropped: datagrams that waited too long, or did not fit.
    """

    __slots__ = (
        "_datagrams",
        "_lifetime",
        "_queue_limit",
        "channel_id",
        "credit",
        "dropped",
        "is_queued",
        "stream",
        "thin",
    )

    def __init__(
        self,
        channel_id: int,
        stream: SendStream,
        credit: SendCredit,
        *,
        datagram_lifetime: float,
        datagram_queue: int,
    ) -> None:
        self.channel_id = channel_id
        self.stream = stream
        self.credit = credit
        self.is_queued = False
        self.thin = ThinTraffic()
        self.dropped = 0
        self._datagrams: deque[tuple[float, bytes]] = deque()
        self._lifetime = datagram_lifetime
        self._queue_limit = datagram_queue

    @property
    def has_datagrams(self) -> bool:
        """
        Whether datagrams wait.
        """
        return bool(self._datagrams)

    @property
    def end_is_due(self) -> bool:
        """
        Whether the END frame has to be said: all data was sent at least once.
        """
        mark = self.stream.end_mark
        return mark is not None and mark.is_due and not (self.stream.unsent or self._datagrams)

    def has_sendable(self, session_room: int) -> bool:
        """
        Whether there is anything that may go out.

        :param session_room: new bytes that the session's credit allows.
        """
        stream = self.stream
        if stream.has_lost or self._datagrams or self.end_is_due:
            return True
        return bool(stream.unsent) and session_room > 0 and not self.credit.is_blocked

    def cut(self, count: int, step: int, *, session: SendCredit) -> tuple[int, Pieces]:
        """
        Pieces of the stream that leave now: what was lost, else what is new.

        :param count: of pieces, at most. :param step: bytes of each but the last.
        :param session: what the peer takes of all channels together.
        :return: the offset of the first, and the pieces.
        """
        stream = self.stream
        if stream.has_lost:
            return stream.cut_lost(count, step)
        credit = min(self.credit.available, session.available)
        offset, pieces = stream.cut(count, step, credit=credit)
        self.credit.use(stream.next_offset - offset)
        session.use(stream.next_offset - offset)
        return offset, pieces

    def queue_datagram(self, data: bytes, *, now: float) -> None:
        """
        Let a datagram wait; the oldest goes when there are too many (M-29).
        """
        if len(self._datagrams) >= self._queue_limit:
            self._datagrams.popleft()
            self.dropped += 1
        self._datagrams.append((now, data))

    def take_datagrams(self, room: int, *, largest: int, rtt: float, now: float) -> list[bytes]:
        """
        DATAGRAM frames of at most ``room`` bytes together; what waited too long is dropped.

        :param largest: bytes that an empty packet has room for; what does not fit there either
            is dropped, too.
        """
        frames: list[bytes] = []
        oldest = now - max(self._lifetime, rtt)
        while self._datagrams:
            queued, data = self._datagrams[0]
            size = len(data) + DATAGRAM_OVERHEAD
            is_sendable = queued >= oldest and size <= largest
            if is_sendable and size > room:
                break
            self._datagrams.popleft()
            if not is_sendable:
                self.dropped += 1
                continue
            frames.append(datagram_frame(self.channel_id, data))
            room -= size
        return frames
