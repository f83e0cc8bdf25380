"""
The certificates of a server: a root of its own, and the leaf that it signs.

Invitations pin the root's public key, so the leaf may be replaced at any time. Clients of the
classic dialect pin the leaf byte for byte, so it lives long and is replaced only when it must.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger

from resip.bootstrap.errors import StateError
from resip.bootstrap.state import StateDirectory

#: The name that every leaf carries and every client of an invitation asks for. It is no DNS
#: name: addresses of servers change, their identity does not.
SERVER_NAME = "resip-server"

ROOT_LIFETIME = timedelta(days=40 * 365)
LEAF_LIFETIME = timedelta(days=20 * 365)

#: A leaf with less left than this is replaced at the next start.
RENEWAL_MARGIN = timedelta(days=30)

#: Certificates begin this much in the past, for clients whose clock is slow.
BACKDATING = timedelta(days=1)

_ROOT_KEY, _ROOT = "ca.key", "ca.pem"
_LEAF_KEY, _CHAIN = "server.key", "server.pem"

_log = Logger()


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """
    What a server proves itself with.

    :ivar private_key: the leaf's.
    :ivar leaf: the certificate of the server.
    :ivar root: the self-signed certificate that signed it.
    """

    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    leaf: x509.Certificate
    root: x509.Certificate

    @property
    def chain(self) -> tuple[x509.Certificate, x509.Certificate]:
        """
        What the server presents: the leaf, then the root. Classic clients refuse the leaf alone.
        """
        return self.leaf, self.root

    @property
    def pin(self) -> bytes:
        """
        What an invitation pins: SHA-256 of the root's SubjectPublicKeyInfo, 32 bytes.
        """
        return spki_hash(self.root)


def spki_hash(certificate: x509.Certificate) -> bytes:
    """
    SHA-256 of a certificate's SubjectPublicKeyInfo in DER (as RFC 7469 section 2.4 pins it).
    """
    encoded = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()


def load_or_create(
    state: StateDirectory, *, wall_clock: Callable[[], float] = time.time
) -> ServerIdentity:
    """
    The identity in the state directory; what is missing or about to expire is made.

    :param wall_clock: Unix seconds.
    :raises StateError: when a file is damaged, does not fit the others, or cannot be written.
    """
    now = datetime.fromtimestamp(wall_clock(), UTC)
    with state.locked():
        root = _read_certificate(state, _ROOT) or _create_root(state, now)
        if root.not_valid_after_utc - now < RENEWAL_MARGIN:
            raise StateError(
                f"the root certificate {state.path_of(_ROOT)} ends on "
                f"{root.not_valid_after_utc:%Y-%m-%d}: check this machine's clock; if it is "
                f"right, remove {_ROOT} and {_CHAIN} (not {_ROOT_KEY}: with it, invitations stay "
                "valid; classic clients must join again)"
            )
        private_key = _read_key(state, _LEAF_KEY) or _create_key(state, _LEAF_KEY)
        leaf = _read_certificate(state, _CHAIN)
        if leaf is None or leaf.not_valid_after_utc - now < RENEWAL_MARGIN:
            leaf = _issue_leaf(state, root, private_key, now=now, old=leaf)
    identity = ServerIdentity(private_key, leaf, root)
    _require_consistent(state, identity)
    return identity


def load(state: StateDirectory) -> ServerIdentity | None:
    """
    The identity in the state directory as it is, ``None`` when no server has made one yet.

    :raises StateError: when a file is damaged or does not fit the others.
    """
    root = _read_certificate(state, _ROOT)
    private_key = _read_key(state, _LEAF_KEY)
    leaf = _read_certificate(state, _CHAIN)
    if root is None or private_key is None or leaf is None:
        return None
    identity = ServerIdentity(private_key, leaf, root)
    _require_consistent(state, identity)
    return identity


def server_tls_options(identity: ServerIdentity) -> CertificateOptions:
    """
    The TLS context factory of the session API: TLS 1.2 or newer, leaf and root presented.
    """
    return CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(identity.private_key),
        certificate=crypto.X509.from_cryptography(identity.leaf),
        # Without a list Twisted answers clients that offer ALPN with an internal error.
        acceptableProtocols=[b"http/1.1"],
        extraCertChain=[crypto.X509.from_cryptography(identity.root)],
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )


def _create_root(state: StateDirectory, now: datetime) -> x509.Certificate:
    # A key without its certificate is a start that was interrupted: the key, and with it
    # the pin, stays.
    key = _read_key(state, _ROOT_KEY) or _create_key(state, _ROOT_KEY)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "resip root")])
    certificate = (
        _builder(name, name, key.public_key(), now - BACKDATING, now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    state.write(_ROOT, _pem(certificate))
    return certificate


def _issue_leaf(
    state: StateDirectory,
    root: x509.Certificate,
    private_key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
    old: x509.Certificate | None,
) -> x509.Certificate:
    root_key = _read_key(state, _ROOT_KEY)
    if root_key is None:
        raise StateError(
            f"{state.path_of(_ROOT_KEY)} is missing and a new server certificate must be signed: "
            f"restore it from a backup, or remove {_ROOT} and {_CHAIN} and invite every client "
            "again"
        )
    _require_pair(state, root_key, root, _ROOT_KEY, _ROOT)
    leaf = _sign_leaf(root, root_key, private_key, now)
    state.write(_CHAIN, _pem(leaf) + _pem(root))
    if old is not None:
        _log.warn(
            "The server certificate ended on {ended} and was replaced. Invitations stay valid; "
            "classic clients that pinned the old certificate must join again.",
            ended=f"{old.not_valid_after_utc:%Y-%m-%d}",
        )
    return leaf


def _sign_leaf(
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    private_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    alternatives = x509.SubjectAlternativeName(
        [
            x509.DNSName(SERVER_NAME),
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )
    end = min(now + LEAF_LIFETIME, root.not_valid_after_utc)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    return (
        _builder(name, root.subject, private_key.public_key(), now - BACKDATING, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(issuer_id, critical=False)
        .sign(root_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _create_key(state: StateDirectory, name: str) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    encoded = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    state.write(name, encoded)
    return key


def _read_key(state: StateDirectory, name: str) -> ec.EllipticCurvePrivateKey | None:
    content = state.read(name)
    if content is None:
        return None
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except Exception as error:  # cryptography raises half a dozen types for damaged keys
        raise _damaged(state, name) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(state, name)
    return key


def _read_certificate(state: StateDirectory, name: str) -> x509.Certificate | None:
    """
    The first certificate of a PEM file.
    """
    content = state.read(name)
    if content is None:
        return None
    try:
        return x509.load_pem_x509_certificate(content)
    except Exception as error:  # see _read_key
        raise _damaged(state, name) from error


def _damaged(state: StateDirectory, name: str) -> StateError:
    return StateError(
        f"{state.path_of(name)} is damaged: restore it from a backup, or remove {_ROOT_KEY}, "
        f"{_ROOT}, {_LEAF_KEY} and {_CHAIN} and invite every client again"
    )


def _require_consistent(state: StateDirectory, identity: ServerIdentity) -> None:
    _require_pair(state, identity.private_key, identity.leaf, _LEAF_KEY, _CHAIN)
    try:
        identity.leaf.verify_directly_issued_by(identity.root)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise StateError(
            f"{state.path_of(_CHAIN)} was not signed by {_ROOT}: restore both from one backup, "
            f"or remove {_CHAIN} to have it signed anew (classic clients must then join again)"
        ) from error


def _require_pair(
    state: StateDirectory,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
    key_name: str,
    certificate_name: str,
) -> None:
    if key.public_key() != certificate.public_key():
        raise StateError(
            f"{state.path_of(key_name)} does not belong to {certificate_name}: restore both from "
            f"one backup"
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
