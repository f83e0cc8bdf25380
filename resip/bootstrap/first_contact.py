"""
The first contact with a classic server, which has no invitation to know it by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from resip.bootstrap.certificates import spki_hash
from resip.bootstrap.https import CONNECT_TIMEOUT, explain, not_resip, within_deadline
from resip.bootstrap.invitation import bracketed
from resip.bootstrap.pinning import (
    ChainVerifier,
    FirstContactVerifier,
    PresentedChain,
    certificate_fingerprint,
)
from resip.carriers.failures import own_failure


@dataclass(frozen=True, slots=True)
class FirstContact:
    """
    What a classic server showed at the first contact.

    :ivar root_pin: SHA-256 of the root's SubjectPublicKeyInfo.
    :ivar leaf_fingerprint: SHA-256 of the leaf.
    :ivar lines: both certificates in words, for the user to compare.
    """

    root_pin: bytes
    leaf_fingerprint: bytes
    lines: tuple[str, ...]


async def fetch_first_contact(reactor: Any, host: str, https_port: int) -> FirstContact:
    """
    Look at the certificates of a classic server that is to be joined. Nothing is sent but a
    TLS handshake, and nothing is trusted: the user compares, later visits insist.

    :raises BootstrapError: when the server cannot be reached, or presents a single
        certificate, or one that the root did not sign or whose dates do not fit.
    """
    authority = f"{bracketed(host)}:{https_port}"
    verifier = FirstContactVerifier(authority)
    handshake = Deferred.fromCoroutine(_shake_hands(reactor, verifier, host, https_port))
    chain = await within_deadline(handshake, reactor, authority)
    return FirstContact(
        root_pin=spki_hash(chain.root),
        leaf_fingerprint=certificate_fingerprint(chain.leaf),
        lines=tuple(
            f"{role}: {certificate.subject.rfc4514_string()}, until "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}, SHA-256 "
            f"{_colons(certificate_fingerprint(certificate))}"
            for role, certificate in (("server certificate", chain.leaf), ("root", chain.root))
        ),
    )


async def _shake_hands(
    reactor: Any, verifier: ChainVerifier, host: str, https_port: int
) -> PresentedChain:
    endpoint = wrapClientTLS(
        verifier, HostnameEndpoint(reactor, host, https_port, timeout=CONNECT_TIMEOUT)
    )
    authority = f"{bracketed(host)}:{https_port}"
    watch = _HandshakeWatch()
    try:
        await endpoint.connect(Factory.forProtocol(lambda: watch))
        await watch.finished
    except Exception as problem:
        raise explain(problem, verifier, authority) from problem
    if verifier.chain is None:
        raise verifier.error or not_resip(authority, "the handshake ended early")
    return verifier.chain


@implementer(IHandshakeListener)
class _HandshakeWatch(Protocol):
    """
    Ends the connection as soon as the handshake is done.
    """

    def __init__(self) -> None:
        self._is_done = False
        self.finished: Deferred[None] = Deferred(lambda _: self._abort())

    def handshakeCompleted(self) -> None:
        self._is_done = True
        self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        if self._is_done:
            self.finished.callback(None)
        else:
            self.finished.errback(own_failure(reason))

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]


def _colons(fingerprint: bytes) -> str:
    return fingerprint.hex(":").upper()
