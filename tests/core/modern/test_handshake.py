"""
Tests of :mod:`resip.core.modern.handshake`, by the numbers of docs/protocol.md.
"""

from __future__ import annotations

import hmac
import random
from dataclasses import replace
from typing import cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.handshake import (
    ClientHandshake,
    Field,
    Hello,
    ServerHandshake,
    SessionSecrets,
    Welcome,
    derive_static_key,
)
from resip.core.modern.noise import HandshakeError, public_key_of
from resip.core.modern.packet_keys import CipherSuite

SECRET = bytes(range(32))
SERVER_KEY = X25519PrivateKey.from_private_bytes(bytes(31) + b"s")
SERVER_PUBLIC_KEY = public_key_of(SERVER_KEY)

HELLO = Hello(
    session_id=0x01020304,
    time_ms=1_700_000_000_000,
    session_credit=16 << 20,
    channel_credit=1 << 20,
)
WELCOME = Welcome(
    session_id=0xF1020304,
    cipher=CipherSuite.AES_128_GCM,
    reset_token=bytes(range(16)),
    session_credit=32 << 20,
    channel_credit=2 << 20,
    server_run=0xDEADBEEF,
)


def seeded(seed: int) -> random.Random:
    """
    Randomness that is the same in every run.
    """
    return random.Random(seed)


def client_handshake(hello: Hello = HELLO, seed: int = 1) -> ClientHandshake:
    """
    A client that knows the server.
    """
    static_key = derive_static_key(SECRET)
    return ClientHandshake(static_key, SERVER_PUBLIC_KEY, hello, seeded(seed).randbytes)


def server_handshake(seed: int = 2) -> ServerHandshake:
    """
    The server, for one message 1.
    """
    return ServerHandshake(SERVER_KEY, seeded(seed).randbytes)


class CountingKey:
    """
    A static key that counts the exchanges it does, to compare work without a clock.
    """

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key
        self.exchanges = 0

    def public_key(self) -> X25519PublicKey:
        """
        That of the key.
        """
        return self._key.public_key()

    def exchange(self, peer: X25519PublicKey) -> bytes:
        """
        Count, and do it.
        """
        self.exchanges += 1
        return self._key.exchange(peer)


class KeyTests(SynchronousTestCase):
    """
    The keys of section 1.
    """

    def test_static_key(self) -> None:
        """
        The client's static key is HKDF-SHA256 of the secret with the page's label (M-1).
        """
        extracted = hmac.digest(bytes(32), SECRET, "sha256")
        expanded = hmac.digest(extracted, b"resip static key\x01", "sha256")
        self.assertEqual(derive_static_key(SECRET).private_bytes_raw(), expanded)

    def test_secrets_are_not_shown(self) -> None:
        """
        Neither session secrets nor a reset token appear in a repr.
        """
        secrets = SessionSecrets(b"a secret", b"another", CipherSuite.AES_128_GCM)
        self.assertNotIn("secret'", repr(secrets))
        self.assertNotIn("another", repr(secrets))
        self.assertNotIn("reset_token", repr(WELCOME))


class HandshakeTests(SynchronousTestCase):
    """
    Client and server agree on who they are and on the secrets, or on nothing.
    """

    def test_agreement(self) -> None:
        """
        Each side learns what the other said, and the secrets cross over (M-2).
        """
        client, server = client_handshake(), server_handshake()
        public_key, hello = server.read(client.message1)
        self.assertEqual(public_key, public_key_of(derive_static_key(SECRET)))
        self.assertEqual(hello, HELLO)
        message2, server_secrets = server.answer(WELCOME)
        welcome, client_secrets = client.finish(message2)
        self.assertEqual(welcome, WELCOME)
        self.assertEqual(client_secrets.send, server_secrets.receive)
        self.assertEqual(client_secrets.receive, server_secrets.send)
        self.assertNotEqual(client_secrets.send, client_secrets.receive)
        self.assertEqual(client_secrets.cipher, CipherSuite.AES_128_GCM)

    def test_secrets_are_new_each_time(self) -> None:
        """
        The same two sides never agree on the same secrets again.
        """
        seen = set()
        for seed in range(5):
            client, server = client_handshake(seed=seed), server_handshake(seed + 100)
            server.read(client.message1)
            _, secrets = client.finish(server.answer(WELCOME)[0])
            seen |= {secrets.send, secrets.receive}
        self.assertEqual(len(seen), 10)

    def test_a_message_for_another_server(self) -> None:
        """
        Who does not hold the private key of the invitation's server reads nothing.
        """
        other = ServerHandshake(derive_static_key(b"o" * 32), seeded(3).randbytes)
        self.assertRaises(HandshakeError, other.read, client_handshake().message1)

    def test_an_answer_of_another_server(self) -> None:
        """
        A client does not finish with a server that lacks the private key.
        """
        client, server = client_handshake(), server_handshake()
        server.read(client_handshake(seed=9).message1)
        message2, _ = server.answer(WELCOME)
        self.assertRaises(HandshakeError, client.finish, message2)

    def test_a_forged_answer_does_not_end_the_handshake(self) -> None:
        """
        After garbage, a truncated and a reflected answer the genuine one still finishes.
        """
        client, server = client_handshake(), server_handshake()
        server.read(client.message1)
        message2, _ = server.answer(WELCOME)
        for forged in (bytes(100), message2[:-1], client.message1, b""):
            self.assertRaises(HandshakeError, client.finish, forged)
        self.assertEqual(client.finish(message2)[0], WELCOME)

    def test_every_refusal_takes_the_same_work(self) -> None:
        """
        A server does as many exchanges for garbage as for an authentic message 1 (M-4).
        """
        message1 = client_handshake().message1
        flipped = bytes([message1[-1] ^ 1])
        low_order = bytes(32) + message1[32:]
        for message in (message1, message1[:-1] + flipped, b"x" * 200, low_order, b""):
            key = CountingKey(SERVER_KEY)
            server = ServerHandshake(cast(X25519PrivateKey, key), seeded(1).randbytes)
            try:
                server.read(message)
            except HandshakeError:
                self.assertNotEqual(message, message1)
            self.assertEqual(key.exchanges, 2)

    def test_the_choice_must_have_been_offered(self) -> None:
        """
        A client refuses a cipher or a version that its hello did not name.
        """
        hello = replace(HELLO, ciphers=(CipherSuite.AES_128_GCM,))
        for wrong in ({"cipher": CipherSuite.CHACHA20_POLY1305}, {"version": 2}):
            client, server = client_handshake(hello), server_handshake()
            server.read(client.message1)
            message2, _ = server.answer(replace(WELCOME, **wrong))
            with self.assertRaisesRegex(HandshakeError, "not offered"):
                client.finish(message2)

    def test_answering_before_reading(self) -> None:
        """
        A server cannot answer what it has not read.
        """
        self.assertRaises(ValueError, server_handshake().answer, WELCOME)

    @given(st.binary(max_size=300))
    def test_message_1_fuzz(self, data: bytes) -> None:
        """
        Whatever arrives as message 1, reading it gives a HandshakeError.
        """
        self.assertRaises(HandshakeError, server_handshake().read, data)


