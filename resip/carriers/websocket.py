"""
WebSocket (RFC 6455) below the stream carrier: what the carrier writes travels in binary messages.

Only the opening and the framing of messages are here, and wsproto does both. The stream inside is
that of TCP without its first bytes, since the session is named in the opening already: so a server
does not even show a stranger that it speaks WebSocket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError
from zope.interface import implementer

from resip.carriers.failures import own_failure
from resip.carriers.tcp import TCPCarrier, TCPConnection
from resip.carriers.tcp_socket import shorten_queue
from resip.carriers.web import CARRIER_PATH, SessionCookie, WebAddress
from resip.core.types import Path

CARRIER_NAME = "websocket"
#: Seconds that the server has to answer the opening.
OPENING_TIMEOUT = 10.0
#: Seconds without a byte from the server after which a client pings; many proxies end what is
#: silent for a minute.
KEEPALIVE_INTERVAL = 45.0
#: Seconds without a byte from the client after which a server takes it for gone.
IDLE_TIMEOUT = 150.0

_OPEN_STATES = (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING)


class WebSocketTransport(ProtocolWrapper):
    """
    Stands between a connection and a protocol that takes it for a plain stream.

    Messages and their fragments are handed on as they come, however long they claim to be; so
    nothing is kept here but the header of a frame, and a control frame's 125 bytes.

    :ivar is_over: nothing more is to be exchanged.
    """

    wrappedProtocol: TCPConnection
    transport: ITCPTransport

    def __init__(
        self, factory: Any, wrapped: Any, websocket: WSConnection, clock: IReactorTime
    ) -> None:
        super().__init__(factory, wrapped)
        self._websocket = websocket
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self.is_over = False

    # What the protocol above calls.

    def write(self, data: bytes) -> None:
        """
        Send bytes of the stream, as one message.
        """
        self._send(BytesMessage(data=data))

    def writeSequence(self, data: Any) -> None:
        """
        Send several pieces as one message.
        """
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        """
        Say that nothing follows; the connection ends when the peer has said so, too.
        """
        self._send(CloseConnection(code=CloseReason.NORMAL_CLOSURE))

    def loseConnection(self) -> None:
        """
        Say that nothing follows, and end the connection behind it.
        """
        self._end(CloseReason.NORMAL_CLOSURE)

    def abortConnection(self) -> None:
        """
        Cut the connection.
        """
        self.is_over = True
        self.transport.abortConnection()

    # What the connection below calls.

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes arrived; Twisted calls this.
        """
        if self.is_over:
            return
        try:
            self._websocket.receive_data(data)
            for event in self._websocket.events():
                self._handle(event)
                if self.is_over:
                    return
        except ProtocolError:
            self._end(CloseReason.PROTOCOL_ERROR)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone; Twisted calls this.
        """
        self.is_over = True
        self._cancel_timer()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    # Inside.

    def _handle(self, event: Event) -> None:
        match event:
            case BytesMessage():
                self.wrappedProtocol.dataReceived(bytes(event.data))
            case TextMessage():
                self._end(CloseReason.UNSUPPORTED_DATA)
            case Ping():
                # Who does not read the answers gets none.
                if self.wrappedProtocol.is_writable:
                    self._send(event.response())
            case CloseConnection():
                self._end(event.code)

    def _send(self, event: Event) -> None:
        if not self.is_over and self._websocket.state in _OPEN_STATES:
            self.transport.write(self._websocket.send(event))

    def _end(self, code: int) -> None:
        self._send(CloseConnection(code=code))
        self.is_over = True
        self.transport.loseConnection()

    def _start_timer(self, seconds: float, function: Callable[[], object]) -> None:
        self._cancel_timer()
        self._timer = self._clock.callLater(seconds, function)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


class ServerWebSocket(WebSocketTransport):
    """
    The server's side: watches for silence, and tells when an authentic packet has come.
    """

    def __init__(
        self, carrier: TCPCarrier, websocket: WSConnection, clock: IReactorTime, admit: Any
    ) -> None:
        super().__init__(WrappingFactory(carrier), carrier.buildProtocol(None), websocket, clock)
        self._admit: Callable[[], None] | None = admit

    def makeConnection(self, transport: Any) -> None:
        """
        Accept the opening; Twisted calls this.
        """
        shorten_queue(transport)
        transport.write(self._websocket.send(AcceptConnection()))
        self._start_timer(IDLE_TIMEOUT, self.abortConnection)
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes arrived; Twisted calls this.
        """
        if self._timer is not None and self._timer.active():
            self._timer.reset(IDLE_TIMEOUT)
        super().dataReceived(data)
        if self._admit is not None and not self.is_over and self.wrappedProtocol.is_introduced:
            self._admit()
            self._admit = None


