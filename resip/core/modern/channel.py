"""
One channel of a modern session: its two halves and where it stands.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from resip.core.modern.compression import Deflater, Inflater
from resip.core.modern.flow import Flow
from resip.core.modern.flow_control import CreditWindow
from resip.core.modern.frames import credit_frame
from resip.core.modern.outbox import CreditSource, Outbox
from resip.core.modern.receive_stream import ReceiveStream
from resip.core.types import Protocol, Target

#: Bytes of datagrams that wait for their channel to be accepted: a DNS query or two.
MAX_EARLY_BYTES = 16 * 1024


class ChannelState(Enum):
    """
    ::

        ours    OPENING                            -- OPENED arrives   --> OPEN
        theirs  EXPECTED -- OPEN arrives --> REQUESTED -- owner accepts --> OPEN

    A channel that was refused, reset or is done is not in the session any more.
    """

    #: Data came before the OPEN that says where it leads (M-26).
    EXPECTED = "expected"
    REQUESTED = "requested"
    OPENING = "opening"
    OPEN = "open"


class Channel:
    """
    Holds what belongs to one channel.

    :ivar target: where it leads; ``None`` while it is only expected.
    :ivar stream: what arrives. :ivar window: how much of it may.
    :ivar early: datagrams that came before somebody was there to take them.
    :ivar unconsumed: plain bytes handed to the owner and not consumed.
    :ivar end_reported: the owner knows that the peer sends no more.
    """

    __slots__ = (
        "_unfinished",
        "credit_source",
        "deflater",
        "early",
        "end_reported",
        "flow",
        "inflater",
        "state",
        "stream",
        "target",
        "unconsumed",
        "window",
    )

    def __init__(
        self,
        flow: Flow,
        outbox: Outbox,
        *,
        state: ChannelState,
        target: Target | None,
        window: int,
        max_window: int,
    ) -> None:
        self.flow = flow
        self.state = state
        self.target = target
        self.stream = ReceiveStream(limit=window)
        self.window = CreditWindow(initial=window, maximum=max_window)
        self.credit_source = CreditSource(outbox, self._build_credit)
        self.deflater: Deflater | None = None
        self.inflater: Inflater | None = None
        self.early: deque[bytes] = deque()
        self.unconsumed = 0
        self.end_reported = False
        #: Of a compressed stream: wire bytes and plain bytes handed out and not consumed.
        self._unfinished: deque[list[int]] = deque()

    @property
    def channel_id(self) -> int:
        """
        Its id within the session.
        """
        return self.flow.channel_id

    @property
    def is_idle(self) -> bool:
        """
        Whether no bytes are here, neither of its stream nor of a compressor's memory.
        """
        has_all_taken = self.window.received == self.window.delivered and not self.unconsumed
        has_datagrams = self.early or self.flow.has_datagrams
        return has_all_taken and not has_datagrams and self.deflater is None

    @property
    def is_datagram(self) -> bool:
        """
        Whether it carries datagrams.
        """
        return self.target is not None and self.target.protocol is Protocol.UDP

    @property
    def kept(self) -> int:
        """
        Bytes that were written and are not delivered.
        """
        return self.flow.stream.end_offset - self.flow.stream.delivered

    def keep_early(self, data: bytes, *, limit: int) -> None:
        """
        A datagram came while nobody is there to take it.

        :param limit: datagrams that are kept; the oldest goes first.
        """
        self.early.append(data)
        while len(self.early) > limit or sum(map(len, self.early)) > MAX_EARLY_BYTES:
            self.early.popleft()

    @property
    def is_delivered(self) -> bool:
        """
        Whether the owner took everything there will ever be.
        """
        return self.stream.final_size is not None and (
            self.window.delivered == self.stream.final_size
        )

    @property
    def is_done(self) -> bool:
        """
        Whether both directions ended, and both sides know that all was delivered.
        """
        is_told = self.is_delivered and self.credit_source.is_known
        return self.end_reported and is_told and self.flow.stream.is_done

    def compress(self) -> None:
        """
        Both directions are compressed.
        """
        self.deflater = Deflater()
        self.inflater = Inflater()

    def read(self, room: int) -> bytes:
        """
        Plain bytes for the owner, at most ``room``.

        :raises ProtocolError: when a compressed stream does not inflate.
        """
        if self.inflater is None:
            data = self.stream.take(room)
            self.unconsumed += len(data)
            return data
        wire = b"" if self.inflater.has_more else self.stream.take(room)
        plain = self.inflater.read(wire, room)
        if wire or plain:
            self._unfinished.append([len(wire), len(plain)])
        self.unconsumed += len(plain)
        return plain

    @property
    def is_readable(self) -> bool:
        """
        Whether :meth:`read` has something.
        """
        return self.stream.ready > 0 or (self.inflater is not None and self.inflater.has_more)

    def consume(self, count: int) -> int:
        """
        The owner took ``count`` plain bytes; returns how many bytes of credit that frees.

        With 0, what a compressed stream sent without any plain bytes is freed.
        """
        self.unconsumed -= count
        if self.inflater is None:
            return count
        wire = 0
        pending = self._unfinished
        while pending and count >= pending[0][1]:
            entry = pending.popleft()
            count -= entry[1]
            wire += entry[0]
        if count:
            pending[0][1] -= count
        return wire

    def _build_credit(self) -> tuple[bytes, int]:
        limit = self.window.announce()
        self.stream.limit = limit
        delivered = self.window.delivered
        return credit_frame(self.channel_id, delivered, limit), delivered + limit
