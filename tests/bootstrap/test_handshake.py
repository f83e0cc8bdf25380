"""
Tests for the modern dialect's handshake over the session API: :mod:`resip.bootstrap.handshake`,
and its parts of :mod:`resip.bootstrap.client` and :mod:`resip.bootstrap.resource`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from treq.testing import RequestTraversalAgent
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.iweb import IAgent

from resip.bootstrap.certificates import load_or_create, server_tls_options
from resip.bootstrap.client import BootstrapClient
from resip.bootstrap.credentials import derive_api_key
from resip.bootstrap.errors import (
    BootstrapError,
    KeyRefused,
    PinMismatch,
    RateLimited,
    RequestRefused,
)
from resip.bootstrap.handshake import InvitedHandshake
from resip.bootstrap.invitation import Invitation
from resip.bootstrap.messages import MAX_HANDSHAKE_SIZE
from resip.bootstrap.resource import FAILURE_BURST
from resip.bootstrap.site import bootstrap_factory
from resip.bootstrap.state import StateDirectory
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.handshake import Hello, ServerHandshake, Welcome, derive_static_key
from resip.core.modern.noise import HandshakeError, public_key_of
from resip.core.modern.packet_keys import CipherSuite
from resip.core.modern.parts import Agreement
from tests.bootstrap.http_server import FORBIDDEN
from tests.bootstrap.modern_server import NOW, SERVER_KEY, AcceptHandshake, Server, begin
from tests.bootstrap.test_client import Canned

STRANGER_KEY = X25519PrivateKey.from_private_bytes(b"\x06" * 32)


def shake_hands(client: BootstrapClient) -> Deferred[tuple[Agreement, Welcome]]:
    """
    One handshake of a client.
    """
    return Deferred.fromCoroutine(client.handshake(begin(client.invitation)))


class InvitedHandshakeTests(SynchronousTestCase):
    """
    From an invitation to an agreement.
    """

    def setUp(self) -> None:
        """
        A server and an invitation to it.
        """
        self.server = Server(StateDirectory(Path(self.mktemp())))
        self.invitation = self.server.invite()

    def test_hello(self) -> None:
        """
        Message 1 has the client's key, its credits, and the time in milliseconds.
        """
        heard, hello = ServerHandshake(SERVER_KEY, os.urandom).read(begin(self.invitation).message1)
        self.assertEqual(heard, public_key_of(derive_static_key(self.invitation.secret or b"")))
        expected = Hello(
            session_id=hello.session_id,
            time_ms=1700000000250,
            session_credit=INITIAL_SESSION_WINDOW,
            channel_credit=INITIAL_CHANNEL_WINDOW,
        )
        self.assertEqual(hello, expected)

    def test_session_id_is_not_zero(self) -> None:
        """
        There is no id 0, so the dice are thrown again.
        """
        throws: Iterator[bytes] = iter([bytes(4), b"\x00\x00\x00\x09"])
        handshake = InvitedHandshake(
            self.invitation,
            random_bytes=lambda size: next(throws) if size == 4 else os.urandom(size),
            wall_clock=lambda: NOW,
        )
        _, hello = ServerHandshake(SERVER_KEY, os.urandom).read(handshake.message1)
        self.assertEqual(hello.session_id, 9)

    def test_classic_invitation_says_what_to_do(self) -> None:
        """
        Without the server's key, or without a secret, there is no handshake to be had.
        """
        joined = replace(
            self.invitation, secret=None, classic_api_key="k", leaf_fingerprint=bytes(32)
        )
        for invitation in (replace(self.invitation, server_key=None), joined):
            with self.assertRaisesRegex(BootstrapError, "use --classic, or ask") as caught:
                begin(invitation)
            self.assertFalse(caught.exception.is_retryable)

    def test_server_key_of_low_order(self) -> None:
        """
        A point with which there is no secret is no key of a server.
        """
        with self.assertRaisesRegex(BootstrapError, "cannot be one: ask") as caught:
            begin(replace(self.invitation, server_key=bytes(32)))
        self.assertFalse(caught.exception.is_retryable)


class ClientTests(SynchronousTestCase):
    """
    The client against the real resource, over HTTP in memory.
    """

    def setUp(self) -> None:
        """
        A server and an invitation to it.
        """
        self.state = StateDirectory(Path(self.mktemp()))
        self.server = Server(self.state)
        self.invitation = self.server.invite()

    def client(self, invitation: Invitation | None = None, resource: Any = None) -> BootstrapClient:
        """
        A client whose requests end at the server, or at ``resource``.
        """
        agent = RequestTraversalAgent(resource or self.server.resource)
        return BootstrapClient(
            Clock(),
            invitation or self.invitation,
            agent_factory=lambda _: cast(IAgent, agent),
        )

    def test_agreement(self) -> None:
        """
        Both sides have the same ids, and the client has what the welcome says.
        """
        agreement, welcome = self.successResultOf(shake_hands(self.client()))
        (accepted,) = self.server.accepted
        self.assertEqual(accepted.owner.name, self.invitation.name)
        self.assertEqual(agreement.peer_id, accepted.session.session_id)
        self.assertEqual((agreement.is_client, welcome.server_run), (True, 7))
        self.assertNotEqual(agreement.local_id, 0)
        self.assertEqual(
            (agreement.session_credit, agreement.channel_credit, agreement.peer_token),
            (INITIAL_SESSION_WINDOW, INITIAL_CHANNEL_WINDOW, welcome.reset_token),
        )

    def test_api_key_is_not_sent(self) -> None:
        """
        Whoever ends TLS in the middle does not learn the classic credential either.
        """
        self.successResultOf(shake_hands(self.client()))
        self.assertEqual(self.server.api_keys, [""])

    def test_revoked_key_is_refused(self) -> None:
        """
        A key that the server does not know any more ends as with the classic dialect.
        """
        self.server.keystore.revoke(self.invitation.name)
        error: Any = self.failureResultOf(shake_hands(self.client()), KeyRefused).value
        self.assertFalse(error.is_retryable)
        self.assertIn(repr(self.invitation.name), str(error))

    def test_wrong_server_key_is_refused(self) -> None:
        """
        An invitation for another server cannot be read here, and starts nothing.
        """
        other = replace(self.invitation, server_key=public_key_of(STRANGER_KEY))
        self.failureResultOf(shake_hands(self.client(other)), KeyRefused)
        self.assertEqual(self.server.accepted, [])

    def test_full_server_is_waited_out(self) -> None:
        """
        A known client learns that there are as many sessions as allowed.
        """
        server = Server(self.state, max_sessions=0)
        client = self.client(resource=server.resource)
        error: Any = self.failureResultOf(shake_hands(client), RequestRefused).value
        self.assertEqual((error.error_code, error.is_retryable), ("too_many_sessions", True))

    def test_forged_answers(self) -> None:
        """
        Whatever a server without the static key says, it is taken for what it is.
        """
        for body in (b"", b"{}", bytes(48), os.urandom(200), self.message2_for_another()):
            client = self.client(resource=Canned(200, body))
            error: Any = self.failureResultOf(shake_hands(client), PinMismatch).value
            self.assertFalse(error.is_retryable)
            self.assertIn("does not have the key of the server", str(error))

    def message2_for_another(self) -> bytes:
        """
        The server's genuine answer to another handshake of the same client.
        """
        _, message2 = self.server.post(begin(self.invitation).message1)
        return message2

    def test_refusals_are_limited(self) -> None:
        """
        After a burst of failures come 429; a known client still gets in.
        """
        stranger = replace(self.invitation, secret=bytes(32))
        for _ in range(FAILURE_BURST):
            self.failureResultOf(shake_hands(self.client(stranger)), KeyRefused)
        self.failureResultOf(shake_hands(self.client(stranger)), RateLimited)
        self.successResultOf(shake_hands(self.client()))


class ResourceTests(SynchronousTestCase):
    """
    What the server answers to raw requests.
    """

    def setUp(self) -> None:
        """
        A server and an invitation to it.
        """
        self.server = Server(StateDirectory(Path(self.mktemp())))
        self.invitation = self.server.invite()

    def test_every_refusal_is_the_same(self) -> None:
        """
        Junk, a stranger's and a damaged handshake get one answer, after the endpoint's work (M-4).
        """
        stranger = begin(replace(self.invitation, secret=bytes(32))).message1
        damaged = begin(self.invitation).message1[:-1]
        bodies = [b"", b"{}", bytes(200), stranger, damaged]
        for body in bodies:
            status, reply = self.server.post(body)
            self.assertEqual((status, json.loads(reply)), (403, FORBIDDEN))
        self.assertEqual(self.server.messages, bodies)

    def test_success_is_binary(self) -> None:
        """
        Message 2 comes as it is, and its type says so.
        """
        handshake = begin(self.invitation)
        status, reply = self.server.post(handshake.message1)
        self.assertEqual(status, 200)
        self.assertEqual(reply, self.server.accepted[0].message2)
        handshake.finish(reply)

    def test_oversized_body(self) -> None:
        """
        A body of just the limit is tried, a longer one refused unread, in the same words.
        """
        self.assertEqual(self.server.post(bytes(MAX_HANDSHAKE_SIZE))[0], 403)
        message1 = begin(self.invitation).message1
        status, reply = self.server.post(message1.ljust(MAX_HANDSHAKE_SIZE + 1))
        self.assertEqual((status, json.loads(reply)), (403, FORBIDDEN))
        self.assertEqual([len(tried) for tried in self.server.messages], [MAX_HANDSHAKE_SIZE])

    def test_other_methods_need_a_key(self) -> None:
        """
        A stranger's GET is refused like any call; with a key it learns what to use.
        """
        self.assertEqual(self.server.post(b"", method=b"GET")[0], 403)
        key = derive_api_key(self.invitation.secret or b"")
        status, reply = self.server.post(b"", method=b"GET", key=key)
        self.assertEqual((status, json.loads(reply)["errorcode"]), (400, "use_post_request"))

    def test_replayed_message_1_is_harmless(self) -> None:
        """
        It gets an answer that only who made it can read, and touches no other session.
        """
        handshake = begin(self.invitation)
        _, first = self.server.post(handshake.message1)
        status, second = self.server.post(handshake.message1)
        self.assertEqual(status, 200)
        self.assertNotEqual(first, second)
        with self.assertRaises(HandshakeError):
            begin(self.invitation).finish(second)
        agreement, _ = handshake.finish(first)
        genuine, replayed = (accepted.session.session_id for accepted in self.server.accepted)
        self.assertEqual(agreement.peer_id, genuine)
        self.assertNotEqual(genuine, replayed)


class LoopbackTests(TestCase):
    """
    Real TLS over real sockets.
    """

    async def serve(self, accept_handshake: AcceptHandshake | None = None) -> BootstrapClient:
        """
        Serve until the test ends, with the genuine certificate; returns a client of it.
        """
        state = StateDirectory(Path(self.mktemp()))
        identity = load_or_create(state)
        self.server = Server(state, accept_handshake=accept_handshake)
        endpoint = SSL4ServerEndpoint(
            reactor, 0, server_tls_options(identity), interface="127.0.0.1"
        )
        factory = bootstrap_factory(self.server.resource, cast(Any, reactor))
        port: Any = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        invitation = self.server.invite(port.getHost().port, identity.pin)
        return BootstrapClient(reactor, invitation)

    async def test_handshake(self) -> None:
        """
        Client and server agree over HTTPS.
        """
        agreement, welcome = await shake_hands(await self.serve())
        self.assertEqual(agreement.peer_id, self.server.accepted[0].session.session_id)
        self.assertEqual(agreement.secrets.cipher, welcome.cipher)

    async def test_stranger_with_the_certificate_cannot_answer(self) -> None:
        """
        Who ends TLS with the certificate's key, but has not the static key, is found out: neither
        reads message 1 nor writes a message 2 that is accepted.
        """
        problems: list[str] = []

        def forge(message1: bytes) -> bytes:
            try:
                ServerHandshake(STRANGER_KEY, os.urandom).read(message1)
            except HandshakeError as error:
                problems.append(str(error))
            return message2_by_stranger()

        with self.assertRaises(PinMismatch):
            await shake_hands(await self.serve(forge))
        self.assertEqual(len(problems), 1)


def message2_by_stranger() -> bytes:
    """
    A well-formed message 2 by a server with another key, to a client of its own.
    """
    invitation = Invitation(
        host="127.0.0.1",
        https_port=1,
        port=1,
        name="x",
        pin=bytes(32),
        secret=bytes(32),
        server_key=public_key_of(STRANGER_KEY),
    )
    handshake = ServerHandshake(STRANGER_KEY, os.urandom)
    handshake.read(begin(invitation).message1)
    welcome = Welcome(
        session_id=1,
        cipher=CipherSuite.AES_128_GCM,
        reset_token=bytes(16),
        session_credit=1,
        channel_credit=1,
        server_run=1,
    )
    return handshake.answer(welcome)[0]
