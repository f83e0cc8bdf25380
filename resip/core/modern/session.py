"""
A modern session, either side; docs/protocol.md is what it does.

Data comes in through :class:`~resip.core.modern.inbound.Inbound`, which opens packets and
sorts frames, to :class:`~resip.core.modern.channels.Channels`, and goes out through
:class:`~resip.core.modern.outbound.Outbound`. Here are the verbs, time, and the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from resip.core.congestion.rate import RateController
from resip.core.errors import ProtocolError, ResetCode
from resip.core.events import Event, PathChanged, PeerSilent, SessionLost
from resip.core.liveness import Liveness
from resip.core.modern.channels import ChannelLimitError, Channels
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.connection import Connection
from resip.core.modern.flow_control import (
    INITIAL_SESSION_WINDOW,
    MAX_SESSION_WINDOW,
    CreditWindow,
    FlowControlError,
    SendCredit,
)
from resip.core.modern.frames import PING_FRAME, CloseCode, close_frame
from resip.core.modern.handshake import SessionSecrets
from resip.core.modern.inbound import Inbound, PeerClosed
from resip.core.types import Path, RandomBytes, Target


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


class ModernSession:
    """
    See :class:`resip.core.session.Session` for the verbs.
    """

    resolves_names = True

    def __init__(
        self,
        agreement: Agreement,
        controller: RateController,
        *,
        ids: IdAllocation,
        random_bytes: RandomBytes,
        now: float,
        configuration: ModernConfiguration | None = None,
    ) -> None:
        configuration = configuration or ModernConfiguration()
        self._session_id = agreement.local_id if not agreement.is_client else agreement.peer_id
        session_credit = SendCredit(agreement.session_credit)
        self._connection = Connection(
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
        )
        self._channels = Channels(
            self._connection,
            configuration,
            is_client=agreement.is_client,
            peer_channel_credit=agreement.channel_credit,
            session_window=CreditWindow(initial=INITIAL_SESSION_WINDOW, maximum=MAX_SESSION_WINDOW),
            session_credit=session_credit,
        )
        self._inbound = Inbound(
            self._connection,
            self._channels,
            on_path_change=self._on_path_change,
        )
        self._is_closed = False
        self._last_words: bytes | None = None
        self._liveness: Liveness | None = None
        if agreement.is_client:
            self._liveness = Liveness(
                keep_alive_interval=configuration.keep_alive_interval,
                idle_keep_alive_interval=configuration.idle_keep_alive_interval,
                now=now,
            )

    @property
    def session_id(self) -> int:
        """
        The id that the server gave first; safe to log.
        """
        return self._session_id

    @property
    def path(self) -> Path | None:
        """
        Where packets go now.
        """
        return self._connection.path

    @property
    def last_received_time(self) -> float:
        """
        When the last authentic packet arrived.
        """
        return self._connection.last_received_time

    @property
    def channel_count(self) -> int:
        """
        How many channels there are.
        """
        return len(self._channels)

    @property
    def connection(self) -> Connection:
        """
        What is below the channels; for its readings.
        """
        return self._connection

    # Input from the network.

    def receive_datagram(self, data: bytes, path: Path, *, now: float) -> bool:
        """
        Take one packet from a carrier.
        """
        return self.receive_datagrams((data,), path, now=now)

    def receive_datagrams(self, packets: Sequence[bytes], path: Path, *, now: float) -> bool:
        """
        Take packets that arrived together by one path; returns whether any was authentic.
        """
        if self._is_closed:
            return False
        self._channels.now = now
        try:
            is_authentic = self._inbound.receive(packets, path, now=now)
        except PeerClosed as closed:
            self._end(_describe(closed))
            return True
        except ProtocolError as error:
            self._fail(error)
            return True
        if not is_authentic:
            if any(self._connection.is_reset(packet) for packet in packets):
                self._end("the server does not know the session any more")
            return False
        if self._liveness is not None:
            self._liveness.on_received(now=now)
        self._channels.after_input()
        return True

    # Output and time.

    def datagrams_to_send(self, *, now: float) -> list[tuple[Path, list[bytes]]]:
        """
        The packets to send now.
        """
        self._channels.now = now
        if self._last_words is not None:
            frame, self._last_words = self._last_words, None
            return self._connection.seal_last(frame, now=now)
        if self._is_closed:
            return []
        return self._connection.packets_to_send(now=now)

    def get_timer(self) -> float | None:
        """
        When anything is due.
        """
        if self._is_closed:
            return None
        times = [self._connection.get_timer(), self._channels.get_timer()]
        if self._liveness is not None:
            times.append(self._liveness.keep_alive_time(has_channels=bool(self.channel_count)))
            times.append(self._liveness.report_time())
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, *, now: float) -> None:
        """
        Act on every deadline that has passed.
        """
        if self._is_closed:
            return
        self._channels.now = now
        has_missed = self._connection.handle_timer(now=now)
        self._channels.handle_timer()
        self._channels.after_input()
        liveness = self._liveness
        if liveness is None:
            return
        if has_missed:
            liveness.on_asked(now=now)
        if now >= liveness.keep_alive_time(has_channels=bool(self.channel_count)):
            liveness.on_asked(now=now)
            self._connection.outbox.say_once(PING_FRAME)
        report_time = liveness.report_time()
        if report_time is not None and now >= report_time:
            self._channels.events.append(PeerSilent(liveness.silence(now=now)))

    def next_event(self) -> Event | None:
        """
        The next thing to tell the owner.
        """
        return self._channels.next_event()

    def request_key_update(self, *, now: float) -> None:
        """
        Move to new keys as soon as the peer acknowledged a packet under the present ones (M-15).
        """
        self._channels.now = now
        self._connection.request_key_update()

    # Paths.

    def use_path(self, path: Path, *, now: float) -> None:
        """
        Send on ``path`` from now on.
        """
        self._channels.now = now
        if self._connection.use_path(path, now=now):
            self._on_path_change()
        self.retry(now=now)

    def path_closed(self, path: Path, *, now: float) -> None:
        """
        The carrier of ``path`` is gone.
        """
        self._channels.now = now
        if self._connection.path_closed(path, now=now):
            self._on_path_change()
        self._channels.after_input()

    def retry(self, *, now: float) -> None:
        """
        Probe at once.
        """
        self._channels.now = now
        self._connection.probe_now(now=now)
        if self._liveness is not None:
            self._liveness.on_asked(now=now)
            self._connection.outbox.say_once(PING_FRAME)
        self._channels.after_input()

    def _on_path_change(self) -> None:
        self._channels.events.append(PathChanged(self.path))

    # Channels.

    def open_channel(self, target: Target, *, now: float, compress: bool = False) -> int:
        """
        Ask for a channel to ``target``.
        """
        self._channels.now = now
        return self._channels.open(target, compress=compress)

    def accept_channel(self, channel_id: int, *, now: float) -> None:
        """
        Say yes to a request.
        """
        self._channels.now = now
        self._channels.accept(channel_id)

    def refuse_channel(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Say no to a request.
        """
        self._channels.now = now
        self._channels.refuse(channel_id, code)

    def write(self, channel_id: int, data: bytes, *, now: float) -> int:
        """
        Queue bytes of a stream, or one whole datagram.
        """
        self._channels.now = now
        return self._channels.write(channel_id, data)

    def end(self, channel_id: int, *, now: float) -> None:
        """
        Nothing more will be written.
        """
        self._channels.now = now
        self._channels.end(channel_id)

    def reset(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Abandon a channel.
        """
        self._channels.now = now
        self._channels.reset(channel_id, code)

    def consume(self, channel_id: int, count: int, *, now: float) -> None:
        """
        The application took received bytes.
        """
        self._channels.now = now
        self._channels.consume(channel_id, count)

    # The end.

    def close(self, *, now: float, code: CloseCode = CloseCode.NONE) -> None:
        """
        End the session on both sides.
        """
        if not self._is_closed:
            self._channels.now = now
            self._last_words = close_frame(code)
            self._stop()

    def _fail(self, error: ProtocolError) -> None:
        code = CloseCode.PROTOCOL
        if isinstance(error, FlowControlError):
            code = CloseCode.FLOW_CONTROL
        elif isinstance(error, ChannelLimitError):
            code = CloseCode.LIMIT
        self._last_words = close_frame(code, str(error))
        self._end(f"the peer broke the protocol: {error}")

    def _end(self, reason: str) -> None:
        self._stop()
        self._channels.events.append(SessionLost(reason))

    def _stop(self) -> None:
        self._is_closed = True
        self._channels.close()
        self._connection.close()


_REASONS: dict[int, str] = {
    CloseCode.NONE: "the peer ended it",
    CloseCode.REVOKED: "the key is not valid any more",
    CloseCode.SHUTDOWN: "the server stops",
}


def _describe(closed: PeerClosed) -> str:
    return _REASONS.get(closed.code, closed.reason or f"the peer closed it with code {closed.code}")
