"""
Tests of :mod:`resip.carriers.http_server`: requests of those who have no session.
"""

from __future__ import annotations

from random import Random

from resip.carriers.http import MAX_GETS, MAX_POST_SIZE, numbered
from resip.carriers.tcp import INTRODUCTION_TIMEOUT, MAX_STRANGERS
from resip.carriers.web import CARRIER_PATH, TOKEN_SIZE, SessionCookie
from tests.carriers.web_fixture import BAD, GOOD, SESSION_ID, SilentFactory, WebTestCase, wrap
from tests.support.streams import CLIENT_HOST, StreamEnd

LAST_CHUNK = b"0\r\n\r\n"
TOKEN = bytes(range(TOKEN_SIZE))


class StrangerTests(WebTestCase):
    """
    Requests of those who have no session.
    """

    def ask(self, method: str, cookie: SessionCookie | None, body: bytes = b"") -> StreamEnd:
        """
        Send one request; returns the server's end of its connection.
        """
        self.network.connect(SilentFactory())  # type: ignore[arg-type]
        end = self.network.connections[-1]
        lines = [f"{method} {CARRIER_PATH} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        if cookie is not None:
            lines.append(f"Cookie: {cookie.encode().decode()}")
        end.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.network.settle()
        return end.other

    def answer(self, method: str, cookie: SessionCookie | None, body: bytes = b"") -> bytes:
        """
        What one request is answered with.
        """
        return bytes(self.ask(method, cookie, body).written)

    def test_strangers_are_refused(self) -> None:
        """
        Without a session's id, or with a POST for a link that is not there, the answer is that to
        any unknown request (M-55).
        """
        for method, body in (("GET", b""), ("POST", numbered(0, wrap(GOOD))), ("PUT", b"x")):
            expected = self.answer(method, None, body)
            self.assertTrue(expected.startswith(b"HTTP/1.1 403 "))
            for session_id in (b"\0\0\0\0", SESSION_ID):
                if method == "GET" and session_id == SESSION_ID:
                    continue
                answer = self.answer(method, SessionCookie(session_id, TOKEN), body)
                self.assertEqual(answer, expected)
        self.assertEqual(self.carriers.link_count, 0)
        self.assertEqual(self.http.received, [])

    def test_a_link_shows_a_packet_in_time(self) -> None:
        """
        Who has overheard an id gets a link, and loses it without an authentic packet.
        """
        cookie = SessionCookie(SESSION_ID, TOKEN)
        answer = self.answer("GET", cookie)
        self.assertIn(b"Cache-Control: no-store, no-transform\r\n", answer)
        self.assertIn(b"X-Accel-Buffering: no\r\n", answer)
        self.assertIn(b"Content-Type: application/octet-stream\r\n", answer)
        self.network.pass_time(INTRODUCTION_TIMEOUT - 1)
        self.assertEqual(self.carriers.link_count, 1)
        self.ask("GET", cookie)
        self.network.pass_time(1.5)
        self.assertEqual(self.carriers.link_count, 0)

    def test_garbage(self) -> None:
        """
        The first packet that is not authentic ends the link, and the POST is refused; so does a
        body without a number, or one ahead of its turn.
        """
        for body in (numbered(0, wrap(BAD)), b"\0\0\0", numbered(1, wrap(GOOD)), numbered(99)):
            cookie = SessionCookie(SESSION_ID, TOKEN)
            get = self.ask("GET", cookie)
            self.assertIn(b"HTTP/1.1 403 ", self.answer("POST", cookie, body))
            self.assertEqual(self.carriers.link_count, 0)
            self.network.settle()
            self.assertTrue(get.is_lost)

    def test_a_body_that_is_too_long(self) -> None:
        """
        Nothing beyond the longest POST is kept.
        """
        cookie = SessionCookie(SESSION_ID, TOKEN)
        self.ask("GET", cookie)
        self.assertIn(b"HTTP/1.1 413 ", self.answer("POST", cookie, bytes(MAX_POST_SIZE + 1)))

    def test_a_body_that_is_repeated(self) -> None:
        """
        A POST that a proxy sends twice counts once (M-59).
        """
        cookie = SessionCookie(SESSION_ID, TOKEN)
        self.ask("GET", cookie)
        for number in (0, 0, 1, 0, 1):
            answer = self.answer("POST", cookie, numbered(number, wrap(GOOD)))
            self.assertIn(b"HTTP/1.1 204 ", answer)
        self.assertEqual(self.http.received, [GOOD] * 2)

    def test_another_token(self) -> None:
        """
        Who knows the session's id and not the link's token can neither read nor write on it.
        """
        client, _ = self.dial_http()
        client.send(GOOD)
        self.network.settle()
        other = SessionCookie(SESSION_ID, TOKEN)
        self.assertIn(b"HTTP/1.1 403 ", self.answer("POST", other, numbered(1, wrap(GOOD))))
        get = self.ask("GET", other)
        self.http.carrier.send(self.http.paths[0], [GOOD + b"secret"])
        self.network.settle()
        self.assertNotIn(b"secret", bytes(get.written))
        self.assertEqual(client.received, [GOOD + b"secret"])

    def test_links_are_bounded(self) -> None:
        """
        However many links are opened with an overheard id, few are kept; so are their GETs.
        """
        random = Random(3)
        for number in range(MAX_STRANGERS + 20):
            self.network.client_host = f"192.0.2.{number % 200}"
            self.network.connect(SilentFactory())  # type: ignore[arg-type]
            cookie = SessionCookie(SESSION_ID, random.randbytes(TOKEN_SIZE)).encode()
            end = self.network.connections[-1]
            end.write(
                b"GET %s HTTP/1.1\r\nHost: x\r\nX: %d\r\nCookie: %s\r\n\r\n"
                % (CARRIER_PATH.encode(), number, cookie)
            )
            end.move()
        self.assertLessEqual(self.carriers.link_count, MAX_STRANGERS)
        self.network.client_host = CLIENT_HOST
        cookie_of_one = SessionCookie(SESSION_ID, TOKEN)
        ends = [self.ask("GET", cookie_of_one) for _ in range(MAX_GETS + 5)]
        ended = [end for end in ends if bytes(end.written).endswith(LAST_CHUNK)]
        self.assertEqual(len(ended), 4)

    def test_a_link_outlives_its_id(self) -> None:
        """
        A client may change its id while a link goes on.
        """
        cookie = SessionCookie(SESSION_ID, TOKEN)
        self.ask("GET", cookie)
        retired = SessionCookie(b"\0\0\0\0", TOKEN)
        self.assertIn(b" 204 ", self.answer("POST", retired, numbered(0, wrap(GOOD))))
