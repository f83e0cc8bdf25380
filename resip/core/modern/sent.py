"""
What was sent: runs of equal packets instead of a record for each.

A burst is up to some dozens of packets of one size that carry consecutive pieces of one
stream, so one record describes them all: packet ``first + k`` carries ``step`` bytes from
``offset + k * step`` on. Acknowledgements and losses split a run where they must. The cost of
both grows with runs and ranges, not with packets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Control(Protocol):
    """
    The owner of a control frame that rode in a packet.
    """

    def on_acked(self) -> None:
        """
        The packet arrived.
        """

    def on_lost(self) -> None:
        """
        The packet is lost; say again what still needs saying.
        """


class SentOnce:
    """
    The owner of frames that must not be sent again, not even to ask for an answer: datagrams.
    """

    __slots__ = ()

    def on_acked(self) -> None:
        """
        Good.
        """

    def on_lost(self) -> None:
        """
        Its program does what it thinks right.
        """


class CopyGroup:
    """
    The packets that carry the same; once one arrived, nobody waits for the others.

    :ivar is_acked: one of them arrived.
    """

    __slots__ = ("is_acked",)

    def __init__(self) -> None:
        self.is_acked = False


class SentStream(Protocol):
    """
    The owner of stream data that rode in packets.
    """

    def on_acked(self, start: int, end: int) -> None:
        """
        The bytes from ``start`` up to ``end`` arrived.
        """

    def has_arrived(self, start: int, end: int) -> bool:
        """
        Whether all bytes from ``start`` up to ``end`` arrived, in whatever packet.
        """

    def on_lost(self, start: int, end: int) -> None:
        """
        The bytes from ``start`` up to ``end`` are lost, unless other copies arrived.
        """


class SentRun:
    """
    Consecutive packets of one burst.

    :ivar first: number of the first packet. :ivar end: one more than that of the last.
    :ivar time: when they were sent, seconds.
    :ivar size: bytes on the wire of each packet; of the last, :attr:`last_size`.
    :ivar stream: whose data they carry, ``None`` for control frames alone.
    :ivar offset: of the first packet's data. :ivar step: bytes of data in each packet but the last.
    :ivar length: bytes of data in all packets.
    :ivar controls: owners of the control frames in the first packet.
    :ivar group: the packets that carry the same as this one, which is a copy or has some.
    :ivar asks: the packets ask for an acknowledgement; the others are never lost, nor in flight.
    :ivar is_probe: loss of these packets says nothing about congestion (path MTU).
    :ivar is_lost: the congestion controller was told that they are lost.
    :ivar snapshot: what the congestion controller remembers about the moment of sending; its own.
    """

    __slots__ = (
        "asks",
        "controls",
        "end",
        "first",
        "group",
        "is_lost",
        "is_probe",
        "last_size",
        "length",
        "offset",
        "size",
        "snapshot",
        "step",
        "stream",
        "time",
    )

    def __init__(
        self,
        *,
        first: int,
        end: int,
        time: float,
        size: int,
        last_size: int,
        stream: SentStream | None = None,
        offset: int = 0,
        step: int = 0,
        length: int = 0,
        controls: Sequence[Control] = (),
        group: CopyGroup | None = None,
        asks: bool = True,
        is_probe: bool = False,
        snapshot: object = None,
    ) -> None:
        self.first = first
        self.end = end
        self.time = time
        self.size = size
        self.last_size = last_size
        self.stream = stream
        self.offset = offset
        self.step = step
        self.length = length
        self.controls = controls
        self.group = group
        self.asks = asks
        self.is_probe = is_probe
        self.is_lost = False
        self.snapshot = snapshot

    @property
    def count(self) -> int:
        """
        How many packets there are.
        """
        return self.end - self.first

    @property
    def is_repeatable(self) -> bool:
        """
        Whether the same frames may go once more.
        """
        return not any(isinstance(control, SentOnce) for control in self.controls)

    @property
    def is_wanted(self) -> bool:
        """
        Somebody waits for its arrival: neither a copy of it has arrived, nor its data in others.
        """
        if self.group is not None and self.group.is_acked:
            return False
        end = self.offset + self.length
        return self.stream is None or not self.stream.has_arrived(self.offset, end)

    @property
    def wire_bytes(self) -> int:
        """
        Bytes of all packets on the wire.
        """
        return (self.end - self.first - 1) * self.size + self.last_size

    def split(self, number: int) -> SentRun:
        """
        Cut off the packets from ``number`` on and return them as a run of their own.

        :param number: above :attr:`first`, below :attr:`end`.
        """
        kept = number - self.first
        tail = SentRun(
            first=number,
            end=self.end,
            time=self.time,
            size=self.size,
            last_size=self.last_size,
            stream=self.stream,
            offset=self.offset + kept * self.step,
            step=self.step,
            length=self.length - kept * self.step,
            asks=self.asks,
            is_probe=self.is_probe,
            snapshot=self.snapshot,
        )
        tail.is_lost = self.is_lost
        self.end = number
        self.last_size = self.size
        self.length = kept * self.step
        return tail

    def report_acked(self) -> None:
        """
        Tell the owners of what was inside that it arrived.
        """
        if self.stream is not None and self.length:
            self.stream.on_acked(self.offset, self.offset + self.length)
        for control in self.controls:
            control.on_acked()
        if self.group is not None:
            self.group.is_acked = True

    def report_lost(self) -> None:
        """
        Tell the owners of what was inside that it is lost.
        """
        if self.stream is not None and self.length:
            self.stream.on_lost(self.offset, self.offset + self.length)
        for control in self.controls:
            control.on_lost()
