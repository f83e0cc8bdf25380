"""
Handshakes that travel in packets, section 2.4 of docs/protocol.md.
"""

from __future__ import annotations

import hashlib
import hmac

from resip.core.modern.noise import KEY_SIZE
from resip.core.types import RandomBytes

#: Bytes of every packet with a message 1, so that the answer can never amplify (M-20).
MESSAGE1_PACKET_SIZE = 1_200
MAC_SIZE = 16
_ID_SIZE = 4
#: The longest message 1 that fits its packet.
MAX_MESSAGE1_SIZE = MESSAGE1_PACKET_SIZE - _ID_SIZE - MAC_SIZE


class HandshakePackets:
    """
    Puts handshake messages into packets and takes them out.

        message 1: masked word | noise message 1 | random padding to 1,200 bytes | mac (16)
        message 2: the client's id | noise message 2 | mac (16)

    The masked word is two zero bytes and the length of the noise message, XORed with the keyed
    BLAKE2s of the ephemeral key that the message starts with.

    :param server_public_key: 32 bytes; whoever knows them can make a mac (M-19).
    :ivar stream_id: 4 bytes with which a TCP connection begins that carries a handshake first
        (M-50); to those who do not know the server's key they are random.
    """

    def __init__(self, server_public_key: bytes) -> None:
        self._mac_key = hashlib.blake2s(b"resip mac" + server_public_key).digest()
        self.stream_id = hashlib.blake2s(b"resip stream", key=self._mac_key).digest()[:_ID_SIZE]

    def wrap_message1(self, message1: bytes, random_bytes: RandomBytes) -> bytes:
        """
        A packet of 1,200 bytes.

        :raises ValueError: when the message is longer than :data:`MAX_MESSAGE1_SIZE`.
        """
        if len(message1) > MAX_MESSAGE1_SIZE:
            raise ValueError(f"{len(message1)} bytes of message 1, more than {MAX_MESSAGE1_SIZE}")
        word = len(message1) ^ self._mask(message1[:KEY_SIZE])
        padding = random_bytes(MAX_MESSAGE1_SIZE - len(message1))
        return self._sign(word.to_bytes(_ID_SIZE) + message1 + padding)

    def unwrap_message1(self, packet: bytes) -> bytes | None:
        """
        The noise message, ``None`` for every packet that does not carry one (M-19).
        """
        if len(packet) != MESSAGE1_PACKET_SIZE:
            return None
        masked = int.from_bytes(packet[:_ID_SIZE])
        size = masked ^ self._mask(packet[_ID_SIZE : _ID_SIZE + KEY_SIZE])
        if not KEY_SIZE <= size <= MAX_MESSAGE1_SIZE or not self._is_signed(packet):
            return None
        return packet[_ID_SIZE : _ID_SIZE + size]

    def wrap_message2(self, session_id: int, message2: bytes) -> bytes:
        """
        The packet of an answer.

        :param session_id: the client's, from the hello.
        """
        return self._sign(session_id.to_bytes(_ID_SIZE) + message2)

    def unwrap_message2(self, packet: bytes) -> tuple[int, bytes] | None:
        """
        The client's id and the noise message, ``None`` for every other packet.
        """
        if len(packet) < _ID_SIZE + KEY_SIZE + MAC_SIZE or not self._is_signed(packet):
            return None
        return int.from_bytes(packet[:_ID_SIZE]), packet[_ID_SIZE:-MAC_SIZE]

    def _mask(self, ephemeral: bytes) -> int:
        return int.from_bytes(hashlib.blake2s(ephemeral, key=self._mac_key).digest()[:_ID_SIZE])

    def _mac(self, data: bytes) -> bytes:
        return hashlib.blake2s(data, key=self._mac_key, digest_size=MAC_SIZE).digest()

    def _sign(self, data: bytes) -> bytes:
        return data + self._mac(data)

    def _is_signed(self, packet: bytes) -> bool:
        return hmac.compare_digest(self._mac(packet[:-MAC_SIZE]), packet[-MAC_SIZE:])
