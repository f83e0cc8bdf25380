"""
Networks that want a login first, as in hotels and trains, told from servers that are down.

Such a *captive portal* answers in the name of everybody. Over HTTPS it has the wrong certificate or
none, so all that can be seen there is that it is not our server. Over plain HTTP it says where the
login is.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.client import Agent, HTTPConnectionPool

from resip.bootstrap.https import read_body
from resip.bootstrap.invitation import bracketed, is_valid_host

#: Seconds that the whole question may take. A portal is near.
TIMEOUT = 3.0
HTTP_PORT = 80
#: RFC 6585 section 6: Network Authentication Required.
NETWORK_AUTHENTICATION_REQUIRED = 511
REDIRECTS = frozenset({301, 302, 303, 307, 308})


async def find_login_page(reactor: Any, host: str, *, port: int = HTTP_PORT) -> str | None:
    """
    Ask by plain HTTP for the start page of ``host``.

    :param host: of the server, name or address; not asked when it is this machine itself.
    :return: what to open in a browser, when the answer comes from a portal; else ``None``.
    """
    if is_loopback(host):
        return None
    asking = Deferred.fromCoroutine(_ask(reactor, host, port))
    asking.addTimeout(TIMEOUT, reactor)
    try:
        status, location = await asking
    except CancelledError:
        raise
    except Exception:  # the network is down, nobody listens, or he speaks something else
        return None
    return login_page(host, status, location)


def login_page(host: str, status: int, location: str) -> str | None:
    """
    What an answer in the name of ``host`` says of a login.

    A redirect within the host's own domain is that of an ordinary web server.

    :param status: of HTTP. :param location: the header, or nothing.
    :return: scheme, host and port of the page, and no more of what a stranger says.
    """
    if status == NETWORK_AUTHENTICATION_REQUIRED:
        return f"http://{bracketed(host)}/"
    if status not in REDIRECTS:
        return None
    try:
        parts = urlsplit(location)
        target, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not is_valid_host(target):
        return None
    if _domain(target) == _domain(host):
        return None
    return f"{parts.scheme}://{bracketed(target)}{f':{port}' if port else ''}/"


def is_loopback(host: str) -> bool:
    """
    Whether a host is this machine itself.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _ask(reactor: Any, host: str, port: int) -> tuple[int, str]:
    agent = Agent(
        reactor, connectTimeout=TIMEOUT, pool=HTTPConnectionPool(reactor, persistent=False)
    )
    url = f"http://{bracketed(host)}:{port}/"
    response = await agent.request(b"GET", url.encode("ascii"))
    await read_body(response, host)
    location = (response.headers.getRawHeaders("location") or [""])[0]
    return response.code, location


def _domain(host: str) -> str:
    # Good enough to know the site of "vpn.example.com" in "www.example.com".
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ".".join(host.lower().rstrip(".").split(".")[-2:])
