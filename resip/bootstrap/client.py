"""
The client of the session API, and the first contact with a classic server.

Twisted's own HTTP agent is all that is wanted: it follows no redirect (the key is for one server
alone), unpacks nothing, keeps no cookie, and takes an IPv6 address for a host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from OpenSSL import SSL
from twisted.internet import defer, error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IConsumer, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from resip import __version__
from resip.bootstrap.certificates import spki_hash
from resip.bootstrap.errors import (
    BootstrapError,
    KeyRefused,
    NotAResipServer,
    PinMismatch,
    RateLimited,
    RequestRefused,
    ServerFailed,
    Unreachable,
)
from resip.bootstrap.handshake import InvitedHandshake
from resip.bootstrap.invitation import Invitation, bracketed
from resip.bootstrap.messages import (
    HANDSHAKE_PATH,
    HANDSHAKE_TYPE,
    PRODUCT_PREFIX,
    SERVER_INFO_PATH,
    SESSION_PARAMETER,
    SESSION_START_PATH,
    ErrorCode,
    ServerInfo,
    SessionGrant,
    parse_error,
    session_start_body,
)
from resip.bootstrap.pinning import (
    ChainVerifier,
    FirstContactVerifier,
    PinnedVerifier,
    PresentedChain,
    certificate_fingerprint,
)
from resip.core.classic.cipher import HashName
from resip.core.modern.handshake import Welcome
from resip.core.modern.noise import HandshakeError
from resip.core.modern.session import Agreement
from resip.core.types import RandomBytes

#: Seconds until a connection must stand, tried on every address of the host.
CONNECT_TIMEOUT = 10.0

#: Seconds until the whole reply must be there.
REQUEST_TIMEOUT = 20.0

#: Bytes of the longest reply that is read; the API's longest has about a thousand.
MAX_REPLY_SIZE = 64 * 1024

#: Seconds that a server may ask to wait; it is no reason to stay away for ever.
MAX_RETRY_AFTER = 300.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FirstContact:
    """
    What a classic server showed at the first contact.

    :ivar root_pin: SHA-256 of the root's SubjectPublicKeyInfo.
    :ivar leaf_fingerprint: SHA-256 of the leaf.
    :ivar lines: both certificates in words, for the user to compare.
    """

    root_pin: bytes
    leaf_fingerprint: bytes
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes = field(repr=False)
    product: str
    retry_after: str


class BootstrapClient:
    """
    Asks one server over HTTPS. Every request has a connection of its own: they are rare.

    :param reactor: connects, resolves names and keeps time.
    :param invitation: whom to ask, with which key.
    :param agent_factory: makes the HTTP agent that verifies by the given policy; replaced where
        requests take another way than TCP.
    """

    def __init__(
        self,
        reactor: Any,
        invitation: Invitation,
        *,
        agent_factory: Callable[[PinnedVerifier], IAgent] | None = None,
    ) -> None:
        self._reactor = reactor
        self._invitation = invitation
        self._agent_factory = agent_factory or self._make_agent

    async def start_session(self, hash_name: HashName = HashName.SHA1) -> tuple[SessionGrant, bool]:
        """
        Start a session.

        :return: the session with its keys, and whether the server is the prototype.
        :raises BootstrapError: the class says why not, ``is_retryable`` whether to try again.
        """
        reply = await self._ask("POST", SESSION_START_PATH, session_start_body(hash_name))
        grant = SessionGrant.from_json(reply.body, hash_name)
        return grant, not reply.product.startswith(PRODUCT_PREFIX)

    async def server_info(self, session_id: int | None = None) -> ServerInfo:
        """
        Ask which run of the server is up, and whether it still knows a session.

        :raises BootstrapError: as :meth:`start_session`.
        """
        path = SERVER_INFO_PATH
        if session_id is not None:
            path = f"{path}?{SESSION_PARAMETER}={session_id}"
        return ServerInfo.from_json((await self._ask("GET", path)).body)

    async def handshake(
        self, *, random_bytes: RandomBytes, wall_clock: Callable[[], float]
    ) -> tuple[Agreement, Welcome]:
        """
        Start a session of the modern dialect.

        :param wall_clock: Unix seconds.
        :return: what is agreed on, and what the server said.
        :raises BootstrapError: as :meth:`start_session`; also for an invitation that is for the
            classic dialect only.
        """
        handshake = InvitedHandshake(
            self._invitation, random_bytes=random_bytes, wall_clock=wall_clock
        )
        # The API key stays here: message 1 tells whoever holds the certificate's key nothing.
        headers = {"Content-Type": HANDSHAKE_TYPE}
        reply = await self._send("POST", HANDSHAKE_PATH, headers, handshake.message1)
        try:
            return handshake.finish(reply.body)
        except HandshakeError as problem:
            raise PinMismatch(
                f"what answers at {self._invitation.authority} does not have the key of the server "
                f"that the invitation is for ({problem}): somebody may be in between; try "
                "another network, or ask whoever runs the server for a new invitation"
            ) from problem

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> _Reply:
        headers = {"X-APIKey": self._invitation.api_key, "Content-Type": "application/json"}
        return await self._send(method, path, headers, body)

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> _Reply:
        verifier = PinnedVerifier(self._invitation)
        exchange = Deferred.fromCoroutine(self._exchange(verifier, method, path, headers, body))
        reply = await _within_deadline(exchange, self._reactor, self._invitation.authority)
        if reply.status != 200:
            self._raise_refusal(reply)
        return reply

    async def _exchange(
        self,
        verifier: PinnedVerifier,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> _Reply:
        raw_headers = {"User-Agent": [f"{PRODUCT_PREFIX}{__version__}"]}
        raw_headers.update((name, [value]) for name, value in headers.items())
        try:
            response = await self._agent_factory(verifier).request(
                method.encode("ascii"),
                f"https://{self._invitation.authority}{path}".encode("ascii"),
                Headers(raw_headers),
                None if body is None else _BytesProducer(body),
            )
            content = await _read_body(response, self._invitation.authority)
        except Exception as problem:
            raise _explain(problem, verifier, self._invitation.authority) from problem
        return _Reply(
            status=response.code,
            body=content,
            product=(response.headers.getRawHeaders("server") or [""])[0],
            retry_after=(response.headers.getRawHeaders("retry-after") or [""])[0],
        )

    def _make_agent(self, verifier: PinnedVerifier) -> IAgent:
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        agent: IAgent = Agent(
            self._reactor, contextFactory=verifier, connectTimeout=CONNECT_TIMEOUT, pool=pool
        )
        return agent

    def _raise_refusal(self, reply: _Reply) -> NoReturn:
        at = self._invitation.authority
        code, text = parse_error(reply.body) or ("", "")
        if reply.status == 429:
            wait = _parse_retry_after(reply.retry_after)
            raise RateLimited(
                f"the server at {at} was asked too often: try again in {wait:.0f} s", wait
            )
        if reply.status == 403 and code == ErrorCode.INVALID_MISSING_APIKEY:
            raise KeyRefused(
                f"the server at {at} does not accept the key {self._invitation.name!r}, it may "
                "have been revoked: ask whoever runs the server for a new invitation"
            )
        if 500 <= reply.status <= 599:
            raise ServerFailed(
                f"the server at {at} failed (HTTP status {reply.status}): its log says why"
            )
        if reply.status == 400 and code:
            raise RequestRefused(
                f"the server at {at} refused the request: {text} ({code})",
                code,
                is_retryable=code == ErrorCode.TOO_MANY_SESSIONS,
            )
        raise _not_resip(at, f"HTTP status {reply.status}")


async def fetch_first_contact(reactor: Any, host: str, https_port: int) -> FirstContact:
    """
    Look at the certificates of a classic server that is to be joined. Nothing is sent but a
    TLS handshake, and nothing is trusted: the user compares, later visits insist.

    :raises BootstrapError: when the server cannot be reached, or presents a single
        certificate, or one that the root did not sign or whose dates do not fit.
    """
    authority = f"{bracketed(host)}:{https_port}"
    verifier = FirstContactVerifier(authority)
    handshake = Deferred.fromCoroutine(_shake_hands(reactor, verifier, host, https_port))
    chain = await _within_deadline(handshake, reactor, authority)
    return FirstContact(
        root_pin=spki_hash(chain.root),
        leaf_fingerprint=certificate_fingerprint(chain.leaf),
        lines=tuple(
            f"{role}: {certificate.subject.rfc4514_string()}, until "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}, SHA-256 "
            f"{_colons(certificate_fingerprint(certificate))}"
            for role, certificate in (("server certificate", chain.leaf), ("root", chain.root))
        ),
    )


async def _shake_hands(
    reactor: Any, verifier: ChainVerifier, host: str, https_port: int
) -> PresentedChain:
    endpoint = wrapClientTLS(
        verifier, HostnameEndpoint(reactor, host, https_port, timeout=CONNECT_TIMEOUT)
    )
    authority = f"{bracketed(host)}:{https_port}"
    watch = _HandshakeWatch()
    try:
        await endpoint.connect(Factory.forProtocol(lambda: watch))
        await watch.finished
    except Exception as problem:
        raise _explain(problem, verifier, authority) from problem
    if verifier.chain is None:
        raise verifier.error or _not_resip(authority, "the handshake ended early")
    return verifier.chain


@implementer(IHandshakeListener)
class _HandshakeWatch(Protocol):
    """
    Ends the connection as soon as the handshake is done.
    """

    def __init__(self) -> None:
        self._is_done = False
        self.finished: Deferred[None] = Deferred(lambda _: self._abort())

    def handshakeCompleted(self) -> None:
        self._is_done = True
        self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        if self._is_done:
            self.finished.callback(None)
        else:
            self.finished.errback(reason)

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]


@implementer(IBodyProducer)
class _BytesProducer:
    """
    A request body in one piece; Twisted's own takes turns of the global reactor for it.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return defer.succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class _BodyReader(Protocol):
    """
    Collects a body up to :data:`MAX_REPLY_SIZE`.
    """

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._body = bytearray()
        self.finished: Deferred[bytes] = Deferred(lambda _: self._close())

    def dataReceived(self, data: bytes) -> None:
        if self.finished.called:
            return
        self._body += data
        if len(self._body) > MAX_REPLY_SIZE:
            self._body.clear()
            self._close()
            problem = _not_resip(self._authority, f"more than {MAX_REPLY_SIZE} bytes of reply")
            self.finished.errback(problem)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        if isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self.finished.callback(bytes(self._body))
        else:
            self.finished.errback(reason)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


