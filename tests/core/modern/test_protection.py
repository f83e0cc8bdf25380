"""
Tests of :mod:`resip.core.modern.protection`, by the numbers of docs/protocol.md.
"""

from __future__ import annotations

import gc
import tracemalloc

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.packet_keys import CipherSuite, expand
from resip.core.modern.protection import (
    MAX_PACKETS_PER_KEY,
    OVERHEAD,
    DropTrigger,
    Opener,
    Sealer,
)
from resip.core.modern.replay import decode_number
from tests.support.protection import (
    AES_GCM,
    SECRET,
    SESSION_ID,
    opened,
    pair,
    reference_packet,
    seal,
)


class WireTests(SynchronousTestCase):
    """
    The bytes of a packet.
    """

    def test_expand(self) -> None:
        """
        Our HKDF-Expand is that of the library.
        """
        for size in (12, 16, 32):
            expected = HKDFExpand(SHA256(), size, b"resip key").derive(SECRET)
            self.assertEqual(expand(SECRET, b"resip key", size), expected)

    def test_layout(self) -> None:
        """
        A batch is, byte for byte, what the steps of the page give for each packet
        (M-9, M-10).
        """
        for suite in CipherSuite:
            sealer, _ = pair(suite)
            for number, packet in enumerate(seal(sealer, 4)):
                self.assertEqual(packet, reference_packet(suite, number, b"plaintext %d" % number))

    def test_round_trip(self) -> None:
        """
        Packets of both ciphers and of all sizes open to what was sealed.
        """
        for suite in CipherSuite:
            sealer, opener = pair(suite)
            for size in (1, 2, 15, 16, 17, 1176, 65_483):
                number = sealer.next_number
                packets = sealer.seal(SESSION_ID, [b"x" * size] * 3, number)
                self.assertEqual({len(packet) for packet in packets}, {size + OVERHEAD})
                expected = [(number + k, b"x" * size) for k in range(3)]
                self.assertEqual(opener.open(packets), expected)

    def test_an_empty_batch(self) -> None:
        """
        Nothing in gives nothing out.
        """
        sealer, opener = pair()
        self.assertEqual(sealer.seal(SESSION_ID, [], 0), [])
        self.assertEqual(opener.open([]), [])

    def test_every_byte_after_the_id_looks_random(self) -> None:
        """
        Over many packets with the same plaintext each byte takes many values (M-10).
        """
        sealer, _ = pair()
        packets = sealer.seal(SESSION_ID, [b"\0" * 8] * 256, 0)
        for at in range(4, len(packets[0])):
            self.assertGreater(len({packet[at] for packet in packets}), 100)

    def test_secrets_of_the_wrong_size(self) -> None:
        """
        A secret has 32 bytes.
        """
        self.assertRaises(ValueError, Sealer, AES_GCM, b"short")
        self.assertRaises(ValueError, Opener, AES_GCM, b"short")


class NumberTests(SynchronousTestCase):
    """
    Packet numbers on the wire and off it.
    """

    def test_the_example_of_the_rfc(self) -> None:
        """
        The closest number wins, below or above what is expected (M-11).
        """
        span = 1 << 30
        self.assertEqual(decode_number(5, 0), 5)
        self.assertEqual(decode_number(5, span), span + 5)
        self.assertEqual(decode_number(span - 1, span + 3), span - 1)
        self.assertEqual(decode_number(2, span - 1), span + 2)
        self.assertEqual(decode_number(span - 1, 0), span - 1)

    @given(st.integers(0, 2**62), st.integers(-(2**29) + 1, 2**29 - 1))
    def test_any_number_near_the_expected_one(self, expected: int, distance: int) -> None:
        """
        The low 30 bits suffice within 2^29 of the expected number (M-11).
        """
        number = max(0, expected + distance)
        self.assertEqual(decode_number(number & 0x3FFFFFFF, expected), number)

    def test_beyond_the_low_bits(self) -> None:
        """
        Numbers go on past 2^30, where the low bits begin anew, in order and out of it (M-11).
        """
        sealer, opener = pair()
        for end in range(MAX_PACKETS_PER_KEY, 1 << 30, MAX_PACKETS_PER_KEY):
            opener.open(sealer.seal(SESSION_ID, [b"x"], end - 1))
            sealer.on_acked(end - 1)
            sealer.start_key_update()
        first = (1 << 30) - 3
        opener.open(sealer.seal(SESSION_ID, [b"x"], first - 1))
        sealer.on_acked(first - 1)
        sealer.start_key_update()  # so that the phase is 0 when the numbers carry into its bit
        packets = seal(sealer, 10)
        self.assertEqual(
            packets[4], reference_packet(AES_GCM, first + 4, b"plaintext %d" % (first + 4), 128)
        )
        self.assertEqual(opener.open(packets[:5]), opened(first, first + 5))
        self.assertEqual(opener.open(packets[:4:-1]), opened(first + 5, first + 10)[::-1])

    def test_no_number_twice(self) -> None:
        """
        Sealing a number again, or one below, is refused and seals nothing (M-8).
        """
        sealer, opener = pair()
        packets = seal(sealer, 5)
        for first in (0, 4):
            self.assertRaises(ValueError, sealer.seal, SESSION_ID, [b"again"], first)
        self.assertEqual(opener.open(packets + seal(sealer, 1)), opened(0, 6))

    def test_empty_plaintexts(self) -> None:
        """
        A packet without a frame would be too short, so it is not sealed (M-14).
        """
        sealer, _ = pair()
        self.assertRaises(ValueError, sealer.seal, SESSION_ID, [b"x", b""], 0)
        self.assertEqual(sealer.next_number, 0)

    def test_skipped_numbers(self) -> None:
        """
        A sender may leave numbers out; the receiver finds the ones it used.
        """
        sealer, opener = pair()
        packets = sealer.seal(SESSION_ID, [b"a"], 7) + sealer.seal(SESSION_ID, [b"b"], 1_000_000)
        self.assertEqual(opener.open(packets), [(7, b"a"), (1_000_000, b"b")])


class ParkTests(SynchronousTestCase):
    """
    Putting ciphers away while a session is idle.
    """

    def test_parked_ciphers_come_back(self) -> None:
        """
        Parking at any time changes no packet and loses none, in any phase.
        """
        sealer, opener = pair()
        for generation in range(3):
            late = seal(sealer, 1)
            sealer.park()
            opener.park()
            first = sealer.next_number
            self.assertEqual(opener.open(seal(sealer, 3)), opened(first, first + 3))
            self.assertEqual(opener.generation, generation)
            opener.park()
            self.assertEqual(opener.open(late), opened(first - 1, first))
            sealer.on_acked(first)
            sealer.start_key_update()

    def test_memory(self) -> None:
        """
        The two directions of a parked session take less than 1 KiB.
        """
        drops: dict[DropTrigger, int] = {}
        parked: list[tuple[Sealer, Opener]] = []
        tracemalloc.start()
        try:
            before = 0
            for n in range(110):
                if n == 10:  # the first leave memory behind that the interpreter keeps for others
                    parked.clear()
                    gc.collect()
                    before, _ = tracemalloc.get_traced_memory()
                secret = n.to_bytes(32)
                sealer, opener = Sealer(AES_GCM, secret), Opener(AES_GCM, secret, drops)
                opener.open(seal(sealer, 1000))
                sealer.park()
                opener.park()
                parked.append((sealer, opener))
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess((after - before) / len(parked), 1024 + 80)  # 80: the tuple and its place
