"""
Links through the server's HTTPS port, through what stands before it, or through its port for
plain HTTP.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from resip.bootstrap.invitation import Invitation
from resip.bootstrap.pinning import PinnedVerifier
from resip.carriers import http, websocket
from resip.carriers.framing import PrefixFraming
from resip.carriers.http_client import HTTPEndpoint
from resip.carriers.proxy import EndpointFactory
from resip.carriers.web import WebAddress
from resip.carriers.websocket import WebSocketEndpoint
from resip.core.types import RandomBytes
from resip.services.links import StreamLink

#: Seconds that one address has to answer.
CONNECT_TIMEOUT = 10.0


class WebSocketLink(StreamLink):
    """
    A WebSocket that is opened again whenever it is gone.

    :param dial: makes the endpoint of each connection, TLS included.
    """

    def __init__(
        self, reactor: Any, dial: Callable[[], IStreamClientEndpoint], address: WebAddress
    ) -> None:
        endpoint = WebSocketEndpoint(dial, address, clock=reactor, make_id=self.preamble)
        super().__init__(
            reactor,
            endpoint,
            make_framing=PrefixFraming,
            name=websocket.CARRIER_NAME,
            has_preamble=False,
        )


class HTTPLink(StreamLink):
    """
    Requests and responses, where not even a WebSocket gets through.

    :param dial: makes the endpoint of each connection, TLS included where there is any.
    :param peer: host and port of the server, for the log.
    :param name: of the carrier.
    """

    def __init__(
        self,
        reactor: Any,
        dial: Callable[[], IStreamClientEndpoint],
        address: WebAddress,
        *,
        peer: tuple[str, int],
        name: str = http.CARRIER_NAME,
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        endpoint = HTTPEndpoint(
            dial,
            address,
            peer=peer,
            clock=reactor,
            random_bytes=random_bytes,
            make_id=self.preamble,
            name=name,
        )
        super().__init__(
            reactor,
            endpoint,
            make_framing=PrefixFraming,
            name=name,
            has_preamble=False,
        )


def direct_endpoint(reactor: Any) -> EndpointFactory:
    """
    Makes endpoints that dial without a proxy.
    """
    return lambda host, port: HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT)


def pinned_dial(
    invitation: Invitation, make_endpoint: EndpointFactory
) -> Callable[[], IStreamClientEndpoint]:
    """
    Makes endpoints for the HTTPS port of an invitation's server, which is verified as the
    bootstrap does it.
    """

    def dial() -> IStreamClientEndpoint:
        endpoint = make_endpoint(invitation.host, invitation.https_port)
        return wrapClientTLS(PinnedVerifier(invitation), endpoint)  # good for one connection

    return dial
