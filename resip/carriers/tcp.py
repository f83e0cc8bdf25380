"""
The TCP carrier of the classic dialect: packets of one size, back to back, on a connection that
may die at any time and is dialled again.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from resip.carriers.interfaces import ReceivePacket
from resip.core.types import Path

CARRIER_NAME = "tcp"
#: Seconds in which a new connection has to show one authentic packet.
INTRODUCTION_TIMEOUT = 30.0
#: Connections without an authentic packet; the oldest goes when there is one more.
MAX_STRANGERS = 256
#: Seconds that the peer has to take what was written before a connection is cut.
CLOSE_TIMEOUT = 2.0
#: Seconds until a lost connection is dialled again: at first, in an outage's first hour, later.
FIRST_REDIAL = 0.1
MAX_REDIAL = 2.0
MAX_LATE_REDIAL = 10.0
#: Redials of at most MAX_REDIAL seconds that fill the first hour.
EARLY_REDIALS = 1800


@implementer(IPushProducer)
class BlockProtocol(Protocol):
    """
    One connection: cuts the stream into packets, and stops writing while it is full.

    :ivar path: what the session knows this connection as; ``None`` before it is connected.
    :ivar is_introduced: an authentic packet came this way.
    """

    transport: ITCPTransport

    def __init__(self, carrier: TCPCarrier) -> None:
        self._carrier = carrier
        self._buffer = b""
        self.path: Path | None = None
        self.is_introduced = False
        self.is_writable = True

    def connectionMade(self) -> None:
        """
        The connection stands; Twisted calls this.
        """
        self.transport.setTcpNoDelay(True)
        IConsumer(self.transport).registerProducer(self, True)
        peer = self.transport.getPeer()
        self.path = Path(CARRIER_NAME, (peer.host, peer.port), is_reliable=True)
        self._carrier.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes arrived; Twisted calls this. At most one packet's worth of them is kept.
        """
        if self._carrier.is_closing:
            return
        size = self._carrier.packet_size
        path = self.path
        assert path is not None, "connectionMade comes first"
        data = self._buffer + data
        end = len(data) - len(data) % size
        self._buffer = data[end:]
        for start in range(0, end, size):
            if not self._carrier.receive(data[start : start + size], path):
                # Once one block is not a packet of ours, no later one is.
                self.transport.abortConnection()
                return
            if not self.is_introduced:
                self.is_introduced = True
                self._carrier.introduced(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone; Twisted calls this.
        """
        self._buffer = b""
        self.is_writable = False
        self._carrier.disconnected(self)

    def pauseProducing(self) -> None:
        """
        The connection is full.
        """
        self.is_writable = False

    def resumeProducing(self) -> None:
        """
        The connection takes more.
        """
        self.is_writable = True
        if self.path is not None:
            self._carrier.on_writable(self.path)

    def stopProducing(self) -> None:
        """
        The connection is going down.
        """
        self.is_writable = False


class TCPCarrier(Factory):
    """
    All TCP connections of one side, listening or dialling.

    :param receive: told of every packet, answers whether it was authentic.
    :param packet_size: bytes of every packet.
    :param on_connected: a connection may be used to send; only a dialling side wants to know.
    :param on_closed: a path is gone.
    :param on_writable: a path that was full takes more.
    :param requires_introduction: close connections that show no authentic packet in time.
    :ivar fruitless: connections in a row that have shown no authentic packet.
    """

    noisy = False

    def __init__(
        self,
        receive: ReceivePacket,
        *,
        packet_size: int,
        clock: IReactorTime,
        on_closed: Callable[[Path], None],
        on_writable: Callable[[Path], None],
        on_connected: Callable[[Path], None] | None = None,
        requires_introduction: bool = True,
    ) -> None:
        self.receive = receive
        self.packet_size = packet_size
        self.on_writable = on_writable
        self.fruitless = 0
        self._clock = clock
        self._on_closed = on_closed
        self._on_connected = on_connected
        self._requires_introduction = requires_introduction
        self._connections: dict[Path, BlockProtocol] = {}
        self._strangers: dict[BlockProtocol, IDelayedCall] = {}
        self._closed: Deferred[None] | None = None

    @property
    def is_closing(self) -> bool:
        """
        Whether :meth:`shut_down` was called.
        """
        return self._closed is not None

    @property
    def connection_count(self) -> int:
        """
        How many connections there are, strangers included.
        """
        return len(self._connections)

    def buildProtocol(self, addr: IAddress | None) -> BlockProtocol:
        """
        A protocol for a new connection; Twisted calls this.
        """
        return BlockProtocol(self)

    def is_writable(self, path: Path) -> bool:
        """
        Whether the connection takes more now.
        """
        connection = self._connections.get(path)
        return connection is not None and connection.is_writable

    def send(self, path: Path, packets: list[bytes]) -> None:
        """
        Send packets on the path's connection.
        """
        connection = self._connections.get(path)
        if connection is not None:
            connection.transport.write(b"".join(packets))

    def close(self, path: Path) -> None:
        """
        Cut the path's connection, for instance because its peer does not answer any more.
        """
        connection = self._connections.get(path)
        if connection is not None:
            connection.transport.abortConnection()

    def close_all(self) -> None:
        """
        Cut every connection.
        """
        for path in list(self._connections):
            self.close(path)

    def shut_down(self) -> Deferred[None]:
        """
        End every connection behind what was written, and wait for the peers to end theirs, at
        most :data:`CLOSE_TIMEOUT`; fires when all are gone.

        A connection that is closed with something unread is reset, and a reset may overtake
        what was written: so this side goes on reading, and throws it away.
        """
        closed = self._closed = Deferred()
        for connection in list(self._connections.values()):
            if connection in self._strangers:
                connection.transport.abortConnection()
            else:
                connection.transport.loseWriteConnection()
        if self._connections:
            timeout = self._clock.callLater(CLOSE_TIMEOUT, self.close_all)
            closed.addCallback(lambda _: timeout.cancel() if timeout.active() else None)
        else:
            closed.callback(None)
        return closed

    # What the connections report.

    def connected(self, connection: BlockProtocol) -> None:
        """
        A connection stands.
        """
        assert connection.path is not None
        if self.is_closing:
            connection.transport.abortConnection()
            return
        self.fruitless += 1
        self._connections[connection.path] = connection
        if self._requires_introduction:
            if len(self._strangers) >= MAX_STRANGERS:
                self._cut_oldest_stranger()
            self._strangers[connection] = self._clock.callLater(
                INTRODUCTION_TIMEOUT, connection.transport.abortConnection
            )
        if self._on_connected is not None:
            self._on_connected(connection.path)

    def introduced(self, connection: BlockProtocol) -> None:
        """
        A connection has shown an authentic packet.
        """
        self.fruitless = 0
        self._forget_stranger(connection)

    def disconnected(self, connection: BlockProtocol) -> None:
        """
        A connection is gone.
        """
        self._forget_stranger(connection)
        path = connection.path
        if path is not None and self._connections.pop(path, None) is not None:
            self._on_closed(path)
        if self._closed is not None and not self._connections and not self._closed.called:
            self._closed.callback(None)

    def _cut_oldest_stranger(self) -> None:
        # It is forgotten at once: the loss of its connection is told only in a later turn, and
        # many connections may be accepted in this one.
        oldest = next(iter(self._strangers))
        self._forget_stranger(oldest)
        oldest.transport.abortConnection()

    def _forget_stranger(self, connection: BlockProtocol) -> None:
        timeout = self._strangers.pop(connection, None)
        if timeout is not None and timeout.active():
            timeout.cancel()


def redial_delay(failures: int) -> float:
    """
    Seconds to wait before dialling again.

    :param failures: attempts that failed in a row, 0 after a connection that was of use.
    """
    if failures > EARLY_REDIALS:
        return MAX_LATE_REDIAL
    return min(FIRST_REDIAL * 2.0 ** min(failures, 10), MAX_REDIAL)


def redialling_service(
    endpoint: IStreamClientEndpoint, carrier: TCPCarrier, clock: IReactorTime
) -> ClientService:
    """
    A service that keeps one connection of ``carrier`` to ``endpoint``, for as long as it runs.

    A server that has forgotten the session accepts connections and cuts them: these count as
    failed, so that it is not dialled ever again without a pause.
    """

    def retry_delay(attempts: int) -> float:
        return redial_delay(attempts - 1 + carrier.fruitless)

    return _QuietClientService(endpoint, carrier, retryPolicy=retry_delay, clock=clock)


class _QuietClientService(ClientService):
    # Twisted's own writes a line for every attempt, thousands in an outage of a day. The owner
    # of the session says once that the connection is gone.
    _log = Logger(observer=LogPublisher())