def accept_websocket(request: Any, carrier: TCPCarrier, clock: IReactorTime) -> bool:
    """
    Make a WebSocket of the connection that ``request`` came by, if it is a correct opening.

    :param request: of a site that can upgrade; see :class:`resip.bootstrap.site.BoundedRequest`.
    """
    websocket = WSConnection(ConnectionType.SERVER)
    headers = [
        (name.lower(), value)
        for name, values in request.requestHeaders.getAllRawHeaders()
        for value in values
    ]
    try:
        websocket.initiate_upgrade_connection(headers, request.path)
        opening = next(iter(websocket.events()), None)
    except Exception:  # of h11 or wsproto: whatever they dislike is no opening
        return False
    if not isinstance(opening, Request):
        return False
    request.upgrade(ServerWebSocket(carrier, websocket, clock, request.admit))
    return True


class ClientWebSocket(WebSocketTransport):
    """
    The client's side: opens, and then connects the protocol above.
    """

    def __init__(
        self,
        factory: Any,
        wrapped: Any,
        clock: IReactorTime,
        address: WebAddress,
        make_id: Callable[[Path], bytes],
    ) -> None:
        super().__init__(factory, wrapped, WSConnection(ConnectionType.CLIENT), clock)
        self._address = address
        self._make_id = make_id
        self._is_open = False
        self.opened: Deferred[Any] = Deferred(lambda _: self.abortConnection())

    def makeConnection(self, transport: Any) -> None:
        """
        Send the opening; Twisted calls this.
        """
        Protocol.makeConnection(self, transport)
        shorten_queue(transport)
        self._start_timer(OPENING_TIMEOUT, self.abortConnection)
        peer = transport.getPeer()
        path = Path(CARRIER_NAME, (peer.host, peer.port), is_reliable=True)
        headers = [(b"Cookie", SessionCookie(self._make_id(path)).encode()), *self._address.headers]
        target = self._address.target(CARRIER_PATH)
        transport.write(
            self._websocket.send(
                Request(host=self._address.authority, target=target, extra_headers=headers)
            )
        )

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes arrived; Twisted calls this.
        """
        if self._is_open and self._timer is not None and self._timer.active():
            self._timer.reset(KEEPALIVE_INTERVAL)
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone; Twisted calls this.
        """
        if self._is_open:
            super().connectionLost(reason)
            return
        self._cancel_timer()
        if not self.opened.called:
            self.opened.errback(own_failure(reason))

    def _handle(self, event: Event) -> None:
        match event:
            case AcceptConnection():
                self._is_open = True
                self._start_timer(KEEPALIVE_INTERVAL, self._keep_alive)
                ProtocolWrapper.makeConnection(self, self.transport)
                self.opened.callback(self.wrappedProtocol)
            case RejectConnection():
                self.is_over = True
                self.transport.abortConnection()
                self.opened.errback(
                    ConnectionRefusedError(f"no WebSocket, but status {event.status_code}")
                )
            case _:
                super()._handle(event)

    def _keep_alive(self) -> None:
        self._start_timer(KEEPALIVE_INTERVAL, self._keep_alive)
        self._send(Ping())


@implementer(IStreamClientEndpoint)
class WebSocketEndpoint:
    """
    Dials a server, or a proxy in front of one, and opens a WebSocket.

    :param dial: makes the endpoint of each connection, TLS included.
    :param make_id: gives the id, 4 bytes, by which the server knows the session of a new path.
    """

    def __init__(
        self,
        dial: Callable[[], IStreamClientEndpoint],
        address: WebAddress,
        *,
        clock: IReactorTime,
        make_id: Callable[[Path], bytes],
    ) -> None:
        self._dial = dial
        self._address = address
        self._clock = clock
        self._make_id = make_id

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """
        Connect; Twisted's services call this.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        def build() -> ClientWebSocket:
            return ClientWebSocket(
                WrappingFactory(factory),
                factory.buildProtocol(None),
                self._clock,
                self._address,
                self._make_id,
            )

        websocket: Any = await self._dial().connect(_ClientFactory(build))
        return await websocket.opened


class _ClientFactory(Factory):
    # Twisted's own gives what it builds another factory than its wrapper's.

    noisy = False

    def __init__(self, build: Callable[[], ClientWebSocket]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> ClientWebSocket:
        return self._build()
