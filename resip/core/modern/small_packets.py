"""
Packets that are more than one piece of a stream: acknowledgements, what the outbox has to say,
datagrams, the end of a stream, and of its data as much as there is room for. And their copies.
"""

from __future__ import annotations

from collections.abc import Sequence

from resip.core.modern.acks import ACK_DELAY, LARGEST_ACK, AckState
from resip.core.modern.allowance import SendAllowance
from resip.core.modern.burst import Burst
from resip.core.modern.copies import Copier
from resip.core.modern.flow import Flow
from resip.core.modern.flow_control import SendCredit
from resip.core.modern.frames import end_frame, stream_frames, stream_header
from resip.core.modern.introduction import Introduction
from resip.core.modern.outbox import Outbox, RepeatedFrame
from resip.core.modern.pieces import Pieces
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.redundancy import MAX_MESSAGE_SIZE
from resip.core.modern.sent import Control, CopyGroup, SentOnce
from resip.core.modern.tails import Tails

#: A piece of a stream shorter than this is not worth the rest of a packet with control frames.
LEAST_PIECE = 64

_ONCE = SentOnce()


class SmallPackets:
    """
    Adds them to the burst that is about to leave.

    :ivar introduction: hears which acknowledgements arrived, until it is over.
    """

    __slots__ = (
        "_acks",
        "_allowance",
        "_burst",
        "_copier",
        "_outbox",
        "_recovery",
        "_session_credit",
        "_tails",
        "introduction",
    )

    def __init__(
        self,
        burst: Burst,
        recovery: LossRecovery,
        allowance: SendAllowance,
        acks: AckState,
        outbox: Outbox,
        copier: Copier,
        tails: Tails,
        session_credit: SendCredit,
    ) -> None:
        self._burst = burst
        self._recovery = recovery
        self._allowance = allowance
        self._acks = acks
        self._outbox = outbox
        self._copier = copier
        self._tails = tails
        self._session_credit = session_credit
        self.introduction: Introduction | None = None

    @property
    def copy_time(self) -> float | None:
        """
        When the next copy is due.
        """
        return self._copier.next_time

    def send(self, room: int, *, has_ack: bool = False, now: float) -> int:
        """
        One packet without data; returns the bytes that it takes, 0 when there is nothing to say.

        :param room: bytes of frames that fit into a packet.
        :param has_ack: an acknowledgement is due.
        """
        acks = self._take_acks(room, now=now) if has_ack or self._acks.is_waiting else []
        control, owners = self._outbox.take(room - sum(map(len, acks)))
        return self._add(acks, control, _worth_copies(owners), owners, now=now)

    def send_with(self, flow: Flow, room: int, *, is_probe: bool, now: float) -> int:
        """
        The same with data of a channel, as far as there is room.

        :param is_probe: a probe timeout asked for it.
        """
        largest = room
        acks = self._take_acks(room, now=now) if self._acks.is_waiting else []
        room -= sum(map(len, acks))
        control, owners = self._outbox.take(room)
        room -= sum(map(len, control))
        copied = _worth_copies(owners)
        rtt = self._recovery.rtt.smoothed
        datagrams = flow.take_datagrams(room, largest=largest, rtt=rtt, now=now)
        if datagrams:
            control += datagrams
            owners.append(_ONCE)
            room -= sum(map(len, datagrams))
        is_repeated = is_probe and flow.stream.has_lost
        offset = 0
        pieces: Pieces = ()
        step = room - stream_header(flow.channel_id)[1].size
        if step >= LEAST_PIECE:
            offset, pieces = flow.cut(1, step, session=self._session_credit)
        if flow.end_is_due and step - sum(map(len, pieces)) >= len(end_frame(0, 0)):
            copied.append(end_frame(flow.channel_id, flow.stream.end_offset))
            control.append(copied[-1])
            owners.append(_send_end(flow))
        if not pieces:
            return self._add(acks, control, copied, owners, now=now)
        data = stream_frames(flow.channel_id, offset, pieces)[0]
        group = None
        if is_repeated and len(data) <= MAX_MESSAGE_SIZE:
            group = CopyGroup()  # the timeout says how often it is sent
        elif not self._allowance.is_reliable:
            copied.append(data)
            group = self._copier.plan(
                copied, owners, flow=flow, offset=offset, length=len(pieces[0]), now=now
            )
        if group is None:
            self._tails.on_sent(flow, now=now)
        return self._burst.add(
            [b"".join([*acks, *control, data])],
            stream=flow.stream,
            offset=offset,
            pieces=pieces,
            owners=self._with_introduction(acks, owners),
            group=group,
            now=now,
        )

    def send_copies(self, room: int, *, now: float) -> None:
        """
        The copies that are due.

        :param room: bytes of frames that fit into a packet.
        """
        for packet in self._copier.take_due(limit=self._burst.room, now=now):
            left = room - len(packet.plaintext)
            if left < 0:
                continue  # more than the path may be sent now
            acks: list[bytes] = []
            if left >= LARGEST_ACK and self._acks.is_due(within=ACK_DELAY, now=now):
                acks = self._take_acks(left, now=now)
            self._burst.add(
                [b"".join([*acks, packet.plaintext])],
                stream=packet.stream,
                offset=packet.offset,
                length=packet.length,
                owners=self._with_introduction(acks, packet.owners),
                group=packet.group,
                now=now,
            )

    def _add(
        self,
        acks: list[bytes],
        control: list[bytes],
        copied: list[bytes],
        owners: list[Control],
        *,
        now: float,
    ) -> int:
        group = None
        if copied and not self._allowance.is_reliable:
            group = self._copier.plan(copied, owners, now=now)
        whole = b"".join([*acks, *control])
        if not whole:
            return 0
        heard = self._with_introduction(acks, owners)
        return self._burst.add([whole], owners=heard, group=group, asks=bool(control), now=now)

    def _take_acks(self, room: int, *, now: float) -> list[bytes]:
        frames = self._acks.take(now=now)
        while sum(map(len, frames)) > room:
            frames.pop()
        return frames

    def _with_introduction(self, acks: list[bytes], owners: Sequence[Control]) -> Sequence[Control]:
        if self.introduction is not None and self.introduction.is_over:
            self.introduction = None
        return [*owners, self.introduction] if acks and self.introduction else owners


def _worth_copies(owners: Sequence[Control]) -> list[bytes]:
    # What somebody waits for, not credit.
    return [owner.frame for owner in owners if isinstance(owner, RepeatedFrame)]


def _send_end(flow: Flow) -> Control:
    mark = flow.stream.end_mark
    assert mark is not None, "an end that is due has a mark"
    mark.on_sent()
    return mark
