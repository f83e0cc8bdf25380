"""
The smallest thing that is a session: stop and wait, one frame on its way, no secrets.

It tests the laboratory, which must not depend on the dialects it is used to test.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from resip.core.errors import ChannelError, ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    ChannelOpened,
    ChannelRequested,
    ChannelReset,
    ChannelWritable,
    DataReceived,
    Event,
    PathChanged,
)
from resip.core.session import WithoutProbes
from resip.core.types import Path, Protocol, Target
from resip.lab.link import LinkConditions
from resip.lab.pair import SimulatedPair
from tests.support.pair import PLAIN, make_pair

#: Bytes of a channel that may be written and not yet consumed by the far side.
WINDOW = 4096
MAX_DATA = 1000
RETRANSMISSION_TIMEOUT = 0.5

_HEADER = struct.Struct("!3sBIH")
_MAGIC = b"toy"


class Kind(IntEnum):
    """
    What a packet carries. ACK alone is not acknowledged.
    """

    ACK = 0
    OPEN = 1
    ACCEPT = 2
    DATA = 3
    CREDIT = 4
    END = 5
    RESET = 6


@dataclass
class ToyChannel:
    """
    What a toy session remembers of a channel.
    """

    credit: int = WINDOW
    is_blocked: bool = False
    ended: set[str] = field(default_factory=set)


class ToySession(WithoutProbes):
    """
    Offers the interface of :class:`resip.core.session.Session`.

    :param is_client: the client's channels have even numbers.
    """

    resolves_names = True
    session_id = 7

    def __init__(self, *, is_client: bool) -> None:
        self.path: Path | None = None
        self.last_received_time = 0.0
        self._next_id = 0 if is_client else 1
        self._channels: dict[int, ToyChannel] = {}
        self._events: deque[Event] = deque()
        self._frames: deque[tuple[Kind, int, bytes]] = deque()
        self._sequence = 0
        self._expected = 0
        self._acks: deque[bytes] = deque()
        self._send_at: float | None = None

    def receive_datagrams(self, packets: Sequence[bytes], path: Path, *, now: float) -> bool:
        """
        Take packets from a carrier.
        """
        return any([self.receive_datagram(packet, path, now=now) for packet in packets])

    def receive_datagram(self, data: bytes, path: Path, *, now: float) -> bool:
        """
        Take an acknowledgement, or the next frame, or the last one again.
        """
        if len(data) < _HEADER.size or not data.startswith(_MAGIC):
            return False
        _, kind, sequence, channel_id = _HEADER.unpack_from(data)
        if kind == Kind.ACK:
            if self._frames and sequence == self._sequence:
                self._sequence += 1
                self._frame_acknowledged(*self._frames.popleft())
                self._send_at = now if self._frames else None
            return True
        self._acks.append(_HEADER.pack(_MAGIC, Kind.ACK, sequence, 0))
        if sequence == self._expected:
            self._expected += 1
            self.last_received_time = now
            if path != self.path:
                self.path = path
                self._events.append(PathChanged(path))
            self._handle_frame(Kind(kind), channel_id, data[_HEADER.size :], now)
        return True

    def datagrams_to_send(self, *, now: float) -> list[tuple[Path, list[bytes]]]:
        """
        The acknowledgements, and the frame at the head of the queue when it is due.
        """
        packets = list(self._acks)
        self._acks.clear()
        if self._send_at is not None and self._send_at <= now and self.path is not None:
            kind, channel_id, body = self._frames[0]
            packets.append(_HEADER.pack(_MAGIC, kind, self._sequence, channel_id) + body)
            self._send_at = now + RETRANSMISSION_TIMEOUT
        return [(self.path, packets)] if packets and self.path is not None else []

    def get_timer(self) -> float | None:
        """
        When the frame is due (again).
        """
        return self._send_at if self.path is not None else None

    def handle_timer(self, *, now: float) -> None:
        """
        Sending follows anyway.
        """

    def next_event(self) -> Event | None:
        """
        The oldest event.
        """
        return self._events.popleft() if self._events else None

    def use_path(self, path: Path, *, now: float) -> None:
        """
        Send there.
        """
        self.path = path

    def path_closed(self, path: Path, *, now: float) -> None:
        """
        Send nowhere.
        """
        self.path = None

    def retry(self, *, now: float) -> None:
        """
        Send the frame again at once.
        """
        self._send_at = now if self._frames else None

    def open_channel(self, target: Target, *, now: float, compress: bool = False) -> int:
        """
        Open a channel.
        """
        channel_id, self._next_id = self._next_id, self._next_id + 2
        self._channels[channel_id] = ToyChannel()
        self._push(Kind.OPEN, channel_id, str(target).encode(), now)
        return channel_id

    def accept_channel(self, channel_id: int, *, now: float) -> None:
        """
        Accept a channel.
        """
        self._channels[channel_id] = ToyChannel()
        self._push(Kind.ACCEPT, channel_id, b"", now)

    def refuse_channel(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Refuse a channel.
        """
        self._push(Kind.RESET, channel_id, bytes([code]), now)

    def write(self, channel_id: int, data: bytes, *, now: float) -> int:
        """
        Accept as much as there is credit for.
        """
        if channel_id not in self._channels:
            raise ChannelError(f"there is no channel {channel_id}")
        channel = self._channels[channel_id]
        count = min(channel.credit, len(data))
        channel.credit -= count
        channel.is_blocked = count < len(data)
        for start in range(0, count, MAX_DATA):
            self._push(Kind.DATA, channel_id, data[start : min(count, start + MAX_DATA)], now)
        return count

    def end(self, channel_id: int, *, now: float) -> None:
        """
        End this direction.
        """
        self._push(Kind.END, channel_id, b"", now)

    def reset(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Forget the channel.
        """
        del self._channels[channel_id]
        self._push(Kind.RESET, channel_id, bytes([code]), now)

    def consume(self, channel_id: int, count: int, *, now: float) -> None:
        """
        Give credit.
        """
        if channel_id in self._channels:
            self._push(Kind.CREDIT, channel_id, count.to_bytes(4, "big"), now)

    def close(self, *, now: float) -> None:
        """
        Reset every channel.
        """
        for channel_id in list(self._channels):
            self.reset(channel_id, ResetCode.SESSION_LOST, now=now)

    def _push(self, kind: Kind, channel_id: int, body: bytes, now: float) -> None:
        self._frames.append((kind, channel_id, body))
        if self._send_at is None:
            self._send_at = now

    def _frame_acknowledged(self, kind: Kind, channel_id: int, body: bytes) -> None:
        if kind is Kind.END:
            self._direction_ended(channel_id, "ours")

    def _direction_ended(self, channel_id: int, direction: str) -> None:
        if (channel := self._channels.get(channel_id)) is not None:
            channel.ended.add(direction)
            if len(channel.ended) == 2:
                del self._channels[channel_id]
                self._events.append(ChannelClosed(channel_id))

    def _handle_frame(self, kind: Kind, channel_id: int, body: bytes, now: float) -> None:
        channel = self._channels.get(channel_id)
        if kind is Kind.OPEN:
            protocol, host, port = body.decode().split(":")
            target = Target(Protocol[protocol.upper()], host, int(port))
            self._events.append(ChannelRequested(channel_id, target))
        elif channel is None:
            return
        elif kind is Kind.ACCEPT:
            self._events.append(ChannelOpened(channel_id))
        elif kind is Kind.DATA:
            self._events.append(DataReceived(channel_id, body))
        elif kind is Kind.CREDIT:
            channel.credit += int.from_bytes(body, "big")
            if channel.is_blocked:
                channel.is_blocked = False
                self._events.append(ChannelWritable(channel_id))
        elif kind is Kind.END:
            self._events.append(ChannelEnded(channel_id))
            self._direction_ended(channel_id, "theirs")
        elif kind is Kind.RESET:
            del self._channels[channel_id]
            self._events.append(ChannelReset(channel_id, ResetCode(body[0])))


def make_toy_pair(conditions: LinkConditions = PLAIN, *, seed: int = 1) -> SimulatedPair:
    """
    Two toys, joined.
    """
    return make_pair(ToySession(is_client=True), ToySession(is_client=False), conditions, seed=seed)