class FieldTests(SynchronousTestCase):
    """
    The lists of the hello and the welcome.
    """

    def test_layout(self) -> None:
        """
        A field is its type, the length of its value and the value.
        """
        encoded = HELLO.encode()
        self.assertTrue(encoded.startswith(bytes.fromhex("01 0001 01  02 0002 0102")))
        self.assertIn(bytes.fromhex("03 0004 01020304"), encoded)
        self.assertIn(bytes.fromhex("07 0010") + bytes(range(16)), WELCOME.encode())

    def test_round_trip(self) -> None:
        """
        What was encoded decodes to the same.
        """
        self.assertEqual(Hello.decode(HELLO.encode()), HELLO)
        self.assertEqual(Welcome.decode(WELCOME.encode()), WELCOME)

    def test_unknown_fields_are_ignored(self) -> None:
        """
        Types of later versions, and of the other message, change nothing even twice (M-5).
        """
        unknown = bytes.fromhex("7f 0003 616263") * 2 + bytes.fromhex("0a 0001 00")
        self.assertEqual(Hello.decode(unknown + HELLO.encode() + unknown), HELLO)

    def test_missing_fields(self) -> None:
        """
        Without any one of its fields neither list decodes (M-6).
        """
        for message in (HELLO, WELCOME):
            fields = _split(message.encode())
            for at in range(len(fields)):
                with self.assertRaisesRegex(HandshakeError, "without the fields"):
                    type(message).decode(b"".join(fields[:at] + fields[at + 1 :]))

    def test_repeated_fields(self) -> None:
        """
        With any one of its fields twice neither list decodes (M-6).
        """
        for message in (HELLO, WELCOME):
            for one in _split(message.encode()):
                with self.assertRaisesRegex(HandshakeError, "twice"):
                    type(message).decode(message.encode() + one)

    def test_values_of_the_wrong_length(self) -> None:
        """
        A value that is shorter or longer than its type says does not decode (M-6).
        """
        for message in (HELLO, WELCOME):
            fields = _split(message.encode())
            for at, one in enumerate(fields):
                is_list = one[0] in (Field.VERSIONS, Field.CIPHERS)
                for value in (b"",) if is_list else (b"", one[4:], one[3:] + b"\0"):
                    wrong = one[:1] + len(value).to_bytes(2) + value
                    data = b"".join([*fields[:at], wrong, *fields[at + 1 :]])
                    with self.assertRaisesRegex(HandshakeError, "bytes"):
                        type(message).decode(data)

    def test_truncation(self) -> None:
        """
        A list that is cut short anywhere does not decode.
        """
        for message in (HELLO, WELCOME):
            data = message.encode()
            for size in range(len(data)):
                self.assertRaises(HandshakeError, type(message).decode, data[:size])

    def test_choice(self) -> None:
        """
        The first cipher that exists here is chosen, and the version that does.
        """
        hello = replace(HELLO, ciphers=(9, 2, 1), versions=(7, 1))
        self.assertEqual(hello.choose_cipher(), CipherSuite.CHACHA20_POLY1305)
        self.assertEqual(hello.choose_version(), 1)
        later = replace(HELLO, ciphers=(9,), versions=(7,))
        self.assertRaises(HandshakeError, later.choose_cipher)
        self.assertRaises(HandshakeError, later.choose_version)

    def test_an_unknown_cipher_in_the_welcome(self) -> None:
        """
        A welcome with a cipher that does not exist here does not decode.
        """
        data = WELCOME.encode().replace(bytes.fromhex("06 0001 01"), bytes.fromhex("06 0001 63"))
        self.assertRaises(HandshakeError, Welcome.decode, data)

    @given(st.binary(max_size=120))
    def test_fuzz(self, data: bytes) -> None:
        """
        Decoding garbage raises HandshakeError or nothing.
        """
        for cls in (Hello, Welcome):
            try:
                cls.decode(data)
            except HandshakeError:
                continue


def _split(fields: bytes) -> list[bytes]:
    result = []
    while fields:
        end = 3 + int.from_bytes(fields[1:3])
        result.append(fields[:end])
        fields = fields[end:]
    return result
