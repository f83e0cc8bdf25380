"""
The way from a sender to a receiver whose public key it knows: a handshake in packets, and the
session that follows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import Deferred

from resip.bootstrap.handshake import OutgoingHandshake
from resip.carriers.channels import ChannelUser
from resip.carriers.driver import SessionDriver
from resip.carriers.framing import PrefixFraming
from resip.core.modern.noise import HandshakeError
from resip.core.types import Path, RandomBytes
from resip.direct.errors import KeyFileError
from resip.direct.messages import TARGET
from resip.services.clock import Clocks
from resip.services.hello import Agreed, PacketHandshake
from resip.services.link_kinds import Destination, LinkKind, link_kinds_for
from resip.services.selection import CarrierSelection
from resip.services.starters import make_client_session
from resip.tunnel.hosts import host_and_port, parse_host

CARRIERS = ("udp", "tcp")
_ADDRESS = re.compile(r"(udp|tcp):(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where a receiver is.

    :ivar carrier: ``udp`` or ``tcp``.
    """

    carrier: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """
        Read ``udp:host:port``, with brackets around an IPv6 address.

        :raises ValueError: for anything else; the message says what is wrong.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None or not 1 <= int(match[4]) <= 65535:
            raise ValueError(
                f"{text!r} is not an address: write udp:host:port or tcp:host:port, and an IPv6 "
                "address in brackets"
            )
        return cls(match[1], parse_host(match[2] or match[3]), int(match[4]))

    def __str__(self) -> str:
        return f"{self.carrier}:{host_and_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class Peer:
    """
    Whom to reach, and as whom.
    """

    address: Address
    static_key: X25519PrivateKey
    public_key: bytes


class DirectLine:
    """
    One session with a receiver.

    :param on_lost: told why when the receiver has ended or forgotten the session.
    :param on_doubt: told when it owes an answer for long, or the connection is gone.
    """

    def __init__(
        self,
        reactor: Any,
        peer: Peer,
        agreed: Agreed,
        *,
        clocks: Clocks,
        random_bytes: RandomBytes,
        on_lost: Callable[[str], None],
        on_doubt: Callable[[], None],
    ) -> None:
        agreement, welcome = agreed
        self.receiver_run = welcome.server_run
        self._clocks = clocks
        self._on_doubt = on_doubt
        kinds = _kinds(peer)
        self._selection = CarrierSelection(kinds, _destination(reactor, peer), now=clocks.monotonic)
        self._driver = SessionDriver(
            make_client_session(agreement, clocks=clocks, random_bytes=random_bytes),
            self._selection.carriers,
            clock=reactor,
            now=clocks.monotonic,
            on_path=self._path_changed,
            on_silence=self._silent,
            on_path_answer=self._selection.path_answered,
            on_path_silence=self._selection.path_silent,
            on_lost=on_lost,
        )

    @property
    def last_received_time(self) -> float:
        """
        When the receiver showed life, monotonic seconds.
        """
        return self._driver.session.last_received_time

    def start(self, user: ChannelUser) -> Any:
        """
        Open the channel of a transfer.
        """
        self._selection.start(self._driver)
        return self._driver.open_channel(TARGET, user)

    def stop(self) -> Deferred[None]:
        """
        End the session; fires when every socket is closed.
        """
        self._driver.stop()
        return self._selection.stop()

    def _path_changed(self, path: Path | None) -> None:
        if path is None:
            self._on_doubt()

    def _silent(self, seconds: float) -> None:
        self._selection.renew()
        self._on_doubt()


def make_handshake(
    reactor: Any, peer: Peer, *, clocks: Clocks, random_bytes: RandomBytes
) -> PacketHandshake:
    """
    A handshake with a receiver, to be started.

    :raises KeyFileError: when its public key cannot be one.
    """
    try:
        handshake = OutgoingHandshake(
            peer.static_key,
            peer.public_key,
            random_bytes=random_bytes,
            wall_clock=clocks.wall,
        )
    except HandshakeError:  # a point of low order
        raise KeyFileError(
            "the peer's public key cannot be one: ask the peer for it again"
        ) from None
    links = [kind.make(_destination(reactor, peer)) for kind in _kinds(peer)]
    return PacketHandshake(reactor, handshake, peer.public_key, links, random_bytes=random_bytes)


def _kinds(peer: Peer) -> tuple[LinkKind, ...]:
    return link_kinds_for(peer.address.carrier, can_probe=True, has_https=False)


def _destination(reactor: Any, peer: Peer) -> Destination:
    return Destination(reactor, peer.address.host, peer.address.port, PrefixFraming)
