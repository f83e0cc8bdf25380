"""
The TCP carrier: the packets of either dialect, on a connection that may die at any time and is
dialled again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

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

from resip.carriers.framing import PREAMBLE_SIZE, BlockFraming, Framing
from resip.carriers.interfaces import ReceivePackets
from resip.carriers.tcp_control import KernelControl
from resip.carriers.tcp_socket import (
    enlarge_calls,
    find_socket,
    limit_unsent,
    write_at_once,
)
from resip.core.errors import ProtocolError
from resip.core.types import Path

CARRIER_NAME = "tcp"
#: Seconds in which a new connection has to show one authentic packet.
INTRODUCTION_TIMEOUT = 30.0
#: Connections without an authentic packet; the oldest goes when there is one more.
MAX_STRANGERS = 256
#: Bytes of incomplete packets kept for all connections without an authentic packet; who keeps
#: most goes when there are more. A classic one keeps less than a packet, a modern one, which has
#: to know a session's id, up to 64 KiB.
MAX_STRANGER_BYTES = 1 << 20
#: Seconds that the peer has to take what was written before a connection is cut.
CLOSE_TIMEOUT = 2.0
#: Seconds until a lost connection is dialled again: at first, in an outage's first hour, later. One
#: that was of use and lived for longer than the first of them is dialled again at once.
FIRST_REDIAL = 0.1
MAX_REDIAL = 2.0
MAX_LATE_REDIAL = 10.0
#: Redials of at most MAX_REDIAL seconds that fill the first hour.
EARLY_REDIALS = 1800


@implementer(IPushProducer)
class TCPConnection(Protocol):
    """
    One connection: cuts the stream into packets, and takes no more while it has not handed all
    that was written to the kernel.

    :param framing: where packets begin and end; ``None``: the first bytes that arrive decide.
    :ivar path: what the session knows this connection as; ``None`` before it is connected.
    :ivar is_introduced: an authentic packet came this way.
    """

    transport: ITCPTransport

    def __init__(self, carrier: TCPCarrier, framing: Framing | None) -> None:
        self._carrier = carrier
        self._framing = framing
        self._opening = b""
        self._bad_packets = 0
        self.path: Path | None = None
        self.is_introduced = False
        self.is_writable = True
        self._is_direct = False
        self._control: KernelControl | None = None

    @property
    def kept(self) -> int:
        """
        Bytes that arrived and are not yet a packet.
        """
        return len(self._opening) if self._framing is None else self._framing.kept

    def send(self, packets: Sequence[bytes]) -> None:
        """
        Write packets. They are lost while the peer has not shown how it frames its own.
        """
        if self._framing is not None and packets:
            pieces = self._framing.wrap(packets)
            is_with_kernel = write_at_once(self.transport, pieces)
            self.is_writable = self.is_writable and (is_with_kernel or not self._is_direct)
            if self._control is not None:
                self._control.look()

    def connectionMade(self) -> None:
        """
        The connection stands; Twisted calls this.
        """
        self.transport.setTcpNoDelay(True)
        enlarge_calls(self.transport)
        self._is_direct = limit_unsent(self.transport)
        handle = find_socket(self.transport)
        if handle is not None:
            self._control = KernelControl(handle, self._carrier.clock.seconds)
        # A producer that does not stream is told whenever all that it wrote is with the kernel.
        IConsumer(self.transport).registerProducer(self, not self._is_direct)
        peer = self.transport.getPeer()
        self.path = Path(self._carrier.name, (peer.host, peer.port), is_reliable=True)
        if self._carrier.preamble is not None:
            self.transport.write(self._carrier.preamble(self.path))
        self._carrier.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes arrived; Twisted calls this. At most one packet's worth of them is kept.
        """
        if self._carrier.is_closing:
            return
        try:
            packets = self._split(data)
        except ProtocolError:
            self.transport.abortConnection()
            return
        for batch in self._batches(packets):
            if not self._hand_on(batch):
                self.transport.abortConnection()
                return
        if not self.is_introduced:
            self._carrier.limit_stranger_bytes()

    def end(self) -> None:
        """
        Send nothing more behind what was written.
        """
        # A transport does not end what a producer may still write to.
        IConsumer(self.transport).unregisterProducer()
        self.is_writable = False
        self.transport.loseWriteConnection()

    def _split(self, data: bytes) -> list[bytes]:
        if self._framing is None:
            data = self._opening + data
            if len(data) < PREAMBLE_SIZE:
                self._opening = data
                return []
            self._opening = b""
            self._framing = self._carrier.choose_framing(data[:PREAMBLE_SIZE])
            if self._framing.has_preamble:
                data = data[PREAMBLE_SIZE:]
        return self._framing.feed(data)

    def _batches(self, packets: list[bytes]) -> Iterator[list[bytes]]:
        # So many at once that what follows too many bad ones is not looked at.
        while packets:
            assert self._framing is not None, "it cut the packets"
            count = self._framing.max_bad_packets if self.is_introduced else 1
            yield packets[:count]
            packets = packets[count:]

    def _hand_on(self, packets: list[bytes]) -> bool:
        # Says whether what follows may be of use.
        assert self.path is not None, "connectionMade comes first"
        assert self._framing is not None, "it cut the packet"
        if self._carrier.receive(packets, self.path):
            self._bad_packets = 0
            if not self.is_introduced:
                self.is_introduced = True
                self._carrier.introduced(self)
            return True
        self._carrier.unauthentic += len(packets)
        self._bad_packets += len(packets)
        return self.is_introduced and self._bad_packets < self._framing.max_bad_packets

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone; Twisted calls this.
        """
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

    Its framing is said in one of three ways: ``framing``, ``choose_framing`` or ``packet_size``.

    :param receive: told of all packets, answers whether any of those it got is authentic.
    :param framing: makes the framing of each connection.
    :param choose_framing: given the first :data:`~resip.carriers.framing.PREAMBLE_SIZE` bytes of
        a connection, makes its framing; for a listening side that speaks both dialects.
    :param packet_size: short for a ``framing`` of blocks of so many bytes.
    :param preamble: gives what each connection begins with.
    :param on_connected: a connection may be used to send; only a dialling side wants to know.
    :param on_closed: a path is gone.
    :param on_writable: a path that was full takes more.
    :param requires_introduction: close connections that show no authentic packet in time.
    :param name: the carrier's name in its paths; another one when something lies between it and
        TCP.
    :raises ValueError: when the framing is not said in just one way.
    :ivar clock: for delays and times.
    :ivar fruitless: connections in a row that have shown no authentic packet.
    :ivar unauthentic: packets that were not authentic, nor any that came together with them.
    """

    noisy = False

    def __init__(
        self,
        receive: ReceivePackets,
        *,
        clock: IReactorTime,
        on_closed: Callable[[Path], None],
        on_writable: Callable[[Path], None],
        framing: Callable[[], Framing] | None = None,
        choose_framing: Callable[[bytes], Framing] | None = None,
        packet_size: int | None = None,
        preamble: Callable[[Path], bytes] | None = None,
        on_connected: Callable[[Path], None] | None = None,
        requires_introduction: bool = True,
        name: str = CARRIER_NAME,
    ) -> None:
        if [framing, choose_framing, packet_size].count(None) != 2:
            raise ValueError("give one of framing, choose_framing and packet_size")
        if packet_size is not None:
            framing = partial(BlockFraming, packet_size)
        self.receive = receive
        self.name = name
        self.preamble = preamble
        self.on_writable = on_writable
        self.fruitless = 0
        self.unauthentic = 0
        self._connected_time = 0.0
        self._make_framing = framing
        self._choose_framing = choose_framing
        self.clock = clock
        self._on_closed = on_closed
        self._on_connected = on_connected
        self._requires_introduction = requires_introduction
        self._connections: dict[Path, TCPConnection] = {}
        self._strangers: dict[TCPConnection, IDelayedCall] = {}
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

    @property
    def newest_age(self) -> float:
        """
        Seconds since the newest connection stood, which may be gone.
        """
        return self.clock.seconds() - self._connected_time

    def buildProtocol(self, addr: IAddress | None) -> TCPConnection:
        """
        A protocol for a new connection; Twisted calls this.
        """
        return TCPConnection(self, None if self._make_framing is None else self._make_framing())

    def is_writable(self, path: Path) -> bool:
        """
        Whether the connection takes more now.
        """
        connection = self._connections.get(path)
        return connection is not None and connection.is_writable

    def send(self, path: Path, packets: Sequence[bytes]) -> None:
        """
        Send packets on the path's connection.
        """
        connection = self._connections.get(path)
        if connection is not None:
            connection.send(packets)

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
                connection.end()
        if self._connections:
            timeout = self.clock.callLater(CLOSE_TIMEOUT, self.close_all)
            closed.addCallback(lambda _: timeout.cancel() if timeout.active() else None)
        else:
            closed.callback(None)
        return closed

    # What the connections ask and report.

    def choose_framing(self, opening: bytes) -> Framing:
        """
        The framing of a connection that begins with these bytes.
        """
        assert self._choose_framing is not None, "the framing is known from the start"
        return self._choose_framing(opening)

    def limit_stranger_bytes(self) -> None:
        """
        A stranger may keep more than before: see that all keep no more than the limit.
        """
        while sum(stranger.kept for stranger in self._strangers) > MAX_STRANGER_BYTES:
            self._cut_stranger(max(self._strangers, key=lambda stranger: stranger.kept))

    def connected(self, connection: TCPConnection) -> None:
        """
        A connection stands.
        """
        assert connection.path is not None
        if self.is_closing:
            connection.transport.abortConnection()
            return
        self.fruitless += 1
        self._connected_time = self.clock.seconds()
        self._connections[connection.path] = connection
        if self._requires_introduction:
            if len(self._strangers) >= MAX_STRANGERS:
                self._cut_stranger(next(iter(self._strangers)))
            self._strangers[connection] = self.clock.callLater(
                INTRODUCTION_TIMEOUT, connection.transport.abortConnection
            )
        if self._on_connected is not None:
            self._on_connected(connection.path)

    def introduced(self, connection: TCPConnection) -> None:
        """
        A connection has shown an authentic packet.
        """
        self.fruitless = 0
        self._forget_stranger(connection)

    def disconnected(self, connection: TCPConnection) -> None:
        """
        A connection is gone.
        """
        self._forget_stranger(connection)
        path = connection.path
        if path is not None and self._connections.pop(path, None) is not None:
            self._on_closed(path)
        if self._closed is not None and not self._connections and not self._closed.called:
            self._closed.callback(None)

    def _cut_stranger(self, stranger: TCPConnection) -> None:
        # It is forgotten at once: the loss of its connection is told only in a later turn, and
        # many connections may be accepted in this one.
        self._forget_stranger(stranger)
        stranger.transport.abortConnection()

    def _forget_stranger(self, connection: TCPConnection) -> None:
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
        failures = attempts - 1 + carrier.fruitless
        is_of_use = failures == 0 and carrier.newest_age >= FIRST_REDIAL
        return 0.0 if is_of_use else redial_delay(failures)

    return _QuietClientService(endpoint, carrier, retryPolicy=retry_delay, clock=clock)


class _QuietClientService(ClientService):
    # Twisted's own writes a line for every attempt, thousands in an outage of a day. The owner
    # of the session says once that the connection is gone.
    _log = Logger(observer=LogPublisher())
