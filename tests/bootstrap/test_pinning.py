"""
Tests for :mod:`resip.bootstrap.pinning`: real TLS handshakes over memory, one per attack.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import connectedServerAndClient
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap import pinning
from resip.bootstrap.certificates import spki_hash
from resip.bootstrap.errors import CertificateExpired, NotAResipServer, PinMismatch
from resip.bootstrap.invitation import Invitation
from resip.bootstrap.pinning import (
    ChainVerifier,
    FirstContactVerifier,
    PinnedVerifier,
    certificate_fingerprint,
)
from tests.bootstrap.authority import (
    make_certificate,
    make_key,
    make_leaf,
    make_root,
    presenting,
)

SECRET_REQUEST = b"X-APIKey: secret"


class Impatient(Protocol):
    """
    Writes before the handshake is done, as HTTP clients do.
    """

    def connectionMade(self) -> None:
        """
        Write.
        """
        assert self.transport is not None
        self.transport.write(SECRET_REQUEST)


class Recorder(Protocol):
    """
    Remembers what got through.
    """

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        """
        Remember.
        """
        self.received += data


def connect(verifier: ChainVerifier, options: Any) -> bytes:
    """
    Let a client with ``verifier`` talk to a server; returns what reached the server.
    """
    recorder, clock = Recorder(), Clock()
    server = TLSMemoryBIOFactory(options, False, Factory.forProtocol(lambda: recorder), clock)
    client = TLSMemoryBIOFactory(verifier, True, Factory.forProtocol(Impatient), clock)
    _, _, pump = connectedServerAndClient(
        lambda: server.buildProtocol(None), lambda: client.buildProtocol(None), greet=False
    )
    clock.advance(1)  # the TLS layer collects small writes for a turn
    pump.flush()
    return recorder.received


def invitation_for(root: x509.Certificate, leaf: x509.Certificate | None = None) -> Invitation:
    """
    An invitation that pins ``root`` and, if given, ``leaf``.
    """
    return Invitation(
        host="192.0.2.1",
        https_port=31265,
        port=31266,
        name="alice",
        pin=spki_hash(root),
        secret=bytes(32) if leaf is None else None,
        classic_api_key=None if leaf is None else "key",
        leaf_fingerprint=None if leaf is None else certificate_fingerprint(leaf),
    )


class PinnedVerifierTests(SynchronousTestCase):
    """
    Only the pinned server gets through.
    """

    def setUp(self) -> None:
        """
        A genuine server, and an attacker's keys.
        """
        self.root_key, self.leaf_key = make_key(), make_key()
        self.root = make_root(self.root_key)
        self.leaf = make_leaf(self.leaf_key, self.root_key)
        self.attacker_key, self.attacker_root_key = make_key(), make_key()
        self.verifier = PinnedVerifier(invitation_for(self.root))

    def assert_refused(
        self, options: CertificateOptions, error: type[Exception] = PinMismatch
    ) -> None:
        """
        Nothing of the request reaches the server, and the verifier says why.
        """
        self.assertEqual(connect(self.verifier, options), b"")
        self.assertIsInstance(self.verifier.error, error)
        self.assertIsNone(self.verifier.chain)

    def test_genuine_server_is_accepted(self) -> None:
        """
        The server whose root is pinned gets the request.
        """
        options = presenting(self.leaf_key, self.leaf, self.root)
        self.assertEqual(connect(self.verifier, options), SECRET_REQUEST)
        self.assertIsNone(self.verifier.error)

    def test_tls_1_2_server_is_accepted(self) -> None:
        """
        The verdict is the same in TLS 1.2, which the classic server speaks.
        """
        options = presenting(self.leaf_key, self.leaf, self.root)
        options.getContext().set_max_proto_version(SSL.TLS1_2_VERSION)
        self.assertEqual(connect(self.verifier, options), SECRET_REQUEST)

    def test_tls_1_2_impostor_is_refused(self) -> None:
        """
        In TLS 1.2, too, nothing is sent to a server with another root.
        """
        root = make_root(self.attacker_root_key)
        leaf = make_leaf(self.attacker_key, self.attacker_root_key)
        options = presenting(self.attacker_key, leaf, root)
        options.getContext().set_max_proto_version(SSL.TLS1_2_VERSION)
        self.assert_refused(options)

    def test_older_tls_is_refused(self) -> None:
        """
        A server that offers nothing newer than TLS 1.1 gets no request.
        """
        options = presenting(self.leaf_key, self.leaf, self.root)
        context = options.getContext()
        context.set_options(SSL.OP_NO_TLSv1_2 | SSL.OP_NO_TLSv1_3)
        self.assertEqual(connect(self.verifier, options), b"")

    def test_another_root_is_refused(self) -> None:
        """
        A well-formed chain with another root is refused.
        """
        root = make_root(self.attacker_root_key)
        leaf = make_leaf(self.attacker_key, self.attacker_root_key)
        self.assert_refused(presenting(self.attacker_key, leaf, root))

    def test_genuine_root_behind_a_foreign_chain_is_refused(self) -> None:
        """
        The genuine root, sent along a chain that it did not sign, changes nothing.
        """
        foreign = make_certificate(
            subject="other",
            key=self.attacker_root_key,
            issuer="other",
            issuer_key=self.attacker_root_key,
            is_ca=True,
        )
        leaf = make_certificate(
            subject="leaf",
            key=self.attacker_key,
            issuer="other",
            issuer_key=self.attacker_root_key,
        )
        for others in ([self.root], [self.root, foreign], [foreign, self.root]):
            self.verifier = PinnedVerifier(invitation_for(self.root))
            self.assert_refused(presenting(self.attacker_key, leaf, *others))

    def test_leaf_that_only_names_the_root_is_refused(self) -> None:
        """
        A leaf that names the genuine root as its issuer but carries another's signature is
        refused, although the genuine root stands at the top.
        """
        leaf = make_leaf(self.attacker_key, self.attacker_root_key)
        self.assert_refused(presenting(self.attacker_key, leaf, self.root))

    def test_root_with_the_pinned_key_but_no_signature_is_refused(self) -> None:
        """
        A root that shows the pinned public key is of no use without its private key.
        """
        forged = make_certificate(
            subject="root",
            key=self.root_key,
            issuer="root",
            issuer_key=self.attacker_root_key,
            is_ca=True,
        )
        leaf = make_leaf(self.attacker_key, self.attacker_root_key)
        self.assert_refused(presenting(self.attacker_key, leaf, forged))

    def test_leaf_used_as_an_authority_is_refused(self) -> None:
        """
        Whoever stole the leaf's key cannot sign further certificates with it.
        """
        below = make_certificate(
            subject="below", key=self.attacker_key, issuer="leaf", issuer_key=self.leaf_key
        )
        self.assert_refused(presenting(self.attacker_key, below, self.leaf, self.root))

    def test_leaf_alone_is_refused(self) -> None:
        """
        Without the root nothing shows that the leaf is genuine.
        """
        self.assert_refused(presenting(self.leaf_key, self.leaf))

    def test_single_self_signed_certificate_is_refused(self) -> None:
        """
        A self-signed certificate is refused even with the pinned key: the root serves nobody.
        """
        self.assert_refused(presenting(self.root_key, self.root))
        for is_ca in (True, False):
            self.verifier = PinnedVerifier(invitation_for(self.root))
            alone = make_certificate(
                subject="x",
                key=self.attacker_key,
                issuer="x",
                issuer_key=self.attacker_key,
                is_ca=is_ca,
            )
            self.assert_refused(presenting(self.attacker_key, alone))

    def test_leaf_for_another_purpose_is_refused(self) -> None:
        """
        A leaf of the pinned root that does not carry the name of resip servers is refused.
        """
        leaf = make_leaf(self.leaf_key, self.root_key, dns_name="mail.example.org")
        self.assert_refused(presenting(self.leaf_key, leaf, self.root))

    def test_expired_certificates_are_named_with_dates(self) -> None:
        """
        An expired leaf or root is refused, and the message gives dates and the local clock.
        """
        for leaf_days, root_days in (((-9, -2), (-9, 9)), ((-9, 9), (-9, -2)), ((2, 9), (-9, 9))):
            root = make_root(self.root_key, days=root_days)
            leaf = make_leaf(self.leaf_key, self.root_key, days=leaf_days)
            self.verifier = PinnedVerifier(invitation_for(self.root))
            self.assert_refused(presenting(self.leaf_key, leaf, root), CertificateExpired)
            self.assertIn("clock", str(self.verifier.error))

    def test_renewed_leaf_is_accepted(self) -> None:
        """
        Another leaf by the same root, even under a renewed root certificate, is as good.
        """
        key = make_key()
        leaf = make_leaf(key, self.root_key)
        options = presenting(key, leaf, make_root(self.root_key))
        self.assertEqual(connect(self.verifier, options), SECRET_REQUEST)

    def test_sessions_are_not_resumed(self) -> None:
        """
        Every handshake presents the certificates, also to a server that would resume.
        """
        options = presenting(self.leaf_key, self.leaf, self.root)
        for _ in range(2):
            verifier = PinnedVerifier(invitation_for(self.root))
            connect(verifier, options)
            self.assertIsNotNone(verifier.chain)

    def test_failure_while_judging_is_a_refusal(self) -> None:
        """
        Should judging a certificate itself fail, the certificate is refused and the log says why.
        """
        self.patch(pinning, "spki_hash", lambda _: 1 / 0)
        self.assert_refused(presenting(self.leaf_key, self.leaf, self.root))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_certificate_with_an_impossible_name_is_refused(self) -> None:
        """
        A name that no matching rule covers is refused, without a traceback.
        """
        leaf = make_certificate(
            subject="leaf",
            key=self.leaf_key,
            issuer="root",
            issuer_key=self.root_key,
            dns_name="\x00*..",
        )
        self.assert_refused(presenting(self.leaf_key, leaf, self.root))


class PinnedLeafTests(SynchronousTestCase):
    """
    A server that was joined by API key must keep its certificate.
    """

    def setUp(self) -> None:
        """
        A classic server, whose certificate has whatever name.
        """
        self.root_key, self.leaf_key = make_key(), make_key()
        self.root = make_root(self.root_key)
        self.leaf = make_leaf(self.leaf_key, self.root_key, dns_name="whatever")
        self.verifier = PinnedVerifier(invitation_for(self.root, self.leaf))

    def test_same_leaf_is_accepted_under_any_name(self) -> None:
        """
        The pinned leaf is accepted without a name check.
        """
        options = presenting(self.leaf_key, self.leaf, self.root)
        self.assertEqual(connect(self.verifier, options), SECRET_REQUEST)

    def test_another_leaf_of_the_root_is_refused(self) -> None:
        """
        A new leaf, though signed by the same root for the same key, is refused.
        """
        leaf = make_leaf(self.leaf_key, self.root_key)
        self.assertEqual(connect(self.verifier, presenting(self.leaf_key, leaf, self.root)), b"")
        self.assertIn("join", str(self.verifier.error))

    def test_leaf_without_root_is_refused(self) -> None:
        """
        The pinned leaf alone, without its root, is refused.
        """
        self.assertEqual(connect(self.verifier, presenting(self.leaf_key, self.leaf)), b"")
        self.assertIsInstance(self.verifier.error, PinMismatch)


class FirstContactVerifierTests(SynchronousTestCase):
    """
    The first contact remembers a chain that holds together, and refuses any other.
    """

    def setUp(self) -> None:
        """
        A server nobody knows yet.
        """
        self.root_key, self.leaf_key = make_key(), make_key()
        self.root = make_root(self.root_key)
        self.verifier = FirstContactVerifier("192.0.2.1:31265")

    def test_any_root_will_do(self) -> None:
        """
        Root and leaf are remembered as presented.
        """
        leaf = make_leaf(self.leaf_key, self.root_key)
        connect(self.verifier, presenting(self.leaf_key, leaf, self.root))
        assert self.verifier.chain is not None
        self.assertEqual(self.verifier.chain.leaf, leaf)
        self.assertEqual(self.verifier.chain.root, self.root)

    def test_single_certificate_is_refused(self) -> None:
        """
        A chain of one cannot be pinned.
        """
        connect(self.verifier, presenting(self.root_key, self.root))
        self.assertIsInstance(self.verifier.error, NotAResipServer)

    def test_foreign_signature_is_refused(self) -> None:
        """
        A leaf that the root did not sign is refused.
        """
        leaf = make_leaf(self.leaf_key, make_key())
        connect(self.verifier, presenting(self.leaf_key, leaf, self.root))
        self.assertIn("forged", str(self.verifier.error))

    def test_expired_leaf_is_refused(self) -> None:
        """
        Dates are checked at the first contact already.
        """
        leaf = make_leaf(self.leaf_key, self.root_key, days=(-9, -2))
        connect(self.verifier, presenting(self.leaf_key, leaf, self.root))
        self.assertIsInstance(self.verifier.error, CertificateExpired)
