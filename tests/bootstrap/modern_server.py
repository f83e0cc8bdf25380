"""
A server that shakes hands, for the tests of the modern dialect's bootstrap.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.task import Clock
from twisted.web.server import Request

from resip.bootstrap.handshake import InvitedHandshake
from resip.bootstrap.invitation import Invitation
from resip.bootstrap.keystore import KeyRecord, KeyStore
from resip.bootstrap.messages import HANDSHAKE_PATH
from resip.bootstrap.resource import BootstrapResource
from resip.bootstrap.site import bootstrap_factory
from resip.bootstrap.state import StateDirectory
from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.modern.endpoint import Accepted, ModernEndpoint
from resip.core.modern.noise import HandshakeError, public_key_of
from tests.bootstrap.http_server import Transport
from tests.bootstrap.test_messages import make_grant

#: The static key of :class:`Server`.
SERVER_KEY = X25519PrivateKey.from_private_bytes(b"\x05" * 32)
#: What every clock here shows, Unix seconds.
NOW = 1700000000.25

AcceptHandshake = Callable[[bytes], bytes | None]


class Server:
    """
    The real session API with a real key store, in front of a real endpoint, and what it accepted.
    """

    def __init__(
        self,
        state: StateDirectory,
        *,
        accept_handshake: AcceptHandshake | None = None,
        max_sessions: int = 10,
    ) -> None:
        dice = random.Random(1)
        self.keystore = KeyStore(state)
        self.accepted: list[Accepted[KeyRecord]] = []
        self.messages: list[bytes] = []
        self.api_keys: list[str] = []
        self._endpoint = ModernEndpoint[KeyRecord](
            SERVER_KEY,
            server_run=7,
            random_bytes=dice.randbytes,
            make_controller=lambda: ErasureAwareController(
                datagram_size=1200, random=dice.random, now=0.0
            ),
            max_sessions=max_sessions,
        )
        self.resource = _SpiedResource(
            self.api_keys,
            authenticate=self.keystore.authenticate,
            start_session=lambda key, hash_name, is_prototype: make_grant(hash_name),
            has_session=lambda session_id, key: False,
            accept_handshake=accept_handshake or self._accept_handshake,
            started=1,
            wall_clock=lambda: NOW,
            now=Clock().seconds,
        )
        self._factory: Any = bootstrap_factory(self.resource, Clock())

    def _accept_handshake(self, message1: bytes) -> bytes | None:
        self.messages.append(message1)
        try:
            accepted = self._endpoint.accept(
                message1, lambda key, _: self.keystore.find_by_public_key(key), now=0.0
            )
        except HandshakeError:
            return None
        self.accepted.append(accepted)
        return accepted.message2

    def invite(self, port: int = 1, pin: bytes = bytes(32)) -> Invitation:
        """
        Mint a key and invite its client.
        """
        name, secret = self.keystore.add_numbered("client")
        return Invitation(
            host="127.0.0.1",
            https_port=port,
            port=1,
            name=name,
            pin=pin,
            secret=secret,
            server_key=public_key_of(SERVER_KEY),
        )

    def post(self, body: bytes, *, method: bytes = b"POST", key: str = "") -> tuple[int, bytes]:
        """
        Status and body of the answer to a raw request.
        """
        transport = Transport()
        protocol = self._factory.buildProtocol(transport.getPeer())
        protocol.makeConnection(transport)
        protocol.dataReceived(
            b"%s %s HTTP/1.1\r\nHost: x\r\nX-APIKey: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (method, HANDSHAKE_PATH.encode(), key.encode(), len(body), body)
        )
        head, _, reply = bytes(transport.value()).partition(b"\r\n\r\n")
        return int(head.split()[1]), reply


class _SpiedResource(BootstrapResource):
    """
    Notes the API keys that requests show.
    """

    def __init__(self, api_keys: list[str], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._api_keys = api_keys

    def render(self, request: Request) -> bytes | int:
        """
        Answer as always.
        """
        self._api_keys.append(request.getHeader("x-apikey") or "")
        return super().render(request)


def begin(invitation: Invitation) -> InvitedHandshake:
    """
    A handshake whose messages the test carries.
    """
    return InvitedHandshake(invitation, random_bytes=os.urandom, wall_clock=lambda: NOW)
