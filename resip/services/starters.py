"""
How a client comes to a session: one starter for each dialect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from resip.bootstrap.client import BootstrapClient
from resip.carriers.framing import BlockFraming, Framing, PrefixFraming
from resip.core.classic.client import ClassicClientSession
from resip.core.classic.configuration import PROTOTYPE, PUBLISHED, ClassicConfiguration
from resip.core.classic.packet import OuterWrapper, PacketCodec
from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.modern.outbound import BASE_DATAGRAM_SIZE
from resip.core.modern.session import IdAllocation, ModernSession
from resip.core.session import Session
from resip.core.types import RandomBytes
from resip.services.clock import Clocks


@dataclass(frozen=True, slots=True)
class NewSession:
    """
    A session that a server has just started for us.

    :ivar server_run: identity of the server's run; sessions die with it.
    :ivar note: what else the log should say.
    :ivar make_framing: how packets stand on a TCP connection.
    :ivar preamble: what a TCP connection begins with.
    """

    session: Session
    server_run: int
    make_framing: Callable[[], Framing]
    preamble: bytes = b""
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


class ModernStarter:
    """
    Shakes hands over HTTPS.
    """

    resolves_names = ModernSession.resolves_names

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
        agreement, welcome = await self._bootstrap.handshake(
            random_bytes=self._random_bytes, wall_clock=self._clocks.wall
        )
        now = self._clocks.monotonic()
        session = ModernSession(
            agreement,
            make_controller(self._random_bytes, now=now),
            # A client has one socket for one session: any id will do, nobody else reads it.
            ids=IdAllocation(
                allocate=lambda: int.from_bytes(self._random_bytes(4)),
                release=lambda session_id: None,
                token=lambda session_id: self._random_bytes(16),
            ),
            random_bytes=self._random_bytes,
            now=now,
        )
        preamble = agreement.peer_id.to_bytes(4)
        return NewSession(session, welcome.server_run, PrefixFraming, preamble)


def make_controller(random_bytes: RandomBytes, *, now: float) -> ErasureAwareController:
    """
    The congestion controller of a new modern session.
    """
    return ErasureAwareController(
        datagram_size=BASE_DATAGRAM_SIZE,
        random=lambda: int.from_bytes(random_bytes(6)) / 2**48,
        now=now,
    )
