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
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.handshake import ServerHandshake, Welcome
from resip.core.modern.noise import HandshakeError, public_key_of
from resip.core.modern.protection import MIN_PACKET_SIZE
from resip.core.modern.reset import ResetSender, derive_reset_key, reset_token
from resip.core.modern.session import Agreement, IdAllocation, ModernSession
from resip.core.types import RandomBytes

Owner = TypeVar("Owner")


@dataclass(frozen=True, slots=True)
class Accepted(Generic[Owner]):
    """
    A handshake that a client began and we answer.

    :ivar session: the new session. :ivar owner: whose key it is. :ivar message2: the answer.
    """

    session: ModernSession
    owner: Owner
    message2: bytes = field(repr=False)


class ModernEndpoint(Generic[Owner]):
    """
    Owns the ids under which the server receives.

    :param static_key: the server's; invitations hold the public one.
    :param server_run: identity of this run.
    :param make_controller: a congestion controller for a new session.
    :param is_taken: whether an id means something else to the owner.
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
    ) -> None:
        self._static_key = static_key
        self._server_run = server_run
        self._random_bytes = random_bytes
        self._make_controller = make_controller
        self._configuration = configuration
        self._max_sessions = max_sessions
        self._is_taken = is_taken
        self._reset_key = derive_reset_key(static_key)
        self._resets = ResetSender(self._reset_key, random_bytes)
        self._by_id: dict[int, ModernSession] = {}
        self._sessions: dict[int, ModernSession] = {}

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
        self, message1: bytes, find_owner: Callable[[bytes], Owner | None], *, now: float
    ) -> Accepted[Owner]:
        """
        Answer message 1 of a handshake.

        :param find_owner: by the client's public key; ``None`` for a stranger.
        :raises HandshakeError: for anything but a known client's message, always the same.
        :raises LimitError: when there are as many sessions as allowed.
        """
        handshake = ServerHandshake(self._static_key, self._random_bytes)
        public_key, hello = handshake.read(message1)
        owner = find_owner(public_key)
        if owner is None:
            raise HandshakeError("the handshake does not come from a client that is known")
        if len(self._sessions) >= self._max_sessions:
            raise LimitError(f"the server has {len(self._sessions)} sessions, as many as allowed")
        local_id = self._allocate()
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
        return Accepted(self._add(agreement, now=now), owner, message2)

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
        return self._by_id.get(int.from_bytes(packet[:4]))

    def answer_stranger(self, packet: bytes, *, now: float) -> bytes | None:
        """
        A stateless reset for a packet of a session that this server does not know (M-41).
        """
        return self._resets.answer(packet, now=now)

    def remove(self, session_id: int) -> None:
        """
        Forget a session; its ids go when it is closed.
        """
        self._sessions.pop(session_id, None)

    def _add(self, agreement: Agreement, *, now: float) -> ModernSession:
        owned: list[ModernSession] = []

        def allocate() -> int:
            session_id = self._allocate()
            if owned:
                self._by_id[session_id] = owned[0]
            else:
                early.append(session_id)
            return session_id

        early = [agreement.local_id]
        session = ModernSession(
            agreement,
            self._make_controller(),
            ids=IdAllocation(
                allocate=allocate,
                release=self._release,
                token=lambda session_id: reset_token(self._reset_key, session_id),
            ),
            random_bytes=self._random_bytes,
            now=now,
            configuration=self._configuration,
        )
        owned.append(session)
        for session_id in early:
            self._by_id[session_id] = session
        self._sessions[session.session_id] = session
        return session

    def _allocate(self) -> int:
        session_id = 0
        # A session is known by its first id even after the client has retired that.
        while not session_id or session_id in self._by_id or self._is_taken(session_id):
            session_id = int.from_bytes(self._random_bytes(4))
        return session_id

    def _release(self, session_id: int) -> None:
        self._by_id.pop(session_id, None)
