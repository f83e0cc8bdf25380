"""
How a client comes to a session: one starter for each dialect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from resip.bootstrap.client import BootstrapClient
from resip.bootstrap.handshake import InvitedHandshake, OutgoingHandshake
from resip.carriers.framing import BlockFraming, Framing, PrefixFraming
from resip.core.classic.client import ClassicClientSession
from resip.core.classic.configuration import PROTOTYPE, PUBLISHED, ClassicConfiguration
from resip.core.classic.packet import OuterWrapper, PacketCodec
from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.modern.outbound import BASE_DATAGRAM_SIZE
from resip.core.modern.parts import Agreement, IdAllocation
from resip.core.modern.session import ModernSession
from resip.core.session import Session
from resip.core.trace import NULL_TRACE, Trace
from resip.core.types import RandomBytes
from resip.services.clock import Clocks
from resip.services.hello import HandshakeRace, MakeLinks

#: Seconds for which a hello without an answer is said again, rather than another one: the server
#: may have heard it. It remembers its own answer for longer (M-51).
HANDSHAKE_LIFETIME = 20.0


@dataclass(frozen=True, slots=True)
class NewSession:
    """
    A session that a server has just started for us.

    :ivar server_run: identity of the server's run; sessions die with it.
    :ivar note: what else the log should say.
    :ivar make_framing: how packets stand on a TCP connection.
    """

    session: Session
    server_run: int
    make_framing: Callable[[], Framing]
    note: str = ""


class Starter(Protocol):
    """
    Asks the server for sessions of one dialect.
    """

    @property
    def resolves_names(self) -> bool:
        """
        Whether targets may be host names.
        """

    async def start(self) -> NewSession:
        """
        Start a session.

        :raises BootstrapError: the class says why not, ``is_retryable`` whether to try again.
        """

    def stop(self) -> Deferred[None]:
        """
        There will be no further :meth:`start`; fires when all is quiet.
        """


class ClassicStarter:
    """
    Asks for keys over HTTPS.
    """

    resolves_names = ClassicClientSession.resolves_names

    def __init__(
        self, bootstrap: BootstrapClient, *, clocks: Clocks, random_bytes: RandomBytes
    ) -> None:
        self._bootstrap = bootstrap
        self._clocks = clocks
        self._random_bytes = random_bytes

    async def start(self) -> NewSession:
        """
        See :class:`Starter`.
        """
        grant, is_prototype = await self._bootstrap.start_session()
        outer = OuterWrapper(grant.master, grant.packet_size)
        codec = PacketCodec(grant.session_id, outer, grant.session, self._random_bytes)
        configuration = ClassicConfiguration(
            peer=PROTOTYPE if is_prototype else PUBLISHED, max_fragments=grant.max_fragments
        )
        return NewSession(
            ClassicClientSession(codec, configuration, now=self._clocks.monotonic()),
            grant.started,
            lambda: BlockFraming(grant.packet_size),
            note=" (the prototype)" if is_prototype else "",
        )

    def stop(self) -> Deferred[None]:
        """
        See :class:`Starter`.
        """
        return succeed(None)


class ModernStarter:
    """
    Shakes hands over HTTPS, and in packets when HTTPS takes its time or fails.

    The same hello goes by all ways, so that however many of them the server hears it starts one
    session (M-51).

    :param make_trace: the trace of a new session, by its id.
    :param clock: for relative delays only.
    :param make_links: to the ports for packets; ``None`` leaves it at HTTPS.
    """

    resolves_names = ModernSession.resolves_names

    def __init__(
        self,
        bootstrap: BootstrapClient,
        *,
        clocks: Clocks,
        random_bytes: RandomBytes,
        make_trace: Callable[[int], Trace] = lambda session_id: NULL_TRACE,
        clock: IReactorTime | None = None,
        make_links: MakeLinks | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._clocks = clocks
        self._random_bytes = random_bytes
        self._make_trace = make_trace
        self._clock = clock
        self._make_links = make_links
        self._handshake: tuple[float, OutgoingHandshake] | None = None
        self._race: HandshakeRace | None = None

    async def start(self) -> NewSession:
        """
        See :class:`Starter`.
        """
        handshake = self._current_handshake()
        if self._clock is None or self._make_links is None:
            agreement, welcome = await self._bootstrap.handshake(handshake)
            note = ""
        else:
            race = self._race = HandshakeRace(
                self._clock,
                handshake,
                ask=lambda: Deferred.fromCoroutine(self._bootstrap.handshake(handshake)),
                server_key=self._bootstrap.invitation.server_key or b"",
                make_links=self._make_links,
                random_bytes=self._random_bytes,
            )
            agreement, welcome = await race.run()
            note = race.note
        self._handshake = None
        session = make_client_session(
            agreement,
            clocks=self._clocks,
            random_bytes=self._random_bytes,
            trace=self._make_trace(agreement.peer_id),
        )
        return NewSession(session, welcome.server_run, PrefixFraming, note)

    def stop(self) -> Deferred[None]:
        """
        See :class:`Starter`.
        """
        return succeed(None) if self._race is None else self._race.stop()

    def _current_handshake(self) -> OutgoingHandshake:
        now = self._clocks.monotonic()
        if self._handshake is not None and now - self._handshake[0] < HANDSHAKE_LIFETIME:
            return self._handshake[1]
        handshake = InvitedHandshake(
            self._bootstrap.invitation,
            random_bytes=self._random_bytes,
            wall_clock=self._clocks.wall,
        )
        self._handshake = now, handshake
        return handshake


def make_client_session(
    agreement: Agreement, *, clocks: Clocks, random_bytes: RandomBytes, trace: Trace = NULL_TRACE
) -> ModernSession:
    """
    The session that a client and a server have agreed on.
    """
    now = clocks.monotonic()
    return ModernSession(
        agreement,
        make_controller(random_bytes, now=now),
        # A client has one socket for one session: any id will do, nobody else reads it.
        ids=IdAllocation(
            allocate=lambda: int.from_bytes(random_bytes(4)),
            release=lambda session_id: None,
            token=lambda session_id: random_bytes(16),
        ),
        random_bytes=random_bytes,
        now=now,
        trace=trace,
    )


def make_controller(random_bytes: RandomBytes, *, now: float) -> ErasureAwareController:
    """
    The congestion controller of a new modern session.
    """
    return ErasureAwareController(
        datagram_size=BASE_DATAGRAM_SIZE,
        random=_evenly_distributed(random_bytes),
        now=now,
    )


@cache
def _evenly_distributed(random_bytes: RandomBytes) -> Callable[[], float]:
    return lambda: int.from_bytes(random_bytes(6)) / 2**48
