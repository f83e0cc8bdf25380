"""
The sessions of one server: whose they are, what drives them, when they end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

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
from resip.core.modern.frames import CloseCode
from resip.core.modern.handshake import Hello
from resip.core.modern.noise import HandshakeError
from resip.core.modern.session import ModernSession
from resip.core.session import Session
from resip.core.trace import NULL_TRACE, Trace
from resip.core.trains import collect_ids, find_longest
from resip.core.types import Path, RandomBytes
from resip.services.clock import Clocks
from resip.services.handshakes import Answer, Handshakes
from resip.services.served import Served
from resip.services.starters import make_controller

#: Seconds of silence after which a session is forgotten. A client may have been under way.
SESSION_LIFETIME = 7 * 24 * 3600.0
#: Seconds that the client of a new session has for its first packet.
ARRIVAL_TIMEOUT = 600.0
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
        make_trace: Callable[[int], Trace] = lambda session_id: NULL_TRACE,
    ) -> None:
        self.started = int(clocks.wall())
        self._carriers = carriers
        self._clock = clock
        self._clocks = clocks
        self._random_bytes = random_bytes
        self._on_request = on_request
        self._make_trace = make_trace
        self._endpoint = ClassicEndpoint(
            master=self._cipher_keys(),
            random_bytes=random_bytes,
            max_sessions=MAX_SESSIONS,
            is_taken=self._is_taken,
        )
        self._is_classic = is_classic
        self._modern: ModernEndpoint[KeyRecord] | None = None
        self._handshakes: Handshakes | None = None
        self._find_key: Callable[[bytes], KeyRecord | None] = lambda public_key: None
        self._served: dict[int, Served] = {}
        #: The sessions that packets on each connection belong to.
        self._connections: dict[Path, set[int]] = {}
        #: How many of them each key has.
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """
        How many sessions there are.
        """
        return len(self._served)

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

    def speak_modern(
        self,
        static_key: X25519PrivateKey,
        find_key: Callable[[bytes], KeyRecord | None],
        *,
        hello_floor_ms: int = 0,
    ) -> bytes:
        """
        Accept modern handshakes from now on; returns the public key for invitations.

        :param find_key: by a client's public key.
        :param hello_floor_ms: handshakes in packets that are not later are refused, Unix time.
        """
        self._find_key = find_key
        self._modern = ModernEndpoint(
            static_key,
            server_run=self.started,
            random_bytes=self._random_bytes,
            make_controller=lambda: make_controller(
                self._random_bytes, now=self._clocks.monotonic()
            ),
            max_sessions=MAX_SESSIONS,
            is_taken=self._is_taken,
            make_trace=self._make_trace,
        )
        self._handshakes = Handshakes(
            self._modern.public_key,
            floor_ms=hello_floor_ms,
            exists=self._is_taken,
            now=self._clocks.monotonic,
        )
        return self._modern.public_key

    def accept_handshake(self, message1: bytes, path: Path | None = None) -> Answer | None:
        """
        Answer a handshake, ``None`` for a stranger's.

        :param path: where it came from if in a packet, which anybody can send or repeat.
        :raises LimitError: when the server has as many sessions as it may have.
        """
        if self._modern is None or self._handshakes is None:
            return None
        answer = self._handshakes.recall(message1)
        if answer is not None:
            return answer
        if path is not None and not self._handshakes.admit(path):
            return None
        find_owner = partial(self._find_owner, must_be_fresh=path is not None)
        try:
            accepted = self._modern.accept(message1, find_owner, now=self._clocks.monotonic())
        except HandshakeError:
            return None
        session_id = self._drive(accepted.session, accepted.owner, "modern")
        answer = Answer(session_id, accepted.client_id, accepted.message2)
        self._handshakes.remember(message1, answer)
        return answer

    def _find_owner(
        self, public_key: bytes, hello: Hello, *, must_be_fresh: bool
    ) -> KeyRecord | None:
        assert self._handshakes is not None
        key = self._find_key(public_key)
        if key is None:
            return None
        if not self._handshakes.is_fresh(public_key, hello.time_ms) and must_be_fresh:
            return None
        self._make_room(key.name)
        return key

    def knows(self, first: bytes) -> bool:
        """
        Whether a modern connection begins with these 4 bytes: they are a session's, or those by
        which a client says that it wants one.
        """
        if self._modern is not None and self._modern.knows(first):
            return True
        return self._handshakes is not None and first == self._handshakes.stream_id

    def choose_framing(self, first: bytes) -> Framing:
        """
        How packets stand on a TCP connection that begins with these 4 bytes.
        """
        if self.knows(first):
            return PrefixFraming()
        return BlockFraming(self._endpoint.packet_size)

    def has_session(self, session_id: int, key: KeyRecord) -> bool:
        """
        Whether a session exists and belongs to a key.
        """
        served = self._served.get(session_id)
        return served is not None and served.owner == key.name

    def receive_datagrams(self, packets: Sequence[bytes], path: Path) -> bool:
        """
        A carrier delivered packets; returns whether any was authentic.
        """
        if len(collect_ids(packets)) > 1:
            return any([self.receive_datagrams((packet,), path) for packet in packets])
        if self._modern is not None:
            modern = self._modern.find(find_longest(packets))
            now = self._clocks.monotonic()
            if modern is not None and modern.receive_datagrams(packets, path, now=now):
                self._heard(modern.session_id, path)
                return True
        return any([self._hear_other(packet, path) for packet in packets])

    def _hear_other(self, data: bytes, path: Path) -> bool:
        now = self._clocks.monotonic()
        session = self._endpoint.receive_datagram(data, path, now=now) if self._is_classic else None
        if session is None:
            return self._hear_stranger(data, path, now=now)
        self._heard(session.session_id, path)
        return True

    def _heard(self, session_id: int, path: Path) -> None:
        if path.is_reliable:
            self._connections.setdefault(path, set()).add(session_id)
        self._served[session_id].driver.input_received()

    def _hear_stranger(self, data: bytes, path: Path, *, now: float) -> bool:
        if self._modern is None or self._handshakes is None:
            return False
        message1 = self._handshakes.unwrap(data)
        if message1 is not None:
            return self._answer_hello(message1, path)
        if not path.is_reliable and self._modern.find(data) is None:
            reset = self._modern.answer_stranger(data, now=now)
            if reset is not None:
                self._carriers[path.carrier].send(path, [reset])
        return False

    def _answer_hello(self, message1: bytes, path: Path) -> bool:
        assert self._handshakes is not None
        try:
            answer = self.accept_handshake(message1, path)
        except LimitError:
            answer = None
        if answer is None:
            return False
        copies = 1 if path.is_reliable else answer.copies
        self._carriers[path.carrier].send(path, [self._handshakes.wrap(answer)] * copies)
        return True

    def path_closed(self, path: Path) -> None:
        """
        A connection is gone: the sessions that sent on it have no path now, and those that could
        have, one less.
        """
        for served in self._users_of(path):
            served.driver.path_closed(path)
        self._connections.pop(path, None)

    def path_writable(self, path: Path) -> None:
        """
        A connection that was full takes more.
        """
        for served in self._users_of(path):
            if served.driver.session.path == path:
                served.driver.turn_soon()

    def _users_of(self, path: Path) -> list[Served]:
        if path.is_reliable:
            known = self._connections.get(path, ())
            return [self._served[number] for number in known if number in self._served]
        return [served for served in self._served.values() if served.driver.session.path == path]

    def end_sessions_of(self, is_valid: Callable[[str], bool]) -> None:
        """
        End the sessions whose key's name is not valid any more.
        """
        for served in list(self._served.values()):
            if not is_valid(served.owner):
                self.end(
                    served.session_id, f"key {served.owner} was revoked", code=CloseCode.REVOKED
                )

    def end_silent(self) -> None:
        """
        End the sessions that nobody has used for :data:`SESSION_LIFETIME`, and those whose
        client has not come within :data:`ARRIVAL_TIMEOUT` (M-52).
        """
        now = self._clocks.monotonic()
        for served in list(self._served.values()):
            if served.last_received_time < now - SESSION_LIFETIME:
                self.end(served.session_id, f"silent for {SESSION_LIFETIME / 86400:.0f} days")
            elif not served.has_arrived and served.start_time < now - ARRIVAL_TIMEOUT:
                self.end(served.session_id, "its client never came")

    def park_idle(self) -> None:
        """
        Let idle sessions take less memory.
        """
        if self._modern is not None:
            self._modern.park_idle(now=self._clocks.monotonic())

    def stop(self) -> None:
        """
        End all sessions.
        """
        for session_id in list(self._served):
            self.end(session_id, "the server stops", code=CloseCode.SHUTDOWN)

    def _is_taken(self, session_id: int) -> bool:
        # Both dialects share the numbers by which sessions are driven, owned and asked about.
        return session_id in self._served

    def _drive(self, session: Session, key: KeyRecord, kind: str) -> int:
        session_id = session.session_id
        served = self._served[session_id] = Served(self, session, key.name)
        self._counts[key.name] += 1
        served.driver = SessionDriver(
            session,
            self._carriers,
            clock=self._clock,
            now=self._clocks.monotonic,
            on_request=served.requested,
            on_path=served.path_changed,
            on_lost=served.lost,
        )
        self._log.info(
            "session {session_id} started for key {key} ({kind})",
            session_id=session_id,
            key=key.name,
            kind=kind,
        )
        return session_id

    def _make_room(self, owner: str) -> None:
        if self._counts[owner] >= MAX_SESSIONS_PER_KEY:
            # Those that only a recorded hello started go first, so that they crowd nobody out.
            victim = min(
                (served for served in self._served.values() if served.owner == owner),
                key=lambda served: (served.has_arrived, served.last_received_time),
            )
            self.end(
                victim.session_id,
                f"key {owner} has {MAX_SESSIONS_PER_KEY} sessions, this is the oldest",
            )
        elif len(self._served) >= MAX_SESSIONS:
            raise LimitError(f"there are {MAX_SESSIONS} sessions")

    def end(self, session_id: int, reason: str, *, code: CloseCode = CloseCode.NONE) -> None:
        """
        End a session, if it is there.

        :param reason: for our log. :param code: for the client.
        """
        served = self._served.pop(session_id, None)
        if served is None:
            return
        self._counts[served.owner] -= 1
        if not self._counts[served.owner]:
            del self._counts[served.owner]
        session, now = served.driver.session, self._clocks.monotonic()
        if isinstance(session, ModernSession):
            session.close(now=now, code=code)
        served.driver.stop()
        self._endpoint.remove_session(session_id)
        if self._modern is not None:
            self._modern.remove(session_id, now=now)
        self._log.info(
            "session {session_id} of key {key} ended: {reason}",
            session_id=session_id,
            key=served.owner,
            reason=reason,
        )

    def channel_requested(self, channel: Channel, owner: str) -> None:
        """
        A client asks for a channel.
        """
        self._on_request(channel, owner)

    def report_path(self, session_id: int, path: Path | None) -> None:
        """
        Say where a client is now.
        """
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
