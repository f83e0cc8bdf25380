"""
The client of the session API.

Twisted's own HTTP agent is all that is wanted: it follows no redirect (the key is for one server
alone), unpacks nothing, keeps no cookie, and takes an IPv6 address for a host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer

from resip import __version__
from resip.bootstrap.errors import (
    KeyRefused,
    PinMismatch,
    RateLimited,
    RequestRefused,
    ServerFailed,
)
from resip.bootstrap.handshake import OutgoingHandshake
from resip.bootstrap.https import (
    CONNECT_TIMEOUT,
    BytesProducer,
    ParallelAttempts,
    explain,
    not_resip,
    read_body,
    within_deadline,
)
from resip.bootstrap.invitation import Invitation
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
from resip.bootstrap.pinning import PinnedVerifier
from resip.carriers.proxy import EndpointFactory
from resip.core.classic.cipher import HashName
from resip.core.modern.handshake import Welcome
from resip.core.modern.noise import HandshakeError
from resip.core.modern.parts import Agreement

#: Seconds that a server may ask to wait; it is no reason to stay away for ever.
MAX_RETRY_AFTER = 300.0


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes = field(repr=False)
    product: str
    retry_after: str


class BootstrapClient:
    """
    Asks one server over HTTPS. Every request has a connection of its own: they are rare. Those
    that may arrive twice are made on several when the first does not answer.

    :param reactor: connects, resolves names and keeps time.
    :param invitation: whom to ask, with which key.
    :param others: the same, at other places of the server; they take turns.
    :param make_endpoint: how to connect; directly unless given.
    :param agent_factory: makes the HTTP agent that verifies by the given policy; replaced where
        requests take another way than TCP.
    """

    def __init__(
        self,
        reactor: Any,
        invitation: Invitation,
        *,
        others: Sequence[Invitation] = (),
        make_endpoint: EndpointFactory | None = None,
        agent_factory: Callable[[PinnedVerifier], IAgent] | None = None,
    ) -> None:
        self._reactor = reactor
        self._make_endpoint = make_endpoint or self._direct_endpoint
        self._invitation = invitation
        places = (invitation, *others)
        self._ways = len(places)
        self._next_place = cycle(places)
        self._authorities = " or ".join(place.authority for place in places)
        self._agent_factory = agent_factory or self._make_agent

    @property
    def invitation(self) -> Invitation:
        """
        Whom it asks, with which key.
        """
        return self._invitation

    async def start_session(self, hash_name: HashName = HashName.SHA1) -> tuple[SessionGrant, bool]:
        """
        Start a session.

        :return: the session with its keys, and whether the server is the prototype.
        :raises BootstrapError: the class says why not, ``is_retryable`` whether to try again.
        """
        # Each that arrives starts a session.
        reply = await self._ask(
            "POST", SESSION_START_PATH, session_start_body(hash_name), is_repeatable=False
        )
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

    async def handshake(self, handshake: OutgoingHandshake) -> tuple[Agreement, Welcome]:
        """
        Start a session of the modern dialect.

        :return: what is agreed on, and what the server said.
        :raises BootstrapError: as :meth:`start_session`.
        """
        # The API key stays here: message 1 tells whoever holds the certificate's key nothing.
        headers = {"Content-Type": HANDSHAKE_TYPE}
        reply = await self._send("POST", HANDSHAKE_PATH, headers, handshake.message1)
        try:
            return handshake.finish(reply.body)
        except HandshakeError as problem:
            raise PinMismatch(
                f"what answers at {self._authorities} does not have the key of the server "
                f"that the invitation is for ({problem}): somebody may be in between; try "
                "another network, or ask whoever runs the server for a new invitation"
            ) from problem

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, *, is_repeatable: bool = True
    ) -> _Reply:
        headers = {"X-APIKey": self._invitation.api_key, "Content-Type": "application/json"}
        return await self._send(method, path, headers, body, is_repeatable=is_repeatable)

    async def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        is_repeatable: bool = True,
    ) -> _Reply:
        def attempt() -> Deferred[_Reply]:
            place = next(self._next_place)
            return Deferred.fromCoroutine(self._exchange(place, method, path, headers, body))

        if is_repeatable:
            exchange = ParallelAttempts(self._reactor, attempt, ways=self._ways).run()
        else:
            exchange = attempt()
        reply = await within_deadline(exchange, self._reactor, self._authorities)
        if reply.status != 200:
            self._raise_refusal(reply)
        return reply

    async def _exchange(
        self,
        place: Invitation,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> _Reply:
        verifier = PinnedVerifier(place)
        raw_headers = {"User-Agent": [f"{PRODUCT_PREFIX}{__version__}"]}
        raw_headers.update((name, [value]) for name, value in headers.items())
        try:
            response = await self._agent_factory(verifier).request(
                method.encode("ascii"),
                f"https://{place.authority}{path}".encode("ascii"),
                Headers(raw_headers),
                None if body is None else BytesProducer(body),
            )
            content = await read_body(response, place.authority)
        except Exception as problem:
            raise explain(problem, verifier, place.authority) from problem
        return _Reply(
            status=response.code,
            body=content,
            product=(response.headers.getRawHeaders("server") or [""])[0],
            retry_after=(response.headers.getRawHeaders("retry-after") or [""])[0],
        )

    def _make_agent(self, verifier: PinnedVerifier) -> IAgent:
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        endpoints = _VerifiedEndpoints(verifier, self._make_endpoint)
        agent: IAgent = Agent.usingEndpointFactory(self._reactor, endpoints, pool=pool)
        return agent

    def _direct_endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        return HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)

    def _raise_refusal(self, reply: _Reply) -> NoReturn:
        at = self._authorities
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
        raise not_resip(at, f"HTTP status {reply.status}")


@implementer(IAgentEndpointFactory)
class _VerifiedEndpoints:
    """
    Connects an agent that asks one server only.
    """

    def __init__(self, verifier: PinnedVerifier, make_endpoint: EndpointFactory) -> None:
        self._verifier = verifier
        self._make_endpoint = make_endpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii").strip("[]")
        return wrapClientTLS(self._verifier, self._make_endpoint(host, uri.port))


def _parse_retry_after(text: str) -> float:
    try:
        return min(max(float(text), 1.0), MAX_RETRY_AFTER)
    except ValueError:
        return 1.0
