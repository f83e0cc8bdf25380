"""
What the tests of the carriers over HTTPS share: a site and clients in memory, without TLS.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.resource import BootstrapResource
from resip.bootstrap.site import bootstrap_factory
from resip.carriers import http, websocket
from resip.carriers.framing import PrefixFraming
from resip.carriers.http_client import HTTPEndpoint
from resip.carriers.http_server import WebCarriers
from resip.carriers.tcp import TCPCarrier
from resip.carriers.web import WebAddress
from resip.carriers.websocket import WebSocketEndpoint
from resip.core.types import Path
from tests.support.streams import SERVER_HOST, StreamNetwork

SESSION_ID = b"\x0b\xad\xca\xfe"
GOOD = b"good" + bytes(60)
BAD = b"bad." + bytes(60)


def wrap(*packets: bytes) -> bytes:
    """
    Packets as they stand in the stream.
    """
    return b"".join(PrefixFraming().wrap(list(packets)))


class Side:
    """
    A carrier of one side, and what it reported. Packets that start with ``good`` are authentic.
    """

    def __init__(self, clock: Clock, name: str, *, is_client: bool) -> None:
        self.received: list[bytes] = []
        self.paths: list[Path] = []
        self.connected: list[Path] = []
        self.closed: list[Path] = []
        self.writable: list[Path] = []
        self.carrier = TCPCarrier(
            self._receive,
            framing=PrefixFraming,
            clock=clock,
            on_connected=self.connected.append,
            on_closed=self.closed.append,
            on_writable=self.writable.append,
            requires_introduction=not is_client,
            name=name,
        )

    @property
    def path(self) -> Path:
        """
        The newest.
        """
        return self.connected[-1]

    def send(self, *packets: bytes) -> None:
        """
        Send on the newest path.
        """
        self.carrier.send(self.path, list(packets))

    @property
    def is_writable(self) -> bool:
        """
        Whether the newest path is.
        """
        return self.carrier.is_writable(self.path)

    def _receive(self, packets: Sequence[bytes], path: Path) -> bool:
        self.received += packets
        if path not in self.paths:
            self.paths.append(path)
        return any(packet.startswith(b"good") for packet in packets)


class WebTestCase(SynchronousTestCase):
    """
    A site that knows one session, and a client for each carrier.
    """

    def setUp(self) -> None:
        """
        Make all.
        """
        self.clock = Clock()
        self.random = Random(1)
        self.http = Side(self.clock, http.CARRIER_NAME, is_client=False)
        self.websocket = Side(self.clock, websocket.CARRIER_NAME, is_client=False)
        self.carriers = WebCarriers(
            websocket=self.websocket.carrier,
            http=self.http.carrier,
            knows=lambda first: first == SESSION_ID,
            clock=self.clock,
        )
        resource = BootstrapResource(
            authenticate=lambda key: None,
            start_session=lambda *_: self.fail("nobody may"),
            has_session=lambda session_id, key: False,
            accept_handshake=lambda message1: None,
            carry=self.carriers.answer,
            started=0,
            wall_clock=self.clock.seconds,
            now=self.clock.seconds,
        )
        self.factory: Any = bootstrap_factory(resource, self.clock)
        self.network = StreamNetwork(self.clock, self.factory)
        self.address = WebAddress("server.example.com")
        self.session_id = SESSION_ID

    def dial_websocket(self) -> tuple[Side, list[Any]]:
        """
        A client's carrier, and what became of its connection: the protocol or a failure.
        """
        endpoint = WebSocketEndpoint(
            lambda: self.network,
            self.address,
            clock=self.clock,
            make_id=lambda path: self.session_id,
        )
        return self._dial(endpoint, websocket.CARRIER_NAME)

    def dial_http(self, endpoint: HTTPEndpoint | None = None) -> tuple[Side, list[Any]]:
        """
        The same for the HTTP carrier.
        """
        return self._dial(endpoint or self.http_endpoint(), http.CARRIER_NAME)

    def http_endpoint(self) -> HTTPEndpoint:
        """
        What dials links.
        """
        return HTTPEndpoint(
            lambda: self.network,
            self.address,
            peer=(SERVER_HOST, 443),
            clock=self.clock,
            random_bytes=self.random.randbytes,
            make_id=lambda path: self.session_id,
        )

    def _dial(self, endpoint: Any, name: str) -> tuple[Side, list[Any]]:
        side = Side(self.clock, name, is_client=True)
        outcome: list[Any] = []
        endpoint.connect(side.carrier).addBoth(outcome.append)
        self.network.settle()
        return side, outcome


class SilentFactory:
    """
    Makes clients that only send what the test writes.
    """

    def buildProtocol(self, address: object) -> Any:
        """
        One of them.
        """
        return self

    def makeConnection(self, transport: object) -> None:
        """
        Nothing.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Nothing.
        """

    def connectionLost(self, reason: object) -> None:
        """
        Nothing.
        """
