"""
Tests of the HTTP carrier (:mod:`resip.carriers.http_client`, :mod:`resip.carriers.http_server`),
over connections in memory.
"""

from __future__ import annotations

from random import Random

from twisted.internet.error import ConnectionLost, ConnectionRefusedError

from resip.bootstrap.site import MAX_CONNECTION_TIME
from resip.carriers import http_server
from resip.carriers.http import MAX_POST_SIZE, MAX_POSTS
from resip.carriers.http_client import MAX_IDLE_TIME, OPENING_TIMEOUT, STREAMING_TEST
from resip.carriers.http_server import MAX_ABSENCE, MAX_RESPONSE_TIME, MAX_UNSENT
from resip.carriers.web import TOKEN_SIZE
from resip.core.types import Path
from tests.carriers.web_fixture import BAD, GOOD, Side, WebTestCase
from tests.support.streams import CLIENT_HOST, SERVER_HOST

LAST_CHUNK = b"0\r\n\r\n"
TOKEN = bytes(range(TOKEN_SIZE))


def random_packets(count: int, *, seed: int, size: int = 5000) -> list[bytes]:
    """
    Authentic packets of all sizes.
    """
    random = Random(seed)
    return [b"good" + random.randbytes(random.randrange(30, size)) for _ in range(count)]


class CollectingProxy:
    """
    Stands before the server's end of a connection: hands responses on when they are whole.
    """

    def __init__(self) -> None:
        self._kept = b""

    def __call__(self, data: bytes) -> bytes:
        """
        What the client gets of what the server said.
        """
        self._kept += data
        is_short = b"204 " in self._kept.split(b"\r\n")[0]
        if is_short or self._kept.endswith(LAST_CHUNK):
            whole, self._kept = self._kept, b""
            return whole
        return b""


