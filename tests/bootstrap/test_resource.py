"""
Tests for :mod:`resip.bootstrap.resource` and :mod:`resip.bootstrap.site`, over HTTP in memory.
"""

from __future__ import annotations

import json
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import connectionDone as CLOSED
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from resip import __version__
from resip.bootstrap import site as site_module
from resip.bootstrap.keystore import KeyRecord
from resip.bootstrap.messages import SESSION_START_PATH, SessionGrant
from resip.bootstrap.resource import FAILURE_BURST, REQUEST_BURST, BootstrapResource
from resip.bootstrap.site import (
    MAX_BODY_SIZE,
    MAX_CONNECTION_TIME,
    ConnectionLimits,
    bootstrap_factory,
)
from resip.core.classic.cipher import HashName
from resip.core.errors import LimitError
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


class AuthenticationTests(SynchronousTestCase):
    """
    Nothing is answered without a key.
    """

    def setUp(self) -> None:
        """
        A server that knows one key.
        """
        self.server = ServerFixture()

    def test_without_key_every_path_is_403(self) -> None:
        """
        Wrong and missing keys get the published error, whatever the path and the method.
        """
        for line in (b"GET /", INFO, START, b"HEAD /x", b"PUT /resip", b"X /%00?a=b"):
            for key in ("", "wrong"):
                status, headers, document = self.server.ask(line, key=key, host=repr((line, key)))
                self.assertEqual(status, 403)
                self.assertEqual(headers[b"content-type"], b"application/json")
                if line[:4] != b"HEAD":
                    self.assertEqual(document, FORBIDDEN)

    def test_key_is_taken_from_query_form_or_cookie(self) -> None:
        """
        Clients that cannot set headers have three other places.
        """
        key = API_KEY.encode()
        form = b"apikey=" + key
        urlencoded = b"Content-Type: application/x-www-form-urlencoded"
        for line, headers, body in (
            (INFO + b"?apikey=" + key, [], b""),
            (INFO, [b"Cookie: a=b; apikey=" + key], b""),
            (b"POST /resip/v1/nothing", [urlencoded], form),
        ):
            status, _, _ = self.server.ask(line, *headers, body=body, key="")
            self.assertNotEqual(status, 403)

    def test_keys_do_not_reach_the_log(self) -> None:
        """
        A key in an address is not logged, nor anything else of a request.
        """
        events: list[Any] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.server.ask(INFO + b"?apikey=" + API_KEY.encode(), key="")
        self.server.ask(START, body=b'{"hash":"sha1"}')
        self.assertNotIn(API_KEY, repr(events))
        self.assertNotIn("53" * 20, repr(events))


