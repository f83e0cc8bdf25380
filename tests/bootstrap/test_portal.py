"""
Tests of :mod:`resip.bootstrap.portal`.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from resip.bootstrap import portal
from resip.bootstrap.portal import find_login_page, is_loopback, login_page
from resip.lab.reactor import get_port_number
from tests.tunnel.programs import the_reactor

HOST = "vpn.example.com"


class LoginPageTests(SynchronousTestCase):
    """
    What answers say.
    """

    def test_a_redirect_to_somebody_else(self) -> None:
        """
        It names the page, of which no more than scheme, host and port are passed on.
        """
        for location, page in (
            ("http://login.hotel.test/?mac=00:11&to=vpn", "http://login.hotel.test/"),
            ("https://login.hotel.test:8443/x", "https://login.hotel.test:8443/"),
            ("http://192.0.2.1/login", "http://192.0.2.1/"),
            ("http://[2001:db8::1]:81/login", "http://[2001:db8::1]:81/"),
        ):
            for status in (301, 302, 303, 307, 308):
                self.assertEqual(login_page(HOST, status, location), page)
        self.assertEqual(
            login_page("192.0.2.7", 302, "http://192.0.2.1/login"), "http://192.0.2.1/"
        )

    def test_ordinary_web_servers(self) -> None:
        """
        Pages, errors and redirects within a domain say nothing of a login.
        """
        for status, location in (
            (200, ""),
            (404, ""),
            (200, "http://login.hotel.test/"),
            (301, "https://vpn.example.com/"),
            (301, "https://www.Example.com./"),
            (302, "/login"),
            (302, ""),
        ):
            self.assertIsNone(login_page(HOST, status, location))

    def test_a_network_that_says_so(self) -> None:
        """
        The status made for it needs no redirect: any page leads to the login.
        """
        self.assertEqual(login_page(HOST, 511, ""), "http://vpn.example.com/")

    def test_nonsense(self) -> None:
        """
        What is no address of a page is not passed on to the log.
        """
        for location in (
            "http://",
            "http://a b/",
            "http://evil\x1b[31m.test/",
            "http://host:port/",
            "http://[::1/",
            "javascript://host.test/",
        ):
            self.assertIsNone(login_page(HOST, 302, location), location)

    def test_this_machine(self) -> None:
        """
        It is not behind any network.
        """
        for host, expected in (
            ("127.0.0.1", True),
            ("::1", True),
            ("localhost", True),
            ("192.0.2.1", False),
            (HOST, False),
        ):
            self.assertEqual(is_loopback(host), expected)


class Answerer(Protocol):
    """
    Answers every request with the same bytes, and does not close.
    """

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def dataReceived(self, data: bytes) -> None:
        """
        Answer.
        """
        assert self.transport is not None
        self.transport.write(self._answer)


class Answerers(ServerFactory):
    """
    Makes them.
    """

    noisy = False

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """
        One for each connection.
        """
        return Answerer(self._answer)


class FindLoginPageTests(TestCase):
    """
    Real requests on loopback.
    """

    def setUp(self) -> None:
        """
        Take this machine for another one.
        """
        self.patch(portal, "is_loopback", lambda host: False)

    async def ask(self, answer: bytes) -> str | None:
        """
        What is found where somebody gives this answer.
        """
        reactor = the_reactor()
        port: IListeningPort = reactor.listenTCP(0, Answerers(answer), interface="127.0.0.1")
        try:
            return await find_login_page(reactor, "127.0.0.1", port=get_port_number(port))
        finally:
            await maybeDeferred(port.stopListening)

    async def test_a_portal(self) -> None:
        """
        Its redirect is found.
        """
        answer = (
            b"HTTP/1.1 302 Found\r\nLocation: http://login.test/x\r\nContent-Length: 2\r\n\r\nhi"
        )
        self.assertEqual(await self.ask(answer), "http://login.test/")

    async def test_others(self) -> None:
        """
        Neither another protocol nor an endless page is a portal.
        """
        for answer in (
            b"SSH-2.0-none\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\n\r\n" + bytes(1 << 17),
        ):
            self.assertIsNone(await self.ask(answer))

    async def test_silence(self) -> None:
        """
        Neither is who never answers.
        """
        self.patch(portal, "TIMEOUT", 0.1)
        self.assertIsNone(await self.ask(b""))

    async def test_nobody(self) -> None:
        """
        Neither is a port where nobody listens.
        """
        port = the_reactor().listenTCP(0, Answerers(b""), interface="127.0.0.1")
        number = get_port_number(port)
        await maybeDeferred(port.stopListening)
        self.assertIsNone(await find_login_page(the_reactor(), "127.0.0.1", port=number))

    def test_this_machine_is_not_asked(self) -> None:
        """
        The answer is there at once.
        """
        self.patch(portal, "is_loopback", is_loopback)
        found = Deferred.fromCoroutine(find_login_page(None, "127.0.0.1"))
        self.assertIsNone(self.successResultOf(found))
