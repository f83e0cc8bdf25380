"""
TLS to a server whose certificate nobody but the invitation vouches for.

A server presents its leaf and the self-signed root that signed it. The client knows a hash of
the root's public key and no certificate at all, so OpenSSL begins with an empty set of trusted
roots and complains about exactly one thing: a self-signed certificate at the top of the chain
(X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN). That one complaint is overruled, and only for the
pinned key. Every other check is OpenSSL's: that the top certificate's key signed the next one
and so on down to the leaf, the dates, the constraints, and that the server holds the leaf's
private key. So an attacker who adds the genuine root to a chain of his own gains nothing: what
is not at the top of the chain from his leaf is never asked about, and what is must have signed
it.

The verdict falls inside the handshake, at the leaf, before the client sends its last message; no
byte of a request leaves before it. Sessions are never resumed, for a resumed handshake presents
no certificate; should one end without a verdict for whatever reason, the connection is aborted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from resip.bootstrap.certificates import SERVER_NAME, spki_hash
from resip.bootstrap.errors import (
    BootstrapError,
    CertificateExpired,
    NotAResipServer,
    PinMismatch,
)
from resip.bootstrap.invitation import Invitation

_Codes = SSL.X509VerificationCodes

_DATE_ERRORS = frozenset({_Codes.ERR_CERT_NOT_YET_VALID, _Codes.ERR_CERT_HAS_EXPIRED})


@dataclass(frozen=True, slots=True)
class PresentedChain:
    """
    The two ends of a chain that a server presented and OpenSSL verified.

    :ivar root: the self-signed certificate at the top.
    :ivar leaf: the server's own.
    """

    root: x509.Certificate
    leaf: x509.Certificate


@implementer(IPolicyForHTTPS, IOpenSSLClientConnectionCreator)
class ChainVerifier:
    """
    Judges the chain of one connection. Subclasses say which root and which leaf will do.

    An instance is good for one connection: it remembers what it saw. It stands both for the
    policy that an HTTP agent asks and for the connection creator that the policy names.

    :param authority: ``host:port``, for messages.
    """

    _log = Logger()

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._root: x509.Certificate | None = None
        self._chain: PresentedChain | None = None
        self._error: BootstrapError | None = None

    @property
    def chain(self) -> PresentedChain | None:
        """
        The chain, once it was accepted.
        """
        return self._chain

    @property
    def error(self) -> BootstrapError | None:
        """
        Why the chain was refused, ``None`` when it was not.
        """
        return self._error

    def creatorForNetloc(self, hostname: bytes, port: int) -> ChainVerifier:
        """
        The same verifier for any address: it knows whom to expect, an address proves nothing.
        """
        return self

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        A client connection with a context of its own, so that nothing is shared or resumed.
        """
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        context.set_info_callback(self._require_verdict)
        connection = SSL.Connection(context, None)
        connection.set_app_data(tlsProtocol)
        return connection

    def check_root(self, root: x509.Certificate) -> None:
        """
        Judge the self-signed certificate at the top of the chain.

        :raises BootstrapError: when it will not do.
        """
        raise NotImplementedError

    def check_leaf(self, leaf: x509.Certificate) -> None:
        """
        Judge the server's own certificate, whose chain to the root is verified by now.

        :raises BootstrapError: when it will not do.
        """
        raise NotImplementedError

    def untrusted(self, reason: str) -> BootstrapError:
        """
        The error for a chain that OpenSSL does not accept.
        """
        raise NotImplementedError

    def _verify(
        self,
        connection: SSL.Connection,
        certificate: crypto.X509,
        error_code: int,
        depth: int,
        is_ok: int,
    ) -> bool:
        """
        Called by OpenSSL for every complaint, and for every certificate from the root down to
        the leaf that passed all checks. Nothing may be raised through it.
        """
        if self._error is not None:
            return False
        try:
            self._judge(certificate.to_cryptography(), error_code, depth, is_ok=bool(is_ok))
        except BootstrapError as error:
            self._error = error
        except Exception:  # a certificate made to confuse the parser
            self._log.failure("A certificate of {authority} was refused", authority=self._authority)
            self._error = self.untrusted("a certificate cannot be parsed")
        return self._error is None

    def _judge(
        self, certificate: x509.Certificate, error_code: int, depth: int, *, is_ok: bool
    ) -> None:
        if not is_ok:
            if error_code in _DATE_ERRORS:
                raise _expired(self._authority, certificate)
            if error_code != _Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN or self._root is not None:
                raise self.untrusted(_describe(error_code))
            self.check_root(certificate)
            self._root = certificate
        elif depth == 0:
            if self._root is None:
                raise self.untrusted("it was not signed by a root that came with it")
            self.check_leaf(certificate)
            self._chain = PresentedChain(self._root, certificate)

    def _require_verdict(self, connection: SSL.Connection, where: int, code: int) -> None:
        if where & SSL.SSL_CB_HANDSHAKE_DONE and self._chain is None:
            if self._error is None:
                self._error = self.untrusted("no certificate was presented")
            reason = Failure(self._error)
            connection.get_app_data().failVerification(reason)


