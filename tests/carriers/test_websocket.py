"""
Tests of :mod:`resip.carriers.websocket`, over connections in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from resip.bootstrap.site import MAX_CONNECTION_TIME, MAX_CONNECTIONS
from resip.carriers.tcp import INTRODUCTION_TIMEOUT, MAX_STRANGER_BYTES, MAX_STRANGERS
from resip.carriers.web import CARRIER_PATH, SessionCookie
from resip.carriers.websocket import IDLE_TIMEOUT, KEEPALIVE_INTERVAL, OPENING_TIMEOUT
from resip.core.types import Path
from tests.carriers.web_fixture import BAD, GOOD, SESSION_ID, SilentFactory, WebTestCase, wrap
from tests.support.streams import BUFFER_SIZE, CLIENT_HOST, SERVER_HOST, StreamEnd

FINAL_BINARY, EIGHT_BYTE_LENGTH, MASKED = 0x82, 0x7F, 0x80


class RawClient:
    """
    A client of another make: opens, and then sends whatever bytes it likes.

    :ivar events: what the server said.
    """

    def __init__(self, test: WebTestCase, *, session_id: bytes = SESSION_ID) -> None:
        self._test = test
        self.answer = b""
        self.is_lost = False
        self.events: list[Event] = []
        self._websocket: Connection | None = None
        self.end = connect(test, self)
        cookie = SessionCookie(session_id).encode().decode()
        self.end.write(
            f"GET {CARRIER_PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nCookie: {cookie}\r\n\r\n".encode()
        )
        test.network.settle()

    def makeConnection(self, transport: Any) -> None:
        """
        The connection stands.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        The server said something.
        """
        self.answer += data
        head, blank, rest = self.answer.partition(b"\r\n\r\n")
        if self._websocket is None and blank and b" 101 " in head.split(b"\r\n")[0]:
            self._websocket, data = Connection(ConnectionType.CLIENT), rest
        if self._websocket is not None:
            self._websocket.receive_data(data)
            self.events += self._websocket.events()

    def connectionLost(self, reason: object) -> None:
        """
        The server has closed.
        """
        self.is_lost = True

    def send(self, *events: Event) -> None:
        """
        Send frames as they should be.
        """
        assert self._websocket is not None, self.answer
        for event in events:
            self.end.write(self._websocket.send(event))
        self._test.network.settle()

    def send_bytes(self, data: bytes) -> None:
        """
        Send anything.
        """
        self.end.write(data)
        self._test.network.settle()

    @property
    def close_code(self) -> int | None:
        """
        How the server closed the WebSocket.
        """
        codes = [event.code for event in self.events if isinstance(event, CloseConnection)]
        return codes[0] if codes else None


def connect(test: WebTestCase, protocol: Any) -> StreamEnd:
    """
    A connection of ``protocol`` to the site.
    """

    class _Factory:
        def buildProtocol(self, address: object) -> Any:
            return protocol

    test.network.connect(_Factory())  # type: ignore[arg-type]
    return test.network.connections[-1]


class TravelTests(WebTestCase):
    """
    From one carrier to the other.
    """

    def test_packets_go_both_ways(self) -> None:
        """
        Each side gets what the other sent, whole and in order; the paths are reliable (M-56).
        """
        client, _ = self.dial_websocket()
        client.send(GOOD, BAD, GOOD)
        self.network.settle()
        self.assertEqual(self.websocket.received, [GOOD, BAD, GOOD])
        self.websocket.send(GOOD, BAD)
        self.network.settle()
        self.assertEqual(client.received, [GOOD, BAD])
        self.assertEqual(client.path, Path("websocket", (SERVER_HOST, 443), is_reliable=True))
        self.assertEqual(
            self.websocket.path, Path("websocket", (CLIENT_HOST, 40_000), is_reliable=True)
        )

    def test_large_packets(self) -> None:
        """
        The largest packets, many at once.
        """
        client, _ = self.dial_websocket()
        packets = [b"good" + bytes([number]) * 16_380 for number in range(64)]
        client.send(*packets)
        self.websocket.send(*packets)
        self.network.settle()
        self.assertEqual(self.websocket.received, packets)
        self.assertEqual(client.received, packets)

    def test_the_overhead_is_small(self) -> None:
        """
        Packets sent together cost one frame: a header of at most 14 bytes for all of them.
        """
        client, _ = self.dial_websocket()
        before = len(self.network.connections[0].written)
        client.send(*[GOOD] * 100)
        written = len(self.network.connections[0].written) - before
        self.assertLessEqual(written, len(wrap(*[GOOD] * 100)) + 14)

    def test_fragments_and_boundaries_mean_nothing(self) -> None:
        """
        A message may be cut into frames, and a packet into messages (M-56).
        """
        stream = wrap(GOOD, GOOD)
        for cut in (1, 30, 70, len(stream) - 1):
            self.websocket.received.clear()
            client = RawClient(self)
            client.send(
                BytesMessage(data=stream[:cut], message_finished=False),
                Ping(payload=b"between"),
                BytesMessage(data=stream[cut:]),
            )
            self.assertEqual(self.websocket.received, [GOOD, GOOD])
            client = RawClient(self)
            client.send(BytesMessage(data=stream[:cut]), BytesMessage(data=stream[cut:]))
            self.assertEqual(self.websocket.received, [GOOD] * 4)

    def test_pressure(self) -> None:
        """
        A connection that takes no more is not writable until it does.
        """
        client, _ = self.dial_websocket()
        end = self.network.connections[0]
        end.allowance = 0
        client.send(GOOD + bytes(BUFFER_SIZE - 100), GOOD)
        self.assertFalse(client.is_writable)
        end.allowance = None
        self.network.settle()
        self.assertTrue(client.is_writable)
        self.assertEqual(client.writable, [client.path])

    def test_loss_is_told(self) -> None:
        """
        A connection that is cut is a path that is gone, on both sides, once.
        """
        client, _ = self.dial_websocket()
        self.network.connections[0].lose(ConnectionLost())
        self.assertEqual(client.closed, client.connected)
        self.assertEqual(self.websocket.closed, self.websocket.connected)

    def test_shutting_down(self) -> None:
        """
        What was written before arrives, then both sides are gone.
        """
        for is_client in (True, False):
            client, _ = self.dial_websocket()
            client.send(GOOD)
            self.network.settle()
            one, other = (client, self.websocket) if is_client else (self.websocket, client)
            one.send(GOOD + b"bye")
            closed = one.carrier.shut_down()
            self.network.settle()
            self.successResultOf(closed)
            self.assertEqual(other.received[-1:], [GOOD + b"bye"])
            self.assertEqual(self.network.open_connections, [])


class OpeningTests(WebTestCase):
    """
    How a client opens, and how it fails.
    """

    def test_a_stranger_is_refused(self) -> None:
        """
        Without a session's id the answer is that to any unknown request, and nothing is kept
        (M-55).
        """
        for session_id in (b"\0\0\0\0", b"\xff\xff\xff\xff", b""):
            client = RawClient(self, session_id=session_id)
            self.assertEqual(client.answer, self.answer_to_a_stranger("Upgrade: websocket"))
            self.assertEqual(self.websocket.carrier.connection_count, 0)

    def test_what_is_no_opening_is_refused(self) -> None:
        """
        With an id and without the rest of an opening, too.
        """
        cookie = f"Cookie: {SessionCookie(SESSION_ID).encode().decode()}"
        self.assertEqual(self.answer(cookie), self.answer_to_a_stranger())

    def test_the_client_hears_of_it(self) -> None:
        """
        A client whose session is unknown fails at once, with the status.
        """
        self.session_id = b"\0\0\0\0"
        client, [outcome] = self.dial_websocket()
        self.assertIn("403", str(outcome.trap(ConnectionRefusedError) and outcome.value))
        self.network.settle()
        self.assertEqual((client.connected, self.network.open_connections), ([], []))

    def test_a_silent_server(self) -> None:
        """
        A client does not wait for ever.
        """
        self.network.prepare = lambda end: setattr(end.other, "allowance", 0)
        _, outcome = self.dial_websocket()
        self.network.pass_time(OPENING_TIMEOUT - 1)
        self.assertEqual(outcome, [])
        self.network.pass_time(1.5)
        self.assertEqual(len(outcome), 1)
        self.flushLoggedErrors()

    def answer(self, *headers: str) -> bytes:
        """
        What a GET of the carriers' path gives.
        """
        received: list[bytes] = []

        class _Stranger(RawClient):
            def __init__(self) -> None:
                pass

            def dataReceived(self, data: bytes) -> None:
                received.append(data)

            def connectionLost(self, reason: object) -> None:
                pass

        end = connect(self, _Stranger())
        lines = [f"GET {CARRIER_PATH} HTTP/1.1", "Host: x", *headers, "", ""]
        end.write("\r\n".join(lines).encode())
        self.network.settle()
        return b"".join(received)

    def answer_to_a_stranger(self, *headers: str) -> bytes:
        """
        What anybody gets for anything.
        """
        answer = self.answer(*headers)
        self.assertTrue(answer.startswith(b"HTTP/1.1 403 "), answer)
        return answer


class BadInputTests(WebTestCase):
    """
    Clients of another make.
    """

    def test_text(self) -> None:
        """
        A text message ends the WebSocket with a code that says why (M-57).
        """
        client = RawClient(self)
        client.send(TextMessage(data="hello"))
        self.assertEqual(client.close_code, CloseReason.UNSUPPORTED_DATA)
        self.assertTrue(client.is_lost)

    def test_broken_frames(self) -> None:
        """
        Frames without a mask, with a length that cannot be, with an unknown opcode or with
        reserved bits, and control frames that are too long, are protocol errors.
        """
        for frame in (
            b"\x82\x05hello",
            bytes([FINAL_BINARY, MASKED | EIGHT_BYTE_LENGTH]) + b"\xff" * 8 + bytes(4),
            b"\x83\x80\0\0\0\0",
            b"\xf2\x80\0\0\0\0",
            b"\x89\xfe\x00\x80\0\0\0\0" + bytes(128),
            b"\x80\x80\0\0\0\0",
        ):
            client = RawClient(self)
            client.send_bytes(frame)
            self.assertEqual(client.close_code, CloseReason.PROTOCOL_ERROR, frame)
            self.assertTrue(client.is_lost)

    def test_a_message_without_end(self) -> None:
        """
        A frame that claims 2^62 bytes costs nothing: its bytes are looked at as they come.
        """
        client = RawClient(self)
        header = bytes([FINAL_BINARY, MASKED | EIGHT_BYTE_LENGTH]) + (1 << 62).to_bytes(8)
        client.send_bytes(header + bytes(4))
        for _ in range(50):
            client.send_bytes(wrap(GOOD))
        self.assertEqual(self.websocket.received, [GOOD] * 50)
        self.assertFalse(client.is_lost)

    def test_garbage(self) -> None:
        """
        Who shows no authentic packet is cut at the first (M-48).
        """
        client = RawClient(self)
        client.send(BytesMessage(data=wrap(BAD)))
        self.assertTrue(client.is_lost)

    def test_pings(self) -> None:
        """
        A ping is answered, but not for a client that does not read.
        """
        client = RawClient(self)
        client.send(Ping(payload=b"you?"))
        self.assertEqual(client.events, [Pong(payload=b"you?")])
        server = client.end.other
        server.allowance = 0
        for _ in range(2000):
            client.send(Ping(payload=bytes(125)))
        self.assertLess(len(server.written), 2 * BUFFER_SIZE)


class PatienceTests(WebTestCase):
    """
    Connections that say nothing, or too little.
    """

    def test_a_stranger_has_half_a_minute(self) -> None:
        """
        Who shows no authentic packet in time is cut, even if something comes now and then.
        """
        clients = [RawClient(self), RawClient(self)]
        stream = bytes([FINAL_BINARY, MASKED | 64]) + bytes(4) + wrap(GOOD)
        for position in range(int(INTRODUCTION_TIMEOUT)):
            self.assertFalse(clients[0].is_lost)
            clients[0].send_bytes(stream[position : position + 1])
            self.network.pass_time(1.0)
        self.assertTrue(all(client.is_lost for client in clients))

    def test_an_opening_that_drips(self) -> None:
        """
        Who never ends its request is cut with the other strangers.
        """
        client = RawClient(self)
        client.send(BytesMessage(data=wrap(GOOD)))  # no stranger: it stays
        end = connect(self, client)
        for _ in range(int(MAX_CONNECTION_TIME) + 1):
            end.write(b"G")
            self.network.pass_time(1.0, step=1.0)
        self.assertTrue(end.is_lost)

    def test_a_carrier_is_not_limited(self) -> None:
        """
        Once introduced, a connection neither counts nor ends, and pings keep it known.
        """
        client, _ = self.dial_websocket()
        client.send(GOOD)
        self.network.settle()
        self.assertEqual(self.factory.connection_count, 0)
        self.network.pass_time(10 * MAX_CONNECTION_TIME)
        self.assertEqual(client.closed, [])
        self.websocket.send(GOOD)
        self.network.settle()
        self.assertEqual(client.received, [GOOD])

    def test_a_client_that_vanished(self) -> None:
        """
        A connection by which nothing comes any more is not kept for ever.
        """
        client, _ = self.dial_websocket()
        client.send(GOOD)
        self.network.settle()
        self.network.connections[0].allowance = 0
        self.network.pass_time(IDLE_TIMEOUT - 2 * KEEPALIVE_INTERVAL)
        self.assertEqual(self.websocket.closed, [])
        self.network.pass_time(2 * KEEPALIVE_INTERVAL + 1)
        self.assertEqual(self.websocket.closed, self.websocket.connected)

    def test_ten_thousand_strangers(self) -> None:
        """
        However many come, few are kept, and whoever is known still gets in.
        """
        known, _ = self.dial_websocket()
        known.send(GOOD)
        self.network.settle()
        for _ in range(10_000):
            connect(self, SilentFactory()).write(b"GET / HTTP/1.1\r\n")
        self.network.settle()
        self.assertLessEqual(self.factory.connection_count, MAX_CONNECTIONS)
        self.assertLessEqual(len(self.network.open_connections), MAX_CONNECTIONS + 1)
        self.assertEqual(known.closed, [])

    def test_many_with_an_id(self) -> None:
        """
        Those who have overheard an id and nothing else are bounded as on TCP.
        """
        clients = [RawClient(self) for _ in range(MAX_STRANGERS + 10)]
        frame = bytes([FINAL_BINARY, MASKED | EIGHT_BYTE_LENGTH]) + (1 << 20).to_bytes(8) + bytes(4)
        for client in clients:
            client.send_bytes(frame + b"\xff\xff" + bytes(60_000))
        self.assertLessEqual(self.websocket.carrier.connection_count, MAX_STRANGERS)
        kept = sum(not client.is_lost for client in clients)
        self.assertLessEqual(kept * 60_000, MAX_STRANGER_BYTES)