class TravelTests(WebTestCase):
    """
    From one carrier to the other.
    """

    def test_packets_go_both_ways(self) -> None:
        """
        Each side gets what the other sent, whole and in order; the paths are reliable (M-58).
        """
        client, _ = self.dial_http()
        client.send(GOOD, BAD, GOOD)
        self.network.settle()
        self.assertEqual(self.http.received, [GOOD, BAD, GOOD])
        self.http.send(GOOD, BAD)
        self.network.settle()
        self.assertEqual(client.received, [GOOD, BAD])
        self.assertEqual(client.path, Path("http", (SERVER_HOST, 443), is_reliable=True))
        self.assertEqual(self.http.path, Path("http", (CLIENT_HOST, 40_000), is_reliable=True))

    def test_a_stream_keeps_its_order(self) -> None:
        """
        POSTs overtake each other, since each has a connection of its own that may be slow; the
        stream does not show it.
        """
        client, _ = self.dial_http()
        random = Random(7)
        packets = random_packets(300, seed=7)
        for position in range(0, len(packets), 10):
            client.send(*packets[position : position + 10])
            for end in self.network.open_connections:
                end.allowance = random.choice((0, 500, None))
            self.network.settle()
        for end in self.network.connections:
            end.allowance = None
        self.network.settle()
        self.assertEqual(self.http.received, packets)
        self.assertGreater(len(self.network.connections), 3)

    def test_a_post_that_is_slow(self) -> None:
        """
        While one POST is stuck, those behind it are answered, but none goes further ahead than the
        server keeps: the link lives on, and nothing is lost.
        """
        client, _ = self.dial_http()
        packets = random_packets(2000, seed=9)
        client.send(*packets[:500])
        self.network.settle()
        client.send(*packets[500:1000])
        slow = self.network.open_connections[2]
        slow.allowance = 0
        for start in range(1000, 2000, 100):
            self.network.settle()
            client.send(*packets[start : start + 100])
        self.network.settle()
        self.assertLess(len(self.http.received), 1000)
        slow.allowance = None
        self.network.settle()
        self.assertEqual((client.closed, self.http.closed), ([], []))
        self.assertEqual(self.http.received, packets)

    def test_posts_are_bounded(self) -> None:
        """
        No POST is longer than the server takes, and no more of them are under way than it keeps.
        """
        client, _ = self.dial_http()
        client.send(GOOD)
        self.network.settle()
        packets = random_packets(2000, seed=8)
        client.send(*packets[:1000])
        self.assertLessEqual(len(self.network.connections), 2 + MAX_POSTS)
        self.assertFalse(client.is_writable)
        self.network.settle()
        self.assertTrue(client.is_writable)
        client.send(*packets[1000:])
        self.network.settle()
        self.assertEqual(self.http.received, [GOOD, *packets])
        lengths = [
            int(line.split(b":")[1])
            for end in self.network.connections
            for line in bytes(end.written).split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        self.assertEqual(max(lengths), MAX_POST_SIZE)

    def test_responses_follow_each_other(self) -> None:
        """
        Each response ends after a time, and the next goes on where it ended: nothing is lost or
        late, for as long as it takes.
        """
        client, _ = self.dial_http()
        client.send(GOOD)
        sent = []
        for number in range(120):
            packet = GOOD + bytes([number])
            self.http.send(packet)
            sent.append(packet)
            self.network.settle()
            self.assertEqual(client.received, sent)
            self.network.pass_time(MAX_RESPONSE_TIME / 7)
        self.assertEqual((client.closed, self.http.closed), ([], []))
        self.assertEqual(self.carriers.link_count, 1)
        self.assertLessEqual(len(self.network.open_connections), 3)

    def test_long_responses_end(self) -> None:
        """
        Each response ends after a number of bytes, too, even in the middle of a packet.
        """
        self.patch(http_server, "MAX_RESPONSE_SIZE", 10_000)
        client, _ = self.dial_http()
        client.send(GOOD)
        packets = random_packets(100, seed=9)
        for position in range(0, 100, 5):
            self.http.send(*packets[position : position + 5])
            self.network.settle()
        self.assertEqual(client.received, packets)

    def test_a_proxy_that_collects_responses(self) -> None:
        """
        When nothing comes before a response ends, the client asks for short ones (M-60).
        """
        self.network.prepare = lambda end: setattr(end.other, "filter", CollectingProxy())
        client, outcome = self.dial_http()
        self.network.pass_time(STREAMING_TEST + 1)
        self.assertEqual((len(outcome), len(client.connected)), (1, 1))
        client.send(GOOD)
        self.network.settle()
        packets = random_packets(200, seed=10)
        for position in range(0, 200, 5):
            self.http.send(*packets[position : position + 5])
            self.network.settle()
        self.assertEqual(client.received, packets)
        self.network.pass_time(3 * MAX_RESPONSE_TIME)
        self.http.send(GOOD)
        self.network.settle()
        self.assertEqual(client.received[-1], GOOD)
        self.assertEqual(client.closed, [])

    def test_nothing_comes_at_all(self) -> None:
        """
        A client whose server never answers fails after both attempts, and leaves nothing behind.
        """
        self.network.prepare = lambda end: setattr(end.other, "allowance", 0)
        _, outcome = self.dial_http()
        self.network.pass_time(STREAMING_TEST + OPENING_TIMEOUT + 1)
        self.assertEqual(len(outcome), 1)
        self.flushLoggedErrors()
        self.assertEqual(self.network.open_connections, [])

    def test_pressure(self) -> None:
        """
        A response that is not read, and the time without one, make the server's path full.
        """
        client, _ = self.dial_http()
        client.send(GOOD)
        self.network.settle()
        for end in self.network.connections:
            end.other.allowance = 0
        while self.http.is_writable:
            self.http.send(GOOD + bytes(8000))
        kept = sum(len(end.other.written) for end in self.network.connections)
        self.assertLess(kept, 4 * MAX_UNSENT)
        for end in self.network.connections:
            end.other.allowance = None
        self.network.settle()
        self.assertTrue(self.http.is_writable)
        self.assertEqual(self.http.writable, [self.http.path])

    def test_several_clients(self) -> None:
        """
        Each link is a path of its own, even if a proxy asks for two by one connection.
        """
        one, _ = self.dial_http()
        two, _ = self.dial_http()
        one.send(GOOD + b"1")
        two.send(GOOD + b"2")
        self.network.settle()
        self.assertEqual(len(set(self.http.paths)), 2)
        self.http.carrier.send(self.http.paths[0], [GOOD + b"1"])
        self.http.carrier.send(self.http.paths[1], [GOOD + b"2"])
        self.network.settle()
        self.assertEqual((one.received, two.received), ([GOOD + b"1"], [GOOD + b"2"]))


class LossTests(WebTestCase):
    """
    Links that end.
    """

    def opened(self) -> Side:
        """
        A client whose link is introduced.
        """
        client, _ = self.dial_http()
        client.send(GOOD)
        self.network.settle()
        return client

    def test_a_response_that_is_cut(self) -> None:
        """
        What was on its way may be lost, so the link is, on both sides, once.
        """
        client = self.opened()
        self.network.connections[0].lose(ConnectionLost())
        self.network.settle()
        self.assertEqual(client.closed, client.connected)
        self.assertEqual(self.http.closed, self.http.connected)
        self.assertEqual(self.carriers.link_count, 0)
        self.assertEqual(self.network.open_connections, [])

    def test_a_post_that_is_cut(self) -> None:
        """
        The same.
        """
        client = self.opened()
        for end in self.network.open_connections:
            end.allowance = 10
        client.send(GOOD)
        self.network.settle()
        self.network.connections[-1].lose(ConnectionLost())
        self.network.settle()
        self.assertEqual(client.closed, client.connected)
        self.network.pass_time(MAX_ABSENCE + 1)
        self.assertEqual(self.http.closed, self.http.connected)

    def test_a_client_that_vanished(self) -> None:
        """
        A link for which nobody asks any more ends.
        """
        self.opened()
        for end in self.network.connections:
            end.allowance = 0
        self.network.pass_time(MAX_RESPONSE_TIME + MAX_ABSENCE - 1)
        self.assertEqual(self.http.closed, [])
        self.network.pass_time(2)
        self.assertEqual(self.http.closed, self.http.connected)

    def test_shutting_down(self) -> None:
        """
        What was written before arrives, then both sides are gone.
        """
        for is_client in (True, False):
            client = self.opened()
            one, other = (client, self.http) if is_client else (self.http, client)
            one.send(GOOD + b"bye")
            closed = one.carrier.shut_down()
            self.network.settle()
            self.successResultOf(closed)
            self.assertEqual(other.received[-1], GOOD + b"bye")
            self.assertEqual(self.network.open_connections, [])
            self.assertEqual(client.closed, client.connected)

    def test_a_proxy_that_refuses(self) -> None:
        """
        A status that is no success ends the attempt, and the error names it.
        """
        self.session_id = b"\0\0\0\0"
        _, [outcome] = self.dial_http()
        self.assertIn("403", str(outcome.trap(ConnectionRefusedError) and outcome.value))
        self.assertEqual(self.network.open_connections, [])

    def test_a_server_that_is_gone(self) -> None:
        """
        Nobody listens: the attempt fails with what the endpoint says.
        """
        self.network.is_refusing = True
        _, [outcome] = self.dial_http()
        outcome.trap(ConnectionRefusedError)

    def test_idle_connections(self) -> None:
        """
        A connection that was idle is not used when the server may have closed it.
        """
        client = self.opened()
        for _ in range(10):
            self.network.pass_time(17)
            client.send(GOOD)
            self.network.settle()
        self.assertEqual(self.http.received, [GOOD] * 11)
        self.assertEqual(client.closed, [])

    def test_a_connection_that_is_closing(self) -> None:
        """
        One that was idle for too long is not used while it closes, either.
        """
        client = self.opened()
        self.network.settle()
        self.clock.advance(MAX_IDLE_TIME)
        client.send(GOOD)
        self.network.settle()
        self.assertEqual(self.http.received, [GOOD] * 2)
        self.assertEqual(client.closed, [])

    def test_a_carrier_is_not_limited(self) -> None:
        """
        The connections of a link that is introduced neither count nor end.
        """
        client = self.opened()
        self.network.pass_time(2 * MAX_CONNECTION_TIME)
        client.send(GOOD)
        self.network.settle()
        self.assertEqual(self.factory.connection_count, 0)
        self.assertEqual(client.closed, [])
