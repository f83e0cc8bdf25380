"""
Tests of :mod:`resip.core.modern.noise`: the published vectors, and messages that are not genuine.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.noise import (
    MAX_MESSAGE_SIZE,
    MAX_PAYLOAD_SIZE,
    CipherState,
    HandshakeError,
    HandshakeState,
    Suite,
    SymmetricState,
    public_key_of,
)

VECTORS = Path(__file__).parent.parent.parent / "vectors" / "noise.json"
NAME = "Noise_IK_25519_ChaChaPoly_BLAKE2s"

#: The points of order 1, 2, 4 and 8 in their reduced encodings, RFC 7748 section 6.1.
LOW_ORDER_POINTS = [
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
]


def private_key(seed: int) -> X25519PrivateKey:
    """
    A key that is the same in every run.
    """
    return X25519PrivateKey.from_private_bytes(random.Random(seed).randbytes(32))


def both_sides(prologue: bytes = b"", responder_prologue: bytes = b"") -> tuple[Any, Any]:
    """
    An initiator and a responder who fit each other.
    """
    server = private_key(1)
    initiator = HandshakeState(
        NAME,
        prologue=prologue,
        static_key=private_key(2),
        random_bytes=random.Random(3).randbytes,
        remote_static=public_key_of(server),
    )
    responder = HandshakeState(
        NAME,
        prologue=responder_prologue,
        static_key=server,
        random_bytes=random.Random(4).randbytes,
    )
    return initiator, responder


class VectorTests(SynchronousTestCase):
    """
    Our messages are the published messages.
    """

    def setUp(self) -> None:
        """
        Read the vector file.
        """
        self.vectors: list[dict[str, Any]] = json.loads(VECTORS.read_text())["vectors"]

    def _states(self, vector: dict[str, Any]) -> tuple[HandshakeState, HandshakeState]:
        values = {k: bytes.fromhex(v) for k, v in vector.items() if k.startswith(("init", "resp"))}
        prologue = bytes.fromhex(vector["prologue"])
        initiator = HandshakeState(
            vector["protocol_name"],
            prologue=prologue,
            static_key=X25519PrivateKey.from_private_bytes(values["init_static"]),
            random_bytes=lambda size: values["init_ephemeral"],
            remote_static=values["init_remote_static"],
        )
        responder = HandshakeState(
            vector["protocol_name"],
            prologue=prologue,
            static_key=X25519PrivateKey.from_private_bytes(values["resp_static"]),
            random_bytes=lambda size: values["resp_ephemeral"],
        )
        return initiator, responder

    def test_there_are_vectors_of_the_dialects_own_suite(self) -> None:
        """
        The suite of the dialect is among those that the vectors prove (M-2).
        """
        self.assertIn(NAME, [vector["protocol_name"] for vector in self.vectors])

    def test_handshake_messages(self) -> None:
        """
        Both sides write the published messages, read each other's, and agree on the hashes.
        """
        for vector in self.vectors:
            writer, reader = self._states(vector)
            hashes = []
            for message in vector["messages"][:2]:
                payload = bytes.fromhex(message["payload"])
                written = writer.write_message(payload)
                self.assertEqual(written.hex(), message["ciphertext"])
                self.assertEqual(reader.read_message(written), payload)
                self.assertEqual(writer.handshake_hash, reader.handshake_hash)
                hashes.append(writer.handshake_hash.hex())
                writer, reader = reader, writer
            # The published hash of these vectors is the one between the two messages.
            self.assertEqual(hashes[0], vector["handshake_hash"])

    def test_transport_messages(self) -> None:
        """
        What follows the handshake encrypts as published, in both directions by turns.
        """
        for vector in self.vectors:
            initiator, _ = self._states(vector)
            messages = [bytes.fromhex(m["ciphertext"]) for m in vector["messages"]]
            payloads = [bytes.fromhex(m["payload"]) for m in vector["messages"]]
            initiator.write_message(payloads[0])
            initiator.read_message(messages[1])
            directions = initiator.split()
            for index in range(2, len(messages)):
                state = directions[index % 2]
                self.assertEqual(state.encrypt_with_ad(b"", payloads[index]), messages[index])

    def test_both_sides_split_alike(self) -> None:
        """
        The keys of the two directions are the same on both sides, and differ from each other.
        """
        initiator, responder = both_sides()
        responder.read_message(initiator.write_message(b"1"))
        initiator.read_message(responder.write_message(b"2"))
        ours = [state.key for state in initiator.split()]
        self.assertEqual(ours, [state.key for state in responder.split()])
        self.assertNotEqual(ours[0], ours[1])


class ForgeryTests(SynchronousTestCase):
    """
    Only the genuine message reads, and a wrong one does no harm.
    """

    def test_every_changed_byte_of_message_1_is_noticed(self) -> None:
        """
        A message 1 with any bit flipped does not read, and the genuine one still does.
        """
        initiator, responder = both_sides()
        message = initiator.write_message(b"hello")
        for at in range(len(message)):
            forged = message[:at] + bytes([message[at] ^ 0x40]) + message[at + 1 :]
            self.assertRaises(HandshakeError, responder.read_message, forged)
            self.assertIsNone(responder.remote_static)
        self.assertEqual(responder.read_message(message), b"hello")

    def test_every_changed_byte_of_message_2_is_noticed(self) -> None:
        """
        A message 2 with any bit flipped does not read, and the genuine one still does.
        """
        initiator, responder = both_sides()
        responder.read_message(initiator.write_message(b"hello"))
        message = responder.write_message(b"welcome")
        for at in range(len(message)):
            forged = message[:at] + bytes([message[at] ^ 0x01]) + message[at + 1 :]
            self.assertRaises(HandshakeError, initiator.read_message, forged)
        self.assertEqual(initiator.read_message(message), b"welcome")

    def test_truncation(self) -> None:
        """
        A message cut short anywhere, or with a byte too many, does not read.
        """
        initiator, responder = both_sides()
        message = initiator.write_message(b"hello")
        for size in range(len(message)):
            self.assertRaises(HandshakeError, responder.read_message, message[:size])
        self.assertRaises(HandshakeError, responder.read_message, message + b"\0")

    def test_reflection(self) -> None:
        """
        An initiator does not take its own message 1 for an answer.
        """
        initiator, _ = both_sides()
        message = initiator.write_message(b"hello")
        self.assertRaises(HandshakeError, initiator.read_message, message)

    def test_an_answer_to_another_handshake(self) -> None:
        """
        A recorded message 2 answers nothing but the message 1 that it was made for.
        """
        initiator, responder = both_sides()
        responder.read_message(initiator.write_message(b"hello"))
        recorded = responder.write_message(b"welcome")
        later = HandshakeState(
            NAME,
            prologue=b"",
            static_key=private_key(2),
            random_bytes=random.Random(5).randbytes,
            remote_static=public_key_of(private_key(1)),
        )
        later.write_message(b"hello")
        self.assertRaises(HandshakeError, later.read_message, recorded)

    def test_another_prologue(self) -> None:
        """
        Two sides that began with different prologues do not understand each other.
        """
        initiator, responder = both_sides(b"resip 1", b"resip 2")
        message = initiator.write_message(b"hello")
        self.assertRaises(HandshakeError, responder.read_message, message)

    def test_an_ephemeral_key_of_low_order(self) -> None:
        """
        A message whose ephemeral key makes an all-zero shared secret is refused.
        """
        _, responder = both_sides()
        for point in LOW_ORDER_POINTS:
            with self.assertRaisesRegex(HandshakeError, "low order"):
                responder.read_message(point + bytes(100))

    def test_a_static_key_of_low_order(self) -> None:
        """
        A static key that makes an all-zero shared secret is refused although it decrypts.
        """
        server, ephemeral = private_key(1), private_key(6)
        symmetric = SymmetricState(NAME)
        symmetric.mix_hash(b"")
        symmetric.mix_hash(public_key_of(server))
        symmetric.mix_hash(public_key_of(ephemeral))
        symmetric.mix_key(ephemeral.exchange(server.public_key()))
        message = public_key_of(ephemeral) + symmetric.encrypt_and_hash(bytes(32))
        symmetric.mix_key(bytes(32))  # what the forger hopes for
        message += symmetric.encrypt_and_hash(b"hello")
        _, responder = both_sides()
        with self.assertRaisesRegex(HandshakeError, "low order"):
            responder.read_message(message)

    def test_a_message_longer_than_noise_allows(self) -> None:
        """
        A message of more than 65,535 bytes is refused before any work is done for it.
        """
        _, responder = both_sides()
        self.assertRaises(HandshakeError, responder.read_message, bytes(MAX_MESSAGE_SIZE + 1))
        self.assertEqual(responder.exchanges, 0)

    @given(st.binary(max_size=400))
    def test_noise_raises_nothing_else(self, data: bytes) -> None:
        """
        Whatever arrives, reading it gives a HandshakeError.
        """
        _, responder = both_sides()
        self.assertRaises(HandshakeError, responder.read_message, data)


class MisuseTests(SynchronousTestCase):
    """
    Errors of the caller are ValueErrors.
    """

    def test_turns(self) -> None:
        """
        Neither side writes or reads, or splits, before or after its turn.
        """
        initiator, responder = both_sides()
        self.assertRaises(ValueError, responder.write_message, b"")
        self.assertRaises(ValueError, initiator.read_message, b"")
        self.assertRaises(ValueError, initiator.split)
        responder.read_message(initiator.write_message(b""))
        self.assertRaises(ValueError, initiator.write_message, b"")
        initiator.read_message(responder.write_message(b""))
        self.assertRaises(ValueError, responder.write_message, b"")
        self.assertRaises(ValueError, initiator.read_message, b"")

    def test_a_payload_that_does_not_fit(self) -> None:
        """
        The longest payload makes the longest message; one byte more is refused.
        """
        initiator, _ = both_sides()
        self.assertRaises(ValueError, initiator.write_message, bytes(MAX_PAYLOAD_SIZE + 1))
        self.assertEqual(len(initiator.write_message(bytes(MAX_PAYLOAD_SIZE))), MAX_MESSAGE_SIZE)

    def test_names(self) -> None:
        """
        Other patterns, groups, ciphers and hashes do not exist here.
        """
        for name in ("Noise_XX_25519_ChaChaPoly_BLAKE2s", "Noise_IK_25519_ChaChaPoly_MD5", "x"):
            self.assertRaises(ValueError, SymmetricState, name)

    def test_a_public_key_of_another_length(self) -> None:
        """
        The responder's public key has 32 bytes.
        """
        with self.assertRaises(ValueError):
            HandshakeState(
                NAME,
                prologue=b"",
                static_key=private_key(1),
                random_bytes=bytes,
                remote_static=b"short",
            )

    def test_a_failed_decryption_does_not_count(self) -> None:
        """
        A forged transport message leaves the nonce where it was.
        """
        suite = Suite.named(NAME)
        sender, receiver = CipherState(suite, bytes(32)), CipherState(suite, bytes(32))
        message = sender.encrypt_with_ad(b"", b"words")
        self.assertRaises(HandshakeError, receiver.decrypt_with_ad, b"", bytes(21))
        self.assertRaises(HandshakeError, receiver.decrypt_with_ad, b"", b"short")
        self.assertEqual(receiver.decrypt_with_ad(b"", message), b"words")
