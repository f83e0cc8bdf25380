"""
The sessions of one server: whose they are, what drives them, when they end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resip.bootstrap.keystore import KeyRecord
from resip.bootstrap.messages import ErrorCode, RequestError, SessionGrant
from resip.carriers.channels import Channel
from resip.carriers.driver import SessionDriver
from resip.carriers.framing import BlockFraming, Framing, PrefixFraming
from resip.carriers.interfaces import Carrier
from resip.core.classic.cipher import BLOCK_SIZE, KEY_SIZE, CipherKeys, HashName, SessionKeys
from resip.core.classic.configuration import PROTOTYPE, PUBLISHED, ClassicConfiguration
from resip.core.classic.server import ClassicEndpoint
from resip.core.errors import LimitError
from resip.core.modern.endpoint import ModernEndpoint
from resip.core.modern.noise import HandshakeError
from resip.core.session import Session
from resip.core.types import Path, RandomBytes
from resip.services.clock import Clocks
from resip.services.starters import make_controller

#: Seconds of silence after which a session is forgotten. A client may have been under way.
SESSION_LIFETIME = 7 * 24 * 3600.0
#: Sessions at once, and of one key; beyond the latter the most silent of the key's ends.
MAX_SESSIONS = 10_000
MAX_SESSIONS_PER_KEY = 256

#: Called with a requested channel and the name of the key whose session asks.
OnRequest = Callable[[Channel, str], None]


class ServerSessions:
    """
    Starts, routes and ends the sessions of one run of the server, of both dialects.

    Their packets share the ports. A modern one begins with an id that we chose; what has none
    is tried as a classic one, where that dialect is spoken.

    :ivar started: Unix seconds; by it clients know whether their session can still exist.
    """

    _log = Logger()

    def __init__(
        self,
        carriers: Mapping[str, Carrier],
        *,
        clock: IReactorTime,
        clocks: Clocks,
        random_bytes: RandomBytes,
        on_request: OnRequest,
        is_classic: bool = True,
    ) -> None:
        self.started = int(clocks.wall())
        self._carriers = carriers
        self._clock = clock
        self._clocks = clocks
        self._random_bytes = random_bytes
        self._on_request = on_request
        self._endpoint = ClassicEndpoint(
            master=self._cipher_keys(),
            random_bytes=random_bytes,
            max_sessions=MAX_SESSIONS,
            is_taken=self._is_taken,
        )
        self._is_classic = is_classic
        self._modern: ModernEndpoint[KeyRecord] | None = None
        self._drivers: dict[int, SessionDriver] = {}
        self._owners: dict[int, str] = {}

    def __len__(self) -> int:
        """
        How many sessions there are.
        """
        return len(self._drivers)

    @property
    def packet_size(self) -> int:
        """
        Bytes of every packet.
        """
        return self._endpoint.packet_size

    def start_session(
        self, key: KeyRecord, hash_name: HashName, is_prototype: bool
    ) -> SessionGrant:
        """
        Start a session for the owner of a key.

        :raises LimitError: when the server has as many sessions as it may have.
        :raises RequestError: when the server does not speak the classic dialect.
        """
        if not self._is_classic:
            raise RequestError(ErrorCode.CLASSIC_IS_OFF)
        self._make_room(key.name)
        keys = SessionKeys(self._cipher_keys(), self._random_bytes(hash_name.digest_size))
        configuration = ClassicConfiguration(peer=PROTOTYPE if is_prototype else PUBLISHED)
        session = self._endpoint.add_session(keys, configuration, now=self._clocks.monotonic())
        kind = "classic, the prototype's client" if is_prototype else "classic"
        session_id = self._drive(session, key, kind)
        return SessionGrant(
            session_id=session_id,
            hash_name=hash_name,
            master=self._endpoint.master,
            session=keys,
            started=self.started,
            current=int(self._clocks.wall()),
            packet_size=self._endpoint.packet_size,
        )

    def speak_modern(self, static_key: X25519PrivateKey) -> bytes:
        """
        Accept modern handshakes from now on; returns the public key for invitations.
        """
        self._modern = ModernEndpoint(
            static_key,
            server_run=self.started,
            random_bytes=self._random_bytes,
            make_controller=lambda: make_controller(
                self._random_bytes, now=self._clocks.monotonic()
            ),
            max_sessions=MAX_SESSIONS,
            is_taken=self._is_taken,
        )
        return self._modern.public_key

    def accept_handshake(
        self, message1: bytes, find_key: Callable[[bytes], KeyRecord | None]
    ) -> bytes | None:
        """
        Answer a handshake, ``None`` for a stranger's.

        :raises LimitError: when the server has as many sessions as it may have.
        """
        if self._modern is None:
            return None

        def find_owner(public_key: bytes) -> KeyRecord | None:
            key = find_key(public_key)
            if key is not None:
                self._make_room(key.name)
            return key

        try:
            accepted = self._modern.accept(message1, find_owner, now=self._clocks.monotonic())
        except HandshakeError:
            return None
        self._drive(accepted.session, accepted.owner, "modern")
        return accepted.message2

    def choose_framing(self, first: bytes) -> Framing:
        """
        How packets stand on a TCP connection that begins with these 4 bytes.
        """
        if self._modern is not None and self._modern.knows(first):
            return PrefixFraming()
        return BlockFraming(self._endpoint.packet_size)

    def has_session(self, session_id: int, key: KeyRecord) -> bool:
        """
        Whether a session exists and belongs to a key.
        """
        return self._owners.get(session_id) == key.name

    def receive_datagram(self, data: bytes, path: Path) -> bool:
        """
        A carrier delivered a packet; returns whether it was authentic.
        """
        now = self._clocks.monotonic()
        if self._modern is not None:
            modern = self._modern.find(data)
            if modern is not None and modern.receive_datagram(data, path, now=now):
                self._drivers[modern.session_id].input_received()
                return True
        session = self._endpoint.receive_datagram(data, path, now=now) if self._is_classic else None
        if session is None:
            self._answer_stranger(data, path, now=now)
            return False
        self._drivers[session.session_id].input_received()
        return True

    def _answer_stranger(self, data: bytes, path: Path, *, now: float) -> None:
        if self._modern is None or path.is_reliable or self._modern.find(data) is not None:
            return
        answer = self._modern.answer_stranger(data, now=now)
        if answer is not None:
            self._carriers[path.carrier].send(path, [answer])

    def path_closed(self, path: Path) -> None:
        """
        A connection is gone: the sessions that sent on it have no path now.
        """
        for driver in list(self._drivers.values()):
            if driver.session.path == path:
                driver.path_closed(path)

    def path_writable(self, path: Path) -> None:
        """
        A connection that was full takes more.
        """
        for driver in self._drivers.values():
            if driver.session.path == path:
                driver.turn_soon()

    def end_sessions_of(self, is_valid: Callable[[str], bool]) -> None:
        """
        End the sessions whose key's name is not valid any more.
        """
        for session_id, owner in list(self._owners.items()):
            if not is_valid(owner):
                self._end(session_id, f"key {owner} was revoked")

    def end_silent(self) -> None:
        """
        End the sessions that nobody has used for :data:`SESSION_LIFETIME`.
        """
        oldest = self._clocks.monotonic() - SESSION_LIFETIME
        for session_id, driver in list(self._drivers.items()):
            if driver.session.last_received_time < oldest:
                self._end(session_id, f"silent for {SESSION_LIFETIME / 86400:.0f} days")

    def stop(self) -> None:
        """
        End all sessions.
        """
        for session_id in list(self._drivers):
            self._end(session_id, "the server stops")

    def _is_taken(self, session_id: int) -> bool:
        # Both dialects share the numbers by which sessions are driven, owned and asked about.
        return session_id in self._drivers

    def _drive(self, session: Session, key: KeyRecord, kind: str) -> int:
        session_id = session.session_id
        self._owners[session_id] = key.name
        self._drivers[session_id] = SessionDriver(
            session,
            self._carriers,
            clock=self._clock,
            now=self._clocks.monotonic,
            on_request=lambda channel: self._on_request(channel, key.name),
            on_path=lambda path: self._report_path(session_id, path),
            on_lost=lambda reason: self._end(session_id, reason),
        )
        self._log.info(
            "session {session_id} started for key {key} ({kind})",
            session_id=session_id,
            key=key.name,
            kind=kind,
        )
        return session_id

    def _make_room(self, owner: str) -> None:
        mine = [session_id for session_id, name in self._owners.items() if name == owner]
        if len(mine) >= MAX_SESSIONS_PER_KEY:
            silent = min(mine, key=lambda i: self._drivers[i].session.last_received_time)
            self._end(
                silent, f"key {owner} has {MAX_SESSIONS_PER_KEY} sessions, this is the oldest"
            )
        elif len(self._drivers) >= MAX_SESSIONS:
            raise LimitError(f"there are {MAX_SESSIONS} sessions")

    def _end(self, session_id: int, reason: str) -> None:
        driver = self._drivers.pop(session_id, None)
        if driver is None:
            return
        owner = self._owners.pop(session_id)
        driver.stop()
        self._endpoint.remove_session(session_id)
        if self._modern is not None:
            self._modern.remove(session_id)
        self._log.info(
            "session {session_id} of key {key} ended: {reason}",
            session_id=session_id,
            key=owner,
            reason=reason,
        )

    def _report_path(self, session_id: int, path: Path | None) -> None:
        if path is None:
            self._log.info("session {session_id}: client out of reach", session_id=session_id)
        else:
            self._log.info(
                "session {session_id}: client is at {path}", session_id=session_id, path=path
            )

    def _cipher_keys(self) -> CipherKeys:
        key1, iv1, key2, iv2 = (
            self._random_bytes(size) for size in (KEY_SIZE, BLOCK_SIZE, KEY_SIZE, BLOCK_SIZE)
        )
        return CipherKeys(key1, iv1, key2, iv2)
