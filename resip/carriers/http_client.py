"""
The client's side of the HTTP carrier: a link's requests, on as many connections as they need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from resip.carriers.http import (
    CARRIER_NAME,
    CONTENT_TYPE,
    MAX_GETS,
    NUMBER_SIZE,
    HTTPTransport,
    numbered,
)
from resip.carriers.http_exchange import Exchange, HTTPConnection
from resip.carriers.http_window import UploadWindow
from resip.carriers.web import CARRIER_PATH, TOKEN_SIZE, SessionCookie, WebAddress
from resip.core.types import Path, RandomBytes

#: GETs that are kept open where responses come as they are written.
STREAMING_GETS = 2
#: Seconds in which the first bytes of the first response must come, or something on the way
#: collects responses: then the client asks for short ones.
STREAMING_TEST = 3.0
#: Seconds in which a link with short responses must stand.
OPENING_TIMEOUT = 10.0
#: Seconds for which an idle connection is used again; a server closes it after 30.
MAX_IDLE_TIME = 15.0


class _Download(Exchange):
    # A GET: its response's bytes wait in the connection until all earlier ones have come.

    def __init__(self, link: HTTPClientLink, request: h11.Request) -> None:
        super().__init__(request)
        self._link = link
        self._connection: HTTPConnection | None = None
        self._opening = b""
        self.number: int | None = None
        self.is_ended = False
        self._waiting = bytearray()
        self._is_paused = False

    def answered(self, connection: HTTPConnection, status: int) -> None:
        if status == 200:
            self._connection = connection
        else:
            self._link.refused(status)

    def received(self, data: bytes) -> None:
        if self.number is None:
            self._opening += data
            if len(self._opening) < NUMBER_SIZE:
                return
            self.number = int.from_bytes(self._opening[:NUMBER_SIZE])
            data = self._opening[NUMBER_SIZE:]
        self._waiting += data
        self._link.downloaded(self)
        if self._waiting and not self._is_paused and self._connection is not None:
            self._is_paused = True
            self._connection.pause()

    def take(self) -> bytes:
        data = bytes(self._waiting)
        self._waiting.clear()
        if self._is_paused and self._connection is not None:
            self._is_paused = False
            self._connection.resume()
        return data

    def ended(self) -> None:
        self.is_ended = True
        self._link.download_ended(self)

    def failed(self) -> None:
        self._link.abortConnection()


class _Upload(Exchange):
    # A POST.

    def __init__(
        self, link: HTTPClientLink, request: h11.Request, number: int, body: bytes, *, now: float
    ) -> None:
        super().__init__(request, body)
        self._link = link
        self._number = number
        self._status = 0
        self._start = now

    def answered(self, connection: HTTPConnection, status: int) -> None:
        self._status = status

    def ended(self) -> None:
        if 200 <= self._status < 300:
            self._link.uploaded(self._number, len(self.body), since=self._start)
        else:
            self._link.refused(self._status)

    def failed(self) -> None:
        self._link.abortConnection()


class HTTPClientLink(HTTPTransport):
    """
    One link to the server.

    :param dial: makes the endpoint of each connection, TLS included.
    :param cookie: names session and link.
    :ivar opened: fires when the first response has begun, fails when the link is over before.
    """

    def __init__(
        self,
        dial: Callable[[], IStreamClientEndpoint],
        address: WebAddress,
        cookie: SessionCookie,
        *,
        clock: IReactorTime,
        peer: tuple[str, int],
    ) -> None:
        super().__init__(clock, peer)
        self._dial = dial
        self._address = address
        self._cookie = cookie
        self._connections: set[HTTPConnection] = set()
        self._idle: dict[HTTPConnection, IDelayedCall] = {}
        self._dialling: set[Deferred[Any]] = set()
        self._downloads: set[_Download] = set()
        self._next_download = 0
        self._next_upload = 0
        #: Numbers of the POSTs that are not answered.
        self._uploads: set[int] = set()
        self._window = UploadWindow()
        self._problem = Failure(ConnectionRefusedError("the link was given up"))
        self.opened: Deferred[None] = Deferred(lambda _: self.abortConnection())

    def open(self) -> None:
        """
        Send the first requests.
        """
        for _ in range(MAX_GETS if self._cookie.is_short else STREAMING_GETS):
            self._download()

    # What the exchanges report.

    def refused(self, status: int) -> None:
        """
        Server or proxy answered with an error.
        """
        self._problem = Failure(ConnectionRefusedError(f"status {status}"))
        self.abortConnection()

    def downloaded(self, download: _Download) -> None:
        """
        Bytes of a response arrived; hand on what is in order.
        """
        if download.number == self._next_download:
            if not self.opened.called:
                self.opened.callback(None)
            if self._stream is not None:
                self._deliver(download.take())

    def download_ended(self, download: _Download) -> None:
        """
        A response is whole; ask for another.
        """
        if download.number is None:
            self._downloads.discard(download)
        self._hand_on()
        if not self._is_over and not self._is_ending:
            self._download()

    def uploaded(self, number: int, size: int, *, since: float) -> None:
        """
        A POST of so many bytes was taken.
        """
        self._uploads.remove(number)
        self._window.on_taken(size, seconds=self._clock.seconds() - since)
        self._flush()

    # Called by what both sides have in common.

    def start(self, stream: Any) -> None:
        """
        Connect the protocol that the stream is for, and hand on what has come for it.
        """
        super().start(stream)
        self._hand_on()

    def _flush(self) -> None:
        window = self._window
        while window.allows(len(self._unsent), posts=self._span) and not self._is_over:
            data = bytes(self._unsent[: window.post_size - NUMBER_SIZE])
            del self._unsent[: len(data)]
            self._upload(data)
        if self._is_ending and not self._unsent and not self._uploads:
            self._end()
        else:
            self._set_full(len(self._unsent) >= window.post_size // 2)

    def _give_up(self) -> None:
        for dialling in list(self._dialling):
            dialling.cancel()
        for timer in self._idle.values():
            timer.cancel()
        self._idle.clear()
        self._downloads.clear()
        for connection in self._connections:
            connection.transport.abortConnection()

    def _tell_loss(self) -> None:
        if self._connections:
            return  # the last of them calls again
        if not self.opened.called:
            self.opened.errback(self._problem)
        super()._tell_loss()

    # Inside.

    @property
    def _span(self) -> int:
        # The server keeps no body that is MAX_POSTS ahead of one that it lacks, even when those
        # in between were answered.
        return self._next_upload - min(self._uploads, default=self._next_upload)

    def _hand_on(self) -> None:
        # In order: all of a response that has ended, then the beginning of the next.
        if self._stream is None:
            return
        while not self._is_over:
            number = self._next_download
            download = next((each for each in self._downloads if each.number == number), None)
            if download is None:
                return
            self._deliver(download.take())
            if not download.is_ended:
                return
            self._downloads.discard(download)
            self._next_download += 1

    def _download(self) -> None:
        download = _Download(self, self._request(b"GET"))
        self._downloads.add(download)
        self._ask(download)

    def _upload(self, data: bytes) -> None:
        number = self._next_upload
        body = numbered(number, data)
        self._next_upload += 1
        self._uploads.add(number)
        self._window.on_sent(len(body))
        headers = [(b"Content-Type", CONTENT_TYPE), (b"Content-Length", b"%d" % len(body))]
        request = self._request(b"POST", *headers)
        self._ask(_Upload(self, request, number, body, now=self._clock.seconds()))

    def _request(self, method: bytes, *headers: tuple[bytes, bytes]) -> h11.Request:
        return h11.Request(
            method=method,
            target=self._address.target(CARRIER_PATH),
            headers=[
                (b"Host", self._address.authority.encode("ascii")),
                (b"Cookie", self._cookie.encode()),
                (b"Cache-Control", b"no-store"),
                *headers,
                *self._address.headers,
            ],
        )

    def _ask(self, exchange: Exchange) -> None:
        if self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            connection.ask(exchange)
            return
        dialling: Deferred[Any] = self._dial().connect(
            Factory.forProtocol(lambda: HTTPConnection(self._connection_idle, self._forget))
        )
        self._dialling.add(dialling)
        dialling.addBoth(self._dialled, dialling, exchange)

    def _dialled(
        self, result: HTTPConnection | Failure, dialling: Deferred[Any], exchange: Exchange
    ) -> None:
        self._dialling.discard(dialling)
        if isinstance(result, Failure):
            if result.check(CancelledError) is None:
                self._problem = result
            self.abortConnection()
        elif self._is_over:
            result.transport.abortConnection()
        else:
            self._connections.add(result)
            result.ask(exchange)

    def _connection_idle(self, connection: HTTPConnection) -> None:
        if not self._is_over:
            self._idle[connection] = self._clock.callLater(MAX_IDLE_TIME, self._retire, connection)

    def _retire(self, connection: HTTPConnection) -> None:
        del self._idle[connection]  # closing takes its time, and nothing may be asked meanwhile
        connection.transport.loseConnection()

    def _forget(self, connection: HTTPConnection) -> None:
        timer = self._idle.pop(connection, None)
        if timer is not None and timer.active():
            timer.cancel()
        self._connections.discard(connection)
        if self._is_over:
            self._tell_loss()


@implementer(IStreamClientEndpoint)
class HTTPEndpoint:
    """
    Opens links: with responses that stream, or with short ones where something on the way does
    not let the first through as they come.

    :param dial: makes the endpoint of each connection, TLS included where there is any.
    :param peer: host and port of the server; what the carrier's paths show.
    :param make_id: gives the id, 4 bytes, by which the server knows the session of a new path.
    :param name: of the carrier.
    """

    def __init__(
        self,
        dial: Callable[[], IStreamClientEndpoint],
        address: WebAddress,
        *,
        peer: tuple[str, int],
        clock: IReactorTime,
        random_bytes: RandomBytes,
        make_id: Callable[[Path], bytes],
        name: str = CARRIER_NAME,
    ) -> None:
        self._dial = dial
        self._address = address
        self._peer = peer
        self._clock = clock
        self._random_bytes = random_bytes
        self._make_id = make_id
        self._name = name
        self._is_short = False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """
        Open a link; Twisted's services call this.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        session_id = self._make_id(Path(self._name, self._peer, is_reliable=True))
        try:
            link = await self._open(session_id)
        except TimeoutError:
            self._is_short = not self._is_short
            link = await self._open(session_id)
        protocol = factory.buildProtocol(None)
        link.start(protocol)
        return protocol

    async def _open(self, session_id: bytes) -> HTTPClientLink:
        token = self._random_bytes(TOKEN_SIZE)
        link = HTTPClientLink(
            self._dial,
            self._address,
            SessionCookie(session_id, token, self._is_short),
            clock=self._clock,
            peer=self._peer,
        )
        link.open()
        seconds = OPENING_TIMEOUT if self._is_short else STREAMING_TEST

        def time_out(result: object, timeout: float) -> Any:
            raise TimeoutError(f"no response within {timeout:.0f} s")

        link.opened.addTimeout(seconds, self._clock, onTimeoutCancel=time_out)
        await link.opened
        return link
