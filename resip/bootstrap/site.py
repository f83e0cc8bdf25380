"""
HTTP for the session API, and for carriers behind it, with every bound that Twisted's own leaves
open: the size of a body, the life of a connection, how many there are, and what the log learns.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from resip.bootstrap.messages import ErrorCode, error_body
from resip.carriers.http import MAX_POST_SIZE

#: Bytes of the longest request body, which is one of the HTTP carrier.
MAX_BODY_SIZE = MAX_POST_SIZE

#: Seconds without a byte after which a connection ends.
IDLE_TIMEOUT = 30

#: Seconds after which a connection ends whatever it does, so that nobody keeps one by a byte now
#: and then. Far more than the handful of requests that a client sends on one.
MAX_CONNECTION_TIME = 120.0

#: Connections at once; each costs a TLS state of some 50 kB. Those of carriers that have shown an
#: authentic packet are not counted.
MAX_CONNECTIONS = 512

#: Connections at once from one address, except this machine's own: behind a reverse proxy all
#: clients come from there.
MAX_CONNECTIONS_PER_ADDRESS = 64


def bootstrap_factory(resource: IResource, clock: IReactorTime) -> Factory:
    """
    What to listen with, below TLS: serves ``resource`` within the limits of this module.

    :param clock: for the timeouts.
    """
    make_site: Any = _QuietSite
    site = make_site(resource, BoundedRequest, timeout=IDLE_TIMEOUT, reactor=clock)
    return ConnectionLimits(site, clock)


class ConnectionLimits(WrappingFactory[Any]):
    """
    Bounds the number and the life of connections.

    :param wrapped: makes the protocols of those that are let in.
    :param clock: measures their life.
    """

    def __init__(self, wrapped: Any, clock: IReactorTime) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.clock = clock
        self._hosts: Counter[str] = Counter()

    @property
    def connection_count(self) -> int:
        """
        How many connections are served now.
        """
        return self._hosts.total()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        A limited connection; beyond the limits one that closes at once.

        Not ``None``, which the TLS layer around this factory would not understand.
        """
        host = str(getattr(addr, "host", ""))
        is_full = self._hosts.total() >= MAX_CONNECTIONS
        is_own = is_loopback(host)
        if is_full or (self._hosts[host] >= MAX_CONNECTIONS_PER_ADDRESS and not is_own):
            return _Refusal()
        return _LimitedConnection(self, self.wrappedFactory.buildProtocol(addr), host)

    def connection_made(self, host: str) -> None:
        """
        A connection from ``host`` is served from now on.
        """
        self._hosts[host] += 1

    def connection_lost(self, host: str) -> None:
        """
        A connection from ``host`` is gone.
        """
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]


class _LimitedConnection(ProtocolWrapper):
    factory: ConnectionLimits

    def __init__(self, factory: ConnectionLimits, wrapped: Any, host: str) -> None:
        super().__init__(factory, wrapped)
        self._host = host
        self._is_counted = False
        self._deadline: IDelayedCall | None = None

    def admit(self) -> None:
        """
        Count and limit it no longer.
        """
        if self._is_counted:
            self._is_counted = False
            self.factory.connection_lost(self._host)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def upgrade(self, protocol: Any) -> None:
        """
        Have another protocol speak from now on.
        """
        assert self.transport is not None
        self.unregisterProducer()  # type: ignore[no-untyped-call]
        self.wrappedProtocol = protocol
        protocol.makeConnection(self)

    def makeConnection(self, transport: Any) -> None:
        self.factory.connection_made(self._host)
        self._is_counted = True
        self._deadline = self.factory.clock.callLater(
            MAX_CONNECTION_TIME, transport.abortConnection
        )
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.admit()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


def is_loopback(host: str) -> bool:
    """
    Whether an address is this machine's own.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


class _Refusal(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]


class _QuietSite(Site):
    """
    Keeps no access log: an API key may be part of an address.
    """

    def log(self, request: HttpRequest) -> None:
        pass


class BoundedRequest(Request):
    """
    Keeps its body in memory and ends the connection when it is too large, announced or not.
    """

    channel: Any
    content: BytesIO
    _is_refused = False

    def admit(self) -> None:
        """
        Whoever sent this is no stranger: neither count its connection nor limit its life.
        """
        if self.channel is not None:
            self.channel.transport.admit()

    def abort(self) -> None:
        """
        Cut the connection.
        """
        if self.channel is not None:
            self.channel.transport.abortConnection()

    def upgrade(self, protocol: Any) -> None:
        """
        Have the connection speak another protocol from now on. The client must have waited for
        the answer to this request, which is the protocol's to write.
        """
        self.channel.transport.upgrade(protocol)

    def gotLength(self, length: int | None) -> None:
        """
        The headers are there; Twisted calls this.
        """
        self.content = BytesIO()
        if length is not None and length > MAX_BODY_SIZE:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """
        Some of the body is; Twisted calls this.
        """
        if self._is_refused:
            return
        if self.content.tell() + len(data) > MAX_BODY_SIZE:
            self._refuse()
        else:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """
        All of it is; Twisted calls this.
        """
        if not self._is_refused:
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        """
        Without the address.
        """
        return f"<{type(self).__name__}>"  # the inherited one shows the address

    def _refuse(self) -> None:
        # Twisted offers no reply before the body is there, so this one is written by hand.
        self._is_refused = True
        body = error_body(ErrorCode.REQUEST_TOO_LARGE)
        head = (
            "HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.channel.write(head.encode("ascii") + body)
        self.channel.loseConnection()
