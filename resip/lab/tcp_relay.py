"""
Broken TCP connections for real programs: a proxy that resets them on purpose.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IListeningPort, IProtocol
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from resip.lab.reactor import ILabReactor, IStreamTransport, get_port_number

#: Connections that a relay carries at once; further ones are refused.
MAX_CONNECTIONS = 256


class TCPRelay(Service):
    """
    A TCP proxy that breaks connections: with a reset, which loses what was on its way.

    It reads no faster than it can write, so its memory is bounded by the transports' buffers.

    :ivar is_refusing: reset every new connection at once.
    :ivar byte_limit: reset a connection when it has carried that many bytes, both directions
        together; ``None`` for no limit. Holds for connections that exist, too.
    :ivar accepted: connections carried so far.
    :ivar refused: connections reset before they carried anything.
    :ivar cuts: connections reset on purpose later.
    :ivar carried: bytes, both directions together.

    :param listen: host and port for the clients; port 0 takes a free one, see :attr:`port`.
    :param target: address (not a name) and port of the server.
    :param cut_every: seconds between two cuts of all connections; ``None`` for no such cuts.
    """

    def __init__(
        self,
        reactor: ILabReactor,
        listen: tuple[str, int],
        target: tuple[str, int],
        *,
        cut_every: float | None = None,
        byte_limit: int | None = None,
    ) -> None:
        self.is_refusing = False
        self.byte_limit = byte_limit
        self.accepted = self.refused = self.cuts = self.carried = 0
        endpoint_type = TCP6ClientEndpoint if ":" in target[0] else TCP4ClientEndpoint
        self._endpoint = endpoint_type(reactor, *target)
        self._reactor = reactor
        self._listen = listen
        self._port: IListeningPort | None = None
        self._cut_every = cut_every
        self._cutting = LoopingCall(self.cut)
        self._cutting.clock = reactor
        self._pipes: set[_Pipe] = set()
        self._quiet: Deferred[None] | None = None

    @property
    def port(self) -> int:
        """
        The port on which the relay listens, while it runs.
        """
        return get_port_number(self._port)

    @property
    def connection_count(self) -> int:
        """
        How many connections there are now.
        """
        return len(self._pipes)

    def startService(self) -> None:
        """
        Listen, and start the regular cuts.
        """
        super().startService()  # type: ignore[no-untyped-call]
        host, port = self._listen
        factory = _PipeFactory(self, self._endpoint)
        self._port = self._reactor.listenTCP(port, factory, interface=host)
        if self._cut_every is not None:
            self._cutting.start(self._cut_every, now=False)

    def stopService(self) -> Deferred[object]:
        """
        Stop listening and reset every connection; fires when all are gone.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._cutting.running:
            self._cutting.stop()
        waiting: list[Deferred[None]] = []
        if self._port is not None:
            closing: Deferred[None] | None = self._port.stopListening()
            if closing is not None:
                waiting.append(closing)
            self._port = None
        if self._pipes:
            self._quiet = Deferred()
            waiting.append(self._quiet)
            self._abort_all()
        stopped: Deferred[object] = gatherResults(waiting).addCallback(lambda _: None)
        return stopped

    def cut(self) -> int:
        """
        Reset every connection now, on both sides.

        :return: how many there were.
        """
        count = self._abort_all()
        self.cuts += count
        return count

    def _abort_all(self) -> int:
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.abort()
        return len(pipes)

    def pipe_started(self, pipe: _Pipe) -> bool:
        """
        A client connected; called by the new pipe.

        :return: whether the pipe may go on.
        """
        if self.is_refusing or not self.running or len(self._pipes) >= MAX_CONNECTIONS:
            self.refused += 1
            return False
        self.accepted += 1
        self._pipes.add(pipe)
        return True

    def pipe_carried(self, pipe: _Pipe, count: int) -> None:
        """
        A pipe passed on ``count`` more bytes; called by the pipe.
        """
        self.carried += count
        if self.byte_limit is not None and pipe.carried >= self.byte_limit:
            self.cuts += 1
            pipe.abort()

    def pipe_stopped(self, pipe: _Pipe) -> None:
        """
        Both connections of a pipe are gone; called by the pipe.
        """
        self._pipes.discard(pipe)
        if not self._pipes and self._quiet is not None:
            quiet, self._quiet = self._quiet, None
            quiet.callback(None)


