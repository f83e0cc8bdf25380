"""
Tests of :mod:`resip.carriers.web`: how requests are written.
"""

from __future__ import annotations

from resip.carriers.web import CARRIER_PATH, TOKEN_SIZE, SessionCookie, WebAddress, parse_cookie
from tests.carriers.web_fixture import GOOD, SESSION_ID, WebTestCase
from tests.support.streams import StreamEnd

TOKEN = bytes(range(TOKEN_SIZE))


def requests(end: StreamEnd) -> list[bytes]:
    """
    The first lines of what a client sent on a connection.
    """
    return [
        line for line in bytes(end.written).split(b"\r\n") if line.startswith((b"GET ", b"POST "))
    ]


class AddressTests(WebTestCase):
    """
    How requests are written.
    """

    def test_absolute_form(self) -> None:
        """
        A proxy that is asked for an address gets it whole, with its headers on each request.
        """
        self.address = WebAddress(
            "server.example.com:80",
            prefix="http://server.example.com:80",
            headers=((b"Proxy-Authorization", b"Basic c2VjcmV0"),),
        )
        self.assertNotIn("c2VjcmV0", repr(self.address))
        self.dial_http()
        self.dial_websocket()
        for end in self.network.connections:
            line = f"GET http://server.example.com:80{CARRIER_PATH} HTTP/1.1"
            self.assertEqual(requests(end)[0], line.encode())
            self.assertIn(b"\r\nHost: server.example.com:80\r\n", bytes(end.written))
            self.assertIn(b"\r\nProxy-Authorization: Basic c2VjcmV0\r\n", bytes(end.written))

    def test_the_address_tells_nothing(self) -> None:
        """
        Neither the session's id nor the link's token stands in a request line (M-54).
        """
        client, _ = self.dial_http()
        client.send(GOOD)
        self.network.settle()
        lines = {line for end in self.network.connections for line in requests(end)}
        path = CARRIER_PATH.encode()
        self.assertEqual(lines, {b"GET %s HTTP/1.1" % path, b"POST %s HTTP/1.1" % path})

    def test_cookies(self) -> None:
        """
        What one side says the other understands, and nothing else is taken for it (M-54).
        """
        for cookie in (
            SessionCookie(SESSION_ID),
            SessionCookie(SESSION_ID, TOKEN),
            SessionCookie(SESSION_ID, TOKEN, is_short=True),
        ):
            name, _, value = cookie.encode().partition(b"=")
            self.assertEqual((name, parse_cookie(value)), (b"resip", cookie))
        refused: tuple[bytes | None, ...] = (
            None,
            b"",
            b"0badca",
            b"0badcafe00",
            b"0badcafx",
            b"0badcafe-00",
            b"0badcafe-" + TOKEN.hex().encode() + b"-long",
            b"0badcafe-" + TOKEN.hex().encode() + b"-short-short",
            b"\xff" * 8,
        )
        for text in refused:
            self.assertIsNone(parse_cookie(text), text)
