"""
Requests and responses of the HTTP carrier's client: h11 writes and reads them.
"""

from __future__ import annotations

from collections.abc import Callable

import h11
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from resip.carriers.tcp_socket import shorten_queue


class Exchange:
    """
    One request and its response; subclasses say what becomes of the latter.
    """

    def __init__(self, request: h11.Request, body: bytes = b"") -> None:
        self.request = request
        self.body = body

    def answered(self, connection: HTTPConnection, status: int) -> None:
        """
        The head of the response is here.
        """

    def received(self, data: bytes) -> None:
        """
        Some of its body is.
        """

    def ended(self) -> None:
        """
        All of it is.
        """

    def failed(self) -> None:
        """
        The rest will not come.
        """


class HTTPConnection(Protocol):
    """
    One connection to a server or a proxy, which takes one request after the other.

    :param on_idle: called when it may take another. :param on_lost: called when it is gone.
    """

    transport: ITCPTransport

    def __init__(
        self,
        on_idle: Callable[[HTTPConnection], None],
        on_lost: Callable[[HTTPConnection], None],
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._http = h11.Connection(h11.CLIENT)
        self._exchange: Exchange | None = None

    def connectionMade(self) -> None:
        """
        The connection stands; Twisted calls this.
        """
        self.transport.setTcpNoDelay(True)
        shorten_queue(self.transport)

    def ask(self, exchange: Exchange) -> None:
        """
        Send a request. The connection must be idle.
        """
        self._exchange = exchange
        pieces = [self._http.send(exchange.request)]
        if exchange.body:
            pieces.append(self._http.send(h11.Data(data=exchange.body)))
        pieces.append(self._http.send(h11.EndOfMessage()))
        self.transport.write(b"".join(filter(None, pieces)))

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes arrived; Twisted calls this.
        """
        try:
            self._http.receive_data(data)
            while self._exchange is not None and self._handle(self._exchange):
                pass
        except h11.RemoteProtocolError:
            self.transport.abortConnection()

    def pause(self) -> None:
        """
        Read no more.
        """
        IPushProducer(self.transport).pauseProducing()

    def resume(self) -> None:
        """
        Read again.
        """
        IPushProducer(self.transport).resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone; Twisted calls this.
        """
        if reason.check(ConnectionDone) is not None:
            self.dataReceived(b"")  # which ends a response of unknown length
        exchange, self._exchange = self._exchange, None
        self._on_lost(self)
        if exchange is not None:
            exchange.failed()

    def _handle(self, exchange: Exchange) -> bool:
        event = self._http.next_event()
        match event:
            case h11.Response():
                exchange.answered(self, event.status_code)
            case h11.Data():
                exchange.received(bytes(event.data))
            case h11.EndOfMessage():
                self._exchange = None
                if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
                    self._on_idle(self)
                else:
                    self.transport.loseConnection()
                exchange.ended()
            case h11.InformationalResponse():
                pass
            case _:
                return False
        return True
