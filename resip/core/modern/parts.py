"""
What a modern session consists of: made from an agreement, folded up while nothing goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from resip.core.congestion.rate import RateController
from resip.core.modern.channels import Channels
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.connection import Connection
from resip.core.modern.flow_control import (
    INITIAL_SESSION_WINDOW,
    MAX_SESSION_WINDOW,
    CreditWindow,
    SendCredit,
)
from resip.core.modern.handshake import SessionSecrets
from resip.core.modern.inbound import Inbound
from resip.core.modern.parking import Folded, Folder
from resip.core.trace import Trace
from resip.core.types import Path, RandomBytes

#: Seconds to the next deadline below which it does not pay to fold a session up.
LEAST_PARKING_TIME = 1.0

_FOLDER = Folder()


@dataclass(frozen=True, slots=True)
class Agreement:
    """
    What the handshake settled, seen from one side.

    :ivar local_id: the id of packets to us. :ivar peer_id: of packets to the peer.
    :ivar peer_token: of a stateless reset by the peer; ``None`` from a client, which sends none.
    :ivar session_credit: bytes of all channels that the peer takes at first.
    :ivar channel_credit: bytes of each channel that the peer takes at first.
    """

    secrets: SessionSecrets
    is_client: bool
    local_id: int
    peer_id: int
    session_credit: int
    channel_credit: int
    peer_token: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class IdAllocation:
    """
    Where a session's further ids come from; see :class:`~resip.core.modern.ids.IdPool`.
    """

    allocate: Callable[[], int]
    release: Callable[[int], None]
    token: Callable[[int], bytes]


@dataclass(slots=True)
class Parts:
    """
    A session while it is awake.
    """

    connection: Connection
    channels: Channels
    inbound: Inbound

    @property
    def timer(self) -> float | None:
        """
        When anything is due.
        """
        times = (self.connection.get_timer(), self.channels.get_timer())
        return min([time for time in times if time is not None], default=None)

    def rest(self) -> None:
        """
        Put away what the next packet builds again.
        """
        if not self.connection.is_at_rest:
            self.connection.rest()
            self.channels.rest()


@dataclass(frozen=True, slots=True)
class Parked:
    """
    A session folded up, and the readings for which it need not be unfolded.

    :ivar timer: when anything is due.
    """

    folded: Folded
    path: Path | None
    last_received_time: float
    channel_count: int
    timer: float | None


def make_parts(
    agreement: Agreement,
    controller: RateController,
    ids: IdAllocation,
    configuration: ModernConfiguration,
    *,
    on_path_change: Callable[[], None],
    random_bytes: RandomBytes,
    trace: Trace,
    now: float,
) -> Parts:
    """
    The parts of a new session.
    """
    session_credit = SendCredit(agreement.session_credit)
    connection = Connection(
        agreement.secrets,
        controller,
        is_client=agreement.is_client,
        local_id=agreement.local_id,
        peer_id=agreement.peer_id,
        peer_token=agreement.peer_token,
        session_credit=session_credit,
        random_bytes=random_bytes,
        allocate_id=ids.allocate,
        release_id=ids.release,
        id_token=ids.token,
        now=now,
        trace=trace,
    )
    channels = Channels(
        connection,
        configuration,
        is_client=agreement.is_client,
        peer_channel_credit=agreement.channel_credit,
        session_window=CreditWindow(initial=INITIAL_SESSION_WINDOW, maximum=MAX_SESSION_WINDOW),
        session_credit=session_credit,
    )
    return Parts(connection, channels, Inbound(connection, channels, on_path_change=on_path_change))


def park(parts: Parts, owner: object, *, now: float) -> Parked | None:
    """
    Fold up, unless anything is going on. The parts must not be used afterwards.

    :param owner: whose ``on_path_change`` they call.
    """
    connection, channels = parts.connection, parts.channels
    timer = parts.timer
    is_due_soon = timer is not None and timer - now < LEAST_PARKING_TIME
    is_sending = connection.outbox and connection.path is not None
    if is_due_soon or is_sending or not channels.is_idle:
        return None
    parts.rest()
    folded = _FOLDER.fold((connection, channels, parts.inbound), owner)
    parked = Parked(folded, connection.path, connection.last_received_time, len(channels), timer)
    channels.dissolve()
    return parked


def unpark(parked: Parked) -> Parts:
    """
    The parts as they were.
    """
    objects = parked.folded.unfold()
    assert isinstance(objects, tuple), "what was folded"
    return Parts(*objects)
