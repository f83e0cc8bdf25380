"""
All modern sessions of one server: shakes hands, finds the session of a packet, answers for lost
ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from resip.core.congestion.rate import RateController
from resip.core.errors import LimitError
from resip.core.modern.closing import ClosingSessions
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.handshake import Hello, ServerHandshake, Welcome
from resip.core.modern.noise import HandshakeError, public_key_of
from resip.core.modern.parking import Outside
from resip.core.modern.parts import Agreement, IdAllocation
from resip.core.modern.reset import ResetSender, derive_reset_key, make_id, reset_token
from resip.core.modern.session import ModernSession
from resip.core.trace import NULL_TRACE, Trace
from resip.core.trains import MIN_PACKET_SIZE
from resip.core.types import RandomBytes

Owner = TypeVar("Owner")

#: Seconds of silence after which a session's ciphers are put away. To make them again takes 40 µs.
REST_AFTER = 1.0
#: Seconds of silence after which a session is folded up. A client that lives says something every
#: 60 s, and to unfold and fold again costs several times as much as to answer it.
PARK_AFTER = 100.0


@dataclass(frozen=True, slots=True)
class Accepted(Generic[Owner]):
    """
    A handshake that a client began and we answer.

    :ivar session: the new session. :ivar owner: whose key it is. :ivar message2: the answer.
    :ivar client_id: the id of packets to the client, from its hello.
    """

    session: ModernSession
    owner: Owner
    client_id: int
    message2: bytes = field(repr=False)


class ModernEndpoint(Generic[Owner]):
    """
    Owns the ids under which the server receives.

    :param static_key: the server's; invitations hold the public one.
    :param server_run: identity of this run.
    :param make_controller: a congestion controller for a new session.
    :param is_taken: whether an id means something else to the owner.
    :param make_trace: the trace of a new session, by its id.
    """

    def __init__(
        self,
        static_key: X25519PrivateKey,
        *,
        server_run: int,
        random_bytes: RandomBytes,
        make_controller: Callable[[], RateController],
        configuration: ModernConfiguration | None = None,
        max_sessions: int = 10_000,
        is_taken: Callable[[int], bool] = lambda session_id: False,
        make_trace: Callable[[int], Trace] = lambda session_id: NULL_TRACE,
    ) -> None:
        self._static_key = static_key
        self._server_run = server_run
        self._random_bytes = random_bytes
        self._make_controller = make_controller
        self._configuration = configuration
        self._max_sessions = max_sessions
        self._is_taken = is_taken
        self._make_trace = make_trace
        self._reset_key = derive_reset_key(static_key)
        self._resets = ResetSender(self._reset_key, random_bytes)
        self._closing = ClosingSessions()
        self._by_id: dict[int, _Route] = {}
        self._sessions: dict[int, ModernSession] = {}
        # All sessions share these: what is folded up keeps functions as they are.
        self._allocate = self._give_id
        self._release = _release_from(self._by_id)
        self._token = lambda session_id: reset_token(self._reset_key, session_id)

    @property
    def public_key(self) -> bytes:
        """
        What invitations hold, 32 bytes.
        """
        return public_key_of(self._static_key)

    def __len__(self) -> int:
        """
        How many sessions there are.
        """
        return len(self._sessions)

    def accept(
        self,
        message1: bytes,
        find_owner: Callable[[bytes, Hello], Owner | None],
        *,
        now: float,
    ) -> Accepted[Owner]:
        """
        Answer message 1 of a handshake.

        :param find_owner: by the client's public key and its hello; ``None`` for a stranger, or
            for a recorded hello where it may be one (M-7).
        :raises HandshakeError: for anything but a known client's message, always the same.
        :raises LimitError: when there are as many sessions as allowed.
        """
        handshake = ServerHandshake(self._static_key, self._random_bytes)
        public_key, hello = handshake.read(message1)
        owner = find_owner(public_key, hello)
        if owner is None:
            raise HandshakeError("the handshake does not come from a client that is known")
        if len(self._sessions) >= self._max_sessions:
            raise LimitError(f"the server has {len(self._sessions)} sessions, as many as allowed")
        local_id = self._draw_id()
        welcome = Welcome(
            session_id=local_id,
            cipher=hello.choose_cipher(),
            reset_token=reset_token(self._reset_key, local_id),
            session_credit=INITIAL_SESSION_WINDOW,
            channel_credit=INITIAL_CHANNEL_WINDOW,
            server_run=self._server_run,
            version=hello.choose_version(),
        )
        message2, secrets = handshake.answer(welcome)
        agreement = Agreement(
            secrets,
            is_client=False,
            local_id=local_id,
            peer_id=hello.session_id,
            session_credit=hello.session_credit,
            channel_credit=hello.channel_credit,
        )
        return Accepted(self._add(agreement, now=now), owner, hello.session_id, message2)

    def knows(self, first: bytes) -> bool:
        """
        Whether 4 bytes are an id under which the server receives.
        """
        return int.from_bytes(first) in self._by_id

    def find(self, packet: bytes) -> ModernSession | None:
        """
        The session that a packet names. Whether it is genuine the session finds out.
        """
        if len(packet) < MIN_PACKET_SIZE:
            return None
        route = self._by_id.get(int.from_bytes(packet[:4]))
        return None if route is None else route.session

    def answer_stranger(self, packet: bytes, *, now: float) -> bytes | None:
        """
        What a packet of a session gets that is not here: the CLOSE of one that this server
        closed a moment ago (M-62), a stateless reset for any other (M-41).
        """
        if int.from_bytes(packet[:4]) in self._closing:
            return self._closing.answer(packet, now=now)
        return self._resets.answer(packet, now=now)

    def park_idle(self, *, now: float) -> None:
        """
        Let the sessions that have nothing to do take less memory. To be called now and then.
        """
        for session in self._sessions.values():
            if session.is_parked:
                continue
            idle_time = now - session.last_received_time
            if idle_time >= PARK_AFTER:
                session.park(now=now)
            elif idle_time >= REST_AFTER:
                session.rest()

    def remove(self, session_id: int, *, now: float) -> None:
        """
        Forget a session that was closed.
        """
        session = self._sessions.pop(session_id, None)
        if session is not None and session.farewell is not None:
            self._closing.add(session.farewell, now=now)

    def _add(self, agreement: Agreement, *, now: float) -> ModernSession:
        # The first id is taken before the session draws more.
        route = self._by_id[agreement.local_id] = _Route(self._allocate)
        session = ModernSession(
            agreement,
            self._make_controller(),
            ids=IdAllocation(allocate=route, release=self._release, token=self._token),
            random_bytes=self._random_bytes,
            now=now,
            configuration=self._configuration,
            trace=self._make_trace(agreement.local_id),
        )
        route.session = session
        self._sessions[session.session_id] = session
        return session

    def _give_id(self, route: _Route) -> int:
        session_id = self._draw_id()
        self._by_id[session_id] = route
        return session_id

    def _draw_id(self) -> int:
        # A session is known by its first id even after the client has retired that.
        while True:
            session_id = make_id(self._reset_key, self._random_bytes)
            is_ours = session_id in self._by_id or session_id in self._closing
            if not is_ours and not self._is_taken(session_id):
                return session_id


class _Route(Outside):
    """
    Leads packets to a session. Called for one more id of it.
    """

    __slots__ = ("_allocate", "session")

    def __init__(self, allocate: Callable[[_Route], int]) -> None:
        self._allocate = allocate
        self.session: ModernSession | None = None

    def __call__(self) -> int:
        """
        A new id, by which the session is found from now on.
        """
        return self._allocate(self)


def _release_from(routes: dict[int, _Route]) -> Callable[[int], None]:
    def release(session_id: int) -> None:
        routes.pop(session_id, None)

    return release
