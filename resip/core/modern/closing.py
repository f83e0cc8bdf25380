"""
The end of a session (docs/protocol.md, section 8): what the last packet says, and to whom again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resip.core.errors import ProtocolError
from resip.core.modern.channel_table import ChannelLimitError
from resip.core.modern.flow_control import FlowControlError
from resip.core.modern.frames import CloseCode
from resip.core.modern.inbound import PeerClosed
from resip.core.modern.paths import AMPLIFICATION_LIMIT

#: Seconds for which packets of a session that was closed are answered (M-62).
CLOSING_TIME = 60.0
#: Sessions at once of which that is true; beyond them the oldest are forgotten.
MAX_CLOSING = 1024

_REASONS: dict[int, str] = {
    CloseCode.NONE: "the peer ended it",
    CloseCode.REVOKED: "the key is not valid any more",
    CloseCode.SHUTDOWN: "the server stops",
}


@dataclass(frozen=True, slots=True)
class Farewell:
    """
    What a closed session leaves behind.

    :ivar ids: those under which it received. :ivar packet: its CLOSE, sealed.
    """

    ids: tuple[int, ...]
    packet: bytes = field(repr=False)


def describe(closed: PeerClosed) -> str:
    """
    Why the peer ended the session, for a log.
    """
    return _REASONS.get(closed.code, closed.reason or f"the peer closed it with code {closed.code}")


def code_of(error: ProtocolError) -> CloseCode:
    """
    What to tell a peer that broke the rules.
    """
    if isinstance(error, FlowControlError):
        return CloseCode.FLOW_CONTROL
    if isinstance(error, ChannelLimitError):
        return CloseCode.LIMIT
    return CloseCode.PROTOCOL


class ClosingSessions:
    """
    Answers packets of sessions that were closed, for a while (RFC 9000 section 10.2.1).

    To each the first packet is answered, then the second, the fourth and so on, within the
    bytes that an address may be sent which is not proven.
    """

    def __init__(self) -> None:
        self._by_id: dict[int, _Closing] = {}
        self._closing: dict[_Closing, None] = {}

    def __len__(self) -> int:
        """
        How many sessions are answered for.
        """
        return len(self._closing)

    def __contains__(self, session_id: int) -> bool:
        """
        Whether an id belongs to one of them.
        """
        return session_id in self._by_id

    def add(self, farewell: Farewell, *, now: float) -> None:
        """
        A session was closed by this side.
        """
        self._forget_old(now)
        closing = _Closing(farewell, now + CLOSING_TIME)
        self._closing[closing] = None
        self._by_id.update(dict.fromkeys(farewell.ids, closing))

    def answer(self, packet: bytes, *, now: float) -> bytes | None:
        """
        The CLOSE for a packet, ``None`` when there is nothing to say.
        """
        closing = self._by_id.get(int.from_bytes(packet[:4]))
        if closing is None or now >= closing.end_time:
            return None
        if AMPLIFICATION_LIMIT * len(packet) < len(closing.farewell.packet):
            return None
        closing.asked += 1
        is_due = closing.asked & (closing.asked - 1) == 0
        return closing.farewell.packet if is_due else None

    def _forget_old(self, now: float) -> None:
        while self._closing:
            oldest = next(iter(self._closing))
            if now < oldest.end_time and len(self._closing) < MAX_CLOSING:
                return
            del self._closing[oldest]
            for session_id in oldest.farewell.ids:
                self._by_id.pop(session_id, None)


class _Closing:
    __slots__ = ("asked", "end_time", "farewell")

    def __init__(self, farewell: Farewell, end_time: float) -> None:
        self.farewell = farewell
        self.end_time = end_time
        self.asked = 0