async def _read_body(response: Any, authority: str) -> bytes:
    reader = _BodyReader(authority)
    response.deliverBody(reader)
    return await reader.finished


async def _within_deadline(work: Deferred[_T], reactor: Any, authority: str) -> _T:
    def give_up(result: Any, timeout: float) -> NoReturn:
        cause = result.value if isinstance(result, Failure) else None
        if isinstance(cause, BootstrapError) and not isinstance(cause, Unreachable):
            raise cause
        raise Unreachable(
            f"no answer from {authority} within {timeout:.0f} s: check host and port, the "
            "network and any firewall between"
        )

    work.addTimeout(REQUEST_TIMEOUT, reactor, onTimeoutCancel=give_up)
    return await work


def _explain(problem: Exception, verifier: ChainVerifier, authority: str) -> Exception:
    """
    Say for the user what went wrong; cancellation is passed on as it is.
    """
    if verifier.error is not None:
        return verifier.error
    causes = [reason.value for reason in getattr(problem, "reasons", ())] or [problem]
    for cause in causes:
        if isinstance(cause, BootstrapError | defer.CancelledError):
            return cause
    cause = causes[0]
    if isinstance(cause, SSL.Error):
        return _not_resip(authority, "no TLS 1.2 or newer")
    if isinstance(cause, error.ConnectionRefusedError):
        return Unreachable(
            f"{authority} refuses connections: check that the server runs and that the port is "
            "right"
        )
    if isinstance(cause, error.DNSLookupError):
        return Unreachable(
            f"the name in {authority} cannot be resolved: check the name and the network"
        )
    if isinstance(cause, ValueError):  # the host, for all else is checked before
        return BootstrapError(
            f"{authority} is no name that can be looked up: ask for an invitation with another "
            "host ('resip invite --host')"
        )
    if isinstance(cause, error.TimeoutError):
        return Unreachable(
            f"no connection to {authority} within {CONNECT_TIMEOUT:.0f} s: check host and port, "
            "the network and any firewall between"
        )
    if isinstance(cause, error.ConnectError):
        return Unreachable(f"{authority} cannot be reached ({cause}): check the network")
    if isinstance(cause, error.ConnectionClosed):
        return Unreachable(
            f"{authority} closed the connection without an answer: check the server's log"
        )
    return _not_resip(authority, type(cause).__name__)


def _not_resip(authority: str, reason: str) -> NotAResipServer:
    return NotAResipServer(
        f"what answers at {authority} is no resip server ({reason}): check host and port"
    )


def _parse_retry_after(text: str) -> float:
    try:
        return min(max(float(text), 1.0), MAX_RETRY_AFTER)
    except ValueError:
        return 1.0


def _colons(fingerprint: bytes) -> str:
    return fingerprint.hex(":").upper()
