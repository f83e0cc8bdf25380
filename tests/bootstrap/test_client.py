"""
Tests for :mod:`resip.bootstrap.client`: against the real resource, over memory and over TLS.
"""

from __future__ import annotations

import gzip
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from treq.testing import RequestTraversalAgent
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.iweb import IAgent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from resip.bootstrap import https as https_module
from resip.bootstrap.certificates import load_or_create, server_tls_options, spki_hash
from resip.bootstrap.client import BootstrapClient
from resip.bootstrap.credentials import derive_api_key
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
from resip.bootstrap.first_contact import fetch_first_contact
from resip.bootstrap.invitation import Invitation
from resip.bootstrap.keystore import KeyRecord
from resip.bootstrap.messages import ErrorCode, ServerInfo, error_body
from resip.bootstrap.pinning import certificate_fingerprint
from resip.bootstrap.resource import BootstrapResource
from resip.bootstrap.site import bootstrap_factory
from resip.bootstrap.state import StateDirectory
from resip.core.classic.cipher import HashName
from tests.bootstrap.authority import make_key, make_root, presenting
from tests.bootstrap.test_messages import make_grant

SECRET = bytes(range(32))


def make_resource() -> BootstrapResource:
    """
    The real server side, which knows the key of :data:`SECRET`.
    """
    alice = KeyRecord("alice", bytes(32), None, 0)
    return BootstrapResource(
        authenticate=lambda key: alice if key == derive_api_key(SECRET) else None,
        start_session=lambda key, hash_name, is_prototype: make_grant(
            hash_name, session_id=int(is_prototype)
        ),
        has_session=lambda session_id, key: session_id == 1,
        accept_handshake=lambda message1: None,
        started=1,
        wall_clock=lambda: 2.0,
        now=Clock().seconds,
    )


def make_invitation(port: int = 1, *, pin: bytes = bytes(32), secret: bytes = SECRET) -> Invitation:
    """
    An invitation to a server on loopback.
    """
    return Invitation(
        host="127.0.0.1", https_port=port, port=1, name="alice", pin=pin, secret=secret
    )


class Canned(Resource):
    """
    Answers everything with one reply, or never.
    """

    isLeaf = True

    def __init__(self, status: int, body: bytes | None, **headers: str) -> None:
        super().__init__()
        self.status = status
        self.body = body
        self.headers = headers
        self.request_count = 0

    def render(self, request: Request) -> bytes | int:
        """
        The one reply.
        """
        self.request_count += 1
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.responseHeaders.setRawHeaders(name.replace("_", "-"), [value])
        return NOT_DONE_YET if self.body is None else self.body