class CallTests(SynchronousTestCase):
    """
    The two calls, as published.
    """

    def setUp(self) -> None:
        """
        A server that knows one key.
        """
        self.server = ServerFixture()

    def test_server_info(self) -> None:
        """
        The run's identity and the clock, as integers; the server says that it is a resip.
        """
        status, headers, document = self.server.ask(INFO)
        self.assertEqual(status, 200)
        self.assertEqual(document, {"success": True, "started": 1700000000, "current": 1700000009})
        self.assertEqual(headers[b"content-type"], b"application/json")
        self.assertEqual(headers[b"server"], f"resip/{__version__}".encode())
        self.assertIn(b"content-length", headers)

    def test_server_info_tells_of_a_session(self) -> None:
        """
        Asked about a session, the server says whether it knows it; nonsense is not asked.
        """
        for query, expected in ((b"1", True), (b"2", False), (b"x", None), (b"9" * 11, None)):
            _, _, document = self.server.ask(INFO + b"?session=" + query)
            self.assertEqual(document.get("has_session"), expected, query)

    def test_session_start(self) -> None:
        """
        The hash is taken in any case; a client that does not say resip is the prototype.
        """
        status, _, document = self.server.ask(START, body=b'{"hash":"SHA1"}')
        self.assertEqual((status, document["session_id"]), (200, 7))
        self.server.ask(START, b"User-Agent: resip/1", body=b'{"hash":"md5"}')
        self.assertEqual(
            self.server.started_sessions,
            [("alice", HashName.SHA1, True), ("alice", HashName.MD5, False)],
        )

    def test_each_mistake_has_its_code(self) -> None:
        """
        Failures are 400 with the published codes.
        """
        for line, body, code in (
            (b"POST /resip/v1/server/info", b"", "use_get_request"),
            (b"PUT /resip/v1/server/info", b"{}", "use_get_request"),
            (b"GET /resip/v1/session/start", b"", "use_post_request"),
            (START, b"", "invalid_data"),
            (START, b"[1]", "invalid_data"),
            (START, b"{}", "missing_hash"),
            (START, b'{"hash":1}', "invalid_hash"),
            (b"GET /", b"", "invalid_api_call"),
            (INFO + b"/", b"", "invalid_api_call"),
            (b"GET /resip/v1/session/stop", b"", "invalid_api_call"),
        ):
            status, _, document = self.server.ask(line, body=body)
            self.assertEqual((status, document["success"]), (400, False))
            self.assertEqual(document["errorcode"], code)
            self.assertIsInstance(document["error"], str)
        self.assertEqual(self.server.started_sessions, [])

    def test_head_gets_no_body(self) -> None:
        """
        HEAD is not GET: refused, without a body.
        """
        status, _, document = self.server.ask(b"HEAD /resip/v1/server/info")
        self.assertEqual((status, document), (400, {}))

    def test_too_many_sessions_is_said(self) -> None:
        """
        A limit of the server is a failure that the client may wait out.
        """
        self.server.failure = LimitError("full")
        status, _, document = self.server.ask(START, body=b'{"hash":"sha1"}')
        self.assertEqual((status, document["errorcode"]), (400, "too_many_sessions"))

    def test_our_own_failure_is_logged_and_not_shown(self) -> None:
        """
        A bug gives 500 in the usual form; the traceback goes to the log alone.
        """
        self.server.failure = RuntimeError("secret detail")
        status, _, document = self.server.ask(START, body=b'{"hash":"sha1"}')
        self.assertEqual((status, document["errorcode"]), (500, "internal_error"))
        self.assertNotIn("secret detail", repr(document))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_connection_is_kept_alive(self) -> None:
        """
        A second request on the same connection is answered.
        """
        protocol, transport = self.server.connect()
        request = INFO + b" HTTP/1.1\r\nHost: x\r\nX-APIKey: " + API_KEY.encode() + b"\r\n\r\n"
        protocol.dataReceived(request)
        protocol.dataReceived(request)
        self.assertEqual(transport.value().count(b'"started":1700000000'), 2)
        self.assertFalse(transport.disconnecting)

    @given(
        method=st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"TRACE", b"post"]),
        path=st.sampled_from([b"/", INFO[4:], SESSION_START_PATH.encode(), b"/%ff?apikey=%00&=;"]),
        content_type=st.sampled_from(
            [
                b"application/json",
                b"application/x-www-form-urlencoded",
                b"multipart/form-data; boundary=x",
                b"multipart/form-data",
                b";;;",
            ]
        ),
        key=st.sampled_from(["", API_KEY, "\xff"]),
        body=st.binary(max_size=60),
    )
    @settings(max_examples=300)
    def test_no_request_breaks_the_server(
        self, method: bytes, path: bytes, content_type: bytes, key: str, body: bytes
    ) -> None:
        """
        Any request gets an answer below 500 and logs no error.
        """
        server = ServerFixture()
        reply = server.send(
            b"%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nX-APIKey: %s\r\n"
            b"Content-Length: %d\r\n\r\n%s"
            % (method, path, content_type, key.encode("latin-1"), len(body), body)
        )
        self.assertIn(reply[:12], {b"HTTP/1.1 %d" % code for code in (200, 400, 403)})
        self.assertEqual(self.flushLoggedErrors(), [])


class RateLimitTests(SynchronousTestCase):
    """
    One address cannot keep the server busy.
    """

    def setUp(self) -> None:
        """
        A server that knows one key.
        """
        self.server = ServerFixture()

    def test_failures_are_limited(self) -> None:
        """
        After a burst of failures come 429 in the usual form, with a time, until it has passed.
        """
        for _ in range(FAILURE_BURST):
            self.assertEqual(self.server.ask(INFO, key="x")[0], 403)
        status, headers, document = self.server.ask(INFO, key="x")
        self.assertEqual((status, document["errorcode"]), (429, "too_many_requests"))
        self.assertEqual(headers[b"retry-after"], b"1")
        self.assertEqual(self.server.ask(INFO, key="x", host="192.0.2.8")[0], 403)
        self.server.clock.advance(1)
        self.assertEqual(self.server.ask(INFO, key="x")[0], 403)

    def test_valid_key_is_not_locked_out(self) -> None:
        """
        Another's failures at the same address do not keep a valid key out.
        """
        for _ in range(FAILURE_BURST + 5):
            self.server.ask(INFO, key="x")
        self.assertEqual(self.server.ask(INFO)[0], 200)

    def test_all_requests_are_limited(self) -> None:
        """
        A valid key, too, may ask only so often.
        """
        statuses = [self.server.ask(INFO)[0] for _ in range(REQUEST_BURST + 1)]
        self.assertEqual(statuses[-2:], [200, 429])

    def test_clients_behind_a_proxy(self) -> None:
        """
        A proxy on this machine is believed whom it asks for, as far as it knows; others are not.
        """
        forged = b"X-Forwarded-For: 192.0.2.%d"
        for proxy in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            for number in range(FAILURE_BURST + 5):
                header = b"X-Forwarded-For: 198.51.100.9, 192.0.2.%d" % number
                self.assertEqual(self.server.ask(INFO, header, key="x", host=proxy)[0], 403)
        statuses = [
            self.server.ask(INFO, forged % number, key="x", host="192.0.2.99")[0]
            for number in range(FAILURE_BURST + 1)
        ]
        self.assertEqual(statuses[-1], 429)


