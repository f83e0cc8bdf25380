"""
A modern session, either side; docs/protocol.md is what it does.

Data comes in through :class:`~resip.core.modern.inbound.Inbound`, which opens packets and
sorts frames, to :class:`~resip.core.modern.channels.Channels`, and goes out through
:class:`~resip.core.modern.outbound.Outbound`. Here are the verbs, time, and the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from resip.core.congestion.rate import RateController
from resip.core.errors import ProtocolError, ResetCode
from resip.core.events import Event, PathChanged, PeerSilent, SessionLost
from resip.core.liveness import Liveness
from resip.core.modern.channels import Channels
from resip.core.modern.closing import Farewell, code_of, describe
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.connection import Connection
from resip.core.modern.frames import PING_FRAME, CloseCode, close_frame
from resip.core.modern.inbound import Inbound, PeerClosed
from resip.core.modern.parts import (
    Agreement,
    IdAllocation,
    Parked,
    Parts,
    make_parts,
    park,
    unpark,
)
from resip.core.trace import NULL_TRACE, Trace
from resip.core.types import Path, RandomBytes, Target

_DEFAULTS = ModernConfiguration()


class ModernSession:
    """
    See :class:`resip.core.session.Session` for the verbs.

    :ivar farewell: what was said last, when this side closed the session.
    """

    resolves_names = True
    can_probe_paths = True

    __slots__ = (
        "_awake",
        "_is_closed",
        "_last_words",
        "_liveness",
        "_parked",
        "_session_id",
        "_trace",
        "farewell",
    )

    def __init__(
        self,
        agreement: Agreement,
        controller: RateController,
        *,
        ids: IdAllocation,
        random_bytes: RandomBytes,
        now: float,
        configuration: ModernConfiguration | None = None,
        trace: Trace = NULL_TRACE,
    ) -> None:
        configuration = configuration or _DEFAULTS
        self._session_id = agreement.local_id if not agreement.is_client else agreement.peer_id
        self._awake: Parts | None = make_parts(
            agreement,
            controller,
            ids,
            configuration,
            on_path_change=self._on_path_change,
            random_bytes=random_bytes,
            trace=trace,
            now=now,
        )
        self._parked: Parked | None = None
        self._trace = trace
        self._is_closed = False
        self._last_words: bytes | None = None
        self._liveness: Liveness | None = None
        if agreement.is_client:
            self._liveness = Liveness(
                keep_alive_interval=configuration.keep_alive_interval,
                idle_keep_alive_interval=configuration.idle_keep_alive_interval,
                now=now,
            )
        self.farewell: Farewell | None = None
        trace.session_started(now=now)

    @property
    def _connection(self) -> Connection:
        return (self._awake or self._wake()).connection

    @property
    def _channels(self) -> Channels:
        return (self._awake or self._wake()).channels

    @property
    def _inbound(self) -> Inbound:
        return (self._awake or self._wake()).inbound

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
        return self._connection.path if self._parked is None else self._parked.path

    @property
    def last_received_time(self) -> float:
        """
        When the last authentic packet arrived.
        """
        parked = self._parked
        return self._connection.last_received_time if parked is None else parked.last_received_time

    @property
    def channel_count(self) -> int:
        """
        How many channels there are.
        """
        return len(self._channels) if self._parked is None else self._parked.channel_count

    @property
    def is_parked(self) -> bool:
        """
        Whether the session is folded up; whatever needs it unfolds it.
        """
        return self._parked is not None

    @property
    def connection(self) -> Connection:
        """
        What is below the channels; for its readings.
        """
        return self._connection

    # Input from the network.

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
            self._end(describe(closed))
            return True
        except ProtocolError as error:
            self._fail(error)
            return True
        if not is_authentic:
            if any(self._connection.ids.is_reset(packet) for packet in packets):
                self._end("the server does not know the session any more")
            return False
        if self._liveness is not None:
            self._liveness.on_received(now=now)
        self._channels.after_input()
        return True

    # Output and time.

    def datagrams_to_send(self, *, now: float) -> list[tuple[Path, Sequence[bytes]]]:
        """
        The packets to send now.
        """
        if self._parked is not None:
            return []
        self._channels.now = now
        if self._last_words is not None:
            frame, self._last_words = self._last_words, None
            return self._connection.seal_last(frame, now=now)
        if self._is_closed:
            return []
        return self._connection.packets_to_send(now=now)

    def probes_to_send(self, *, now: float) -> list[tuple[Path, Sequence[bytes]]]:
        """
        The packets to send now on other paths.
        """
        if self._parked is not None or self._is_closed:
            return []
        return self._connection.probes_to_send(now=now)

    def get_timer(self) -> float | None:
        """
        When anything is due.
        """
        if self._is_closed:
            return None
        inner = self._parked or self._awake
        times = [None if inner is None else inner.timer]
        if self._liveness is not None:
            times.append(self._liveness.keep_alive_time(has_channels=bool(self.channel_count)))
            times.append(self._liveness.report_time())
        return min([time for time in times if time is not None], default=None)

    def handle_timer(self, *, now: float) -> None:
        """
        Act on every deadline that has passed.
        """
        if self._is_closed or (self._parked is not None and now < (self.get_timer() or math.inf)):
            return
        self._channels.now = now
        before = self._connection.path
        has_missed = self._connection.handle_timer(now=now)
        if self._connection.path != before:
            self._on_path_change()
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
        if self._parked is not None:
            return None
        if self._connection.path_events:
            return self._connection.path_events.pop(0)
        return self._channels.next_event()

    def request_key_update(self, *, now: float) -> None:
        """
        Move to new keys as soon as the peer acknowledged a packet under the present ones (M-15).
        """
        self._channels.now = now
        self._connection.request_key_update()

    # Idleness.

    def rest(self) -> None:
        """
        Put away what the next packet builds again, the ciphers above all.
        """
        if self._awake is not None and not self._is_closed:
            self._awake.rest()

    def park(self, *, now: float) -> bool:
        """
        Fold up, if nothing is going on; the next packet, verb or deadline unfolds.

        :return: whether the session is folded up.
        """
        if self._awake is not None and not self._is_closed:
            self._parked = park(self._awake, self, now=now)
            if self._parked is not None:
                self._awake = None
        return self._parked is not None

    def _wake(self) -> Parts:
        assert self._parked is not None, "either awake or parked"
        self._awake = unpark(self._parked)
        self._parked = None
        return self._awake

    # Paths.

    def use_path(self, path: Path, *, now: float) -> None:
        """
        Send on ``path`` from now on.
        """
        self._channels.now = now
        if self._connection.use_path(path, now=now):
            self._on_path_change()
        self._ask(now=now)

    def probe_path(self, path: Path, *, now: float) -> None:
        """
        Ask whether the peer answers by a path that is not in use.
        """
        self._connection.probe_path(path, now=now)

    def preamble(self, path: Path) -> bytes:
        """
        What a connection begins with.
        """
        return self._connection.preamble(path)

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
        Probe at once, as somebody whom this network has not seen.
        """
        self._connection.renew_id()
        self._ask(now=now)

    def _ask(self, *, now: float) -> None:
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
            self._stop("closed by its owner")

    def _fail(self, error: ProtocolError) -> None:
        self._last_words = close_frame(code_of(error), str(error))
        self._end(f"the peer broke the protocol: {error}")

    def _end(self, reason: str) -> None:
        self._stop(reason)
        self._channels.events.append(SessionLost(reason))

    def _stop(self, reason: str) -> None:
        now = self._channels.now
        self._trace.session_closed(reason, now=now)
        self._is_closed = True
        self._channels.close()
        ids = self._connection.close()
        if self._last_words is not None:
            packet = self._connection.outbound.seal_alone(self._last_words, now=now)
            self.farewell = Farewell(ids, packet)
