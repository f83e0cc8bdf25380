"""
The small values that every part of the core, and everything above it, passes around.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

#: ``random_bytes(n)`` gives n unpredictable bytes; tests pass a seeded one.
RandomBytes = Callable[[int], bytes]


class Protocol(IntEnum):
    """
    What a channel carries, by its IP protocol number.
    """

    #: A stream of bytes.
    TCP = 6
    #: Datagrams, whose boundaries are kept.
    UDP = 17


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where a channel leads, as seen from the server.

    :ivar protocol: stream or datagrams.
    :ivar host: an IPv4 or IPv6 address without brackets, or a host name where the dialect
        can carry one (:attr:`resip.core.session.Session.resolves_names`).
    :ivar port: 1 to 65535.
    """

    protocol: Protocol
    host: str
    port: int

    def __str__(self) -> str:
        """
        ``tcp:host:port``, with brackets around an IPv6 address.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol.name.lower()}:{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Path:
    """
    One way to the peer: a carrier and the peer's address on it.

    :ivar carrier: the carrier's name, unique within a process for its lifetime.
    :ivar address: the peer's host and port, ``None`` where the carrier has only one peer.
    :ivar is_reliable: the carrier loses nothing while it lives, so the session leaves
        pacing and loss detection to it.
    """

    carrier: str
    address: tuple[str, int] | None = None
    is_reliable: bool = False

    def __str__(self) -> str:
        """
        ``udp 192.0.2.1:31266``, for logs.
        """
        if self.address is None:
            return self.carrier
        host, port = self.address
        host = host.removeprefix("::ffff:")  # an IPv4 peer of a socket that takes both
        return f"{self.carrier} {f'[{host}]' if ':' in host else host}:{port}"
