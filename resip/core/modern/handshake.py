"""
The handshake: who the two sides are, what they agree on, and the first secrets.

Section 1 of docs/protocol.md. The two messages are Noise IK, ignorant of what carries them (M-3):

    client                               server
    ClientHandshake.message1  -------->  ServerHandshake.read   (is the public key known?)
    ClientHandshake.finish    <--------  ServerHandshake.answer

What is wrong with a message, whatever it is, is a
:class:`~resip.core.modern.noise.HandshakeError`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from resip.core.modern.noise import KEY_SIZE, HandshakeError, HandshakeState
from resip.core.modern.packet_keys import CipherSuite
from resip.core.types import RandomBytes

PROTOCOL_NAME = "Noise_IK_25519_ChaChaPoly_BLAKE2s"
PROLOGUE = b"resip 1"
#: The version of the dialect that this code speaks.
VERSION = 1

RESET_TOKEN_SIZE = 16

# Diffie-Hellman functions that reading an authentic message 1 takes: es and ss.
_MESSAGE1_EXCHANGES = 2


def derive_static_key(secret: bytes) -> X25519PrivateKey:
    """
    The client's static key from the secret of its invitation, 32 bytes (section 1).
    """
    hkdf = HKDF(SHA256(), KEY_SIZE, salt=None, info=b"resip static key")
    return X25519PrivateKey.from_private_bytes(hkdf.derive(secret))


# Python 3.11 does not let one ask an enumeration for a value.
_CIPHERS = frozenset(int(suite) for suite in CipherSuite)


class Field(IntEnum):
    """
    The types of the hello's and the welcome's fields.
    """

    VERSIONS = 0x01
    CIPHERS = 0x02
    SESSION_ID = 0x03
    TIME = 0x04
    VERSION = 0x05
    CIPHER = 0x06
    RESET_TOKEN = 0x07
    SESSION_CREDIT = 0x08
    CHANNEL_CREDIT = 0x09
    SERVER_RUN = 0x0A


# Bytes of a field's value; the others are lists of at least one byte.
_SIZES = {
    Field.SESSION_ID: 4,
    Field.TIME: 8,
    Field.VERSION: 1,
    Field.CIPHER: 1,
    Field.RESET_TOKEN: RESET_TOKEN_SIZE,
    Field.SESSION_CREDIT: 8,
    Field.CHANNEL_CREDIT: 8,
    Field.SERVER_RUN: 8,
}


@dataclass(frozen=True, slots=True)
class Hello:
    """
    What the client says in message 1.

    :ivar session_id: the id that packets to the client carry, u32.
    :ivar time_ms: Unix time in milliseconds, u64; later than that of any hello before (M-7).
    :ivar session_credit: bytes of all channels that the client takes at first, u64.
    :ivar channel_credit: bytes of each new channel that the client takes at first, u64.
    :ivar ciphers: what the client can decrypt, best first; may name ciphers unknown here.
    :ivar versions: the versions of the dialect that the client speaks.
    """

    session_id: int
    time_ms: int
    session_credit: int
    channel_credit: int
    ciphers: tuple[int, ...] = (CipherSuite.AES_128_GCM, CipherSuite.CHACHA20_POLY1305)
    versions: tuple[int, ...] = (VERSION,)

    def encode(self) -> bytes:
        """
        The list of fields.
        """
        return _encode_fields(
            {
                Field.VERSIONS: bytes(self.versions),
                Field.CIPHERS: bytes(self.ciphers),
                Field.SESSION_ID: self.session_id.to_bytes(4),
                Field.TIME: self.time_ms.to_bytes(8),
                Field.SESSION_CREDIT: self.session_credit.to_bytes(8),
                Field.CHANNEL_CREDIT: self.channel_credit.to_bytes(8),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        """
        Read the list of fields.

        :raises HandshakeError: by M-6.
        """
        values = _decode_fields(data, _HELLO_FIELDS)
        return cls(
            session_id=int.from_bytes(values[Field.SESSION_ID]),
            time_ms=int.from_bytes(values[Field.TIME]),
            session_credit=int.from_bytes(values[Field.SESSION_CREDIT]),
            channel_credit=int.from_bytes(values[Field.CHANNEL_CREDIT]),
            ciphers=tuple(values[Field.CIPHERS]),
            versions=tuple(values[Field.VERSIONS]),
        )

    def choose_cipher(self) -> CipherSuite:
        """
        The first of the client's ciphers that exists here.

        :raises HandshakeError: when there is none.
        """
        for cipher in self.ciphers:
            if cipher in _CIPHERS:
                return CipherSuite(cipher)
        raise HandshakeError(f"the client offers only ciphers {list(self.ciphers)}")

    def choose_version(self) -> int:
        """
        The version to speak.

        :raises HandshakeError: when the client speaks none that exists here.
        """
        if VERSION in self.versions:
            return VERSION
        raise HandshakeError(f"the client speaks only versions {list(self.versions)}")


@dataclass(frozen=True, slots=True)
class Welcome:
    """
    What the server says in message 2.

    :ivar session_id: the id that packets to the server carry, u32.
    :ivar cipher: one of those that the hello offered.
    :ivar reset_token: 16 bytes that only this server can make for :attr:`session_id` (M-41).
    :ivar session_credit: bytes of all channels that the server takes at first, u64.
    :ivar channel_credit: bytes of each new channel that the server takes at first, u64.
    :ivar server_run: identity of the server's run, u64.
    :ivar version: one of those that the hello offered.
    """

    session_id: int
    cipher: CipherSuite
    reset_token: bytes = field(repr=False)
    session_credit: int
    channel_credit: int
    server_run: int
    version: int = VERSION

    def encode(self) -> bytes:
        """
        The list of fields.
        """
        return _encode_fields(
            {
                Field.VERSION: bytes([self.version]),
                Field.CIPHER: bytes([self.cipher]),
                Field.SESSION_ID: self.session_id.to_bytes(4),
                Field.RESET_TOKEN: self.reset_token,
                Field.SESSION_CREDIT: self.session_credit.to_bytes(8),
                Field.CHANNEL_CREDIT: self.channel_credit.to_bytes(8),
                Field.SERVER_RUN: self.server_run.to_bytes(8),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Welcome:
        """
        Read the list of fields.

        :raises HandshakeError: by M-6, or for a cipher that does not exist here.
        """
        values = _decode_fields(data, _WELCOME_FIELDS)
        (cipher,) = values[Field.CIPHER]
        if cipher not in _CIPHERS:
            raise HandshakeError(f"the server chose cipher {cipher}")
        return cls(
            session_id=int.from_bytes(values[Field.SESSION_ID]),
            cipher=CipherSuite(cipher),
            reset_token=values[Field.RESET_TOKEN],
            session_credit=int.from_bytes(values[Field.SESSION_CREDIT]),
            channel_credit=int.from_bytes(values[Field.CHANNEL_CREDIT]),
            server_run=int.from_bytes(values[Field.SERVER_RUN]),
            version=values[Field.VERSION][0],
        )


_BOTH = frozenset({Field.SESSION_ID, Field.SESSION_CREDIT, Field.CHANNEL_CREDIT})
_HELLO_FIELDS = _BOTH | {Field.VERSIONS, Field.CIPHERS, Field.TIME}
_WELCOME_FIELDS = _BOTH | {Field.VERSION, Field.CIPHER, Field.RESET_TOKEN, Field.SERVER_RUN}


def _encode_fields(values: Mapping[Field, bytes]) -> bytes:
    return b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in values.items())


def _decode_fields(data: bytes, mandatory: Collection[Field]) -> dict[Field, bytes]:
    values: dict[Field, bytes] = {}
    at = 0
    while at < len(data):
        if at + 3 > len(data):
            raise HandshakeError("a field is cut short")
        kind, size = struct.unpack_from("!BH", data, at)
        at += 3 + size
        if at > len(data):
            raise HandshakeError(f"field {kind:#04x} is cut short")
        if kind not in mandatory:  # of a later version, or of the other message (M-5)
            continue
        name = Field(kind)
        if name in values:
            raise HandshakeError(f"field {name.name} comes twice")
        if size != _SIZES.get(name, size) or size == 0:
            raise HandshakeError(f"field {name.name} has {size} bytes")
        values[name] = data[at - size : at]
    missing = sorted(name.name for name in mandatory if name not in values)
    if missing:
        raise HandshakeError(f"without the fields {', '.join(missing)}")
    return values


@dataclass(frozen=True, slots=True)
class SessionSecrets:
    """
    The first secrets of one side's two directions (section 1.1).

    :ivar send: for the :class:`~resip.core.modern.protection.Sealer`, 32 bytes.
    :ivar receive: for the :class:`~resip.core.modern.protection.Opener`, 32 bytes.
    """

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)
    cipher: CipherSuite


def _session_secrets(
    noise: HandshakeState, cipher: CipherSuite, *, is_client: bool
) -> SessionSecrets:
    from_client, from_server = (state.key for state in noise.split())
    assert from_client is not None and from_server is not None, "split gives keys"
    if is_client:
        return SessionSecrets(send=from_client, receive=from_server, cipher=cipher)
    return SessionSecrets(send=from_server, receive=from_client, cipher=cipher)


class ClientHandshake:
    """
    The client's side of one handshake. Try again with a new one, whose hello has a later time.

    :param static_key: from :func:`derive_static_key`.
    :param server_public_key: from the invitation, 32 bytes.
    :ivar message1: to be sent; may be repeated, byte for byte.
    :raises ValueError: for a key of another length.
    """

    def __init__(
        self,
        static_key: X25519PrivateKey,
        server_public_key: bytes,
        hello: Hello,
        random_bytes: RandomBytes,
    ) -> None:
        self._hello = hello
        self._noise = HandshakeState(
            PROTOCOL_NAME,
            prologue=PROLOGUE,
            static_key=static_key,
            random_bytes=random_bytes,
            remote_static=server_public_key,
        )
        self.message1 = self._noise.write_message(hello.encode())

    def finish(self, message2: bytes) -> tuple[Welcome, SessionSecrets]:
        """
        Take the server's answer. A forged one raises and the genuine one may still come.

        :raises HandshakeError: when the answer is not the server's, or chooses what the hello
            did not offer.
        """
        welcome = Welcome.decode(self._noise.read_message(message2))
        if welcome.cipher not in self._hello.ciphers:
            raise HandshakeError(f"the server chose cipher {welcome.cipher}, which was not offered")
        if welcome.version not in self._hello.versions:
            raise HandshakeError(
                f"the server chose version {welcome.version}, which was not offered"
            )
        return welcome, _session_secrets(self._noise, welcome.cipher, is_client=True)


class ServerHandshake:
    """
    The server's side of one handshake, for one message 1.
    """

    def __init__(self, static_key: X25519PrivateKey, random_bytes: RandomBytes) -> None:
        self._static_key = static_key
        self._noise = HandshakeState(
            PROTOCOL_NAME, prologue=PROLOGUE, static_key=static_key, random_bytes=random_bytes
        )

    def read(self, message1: bytes) -> tuple[bytes, Hello]:
        """
        The client's static public key and its hello.

        The key is proved, but whether it may come in is the caller's to look up; if not, it
        must give the same answer as for an error here, which took the same work (M-4).

        :raises HandshakeError: when the message is not authentic, or its hello breaks M-6.
        """
        try:
            payload = self._noise.read_message(message1)
        except HandshakeError:
            self._do_the_rest_of_the_work()
            raise
        client_public_key = self._noise.remote_static
        assert client_public_key is not None, "message 1 of IK brings the static key"
        return client_public_key, Hello.decode(payload)

    def answer(self, welcome: Welcome) -> tuple[bytes, SessionSecrets]:
        """
        Message 2, and the secrets of the session that begins with it.

        :raises ValueError: before :meth:`read`.
        """
        message2 = self._noise.write_message(welcome.encode())
        return message2, _session_secrets(self._noise, welcome.cipher, is_client=False)

    def _do_the_rest_of_the_work(self) -> None:
        for _ in range(self._noise.exchanges, _MESSAGE1_EXCHANGES):
            self._static_key.exchange(self._static_key.public_key())
