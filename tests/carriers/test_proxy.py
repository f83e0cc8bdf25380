"""
Tests of TCP through an HTTP proxy.
"""

from __future__ import annotations

import base64
import os

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from resip.carriers.proxy import (
    DEFAULT_PROXY_PORT,
    MAX_ANSWER_SIZE,
    Proxy,
    ProxyRefusal,
    ProxyURLError,
    parse_proxy,
    proxy_from_environment,
    through_proxy,
)

SECRET = "pass@word"


class ParseTests(SynchronousTestCase):
    """
    How users name proxies.
    """

    def test_forms(self) -> None:
        """
        Scheme, credentials and port may be left out; IPv6 addresses stand in brackets.
        """
        for url, proxy in (
            ("http://proxy.example:8080", Proxy("proxy.example", 8080)),
            ("http://proxy.example:8080/", Proxy("proxy.example", 8080)),
            ("proxy.example", Proxy("proxy.example", DEFAULT_PROXY_PORT)),
            ("http://[2001:db8::1]:3129", Proxy("2001:db8::1", 3129)),
            ("http://user:pass%40word@p:1", Proxy("p", 1, f"user:{SECRET}")),
        ):
            self.assertEqual(parse_proxy(url), proxy, url)

    def test_what_is_no_proxy_is_refused_without_repeating_it(self) -> None:
        """
        The message does not contain what may be a password.
        """
        for url in (
            f"socks5://u:{SECRET}@p",
            f"https://u:{SECRET}@p",
            f"http://u:{SECRET}@p:x",
            f"http://u:{SECRET}@",
            f"http://p/{SECRET}",
            "http://p:0",
            "",
        ):
            error = self.assertRaises(ProxyURLError, parse_proxy, url)
            self.assertNotIn(SECRET, str(error), url)

    def test_secrets_are_not_shown(self) -> None:
        """
        Neither ``repr`` nor ``str`` of a proxy, nor of its endpoints, tells the password.
        """
        proxy = Proxy("p", 1, f"user:{SECRET}")
        endpoint = through_proxy(reactor, proxy)("h", 2)
        for text in (repr(proxy), str(proxy), repr(endpoint)):
            self.assertNotIn(SECRET, text)


class EnvironmentTests(SynchronousTestCase):
    """
    The variables that other programs heed, too.
    """

    def setUp(self) -> None:
        """
        An environment without any.
        """
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        self.patch(os, "environ", kept)

    def test_none(self) -> None:
        """
        Without variables there is no proxy; HTTP_PROXY is for other traffic.
        """
        os.environ["http_proxy"] = "http://p:1"
        self.assertIsNone(proxy_from_environment("h"))

    def test_each_variable(self) -> None:
        """
        HTTPS_PROXY wins over ALL_PROXY, in either case of letters.
        """
        os.environ["ALL_PROXY"] = "http://all:1"
        self.assertEqual(proxy_from_environment("h"), Proxy("all", 1))
        os.environ["https_proxy"] = "http://mine:2"
        self.assertEqual(proxy_from_environment("h"), Proxy("mine", 2))

    def test_exceptions(self) -> None:
        """
        NO_PROXY excepts hosts and domains.
        """
        os.environ["HTTPS_PROXY"] = "http://p:1"
        os.environ["NO_PROXY"] = "localhost,.example.com"
        self.assertIsNone(proxy_from_environment("localhost"))
        self.assertIsNone(proxy_from_environment("a.example.com"))
        self.assertIsNotNone(proxy_from_environment("example.org"))

    def test_mistakes_name_the_variable(self) -> None:
        """
        What cannot be used is an error that says where it stands.
        """
        os.environ["HTTPS_PROXY"] = "socks5://p:1"
        error = self.assertRaises(ProxyURLError, proxy_from_environment, "h")
        self.assertIn("HTTPS_PROXY", str(error))