class BoundTests(SynchronousTestCase):
    """
    What Twisted leaves unbounded is bounded.
    """

    def setUp(self) -> None:
        """
        A server that knows one key.
        """
        self.server = ServerFixture()

    def test_announced_body_beyond_the_limit_is_refused_at_once(self) -> None:
        """
        A large Content-Length gets 413 and the end of the connection, before any of the body.
        """
        protocol, transport = self.server.connect()
        protocol.dataReceived(
            START + b" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_SIZE + 1)
        )
        self.assertEqual(parse(transport.value())[0], 413)
        self.assertTrue(transport.disconnecting)
        protocol.dataReceived(b"x" * 100000)
        self.assertEqual(self.server.started_sessions, [])

    def test_chunked_body_beyond_the_limit_is_refused(self) -> None:
        """
        A body that does not say its length is cut off where it passes the limit.
        """
        protocol, transport = self.server.connect()
        protocol.dataReceived(START + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
        for _ in range(MAX_BODY_SIZE // 0x1000):
            protocol.dataReceived(chunk)
        self.assertEqual(transport.value(), b"")
        protocol.dataReceived(chunk)
        self.assertEqual(parse(transport.value())[2]["errorcode"], "request_too_large")
        self.assertTrue(transport.disconnecting)

    def test_largest_body_is_taken(self) -> None:
        """
        A body of just the limit is read.
        """
        body = b'{"hash":"sha1"}'.ljust(MAX_BODY_SIZE)
        self.assertEqual(self.server.ask(START, body=body)[0], 200)

    def test_slow_connection_ends(self) -> None:
        """
        A byte now and then does not keep a connection beyond its time.
        """
        protocol, transport = self.server.connect()
        protocol.dataReceived(b"GET / HTTP/1.1\r\n")
        for _ in range(int(MAX_CONNECTION_TIME)):
            self.assertFalse(transport.is_aborted)
            protocol.dataReceived(b"a: b\r\n" if transport.connected else b"")
            self.server.clock.advance(1)
        self.assertTrue(transport.is_aborted)

    def test_connections_are_limited(self) -> None:
        """
        Beyond the limits, of one address and of all, connections end at once, until others end.
        """
        self.patch(site_module, "MAX_CONNECTIONS", 3)
        self.patch(site_module, "MAX_CONNECTIONS_PER_ADDRESS", 2)
        factory: ConnectionLimits = self.server.factory
        first, _ = self.server.connect("a")
        self.server.connect("a")
        self.assertTrue(self.server.connect("a")[1].is_aborted)
        self.assertFalse(self.server.connect("b")[1].is_aborted)
        self.assertTrue(self.server.connect("c")[1].is_aborted)
        self.assertEqual(factory.connection_count, 3)
        first.connectionLost(CLOSED)
        self.assertFalse(self.server.connect("c")[1].is_aborted)
        self.assertEqual(factory.connection_count, 3)

    def test_connections_of_a_proxy(self) -> None:
        """
        From this machine, where a proxy may stand before all clients, only the whole is limited.
        """
        self.patch(site_module, "MAX_CONNECTIONS", 5)
        self.patch(site_module, "MAX_CONNECTIONS_PER_ADDRESS", 2)
        refused = [self.server.connect("127.0.0.1")[1].is_aborted for _ in range(6)]
        self.assertEqual(refused, [False] * 5 + [True])

    def test_closed_connections_leave_no_timers(self) -> None:
        """
        When a connection ends, so do its timers.
        """
        protocol, _ = self.server.connect()
        protocol.connectionLost(CLOSED)
        self.assertEqual(self.server.clock.getDelayedCalls(), [])
