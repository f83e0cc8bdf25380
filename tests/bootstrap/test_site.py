"""
Tests of :mod:`resip.bootstrap.site`, over HTTP in memory.
"""

from __future__ import annotations

from twisted.internet.protocol import connectionDone as CLOSED
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap import site as site_module
from resip.bootstrap.site import MAX_BODY_SIZE, MAX_CONNECTION_TIME, ConnectionLimits
from tests.bootstrap.http_server import START, ServerFixture, parse


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