class PinnedVerifier(ChainVerifier):
    """
    Accepts the server of an invitation and no other.

    :param invitation: with its pin and, for a server joined by API key, its leaf fingerprint.
    """

    def __init__(self, invitation: Invitation) -> None:
        super().__init__(invitation.authority)
        self._invitation = invitation

    def check_root(self, root: x509.Certificate) -> None:
        """
        The root's public key must be the pinned one.

        :raises PinMismatch: when it is another.
        """
        if spki_hash(root) != self._invitation.pin:
            raise self.untrusted("its root certificate is another")

    def check_leaf(self, leaf: x509.Certificate) -> None:
        """
        The leaf must carry the name of resip servers, or be the pinned one byte for byte.

        :raises PinMismatch: when it is neither.
        """
        fingerprint = self._invitation.leaf_fingerprint
        if fingerprint is not None:
            if certificate_fingerprint(leaf) != fingerprint:
                raise PinMismatch(
                    f"the server at {self._authority} presents another certificate than when it "
                    "was joined: if its operator says that it was renewed, join it again with "
                    "'resip join --classic --replace'"
                )
            return
        try:
            verify_certificate_hostname(leaf, SERVER_NAME)
        except (VerificationError, CertificateError) as error:
            raise self.untrusted(f"its certificate is not for {SERVER_NAME!r}") from error

    def untrusted(self, reason: str) -> BootstrapError:
        """
        The error that tells the user to ask for another invitation.
        """
        return PinMismatch(
            f"the server at {self._authority} is not the one the invitation is for ({reason}): "
            "check host and port, or ask whoever runs the server for a new invitation"
        )


class FirstContactVerifier(ChainVerifier):
    """
    Accepts any well-formed chain and remembers it, for the user to compare and later visits to
    insist on. Nothing secret may be sent over its connection.
    """

    def check_root(self, root: x509.Certificate) -> None:
        """
        Any root will do.
        """

    def check_leaf(self, leaf: x509.Certificate) -> None:
        """
        Any leaf that the root vouches for will do.
        """

    def untrusted(self, reason: str) -> BootstrapError:
        """
        The error that says what is wrong with the chain.
        """
        return NotAResipServer(
            f"the certificates of the server at {self._authority} cannot be pinned ({reason}): a "
            "classic server presents its certificate and the self-signed root that signed it; "
            "check host and port"
        )


def certificate_fingerprint(certificate: x509.Certificate) -> bytes:
    """
    SHA-256 of a certificate in DER.
    """
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def _expired(authority: str, certificate: x509.Certificate) -> CertificateExpired:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return CertificateExpired(
        f"a certificate of the server at {authority} is valid from {begin:%Y-%m-%d %H:%M} to "
        f"{end:%Y-%m-%d %H:%M} UTC and this machine's clock says "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M}: set the clock if it is wrong; if it is right, the "
        "server must be restarted to renew its certificate"
    )


def _describe(error_code: int) -> str:
    if error_code == _Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "it presents a single self-signed certificate"
    if error_code == _Codes.ERR_CERT_SIGNATURE_FAILURE:
        return "a signature in its chain is forged"
    if error_code in (
        _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        _Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT,
    ):
        return "its chain does not reach a root"
    return f"OpenSSL verification error {error_code}"
