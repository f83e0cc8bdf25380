"""
The server of the session API: authentication, rate limits, the two classic calls, and the modern
dialect's handshake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request

from resip import __version__
from resip.bootstrap.keystore import KeyRecord
from resip.bootstrap.messages import (
    HANDSHAKE_PATH,
    HANDSHAKE_TYPE,
    MAX_HANDSHAKE_SIZE,
    PRODUCT_PREFIX,
    SERVER_INFO_PATH,
    SESSION_PARAMETER,
    SESSION_START_PATH,
    ErrorCode,
    RequestError,
    ServerInfo,
    SessionGrant,
    error_body,
    parse_session_start,
)
from resip.bootstrap.ratelimit import RateLimiter
from resip.bootstrap.site import is_loopback
from resip.carriers.web import CARRIER_PATH
from resip.core.classic.cipher import HashName
from resip.core.errors import LimitError

#: Requests without a valid key, or with a handshake that is refused, that one address may send at
#: once, and per second after that. The prototype's client sends one each time it starts.
FAILURE_BURST, FAILURE_RATE = 20, 1.0

#: Requests of any kind. Many clients may share one address.
REQUEST_BURST, REQUEST_RATE = 200, 20.0

_STATUS: Mapping[ErrorCode, int] = {
    ErrorCode.INVALID_MISSING_APIKEY: 403,
    ErrorCode.TOO_MANY_REQUESTS: 429,
    ErrorCode.INTERNAL_ERROR: 500,
}

Authenticate = Callable[[str], KeyRecord | None]
StartSession = Callable[[KeyRecord, HashName, bool], SessionGrant]
HasSession = Callable[[int, KeyRecord], bool]
AcceptHandshake = Callable[[bytes], bytes | None]
#: Takes a carrier's request and says what ``render`` returns; ``None`` for a stranger's.
Carry = Callable[[Request], bytes | int | None]


class _Refused(Exception):
    """
    Ends a request with an error reply.
    """

    def __init__(self, code: ErrorCode, *, retry_after: float | None = None) -> None:
        super().__init__(code.value)
        self.code = code
        self.retry_after = retry_after


class BootstrapResource(Resource):
    """
    Answers every path and every method; see :mod:`resip.bootstrap.messages` for what is said.

    A valid key is never held against the failures of others at the same address: guessing at
    256 random bits needs no lock-out, only its cost must be bounded.

    :param authenticate: the key to which an API key belongs, or ``None``.
    :param start_session: starts a session for a key, with the hash the client asked for; the
        flag says that the client is the prototype. It may raise
        :class:`~resip.core.errors.LimitError`.
    :param has_session: whether a session exists and belongs to a key.
    :param accept_handshake: starts a modern session for message 1 of a handshake and returns
        message 2; ``None`` when it is refused, whatever the reason, after the same work (M-4).
        It may raise :class:`~resip.core.errors.LimitError`.
    :param carry: takes the requests of carriers; ``None`` when there are none.
    :param started: Unix seconds; the identity of this run of the server.
    :param wall_clock: Unix seconds, told to clients.
    :param now: monotonic seconds, for the rate limits.
    """

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        *,
        authenticate: Authenticate,
        start_session: StartSession,
        has_session: HasSession,
        accept_handshake: AcceptHandshake,
        started: int,
        wall_clock: Callable[[], float],
        now: Callable[[], float],
        carry: Carry | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._authenticate = authenticate
        self._start_session = start_session
        self._has_session = has_session
        self._accept_handshake = accept_handshake
        self._carry = carry
        self._started = started
        self._wall_clock = wall_clock
        self._failures = RateLimiter(burst=FAILURE_BURST, rate=FAILURE_RATE, now=now)
        self._requests = RateLimiter(burst=REQUEST_BURST, rate=REQUEST_RATE, now=now)

    def render(self, request: Request) -> bytes | int:
        """
        Answer one request, whatever its method.
        """
        headers = request.responseHeaders
        headers.setRawHeaders("Server", [f"{PRODUCT_PREFIX}{__version__}"])
        headers.setRawHeaders("Content-Type", ["application/json"])
        headers.setRawHeaders("Cache-Control", ["no-store"])
        try:
            carried = self._carried(request)
            return self._answer(request) if carried is None else carried
        except _Refused as refused:
            return self._refuse(request, refused)
        except RequestError as error:
            return self._refuse(request, _Refused(error.code))
        except LimitError:
            return self._refuse(request, _Refused(ErrorCode.TOO_MANY_SESSIONS))
        except Exception:
            self._log.failure("A call of the session API failed")
            return self._refuse(request, _Refused(ErrorCode.INTERNAL_ERROR))

    def _carried(self, request: Request) -> bytes | int | None:
        # Before any limit of requests: a carrier's are many, and prove themselves.
        if self._carry is None or request.path != CARRIER_PATH.encode("ascii"):
            return None
        return self._carry(request)

    def _answer(self, request: Request) -> bytes:
        address = _source_address(request)
        if wait := self._requests.take(address):
            raise _Refused(ErrorCode.TOO_MANY_REQUESTS, retry_after=wait)
        # With another method it is a call like any other, so that strangers learn nothing.
        if request.path == HANDSHAKE_PATH.encode("ascii") and request.method == b"POST":
            return self._handshake(request, address)
        api_key = _presented_key(request)
        key = self._authenticate(api_key) if api_key else None
        if key is None:
            raise self._failure(address)
        if request.path == SERVER_INFO_PATH.encode("ascii"):
            return self._server_info(request, key)
        if request.path == SESSION_START_PATH.encode("ascii"):
            return self._session_start(request, key)
        if request.path == HANDSHAKE_PATH.encode("ascii"):
            raise _Refused(ErrorCode.USE_POST_REQUEST)
        raise _Refused(ErrorCode.INVALID_API_CALL)

    def _handshake(self, request: Request, address: str) -> bytes:
        assert request.content is not None
        message1 = request.content.read(MAX_HANDSHAKE_SIZE + 1)
        is_too_long = len(message1) > MAX_HANDSHAKE_SIZE
        message2 = None if is_too_long else self._accept_handshake(message1)
        if message2 is None:
            raise self._failure(address)
        request.responseHeaders.setRawHeaders("Content-Type", [HANDSHAKE_TYPE])
        return message2

    def _failure(self, address: str) -> _Refused:
        if wait := self._failures.take(address):
            return _Refused(ErrorCode.TOO_MANY_REQUESTS, retry_after=wait)
        return _Refused(ErrorCode.INVALID_MISSING_APIKEY)

    def _server_info(self, request: Request, key: KeyRecord) -> bytes:
        if request.method != b"GET":
            raise _Refused(ErrorCode.USE_GET_REQUEST)
        asked = request.args.get(SESSION_PARAMETER.encode("ascii")) if request.args else None
        has_session = None
        if asked and asked[0].isdigit() and len(asked[0]) <= 10:
            has_session = self._has_session(int(asked[0]), key)
        return ServerInfo(self._started, int(self._wall_clock()), has_session).to_json()

    def _session_start(self, request: Request, key: KeyRecord) -> bytes:
        if request.method != b"POST":
            raise _Refused(ErrorCode.USE_POST_REQUEST)
        assert request.content is not None
        hash_name = parse_session_start(request.content.read())
        product = request.getHeader(b"user-agent") or b""
        is_prototype = not product.startswith(PRODUCT_PREFIX.encode("ascii"))
        grant = self._start_session(key, hash_name, is_prototype)
        return grant.to_json()

    def _refuse(self, request: Request, refused: _Refused) -> bytes:
        request.setResponseCode(_STATUS.get(refused.code, 400))
        if refused.retry_after is not None:
            seconds = max(1, math.ceil(refused.retry_after))
            request.responseHeaders.setRawHeaders("Retry-After", [str(seconds)])
        return error_body(refused.code)


def _presented_key(request: Any) -> str:
    """
    The API key from the header, or else the query or form, or else the cookie.
    """
    candidates = (
        request.getHeader(b"x-apikey"),
        request.args.get(b"apikey", [b""])[-1],
        request.getCookie(b"apikey"),
    )
    return next((key.decode("latin-1") for key in candidates if key), "")


def _source_address(request: Any) -> str:
    """
    Where a request comes from; a reverse proxy on this machine is believed what it says of that.
    """
    host = str(getattr(request.getClientAddress(), "host", "unknown"))
    forwarded = request.getHeader("x-forwarded-for")
    if forwarded and is_loopback(host):
        return str(forwarded.rpartition(",")[2].strip())
    return host
