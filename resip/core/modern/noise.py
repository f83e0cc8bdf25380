"""
The Noise protocol framework, revision 34, as far as pattern IK needs it.

The three objects and their methods are those of the specification's section 5, under the same
names, so that the two can be read side by side. Nothing here knows what the messages say or
what carries them; randomness comes in as an argument.

    IK:
      <- s
      ...
      -> e, es, s, ss
      <- e, ee, se
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from resip.core.errors import ProtocolError
from resip.core.types import RandomBytes

#: Bytes of a key, of a public key and of a shared secret (DHLEN of 25519).
KEY_SIZE = 32
#: Bytes of an authentication tag.
TAG_SIZE = 16
#: The longest message that Noise allows, section 3.
MAX_MESSAGE_SIZE = 65_535
#: What fits inside the longer of IK's messages: two keys and two tags stand around it.
MAX_PAYLOAD_SIZE = MAX_MESSAGE_SIZE - 2 * KEY_SIZE - 2 * TAG_SIZE

#: What the specification calls the message patterns of IK: one tuple of tokens per message.
IK_MESSAGES = (("e", "es", "s", "ss"), ("e", "ee", "se"))


class HandshakeError(ProtocolError):
    """
    A handshake message is forged, cut short, of another handshake, or says something impossible.
    """


def public_key_of(private_key: X25519PrivateKey) -> bytes:
    """
    The 32 bytes of the public key that belongs to ``private_key``.
    """
    return private_key.public_key().public_bytes_raw()


@dataclass(frozen=True, slots=True)
class Suite:
    """
    The functions behind a protocol name, sections 4.2 and 4.3.

    :ivar aead: the cipher, made from a key of 32 bytes.
    :ivar nonce_order: byte order of the counter in the last 8 of the nonce's 12 bytes.
    :ivar hash: the hash, which must have a digest of 32 bytes here.
    """

    aead: type[ChaCha20Poly1305] | type[AESGCM]
    nonce_order: Literal["little", "big"]
    hash: Callable[..., Any]

    @classmethod
    def named(cls, protocol_name: str) -> Suite:
        """
        The suite of a full protocol name such as ``Noise_IK_25519_ChaChaPoly_BLAKE2s``.

        :raises ValueError: for anything but IK, 25519, ChaChaPoly or AESGCM, BLAKE2s or SHA256.
        """
        try:
            prefix, pattern, group, cipher, digest = protocol_name.split("_")
            if (prefix, pattern, group) != ("Noise", "IK", "25519"):
                raise KeyError(protocol_name)
            return cls(*_CIPHERS[cipher], _HASHES[digest])
        except (KeyError, ValueError):
            raise ValueError(f"no such Noise protocol here: {protocol_name}") from None

    def hkdf(self, chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
        """
        ``HKDF(chaining_key, input_key_material, 2)``, section 4.3.
        """
        temp_key = hmac.digest(chaining_key, material, self.hash)
        output1 = hmac.digest(temp_key, b"\x01", self.hash)
        output2 = hmac.digest(temp_key, output1 + b"\x02", self.hash)
        return output1, output2


_CIPHERS: dict[str, tuple[type[ChaCha20Poly1305] | type[AESGCM], Literal["little", "big"]]] = {
    "ChaChaPoly": (ChaCha20Poly1305, "little"),
    "AESGCM": (AESGCM, "big"),
}
_HASHES: dict[str, Callable[..., Any]] = {"BLAKE2s": hashlib.blake2s, "SHA256": hashlib.sha256}


class CipherState:
    """
    A key and the counter of its nonces, section 5.1.

    :ivar key: 32 bytes, or ``None`` for "no key yet", when everything passes in the clear.
    """

    __slots__ = ("_nonce", "_suite", "key")

    def __init__(self, suite: Suite, key: bytes | None = None) -> None:
        self._suite = suite
        self.key = key
        self._nonce = 0

    def copy(self) -> CipherState:
        """
        An independent state with the same key and counter.
        """
        copy = CipherState(self._suite, self.key)
        copy._nonce = self._nonce
        return copy

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        """
        Encrypt, or pass ``plaintext`` on while there is no key.
        """
        if self.key is None:
            return plaintext
        ciphertext = self._suite.aead(self.key).encrypt(self._next_nonce(), plaintext, ad)
        self._nonce += 1
        return ciphertext

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """
        Decrypt, or pass ``ciphertext`` on while there is no key. A failure leaves the counter.

        :raises HandshakeError: when the tag does not fit.
        """
        if self.key is None:
            return ciphertext
        if len(ciphertext) < TAG_SIZE:
            raise HandshakeError("a handshake message is cut short")
        try:
            plaintext = self._suite.aead(self.key).decrypt(self._next_nonce(), ciphertext, ad)
        except InvalidTag:
            raise HandshakeError("a handshake message does not authenticate") from None
        self._nonce += 1
        return plaintext

    def _next_nonce(self) -> bytes:
        return bytes(4) + self._nonce.to_bytes(8, self._suite.nonce_order)


class SymmetricState:
    """
    The chaining key and the hash over everything said so far, section 5.2.

    :ivar handshake_hash: ``h``, different for every handshake, the same on both sides.
    """

    __slots__ = ("_chaining_key", "_cipher", "_suite", "handshake_hash")

    def __init__(self, protocol_name: str) -> None:
        self._suite = Suite.named(protocol_name)
        name = protocol_name.encode("ascii")
        digest_size = self._suite.hash().digest_size
        if len(name) <= digest_size:
            self.handshake_hash: bytes = name.ljust(digest_size, b"\0")
        else:
            self.handshake_hash = self._suite.hash(name).digest()
        self._chaining_key = self.handshake_hash
        self._cipher = CipherState(self._suite)

    def copy(self) -> SymmetricState:
        """
        An independent state that continues from here.
        """
        copy = object.__new__(SymmetricState)
        copy._suite = self._suite
        copy.handshake_hash = self.handshake_hash
        copy._chaining_key = self._chaining_key
        copy._cipher = self._cipher.copy()
        return copy

    def mix_key(self, material: bytes) -> None:
        """
        Let the chaining key and the cipher key depend on ``material``.
        """
        self._chaining_key, key = self._suite.hkdf(self._chaining_key, material)
        self._cipher = CipherState(self._suite, key)

    def mix_hash(self, data: bytes) -> None:
        """
        Let all that follows depend on ``data``.
        """
        self.handshake_hash = self._suite.hash(self.handshake_hash + data).digest()

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """
        Encrypt under the current key and mix the ciphertext in.
        """
        ciphertext = self._cipher.encrypt_with_ad(self.handshake_hash, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """
        Decrypt under the current key and mix the ciphertext in.

        :raises HandshakeError: when the tag does not fit.
        """
        plaintext = self._cipher.decrypt_with_ad(self.handshake_hash, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        """
        The two states for what follows: of the initiator's messages, of the responder's.
        """
        key1, key2 = self._suite.hkdf(self._chaining_key, b"")
        return CipherState(self._suite, key1), CipherState(self._suite, key2)

    @property
    def has_key(self) -> bool:
        """
        Whether what is encrypted now really is.
        """
        return self._cipher.key is not None


class HandshakeState:
    """
    One side of one IK handshake, section 5.3.

    A message that does not read leaves the state as it was: a forged answer does not end the
    handshake that the genuine one is still going to finish.

    :param protocol_name: see :meth:`Suite.named`.
    :param static_key: this side's ``s``.
    :param remote_static: the responder's static public key, 32 bytes, for the initiator only.
    :param random_bytes: gives the ephemeral private key, 32 bytes, once.
    :raises ValueError: for a wrong name or key.
    """

    def __init__(
        self,
        protocol_name: str,
        *,
        prologue: bytes,
        static_key: X25519PrivateKey,
        random_bytes: RandomBytes,
        remote_static: bytes | None = None,
    ) -> None:
        if remote_static is not None and len(remote_static) != KEY_SIZE:
            raise ValueError(f"a public key has {KEY_SIZE} bytes, not {len(remote_static)}")
        self._symmetric = SymmetricState(protocol_name)
        self._is_initiator = remote_static is not None
        self._static = static_key
        self._random_bytes = random_bytes
        self._ephemeral: X25519PrivateKey | None = None
        self._remote_ephemeral: bytes | None = None
        self._remote_static = remote_static
        self._message_index = 0
        self._exchanges = 0
        self._symmetric.mix_hash(prologue)
        self._symmetric.mix_hash(remote_static or public_key_of(static_key))

    @property
    def remote_static(self) -> bytes | None:
        """
        The peer's static public key, ``None`` at the responder before it has read message 1.
        """
        return self._remote_static

    @property
    def handshake_hash(self) -> bytes:
        """
        A name for this handshake that both sides compute alike once it is complete.
        """
        return self._symmetric.handshake_hash

    @property
    def is_complete(self) -> bool:
        """
        Whether :meth:`split` may be called.
        """
        return self._message_index == len(IK_MESSAGES)

    @property
    def exchanges(self) -> int:
        """
        How many Diffie-Hellman functions were computed, for messages that did not read as well.
        """
        return self._exchanges

    def write_message(self, payload: bytes) -> bytes:
        """
        The next message, with ``payload`` inside.

        :raises ValueError: when it is not this side's turn, or ``payload`` is too long.
        """
        self._expect_turn(is_writing=True)
        if len(payload) > MAX_PAYLOAD_SIZE:
            raise ValueError(f"a payload of {len(payload)} bytes, more than {MAX_PAYLOAD_SIZE}")
        parts = [self._write_token(token) for token in IK_MESSAGES[self._message_index]]
        parts.append(self._symmetric.encrypt_and_hash(payload))
        self._message_index += 1
        return b"".join(parts)

    def read_message(self, message: bytes) -> bytes:
        """
        The payload of the peer's next message.

        :raises HandshakeError: for anything but that message; the state is as before.
        :raises ValueError: when it is not the peer's turn.
        """
        self._expect_turn(is_writing=False)
        if len(message) > MAX_MESSAGE_SIZE:
            raise HandshakeError(f"{len(message)} bytes, more than {MAX_MESSAGE_SIZE}")
        before = (self._symmetric.copy(), self._remote_static, self._remote_ephemeral)
        try:
            for token in IK_MESSAGES[self._message_index]:
                message = self._read_token(token, message)
            payload = self._symmetric.decrypt_and_hash(message)
        except HandshakeError:
            self._symmetric, self._remote_static, self._remote_ephemeral = before
            raise
        self._message_index += 1
        return payload

    def split(self) -> tuple[CipherState, CipherState]:
        """
        The states of the two directions, the initiator's first.

        :raises ValueError: before the handshake is complete.
        """
        if not self.is_complete:
            raise ValueError("the handshake is not complete")
        return self._symmetric.split()

    def _expect_turn(self, *, is_writing: bool) -> None:
        initiators_turn = self._message_index == 0
        if self.is_complete or (initiators_turn == self._is_initiator) != is_writing:
            raise ValueError("the handshake's next message is not this one")

    def _write_token(self, token: str) -> bytes:
        if token == "e":
            self._ephemeral = X25519PrivateKey.from_private_bytes(self._random_bytes(KEY_SIZE))
            public = public_key_of(self._ephemeral)
            self._symmetric.mix_hash(public)
            return public
        if token == "s":
            return self._symmetric.encrypt_and_hash(public_key_of(self._static))
        self._mix_shared_secret(token)
        return b""

    def _read_token(self, token: str, message: bytes) -> bytes:
        if token == "e":
            self._remote_ephemeral, rest = _cut(message, KEY_SIZE)
            self._symmetric.mix_hash(self._remote_ephemeral)
            return rest
        if token == "s":
            encrypted, rest = _cut(message, KEY_SIZE + TAG_SIZE * self._symmetric.has_key)
            self._remote_static = self._symmetric.decrypt_and_hash(encrypted)
            return rest
        self._mix_shared_secret(token)
        return message

    def _mix_shared_secret(self, token: str) -> None:
        # The first letter names the initiator's key, the second the responder's.
        ours, theirs = (token[0], token[1]) if self._is_initiator else (token[1], token[0])
        private = self._ephemeral if ours == "e" else self._static
        public = self._remote_ephemeral if theirs == "e" else self._remote_static
        assert private is not None and public is not None, "IK never asks for a key it lacks"
        self._exchanges += 1
        try:
            secret = private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:  # the shared secret is all zeros: a point of low order
            raise HandshakeError("a public key of the handshake is of low order") from None
        self._symmetric.mix_key(secret)


def _cut(message: bytes, size: int) -> tuple[bytes, bytes]:
    if len(message) < size:
        raise HandshakeError("a handshake message is cut short")
    return message[:size], message[size:]
