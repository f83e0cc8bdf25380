"""
The server's side of the HTTP carrier, and the one place where requests for both carriers over
HTTPS arrive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from resip.carriers.http import (
    CONTENT_TYPE,
    MAX_GETS,
    BodySequence,
    HTTPTransport,
    numbered,
)
from resip.carriers.tcp import TCPCarrier
from resip.carriers.tcp_socket import shorten_queue
from resip.carriers.web import COOKIE_NAME, SessionCookie, parse_cookie
from resip.carriers.websocket import accept_websocket
from resip.core.errors import ProtocolError

#: Seconds after which a GET is answered to its end whatever there is, so that nobody on the way
#: loses patience. The client asks again.
MAX_RESPONSE_TIME = 25.0
#: Bytes of one response, and of one that is to be short.
MAX_RESPONSE_SIZE = 64 * 1024 * 1024
MAX_SHORT_RESPONSE_SIZE = 256 * 1024
#: Bytes that may wait for the next GET before the link counts as full.
MAX_UNSENT = 64 * 1024
#: Seconds that a link may be without a GET.
MAX_ABSENCE = 10.0

# A cache has nothing to keep here and a proxy nothing to collect (nginx heeds the last one).
_HEADERS = (
    (b"content-type", CONTENT_TYPE),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class HTTPServerLink(HTTPTransport):
    """
    One link of a client.

    :param is_short: end each response as soon as there is something in it.
    :param on_over: called when the link is over.
    """

    def __init__(
        self,
        clock: IReactorTime,
        peer: tuple[str, int],
        *,
        is_short: bool,
        on_over: Callable[[], None],
    ) -> None:
        super().__init__(clock, peer)
        self._is_short = is_short
        self._on_over = on_over
        self._posts = BodySequence()
        self._waiting: deque[Any] = deque()
        self._current: Any = None
        self._is_paused = False
        self._is_flushing = False
        self._number = 0
        self._sent = 0
        self._ages: dict[Any, IDelayedCall] = {}
        self._absence: IDelayedCall | None = None

    def get(self, request: Any) -> None:
        """
        Answer with what there is and what comes, or keep for later.
        """
        self._admit(request)
        shorten_queue(request.transport)
        for name, value in _HEADERS:
            request.responseHeaders.setRawHeaders(name, [value])
        request.write(b"")
        self._ages[request] = self._clock.callLater(MAX_RESPONSE_TIME, self._finish, request)
        request.notifyFinish().addErrback(self._get_lost, request)
        self._waiting.append(request)
        if len(self._waiting) > MAX_GETS:
            self._finish(self._waiting[0])
        self._watch_absence()
        self._flush()

    def post(self, body: bytes, request: Any) -> bool:
        """
        Take a body; returns whether the link goes on.
        """
        assert self._stream is not None
        try:
            pieces = self._posts.add(body)
        except ProtocolError:
            pieces = []
            self.abortConnection()
        for piece in pieces:
            self._deliver(piece)
        if self._posts.kept and not self._stream.is_introduced:
            self.abortConnection()
        if not self._is_over:
            self._admit(request)
        return not self._is_over

    # Called by what both sides have in common.

    def _flush(self) -> None:
        if self._is_flushing:
            return  # writing may pause or end a response, and so come here again
        self._is_flushing = True
        try:
            while not self._is_over and self._advance():
                pass
        finally:
            self._is_flushing = False
        if self._is_ending and not self._unsent and not self._is_over:
            for request in list(self._ages):
                self._finish(request)
            self._end()
            return
        has_nowhere = self._current is None and not (self._is_short and self._waiting)
        self._set_full(self._is_paused or (has_nowhere and len(self._unsent) >= MAX_UNSENT))

    def _give_up(self) -> None:
        self._on_over()
        if self._absence is not None and self._absence.active():
            self._absence.cancel()
        for request in list(self._ages):
            self._forget(request)
            request.abort()  # that the response lacks its end tells the client all
        self._waiting.clear()
        self._current = None

    # The responses.

    def _advance(self) -> bool:
        # Says whether there may be more to do.
        if self._current is None:
            is_first = self._number == 0
            if not self._waiting or not (self._unsent or is_first or not self._is_short):
                return False
            self._begin(self._waiting.popleft())
        request = self._current
        limit = MAX_SHORT_RESPONSE_SIZE if self._is_short else MAX_RESPONSE_SIZE
        piece = bytes(self._unsent[: limit - self._sent])
        if piece:
            del self._unsent[: len(piece)]
            self._sent += len(piece)
            request.write(piece)
        if request is self._current and (self._is_short or self._sent >= limit):
            self._finish(request)
        return bool(self._unsent)

    def _begin(self, request: Any) -> None:
        self._current, self._sent, self._is_paused = request, 0, False
        request.write(numbered(self._number))
        self._number += 1
        request.registerProducer(_ResponseFlow(self._set_paused), True)

    def _finish(self, request: Any) -> None:
        is_current = request is self._current
        self._forget(request)
        if is_current:
            self._current, self._is_paused = None, False
            request.unregisterProducer()
        else:
            self._waiting.remove(request)
        request.finish()
        self._watch_absence()
        if is_current and not self._is_short and not self._is_ending:
            self._flush()

    def _set_paused(self, is_paused: bool) -> None:
        self._is_paused = is_paused
        self._flush()

    def _get_lost(self, _: Failure, request: Any) -> None:
        if request not in self._ages:
            return
        self._forget(request)
        if request is self._current:
            self.abortConnection()
        else:
            self._waiting.remove(request)
            self._watch_absence()

    def _forget(self, request: Any) -> None:
        age = self._ages.pop(request)
        if age.active():
            age.cancel()

    def _watch_absence(self) -> None:
        if self._absence is not None and self._absence.active():
            self._absence.cancel()
        if not self._ages and not self._is_over:
            self._absence = self._clock.callLater(MAX_ABSENCE, self.abortConnection)

    def _admit(self, request: Any) -> None:
        if self._stream is not None and self._stream.is_introduced:
            request.admit()


class _ResponseFlow:
    """
    Hears whether a response's connection takes more.
    """

    def __init__(self, set_paused: Callable[[bool], None]) -> None:
        self._set_paused = set_paused

    def pauseProducing(self) -> None:
        self._set_paused(True)

    def resumeProducing(self) -> None:
        self._set_paused(False)

    def stopProducing(self) -> None:
        self._set_paused(True)


class WebCarriers:
    """
    Takes the requests for the WebSocket and the HTTP carrier.

    :param websocket: has the connections of the one. :param http: those of the other.
    :param knows: whether packets to these 4 bytes belong to a session.
    """

    def __init__(
        self,
        *,
        websocket: TCPCarrier,
        http: TCPCarrier,
        knows: Callable[[bytes], bool],
        clock: IReactorTime,
    ) -> None:
        self._websocket = websocket
        self._http = http
        self._knows = knows
        self._clock = clock
        self._links: dict[bytes, HTTPServerLink] = {}

    @property
    def link_count(self) -> int:
        """
        How many links of the HTTP carrier there are.
        """
        return len(self._links)

    def answer(self, request: Any) -> bytes | int | None:
        """
        Take a request for :data:`~resip.carriers.web.CARRIER_PATH`.

        :return: what ``render`` is to return; ``None`` for a stranger, who is to be answered like
            one that asks for anything else.
        """
        cookie = parse_cookie(request.getCookie(COOKIE_NAME))
        if cookie is None:
            return None
        # An id may be retired while the link that it opened goes on.
        link = self._links.get(cookie.token)
        if link is None and not self._knows(cookie.session_id):
            return None
        if not cookie.token:
            return self._open_websocket(request)
        if request.method == b"POST":
            return None if link is None else _answer_post(link, request)
        if request.method != b"GET":
            return None
        link = link or self._open_link(cookie, request)
        if link.is_over:  # the carrier is closing
            return None
        link.get(request)
        return NOT_DONE_YET

    def _open_websocket(self, request: Any) -> int | None:
        is_accepted = accept_websocket(request, self._websocket, self._clock)
        return NOT_DONE_YET if is_accepted else None

    def _open_link(self, cookie: SessionCookie, request: Any) -> HTTPServerLink:
        token = cookie.token
        link = self._links[token] = HTTPServerLink(
            self._clock,
            self._free_address(request.getClientAddress()),
            is_short=cookie.is_short,
            on_over=lambda: self._forget(token),
        )
        link.start(self._http.buildProtocol(None))
        return link

    def _forget(self, token: bytes) -> None:
        del self._links[token]

    def _free_address(self, address: Any) -> tuple[str, int]:
        # A proxy may ask for several clients by one connection; each link is a path of its own.
        host, port = str(getattr(address, "host", "")), int(getattr(address, "port", 0))
        taken = {(peer.host, peer.port) for peer in (x.getPeer() for x in self._links.values())}
        while (host, port) in taken:
            port = port % 65_535 + 1
        return host, port


def _answer_post(link: HTTPServerLink, request: Any) -> bytes | None:
    if not link.post(request.content.read(), request):
        return None
    request.setResponseCode(204)
    request.responseHeaders.removeHeader(b"content-type")
    for name, value in _HEADERS[1:]:
        request.responseHeaders.setRawHeaders(name, [value])
    return b""