class ScriptedProxy(Protocol):
    """
    Answers the first bytes with what it was told to, and keeps all that comes.
    """

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it, and answer once.
        """
        self.received += data
        if self.answer is not None and b"\r\n\r\n" in self.received:
            answer, self.answer = self.answer, None
            assert self.transport is not None
            self.transport.write(answer)
            if not answer:
                self.transport.loseConnection()


class Recorder(Protocol):
    """
    Behind the proxy: what the user of the connection hears.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[None] = Deferred()
        self.enough: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.heard += data
        if self.heard.endswith(b"!") and not self.enough.called:
            self.enough.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The end.
        """
        self.lost.callback(None)


class ConnectTests(TestCase):
    """
    Endpoints that have a proxy connect them.
    """

    async def start(self, answer: bytes | None, credentials: str = "") -> Proxy:
        """
        A proxy that gives one answer.
        """
        self.proxy = ScriptedProxy(answer)
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port: IListeningPort = await endpoint.listen(Factory.forProtocol(lambda: self.proxy))
        self.addCleanup(port.stopListening)
        return Proxy("127.0.0.1", port.getHost().port, credentials)  # type: ignore[attr-defined]

    async def connect(self, proxy: Proxy, host: str = "server.example") -> Recorder:
        """
        Connect by way of it.
        """
        recorder = Recorder()
        endpoint = through_proxy(reactor, proxy)(host, 443)
        await endpoint.connect(Factory.forProtocol(lambda: recorder))
        return recorder

    async def refusal(self, answer: bytes | None, credentials: str = "") -> str:
        """
        The message with which connecting fails.
        """
        proxy = await self.start(answer, credentials)
        try:
            await self.connect(proxy)
        except ProxyRefusal as error:
            return str(error)
        self.fail("the proxy said no")

    async def test_bytes_pass_both_ways(self) -> None:
        """
        After the yes the connection is the user's, what came right behind it included.
        """
        proxy = await self.start(b"HTTP/1.1 200 Go ahead\r\nVia: x\r\n\r\nhello")
        recorder = await self.connect(proxy)
        assert recorder.transport is not None and self.proxy.transport is not None
        recorder.transport.write(b"ping")
        self.proxy.transport.write(b" there!")
        await recorder.enough
        self.assertEqual(recorder.heard, b"hello there!")
        recorder.transport.loseConnection()
        await recorder.lost
        head, _, rest = self.proxy.received.partition(b"\r\n\r\n")
        self.assertEqual(head.split(b"\r\n")[0], b"CONNECT server.example:443 HTTP/1.1")
        self.assertEqual(rest, b"ping")

    async def test_an_ipv6_server_stands_in_brackets(self) -> None:
        """
        As an address with colons needs.
        """
        recorder = await self.connect(await self.start(b"HTTP/1.1 200 OK\r\n\r\n"), "2001:db8::7")
        self.assertIn(b"CONNECT [2001:db8::7]:443 ", self.proxy.received)
        assert recorder.transport is not None
        recorder.transport.loseConnection()
        await recorder.lost

    async def test_credentials_are_given(self) -> None:
        """
        User and password go along with the request, as RFC 7617 has it.
        """
        proxy = await self.start(b"HTTP/1.1 200 OK\r\n\r\n", f"user:{SECRET}")
        recorder = await self.connect(proxy)
        wanted = b"Basic " + base64.b64encode(f"user:{SECRET}".encode())
        self.assertIn(b"Proxy-Authorization: " + wanted, self.proxy.received)
        assert recorder.transport is not None
        recorder.transport.loseConnection()
        await recorder.lost

    async def test_missing_credentials_are_asked_for(self) -> None:
        """
        407 says what to do; with credentials it says that they are the wrong ones.
        """
        answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!"
        self.assertIn("wants a user and password", await self.refusal(answer))
        message = await self.refusal(answer, f"user:{SECRET}")
        self.assertIn("wants other user", message)
        self.assertNotIn(SECRET, message)

    async def test_other_refusals_are_passed_on(self) -> None:
        """
        Status and reason are in the message.
        """
        message = await self.refusal(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        self.assertIn("403 Forbidden", message)
        self.assertIn("server.example:443", message)

    async def test_what_is_no_proxy_is_told(self) -> None:
        """
        Another protocol, an endless answer and an early end are errors with a cause.
        """
        self.assertIn("is no HTTP proxy", await self.refusal(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))
        endless = b"HTTP/1.1 200 OK\r\nX: " + bytes(MAX_ANSWER_SIZE + 1).replace(b"\0", b"x")
        self.assertIn("is no HTTP proxy", await self.refusal(endless))
        self.assertIn("without an answer", await self.refusal(b""))

    async def test_an_unreachable_proxy_fails_like_any_connection(self) -> None:
        """
        The error is that of TCP.
        """
        proxy = await self.start(None)
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Protocol))
        number = port.getHost().port
        await port.stopListening()
        with self.assertRaises(ConnectionRefusedError):
            await self.connect(Proxy(proxy.host, number))

    async def test_a_cancelled_attempt_leaves_nothing(self) -> None:
        """
        Who gives up waiting closes the connection.
        """
        proxy = await self.start(None)
        connecting = Deferred.fromCoroutine(self.connect(proxy))
        gone: Deferred[None] = Deferred()
        self.patch(ScriptedProxy, "connectionLost", lambda *_: gone.callback(None))
        while not self.proxy.received:
            waiting: Deferred[None] = Deferred()
            reactor.callLater(0, waiting.callback, None)
            await waiting
        connecting.addErrback(lambda failure: None)
        connecting.cancel()
        await gone
