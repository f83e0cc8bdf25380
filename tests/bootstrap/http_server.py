"""
The HTTP server of the bootstrap, over memory.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import connectionDone as CLOSED
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from resip.bootstrap.keystore import KeyRecord
from resip.bootstrap.messages import SessionGrant
from resip.bootstrap.resource import BootstrapResource
from resip.bootstrap.site import bootstrap_factory
from resip.core.classic.cipher import HashName
from tests.bootstrap.test_messages import make_grant

API_KEY = "0123456789abcdef"
ALICE = KeyRecord("alice", bytes(32), None, 0)

INFO = b"GET /resip/v1/server/info"
START = b"POST /resip/v1/session/start"

FORBIDDEN = {
    "success": False,
    "error": "Invalid or missing 'apikey'.",
    "errorcode": "invalid_missing_apikey",
}


class Transport(StringTransport):
    """
    A connection from a given address that can be aborted.
    """

    def __init__(self, host: str = "192.0.2.7") -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 5000))
        self.is_aborted = False

    def abortConnection(self) -> None:
        """
        What the connection limits do at the deadline.
        """
        self.is_aborted = True


class ServerFixture:
    """
    A whole HTTP server over memory, and what was asked of it.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.started_sessions: list[tuple[str, HashName, bool]] = []
        self.failure: Exception | None = None
        resource = BootstrapResource(
            authenticate=lambda key: ALICE if key == API_KEY else None,
            start_session=self._start_session,
            has_session=lambda session_id, key: session_id == 1,
            accept_handshake=lambda message1: None,
            started=1700000000,
            wall_clock=lambda: 1700000009.7,
            now=self.clock.seconds,
        )
        self.factory: Any = bootstrap_factory(resource, self.clock)

    def _start_session(
        self, key: KeyRecord, hash_name: HashName, is_prototype: bool
    ) -> SessionGrant:
        if self.failure is not None:
            raise self.failure
        self.started_sessions.append((key.name, hash_name, is_prototype))
        return make_grant(hash_name)

    def connect(self, host: str = "192.0.2.7") -> tuple[Any, Transport]:
        """
        Open a connection.
        """
        transport = Transport(host)
        protocol = self.factory.buildProtocol(transport.getPeer())
        protocol.makeConnection(transport)
        return protocol, transport

    def send(self, data: bytes, host: str = "192.0.2.7") -> bytes:
        """
        What the server answers to ``data`` on a connection of its own.
        """
        protocol, transport = self.connect(host)
        protocol.dataReceived(data)
        protocol.connectionLost(CLOSED)
        return bytes(transport.value())

    def ask(
        self,
        line: bytes,
        *headers: bytes,
        body: bytes = b"",
        key: str = API_KEY,
        host: str = "192.0.2.7",
    ) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
        """
        Status, headers and JSON of the answer to one request.
        """
        lines = [line + b" HTTP/1.1", b"Host: x", *headers]
        if key:
            lines.append(b"X-APIKey: " + key.encode())
        if body:
            lines.append(b"Content-Length: %d" % len(body))
        return parse(self.send(b"\r\n".join(lines) + b"\r\n\r\n" + body, host))


def parse(reply: bytes) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    """
    Cut an HTTP reply into status, headers and JSON.
    """
    head, _, body = reply.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines)}
    return int(status.split()[1]), headers, json.loads(body) if body else {}
