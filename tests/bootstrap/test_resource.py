"""
Tests for :mod:`resip.bootstrap.resource`, over HTTP in memory.
"""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from resip import __version__
from resip.bootstrap.messages import SESSION_START_PATH
from resip.bootstrap.resource import FAILURE_BURST, REQUEST_BURST
from resip.core.classic.cipher import HashName
from resip.core.errors import LimitError
from tests.bootstrap.http_server import API_KEY, FORBIDDEN, INFO, START, ServerFixture


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
