"""
The kinds of links, in the order in which they are preferred.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from resip.bootstrap.invitation import Invitation
from resip.carriers import http
from resip.carriers.framing import Framing
from resip.carriers.proxy import EndpointFactory, Proxy, through_proxy
from resip.carriers.web import WebAddress
from resip.services.https_links import HTTPLink, WebSocketLink, direct_endpoint, pinned_dial
from resip.services.link_group import LinkGroup
from resip.services.links import Link, TCPLink, UDPLink


@dataclass(frozen=True, slots=True)
class Destination:
    """
    What links are made from.

    :ivar host: the server's name or address. :ivar port: where it takes packets.
    :ivar make_framing: how packets of the session stand on a TCP connection.
    :ivar invitation: how to know the server over HTTPS; ``None`` where it has none.
    :ivar is_quiet: somebody else tells the user that the host has no address.
    :ivar proxy: by which the kinds over HTTPS and HTTP go.
    :ivar http_port: where the server takes plain HTTP; ``None`` where it does not.
    :ivar others: where the same server is to be found as well.
    """

    reactor: Any
    host: str
    port: int
    make_framing: Callable[[], Framing]
    invitation: Invitation | None = None
    is_quiet: bool = False
    proxy: Proxy | None = None
    http_port: int | None = None
    others: tuple[Destination, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkKind:
    """
    One kind of links.

    :ivar name: what ``--carrier`` calls it.
    :ivar head_start: seconds in which better kinds may answer before this one is tried, too.
    :ivar make: a link of this kind to one place; see :meth:`link_to`.
    :ivar needs_https: for servers that have an HTTPS port, and for the modern dialect only.
    :ivar needs_http: the same for a port for plain HTTP.
    """

    name: str
    head_start: float
    make: Callable[[Destination], Link]
    needs_https: bool = False
    needs_http: bool = False

    def link_to(self, destination: Destination) -> Link:
        """
        A link of this kind to all places of a server.
        """
        links = [self.make(each) for each in (destination, *destination.others)]
        return LinkGroup(destination.reactor, links) if destination.others else links[0]


def _make_udp_link(destination: Destination) -> Link:
    return UDPLink(
        destination.reactor, destination.host, destination.port, is_quiet=destination.is_quiet
    )


def _make_tcp_link(destination: Destination) -> Link:
    return TCPLink(
        destination.reactor,
        destination.host,
        destination.port,
        make_framing=destination.make_framing,
    )


def _make_websocket_link(destination: Destination) -> Link:
    invitation = _https_of(destination)
    return WebSocketLink(
        destination.reactor,
        pinned_dial(invitation, endpoints(destination.reactor, destination.proxy)),
        WebAddress(invitation.authority),
    )


def _make_http_link(destination: Destination) -> Link:
    invitation = _https_of(destination)
    return HTTPLink(
        destination.reactor,
        pinned_dial(invitation, endpoints(destination.reactor, destination.proxy)),
        WebAddress(invitation.authority),
        peer=(invitation.host, invitation.https_port),
    )


def _make_plain_http_link(destination: Destination) -> Link:
    reactor, host, port = destination.reactor, destination.host, destination.http_port
    assert port is not None, "such kinds are not chosen then"
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    proxy = destination.proxy
    if proxy is None:
        next_hop, address = (host, port), WebAddress(authority)
    else:
        # In absolute form, for proxies that connect nobody.
        next_hop = (proxy.host, proxy.port)
        address = WebAddress(authority, f"http://{authority}", proxy.headers)
    return HTTPLink(
        reactor,
        lambda: direct_endpoint(reactor)(*next_hop),
        address,
        peer=(host, port),
        name=http.PLAIN_CARRIER_NAME,
    )


def endpoints(reactor: Any, proxy: Proxy | None) -> EndpointFactory:
    """
    Makes endpoints that dial by way of the proxy, or directly where there is none.
    """
    return direct_endpoint(reactor) if proxy is None else through_proxy(reactor, proxy)


def _https_of(destination: Destination) -> Invitation:
    assert destination.invitation is not None, "such kinds are not chosen then"
    return destination.invitation


#: Best first. What costs a byte least comes first; what passes most networks comes last.
LINK_KINDS = (
    LinkKind("udp", 0.0, _make_udp_link),
    LinkKind("tcp", 0.25, _make_tcp_link),
    LinkKind("websocket", 0.5, _make_websocket_link, needs_https=True),
    LinkKind("http", 1.5, _make_http_link, needs_https=True),
    LinkKind(http.PLAIN_CARRIER_NAME, 2.5, _make_plain_http_link, needs_http=True),
)
#: What ``--carrier`` takes.
AUTO = "auto"
HTTPS = "https"
CARRIER_NAMES = (AUTO, *(kind.name for kind in LINK_KINDS), HTTPS)
#: Those that are for the modern dialect only.
MODERN_CARRIERS = (
    *(kind.name for kind in LINK_KINDS if kind.needs_https or kind.needs_http),
    HTTPS,
)


def link_kinds_for(
    carrier: str, *, can_probe: bool, has_https: bool = True, has_http: bool = False
) -> tuple[LinkKind, ...]:
    """
    The kinds that a client chooses among.

    :param carrier: one of :data:`CARRIER_NAMES`.
    :param can_probe: whether the session can ask a path whether it works. If not there is no
        telling which one does, and automatic means the first.
    :param has_https: whether the other side has an HTTPS port.
    :param has_http: whether it has a port for plain HTTP.
    """
    kinds = tuple(
        kind
        for kind in LINK_KINDS
        if (has_https or not kind.needs_https) and (has_http or not kind.needs_http)
    )
    if carrier == AUTO:
        return kinds if can_probe else kinds[:1]
    chosen = [
        kind for kind in kinds if kind.name == carrier or (carrier == HTTPS and kind.needs_https)
    ]
    first = min((kind.head_start for kind in chosen), default=0.0)
    return tuple(replace(kind, head_start=kind.head_start - first) for kind in chosen)
