"""
The published vectors, byte for byte, in both directions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.cipher import CipherKeys, SessionKeys
from resip.core.classic.packet import Flag, InnerPacket, OuterWrapper, PacketCodec

VECTORS = Path(__file__).parent.parent.parent / "vectors" / "classic.json"


def load_vectors() -> list[dict[str, Any]]:
    """
    The entries of the vector file.
    """
    vectors: list[dict[str, Any]] = json.loads(VECTORS.read_text())["vectors"]
    return vectors


def _ciphers(keys: dict[str, str]) -> CipherKeys:
    names = ("key1", "iv1", "key2", "iv2")
    return CipherKeys(**{name: bytes.fromhex(keys[name]) for name in names})


def codec_for(vector: dict[str, Any], random: bytes = b"") -> PacketCodec:
    """
    The codec of a vector's session, with its random bytes.
    """
    keys = vector["keys"]
    session = SessionKeys(_ciphers(keys["session"]), bytes.fromhex(keys["session"]["sign"]))
    outer = OuterWrapper(_ciphers(keys["master"]))
    return PacketCodec(vector["session_id"], outer, session, lambda size: random)


def inner_packet(vector: dict[str, Any]) -> InnerPacket:
    """
    What a vector says is inside.
    """
    decoded = vector["decoded"]
    flags = (
        Flag.FROM_SERVER * decoded["from_server"]
        | Flag.COMPRESSED * decoded["compressed"]
        | Flag.MORE * decoded["fragment_more"]
    )
    data = bytes.fromhex(decoded["data_hex"])
    return InnerPacket(int(flags), decoded["channel"], decoded["packet_number"], data)


class VectorTests(SynchronousTestCase):
    """
    Our packets are the published packets.
    """

    def test_every_vector_decodes(self) -> None:
        """
        Each packet opens to the fields that its vector lists, the prototype's faulty ones too.
        """
        vectors = load_vectors()
        self.assertEqual(len(vectors), 87)
        for vector in vectors:
            codec = codec_for(vector)
            outer = codec.outer.open(bytes.fromhex(vector["packet_hex"]))
            self.assertEqual(outer.session_id, vector["session_id"])
            self.assertEqual(codec.open(outer), inner_packet(vector), vector["description"])

    def test_every_published_vector_encodes(self) -> None:
        """
        Each packet that follows the description is sealed to the same bytes.
        """
        encoded = 0
        for vector in load_vectors():
            if vector["quirk"]:
                continue
            parts = vector["random"]
            random = "".join(
                parts[name]
                for name in (
                    "inner_first_byte",
                    "inner_padding",
                    "outer_first_byte",
                    "outer_padding",
                )
            )
            codec = codec_for(vector, bytes.fromhex(random))
            packet = codec.seal(inner_packet(vector))
            self.assertEqual(packet.hex(), vector["packet_hex"], vector["description"])
            encoded += 1
        self.assertEqual(encoded, 81)

    def test_order_does_not_matter(self) -> None:
        """
        A codec that has opened packets in one order opens them in any other: nothing chains.
        """
        vectors = [v for v in load_vectors() if v["hash"] == "sha1" and not v["quirk"]][:8]
        codec = codec_for(vectors[0])
        for vector in [*vectors, *reversed(vectors)]:
            outer = codec.outer.open(bytes.fromhex(vector["packet_hex"]))
            self.assertEqual(codec.open(outer), inner_packet(vector))
