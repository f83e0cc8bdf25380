"""
TCP through an HTTP proxy that allows CONNECT (RFC 9110 section 9.3.6).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import h11
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from resip.core.errors import ResipError

DEFAULT_PROXY_PORT = 3128
#: Bytes of a proxy's answer that are read; error pages are longer, and say nothing more.
MAX_ANSWER_SIZE = 16 * 1024
#: Seconds for the proxy to dial and answer.
ANSWER_TIMEOUT = 15.0
PROXY_AUTHENTICATION_REQUIRED = 407

#: Makes the endpoint of each connection to a host and port; without TLS.
EndpointFactory = Callable[[str, int], IStreamClientEndpoint]


class ProxyURLError(ResipError):
    """
    What should name a proxy does not.
    """


class ProxyRefusal(ConnectError):
    """
    The proxy does not connect us; says why, and what helps.
    """

    def __init__(self, message: str) -> None:
        super().__init__(string=message)  # type: ignore[no-untyped-call]
        self._message = message

    def __str__(self) -> str:
        """
        The message alone.
        """
        return self._message


@dataclass(frozen=True, slots=True)
class Proxy:
    """
    An HTTP proxy.

    :ivar credentials: ``user:password``, or empty. A secret.
    """

    host: str
    port: int
    credentials: str = field(default="", repr=False)

    def __str__(self) -> str:
        """
        Host and port, for people.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """
        What each request to the proxy carries (Basic authentication, RFC 7617). A secret.
        """
        if not self.credentials:
            return ()
        token = base64.b64encode(self.credentials.encode("utf-8"))
        return ((b"Proxy-Authorization", b"Basic " + token),)


def parse_proxy(url: str) -> Proxy:
    """
    Read ``[http://][user:password@]host[:port]``; user and password may be percent-encoded.

    :raises ProxyURLError: when it is something else. The message does not repeat the URL, which
        may hold a password.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http":
        raise ProxyURLError(
            f"a proxy is http://host:port, not {parts.scheme}://: other kinds are not known"
        )
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port == 0 or parts.path not in ("", "/") or parts.query:
        raise ProxyURLError("a proxy is http://host:port, with user:password@ before the host")
    credentials = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, DEFAULT_PROXY_PORT if port is None else port, credentials)


def proxy_from_environment(host: str) -> Proxy | None:
    """
    The proxy that ``HTTPS_PROXY`` or ``ALL_PROXY`` names, in either case of letters, unless
    ``NO_PROXY`` excepts the host.

    :raises ProxyURLError: when the variable holds no proxy.
    """
    proxies: Mapping[str, str] = getproxies_environment()
    if proxy_bypass(host):
        return None
    url = proxies.get("https") or proxies.get("all")
    if not url:
        return None
    try:
        return parse_proxy(url)
    except ProxyURLError as error:
        raise ProxyURLError(f"{error}; correct HTTPS_PROXY") from None


def through_proxy(reactor: IReactorTime, proxy: Proxy) -> EndpointFactory:
    """
    Makes endpoints that have the proxy connect them.
    """
    return lambda host, port: ConnectEndpoint(reactor, proxy, host, port)


@implementer(IStreamClientEndpoint)
class ConnectEndpoint:
    """
    Reaches a host and port by way of a proxy. The proxy resolves the name.
    """

    def __init__(self, reactor: IReactorTime, proxy: Proxy, host: str, port: int) -> None:
        self._reactor = reactor
        self._proxy = proxy
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def __repr__(self) -> str:
        """
        Without credentials.
        """
        return f"<ConnectEndpoint {self._authority} by {self._proxy}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See :class:`IStreamClientEndpoint`. Fails with :class:`ProxyRefusal` when the proxy says
        no, and as any TCP connection when the proxy cannot be reached.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        endpoint = HostnameEndpoint(self._reactor, self._proxy.host, self._proxy.port)
        request = _ConnectRequest(self._proxy, self._authority)
        await endpoint.connect(Factory.forProtocol(lambda: request))
        request.answer.addTimeout(ANSWER_TIMEOUT, self._reactor, request.on_timeout)
        rest = await request.answer
        return request.hand_over(factory, rest)


class _ConnectRequest(Protocol):
    """
    Asks the proxy, and afterwards passes everything on: the transport's first protocol stays.

    :ivar answer: fires with what came behind the proxy's yes.
    """

    def __init__(self, proxy: Proxy, authority: str) -> None:
        self._proxy = proxy
        self._authority = authority
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_SIZE)
        self._protocol: IProtocol | None = None
        self.answer: Deferred[bytes] = Deferred(lambda _: self._abort())

    def connectionMade(self) -> None:
        authority = self._authority.encode("ascii")
        headers = [(b"Host", authority), *self._proxy.headers]
        message = self._http.send(h11.Request(method="CONNECT", target=authority, headers=headers))
        assert message is not None, "a request has bytes"
        self._transport.write(message)

    def dataReceived(self, data: bytes) -> None:
        if self._protocol is not None:
            self._protocol.dataReceived(data)
            return
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            self._fail(f"what answers at {self._proxy} is no HTTP proxy: correct the proxy")
            return
        if isinstance(event, h11.Response):
            self._take_answer(event)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._protocol is not None:
            self._protocol.connectionLost(reason)
        else:
            self._fail(f"the proxy {self._proxy} closed the connection without an answer")

    def on_timeout(self, result: object, timeout: float) -> bytes:
        """
        Nothing was heard of the proxy for long.
        """
        raise ProxyRefusal(f"the proxy {self._proxy} did not answer within {timeout:.0f} s")

    def hand_over(self, factory: IProtocolFactory, rest: bytes) -> IProtocol:
        """
        The connection belongs to a protocol of ``factory``'s from now on.
        """
        transport = self._transport
        protocol: IProtocol | None = factory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.abortConnection()
            raise ConnectionDone()
        self._protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)
        return protocol

    @property
    def _transport(self) -> ITCPTransport:
        assert self.transport is not None, "the connection was made"
        return cast(ITCPTransport, self.transport)

    def _take_answer(self, response: h11.Response) -> None:
        if 200 <= response.status_code < 300:
            rest, _ = self._http.trailing_data
            # Nothing may come in between: whoever awaits the answer hands over first.
            self.answer.callback(bytes(rest))
        elif response.status_code == PROXY_AUTHENTICATION_REQUIRED:
            wants = "other" if self._proxy.credentials else "a"
            self._fail(
                f"the proxy {self._proxy} wants {wants} user and password: "
                "put http://user:password@host:port into HTTPS_PROXY"
            )
        else:
            reason = response.reason.decode("latin-1")
            self._fail(
                f"the proxy {self._proxy} does not connect to {self._authority}: "
                f"{response.status_code} {reason}"
            )

    def _fail(self, message: str) -> None:
        if not self.answer.called:
            self.answer.errback(ProxyRefusal(message))
        self._abort()

    def _abort(self) -> None:
        if self.transport is not None:
            self._transport.abortConnection()