class MemoryTests(SynchronousTestCase):
    """
    What the client makes of each reply, over HTTP in memory.
    """

    def client(
        self, resource: Resource, *, secret: bytes = SECRET, clock: Clock | None = None
    ) -> BootstrapClient:
        """
        A client whose requests end at ``resource``.
        """
        return BootstrapClient(
            clock or Clock(),
            make_invitation(secret=secret),
            agent_factory=lambda _: cast(
                IAgent,
                RequestTraversalAgent(resource),
            ),
        )

    def refusal(self, resource: Resource, error: type[BootstrapError]) -> Any:
        """
        The error of a request that must fail with ``error``.
        """
        asking = Deferred.fromCoroutine(self.client(resource).server_info())
        return self.failureResultOf(asking, error).value

    def test_session_is_started(self) -> None:
        """
        Client and server agree on the session for both hashes, and know each other as resip.
        """
        for hash_name in HashName:
            starting = Deferred.fromCoroutine(self.client(make_resource()).start_session(hash_name))
            grant, is_prototype = self.successResultOf(starting)
            self.assertEqual(grant, make_grant(hash_name, session_id=0))
            self.assertFalse(is_prototype)

    def test_prototype_is_told_by_its_server_header(self) -> None:
        """
        A server that does not call itself resip is the prototype.
        """
        for headers in ({}, {"server": "nginx"}):
            resource = Canned(200, make_grant().to_json(), **headers)
            starting = Deferred.fromCoroutine(self.client(resource).start_session())
            self.assertTrue(self.successResultOf(starting)[1])

    def test_server_info(self) -> None:
        """
        The run and the clock of the server.
        """
        asking = Deferred.fromCoroutine(self.client(make_resource()).server_info())
        self.assertEqual(self.successResultOf(asking), ServerInfo(1, 2))

    def test_wrong_key_is_final(self) -> None:
        """
        A refused key names the key, shows nothing of it, and is no matter of time.
        """
        client = self.client(make_resource(), secret=bytes(32))
        error: Any = self.failureResultOf(Deferred.fromCoroutine(client.server_info())).value
        self.assertIsInstance(error, KeyRefused)
        self.assertFalse(error.is_retryable)
        self.assertIn("'alice'", str(error))
        self.assertNotIn(derive_api_key(bytes(32)), str(error))

    def test_rate_limit_is_waited_out(self) -> None:
        """
        429 says how long to wait, within reason.
        """
        body = error_body(ErrorCode.TOO_MANY_REQUESTS)
        for text, seconds in (("7", 7.0), ("0", 1.0), ("junk", 1.0), ("99999", 300.0)):
            error = self.refusal(Canned(429, body, retry_after=text), RateLimited)
            self.assertEqual((error.retry_after, error.is_retryable), (seconds, True))

    def test_refusals_carry_their_code(self) -> None:
        """
        400 tells the code; only a full server is worth another try.
        """
        for code, is_retryable in (
            (ErrorCode.INVALID_API_CALL, False),
            (ErrorCode.TOO_MANY_SESSIONS, True),
        ):
            error = self.refusal(Canned(400, error_body(code)), RequestRefused)
            self.assertEqual((error.error_code, error.is_retryable), (code, is_retryable))

    def test_failing_server_is_retried(self) -> None:
        """
        5xx may pass.
        """
        self.assertTrue(self.refusal(Canned(502, b"<html>"), ServerFailed).is_retryable)

    def test_other_servers_are_recognised(self) -> None:
        """
        Pages, redirects and forms that are not ours end in NotAResipServer.
        """
        for resource in (
            Canned(200, b"<html>"),
            Canned(200, b"{}"),
            Canned(403, b"Forbidden"),
            Canned(404, b""),
            Canned(400, b"Bad Request"),
            Canned(302, b"", location="https://127.0.0.1:9/elsewhere"),
        ):
            self.assertFalse(self.refusal(resource, NotAResipServer).is_retryable)

    def test_reply_is_bounded(self) -> None:
        """
        A reply beyond the limit is not collected, and a compressed one not unpacked.
        """
        self.assertIn("65536", str(self.refusal(Canned(200, b" " * 65537), NotAResipServer)))
        packed = gzip.compress(b" " * 10_000_000)
        resource = Canned(200, packed, content_encoding="gzip")
        self.assertIn("JSON", str(self.refusal(resource, NotAResipServer)))

    def test_silent_server_times_out(self) -> None:
        """
        A server that takes the request and says nothing is given up after a while.
        """
        clock = Clock()
        client = self.client(Canned(200, None), clock=clock)
        asking = Deferred.fromCoroutine(client.server_info())
        clock.advance(19.9)
        self.assertNoResult(asking)
        clock.advance(0.2)
        error: Any = self.failureResultOf(asking, Unreachable).value
        self.assertTrue(error.is_retryable)
        self.assertIn("within 20 s", str(error))
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_cancelling_is_passed_on(self) -> None:
        """
        Whoever cancels gets CancelledError, and no timer stays.
        """
        clock = Clock()
        asking = Deferred.fromCoroutine(self.client(Canned(200, None), clock=clock).server_info())
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual(clock.getDelayedCalls(), [])


class Talker(Protocol):
    """
    Says something that is no TLS, and closes.
    """

    def connectionMade(self) -> None:
        """
        Say it.
        """
        assert self.transport is not None
        self.transport.write(b"220 mail.example.org ESMTP\r\n")
        self.transport.loseConnection()


class Hanger(Protocol):
    """
    Closes at once.
    """

    def connectionMade(self) -> None:
        """
        Close.
        """
        assert self.transport is not None
        self.transport.loseConnection()


