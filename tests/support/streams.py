"""
Stream connections in memory: bytes travel when the test says so, and every connection can be cut,
slowed down, or made to look as if something stood in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IConsumer,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

CLIENT_HOST, SERVER_HOST = "192.0.2.7", "192.0.2.1"
#: Bytes that a connection takes before it asks its writer to pause.
BUFFER_SIZE = 64 * 1024


@implementer(ITransport, IConsumer, IPushProducer)
class StreamEnd:
    """
    One end of a connection.

    :ivar written: everything that was ever written here.
    """

    disconnecting = False

    def __init__(self, host: IPv4Address, peer: IPv4Address) -> None:
        self._host = host
        self._peer = peer
        self._outgoing = bytearray()
        self._producer: Any = None
        self._is_paused = False
        self._is_told_to_pause = False
        self.protocol: Any = None
        self.other: StreamEnd
        self.written = bytearray()
        self.is_lost = False
        self.is_closing = False
        self.is_aborted = False
        #: Bytes that may leave; ``None`` for all.
        self.allowance: int | None = None
        #: What becomes of bytes on their way.
        self.filter: Callable[[bytes], bytes] = lambda data: data

    # What protocols call.

    def write(self, data: bytes) -> None:
        """
        Take bytes.
        """
        if self.is_closing or self.is_aborted or self.is_lost:
            return
        self.written += data
        self._outgoing += data
        self._tell_producer()

    def writeSequence(self, data: Any) -> None:
        """
        Take several pieces.
        """
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """
        End behind what was written.
        """
        self.is_closing = self.disconnecting = True

    def loseWriteConnection(self) -> None:
        """
        The same: these connections have no half.
        """
        self.loseConnection()

    def abortConnection(self) -> None:
        """
        End now.
        """
        self.is_aborted = self.disconnecting = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Whom to tell of pressure.
        """
        assert self._producer is None, "there is one already"
        self._producer = producer
        self._is_told_to_pause = False

    def unregisterProducer(self) -> None:
        """
        Whom to tell no longer.
        """
        self._producer = None

    def pauseProducing(self) -> None:
        """
        Deliver nothing for a while.
        """
        self._is_paused = True

    def resumeProducing(self) -> None:
        """
        Deliver again.
        """
        self._is_paused = False

    def stopProducing(self) -> None:
        """
        End.
        """
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Nothing is delayed.
        """

    def getPeer(self) -> IPv4Address:
        """
        The other end's address.
        """
        return self._peer

    def getHost(self) -> IPv4Address:
        """
        The address of this end.
        """
        return self._host

    # What the network does.

    def move(self) -> bool:
        """
        Carry what was written to the other end; says whether anything happened.
        """
        if self.is_lost or self.other.is_lost:
            return False
        if self.is_aborted:
            self.lose(ConnectionLost())
            return True
        count = len(self._outgoing) if self.allowance is None else self.allowance
        data = bytes(self._outgoing[:count]) if not self.other._is_paused else b""
        if data:
            del self._outgoing[: len(data)]
            if self.allowance is not None:
                self.allowance -= len(data)
            self._tell_producer()
            if passed := self.filter(data):
                self.other.protocol.dataReceived(passed)
            return True
        if self.is_closing and not self._outgoing:
            self.lose(ConnectionDone())
            return True
        return False

    def lose(self, reason: Exception) -> None:
        """
        Tell both ends that the connection is gone.
        """
        for end in (self, self.other):
            if not end.is_lost:
                end.is_lost = True
                end.protocol.connectionLost(Failure(reason))

    def _tell_producer(self) -> None:
        is_full = len(self._outgoing) > BUFFER_SIZE
        if self._producer is None or is_full == self._is_told_to_pause:
            return
        self._is_told_to_pause = is_full
        if is_full:
            self._producer.pauseProducing()
        else:
            self._producer.resumeProducing()


@implementer(IStreamClientEndpoint)
class StreamNetwork:
    """
    An endpoint whose connections lead to one server's factory, all in memory.

    :ivar connections: the clients' ends of all that were ever made.
    :ivar is_refusing: refuse new ones.
    :ivar client_host: where the next ones come from.
    :ivar prepare: called with the client's end of each new one, before it is used.
    """

    def __init__(self, clock: Clock, factory: Any) -> None:
        self._clock = clock
        self._factory = factory
        self.connections: list[StreamEnd] = []
        self.is_refusing = False
        self.client_host = CLIENT_HOST
        self.prepare: Callable[[StreamEnd], None] = lambda end: None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """
        A new connection.
        """
        if self.is_refusing:
            return fail(ConnectionRefusedError())
        client_address = IPv4Address("TCP", self.client_host, 40_000 + len(self.connections))
        server_address = IPv4Address("TCP", SERVER_HOST, 443)
        client = StreamEnd(client_address, server_address)
        server = StreamEnd(server_address, client_address)
        client.other, server.other = server, client
        client.protocol = protocolFactory.buildProtocol(server_address)
        server.protocol = self._factory.buildProtocol(client_address)
        self.connections.append(client)
        self.prepare(client)
        server.protocol.makeConnection(server)
        client.protocol.makeConnection(client)
        return succeed(client.protocol)

    @property
    def open_connections(self) -> list[StreamEnd]:
        """
        Those that are not gone.
        """
        return [end for end in self.connections if not end.is_lost]

    def settle(self) -> None:
        """
        Move bytes until nothing moves any more; time stands still.
        """
        for _ in range(100_000):
            self._clock.advance(0)
            if not any([end.move() | end.other.move() for end in self.open_connections]):
                self._clock.advance(0)
                if not any(end.move() | end.other.move() for end in self.open_connections):
                    return
        raise AssertionError("it goes on for ever")

    def pass_time(self, seconds: float, *, step: float = 0.5) -> None:
        """
        Let time pass, and bytes move meanwhile.
        """
        for _ in range(round(seconds / step)):
            self._clock.advance(step)
            self.settle()
