"""
Certificates of every kind, good and forged, for the tests of pinning.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import crypto
from twisted.internet.ssl import CertificateOptions

from resip.bootstrap.certificates import SERVER_NAME

Key = ec.EllipticCurvePrivateKey


def make_key() -> Key:
    """
    A new private key.
    """
    return ec.generate_private_key(ec.SECP256R1())


def make_certificate(
    *,
    subject: str,
    key: Key,
    issuer: str,
    issuer_key: Key,
    is_ca: bool = False,
    days: tuple[int, int] = (-1, 365),
    dns_name: str = SERVER_NAME,
) -> x509.Certificate:
    """
    A certificate for ``key``, signed by ``issuer_key`` whatever ``issuer`` says.

    :param days: begin and end, counted from today.
    """
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(dns_name)]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def make_root(key: Key, *, days: tuple[int, int] = (-1, 365)) -> x509.Certificate:
    """
    A self-signed root.
    """
    return make_certificate(
        subject="root", key=key, issuer="root", issuer_key=key, is_ca=True, days=days
    )


def make_leaf(
    key: Key,
    root_key: Key,
    *,
    days: tuple[int, int] = (-1, 365),
    dns_name: str = SERVER_NAME,
    is_ca: bool = False,
) -> x509.Certificate:
    """
    A leaf that says that the root issued it, signed by ``root_key``.
    """
    return make_certificate(
        subject="leaf",
        key=key,
        issuer="root",
        issuer_key=root_key,
        days=days,
        dns_name=dns_name,
        is_ca=is_ca,
    )


def presenting(key: Key, leaf: x509.Certificate, *others: x509.Certificate) -> CertificateOptions:
    """
    The TLS side of a server that presents exactly these certificates.
    """
    return CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(key),
        certificate=crypto.X509.from_cryptography(leaf),
        extraCertChain=[crypto.X509.from_cryptography(other) for other in others],
    )