class LoopbackTests(TestCase):
    """
    Real TLS over real sockets.
    """

    def setUp(self) -> None:
        """
        A server's identity.
        """
        self.identity = load_or_create(StateDirectory(Path(self.mktemp())))

    async def listen(self, resource: Resource | None = None, options: Any = None) -> int:
        """
        Serve over TLS and return the port.
        """
        factory = bootstrap_factory(resource or make_resource(), cast(Any, reactor))
        return await self.listen_with(
            SSL4ServerEndpoint(
                reactor,
                0,
                options or server_tls_options(self.identity),
                interface="127.0.0.1",
            ),
            factory,
        )

    async def listen_with(self, endpoint: Any, factory: Any) -> int:
        """
        Listen until the test ends and return the port.
        """
        port: IListeningPort = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        number: int = cast(Any, port.getHost()).port
        return number

    async def failure_of(self, work: Coroutine[Any, Any, object]) -> BootstrapError:
        """
        The error that ``work`` raises.
        """
        try:
            await work
        except BootstrapError as error:
            return error
        self.fail("nothing was raised")

    async def test_session_is_started(self) -> None:
        """
        With the right pin a session starts, over IPv4 and TLS.
        """
        port = await self.listen()
        client = BootstrapClient(reactor, make_invitation(port, pin=self.identity.pin))
        grant, is_prototype = await client.start_session()
        self.assertEqual(grant, make_grant(session_id=0))
        self.assertFalse(is_prototype)
        self.assertEqual(await client.server_info(), ServerInfo(1, 2))

    async def test_ipv6_address(self) -> None:
        """
        An invitation to an IPv6 address is followed.
        """
        endpoint = SSL4ServerEndpoint(
            reactor, 0, server_tls_options(self.identity), interface="::1"
        )
        factory = bootstrap_factory(make_resource(), cast(Any, reactor))
        port = await self.listen_with(endpoint, factory)
        invitation = replace(make_invitation(port, pin=self.identity.pin), host="::1")
        self.assertEqual(await BootstrapClient(reactor, invitation).server_info(), ServerInfo(1, 2))
        contact = await fetch_first_contact(reactor, "::1", port)
        self.assertEqual(contact.root_pin, self.identity.pin)

    async def test_wrong_pin_is_final(self) -> None:
        """
        Another server's pin ends in PinMismatch, which says what to do, and no request arrives.
        """
        resource = Canned(500, b"")
        port = await self.listen(resource)
        client = BootstrapClient(reactor, make_invitation(port))
        error = await self.failure_of(client.server_info())
        self.assertIsInstance(error, PinMismatch)
        self.assertFalse(error.is_retryable)
        self.assertIn(f"127.0.0.1:{port} is not the one the invitation is for", str(error))
        self.assertEqual(resource.request_count, 0)

    async def test_impossible_name(self) -> None:
        """
        A host that no resolver takes is told apart from a server that is away.
        """
        invitation = replace(make_invitation(1), host="ab--cd.example.org")
        error = await self.failure_of(BootstrapClient(reactor, invitation).server_info())
        self.assertIn("no name that can be looked up", str(error))

    async def test_nobody_listens(self) -> None:
        """
        A refused connection may succeed later.
        """
        probe = cast(Any, reactor).listenTCP(0, Factory(), interface="127.0.0.1")
        port = probe.getHost().port
        await probe.stopListening()
        for work in (
            BootstrapClient(reactor, make_invitation(port)).server_info(),
            fetch_first_contact(reactor, "127.0.0.1", port),
        ):
            error = await self.failure_of(cast(Any, work))
            self.assertIsInstance(error, Unreachable)
            self.assertTrue(error.is_retryable)
            self.assertIn("refuses connections", str(error))

    async def test_other_protocols_are_recognised(self) -> None:
        """
        A server that speaks no TLS is no resip server; one that just closes may be restarting.
        """
        for protocol, expected in ((Talker, NotAResipServer), (Hanger, Unreachable)):
            port = await self.listen_with(
                TCP4ServerEndpoint(cast(Any, reactor), 0, interface="127.0.0.1"),
                Factory.forProtocol(protocol),
            )
            for work in (
                BootstrapClient(reactor, make_invitation(port)).server_info(),
                fetch_first_contact(reactor, "127.0.0.1", port),
            ):
                self.assertIsInstance(await self.failure_of(cast(Any, work)), expected)

    async def test_server_that_never_answers(self) -> None:
        """
        Silence, before the handshake or after the request, ends with the deadline.
        """
        self.patch(https_module, "REQUEST_TIMEOUT", 0.2)
        silent = await self.listen_with(
            TCP4ServerEndpoint(cast(Any, reactor), 0, interface="127.0.0.1"),
            Factory.forProtocol(Protocol),
        )
        slow = await self.listen(Canned(200, None))
        invitation = make_invitation(slow, pin=self.identity.pin)
        for work in (
            BootstrapClient(reactor, make_invitation(silent)).server_info(),
            BootstrapClient(reactor, invitation).server_info(),
            fetch_first_contact(reactor, "127.0.0.1", silent),
        ):
            self.assertIsInstance(await self.failure_of(cast(Any, work)), Unreachable)

    async def test_first_contact(self) -> None:
        """
        The first contact gives what a later pinned visit accepts, and sends no request.
        """
        asked = Canned(500, b"")
        port = await self.listen(asked)
        contact = await fetch_first_contact(reactor, "127.0.0.1", port)
        self.assertEqual(contact.root_pin, spki_hash(self.identity.root))
        self.assertEqual(contact.leaf_fingerprint, certificate_fingerprint(self.identity.leaf))
        fingerprint = contact.leaf_fingerprint.hex(":").upper()
        self.assertIn(fingerprint, contact.lines[0])
        self.assertEqual(asked.request_count, 0)

    async def test_classic_join_then_session(self) -> None:
        """
        An invitation made of a first contact and an API key starts sessions.
        """
        port = await self.listen()
        contact = await fetch_first_contact(reactor, "127.0.0.1", port)
        invitation = Invitation(
            host="127.0.0.1",
            https_port=port,
            port=1,
            name="old",
            pin=contact.root_pin,
            classic_api_key=derive_api_key(SECRET),
            leaf_fingerprint=contact.leaf_fingerprint,
        )
        self.assertEqual(await BootstrapClient(reactor, invitation).server_info(), ServerInfo(1, 2))

    async def test_first_contact_refuses_a_chain_of_one(self) -> None:
        """
        A single self-signed certificate cannot be pinned as root and leaf.
        """
        key = make_key()
        port = await self.listen(options=presenting(key, make_root(key)))
        error = await self.failure_of(fetch_first_contact(reactor, "127.0.0.1", port))
        self.assertIn("single self-signed", str(error))