class _PipeFactory(ServerFactory):
    """
    Makes a pipe for each client.
    """

    noisy = False

    def __init__(self, relay: TCPRelay, endpoint: TCP4ClientEndpoint | TCP6ClientEndpoint) -> None:
        self._relay = relay
        self._endpoint = endpoint

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Pipe(self._relay, self._endpoint).near


class _Pipe:
    """
    A client's connection, and the one to the server that belongs to it.

    :ivar near: the client's side.
    :ivar carried: bytes, both directions together.
    """

    _log = Logger()

    def __init__(self, relay: TCPRelay, endpoint: TCP4ClientEndpoint | TCP6ClientEndpoint) -> None:
        self.near = _End(self)
        self.carried = 0
        self._far = _End(self)
        self._relay = relay
        self._endpoint = endpoint
        self._connecting: Deferred[IProtocol] | None = None
        self._is_aborted = False

    def end_connected(self, end: _End) -> None:
        """
        The client is connected, and later the server.
        """
        if end is self._far:
            return
        if not self._relay.pipe_started(self):
            end.transport.abortConnection()
            return
        end.transport.pauseProducing()
        self._connecting = connectProtocol(self._endpoint, self._far)
        self._connecting.addCallbacks(self._connected, self._failed)

    def _connected(self, _: object) -> None:
        self._connecting = None
        near, far = self.near.transport, self._far.transport
        near.registerProducer(far, True)
        far.registerProducer(near, True)
        near.resumeProducing()

    def _failed(self, failure: Failure) -> None:
        self._connecting = None
        if not self._is_aborted:
            self._log.info("cannot connect to the target: {reason}", reason=failure.value)
        self.abort()

    def data_received(self, end: _End, data: bytes) -> None:
        """
        Bytes from one end go to the other.
        """
        self._get_peer(end).transport.write(data)
        self.carried += len(data)
        self._relay.pipe_carried(self, len(data))

    def read_ended(self, end: _End) -> None:
        """
        One end sends no more, and the other is told.
        """
        peer = self._get_peer(end)
        peer.transport.unregisterProducer()
        peer.transport.loseWriteConnection()
        if peer.has_ended:
            # Nothing is left but to write what waits; the other connection follows.
            peer.transport.loseConnection()

    def end_lost(self, end: _End, reason: Failure) -> None:
        """
        One connection is gone, and the other goes the same way.
        """
        if self._connecting is not None or reason.check(ConnectionDone) is None:
            self.abort()
        peer = self._get_peer(end)
        if peer.is_connected:
            peer.transport.unregisterProducer()
            peer.transport.loseConnection()
        self._stop_if_gone()

    def abort(self) -> None:
        """
        Reset both connections.
        """
        self._is_aborted = True
        if self._connecting is not None:
            self._connecting.cancel()
        for end in (self.near, self._far):
            if end.is_connected:
                end.transport.abortConnection()

    def _stop_if_gone(self) -> None:
        if not (self.near.is_connected or self._far.is_connected):
            self._relay.pipe_stopped(self)

    def _get_peer(self, end: _End) -> _End:
        return self._far if end is self.near else self.near


@implementer(IHalfCloseableProtocol)
class _End(Protocol):
    """
    One of the two connections of a pipe.
    """

    transport: IStreamTransport

    def __init__(self, pipe: _Pipe) -> None:
        self.is_connected = False
        self.has_ended = False
        self._pipe = pipe

    def connectionMade(self) -> None:
        self.is_connected = True
        self._pipe.end_connected(self)

    def dataReceived(self, data: bytes) -> None:
        self._pipe.data_received(self, data)

    def readConnectionLost(self) -> None:
        self.has_ended = True
        self._pipe.read_ended(self)

    def writeConnectionLost(self) -> None:
        """
        Nothing to do: the other end was the cause.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_connected = False
        self._pipe.end_lost(self, reason)
