"""
Tests of :mod:`resip.core.modern.protection`, by the numbers of docs/protocol.md.
"""

from __future__ import annotations

import random
import tracemalloc

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import LimitError
from resip.core.modern.protection import (
    KEY_UPDATE_AT,
    MAX_PACKETS_PER_KEY,
    MIN_PACKET_SIZE,
    OVERHEAD,
    CipherSuite,
    DropTrigger,
    Opener,
    Sealer,
    decode_number,
    expand,
)

AES_GCM, CHACHA = CipherSuite.AES_128_GCM, CipherSuite.CHACHA20_POLY1305
SECRET = bytes(range(32))
SESSION_ID = 0xF1020304


def pair(suite: CipherSuite = AES_GCM) -> tuple[Sealer, Opener]:
    """
    The two ends of one direction.
    """
    return Sealer(suite, SECRET), Opener(suite, SECRET)


def numbered(first: int, end: int) -> list[bytes]:
    """
    A plaintext for each number, from which the number can be told.
    """
    return [b"plaintext %d" % number for number in range(first, end)]


def seal(sealer: Sealer, count: int) -> list[bytes]:
    """
    The next ``count`` packets, with :func:`numbered` plaintexts.
    """
    first = sealer.next_number
    return sealer.seal(SESSION_ID, numbered(first, first + count), first)


def opened(first: int, end: int) -> list[tuple[int, bytes] | None]:
    """
    What opening the packets ``first`` up to ``end`` gives.
    """
    return list(zip(range(first, end), numbered(first, end), strict=True))


def reference_packet(suite: CipherSuite, number: int, plaintext: bytes, updates: int = 0) -> bytes:
    """
    A packet made step by step as sections 1.1 and 2.1 say.
    """
    size, secret = suite.key_size, SECRET
    mask_key = expand(secret, b"resip hp", size)
    for _ in range(updates):
        secret = expand(secret, b"resip ku", 32)
    key = expand(secret, b"resip key", size)
    nonce = int.from_bytes(expand(secret, b"resip iv", 12)) ^ number
    word = (updates & 1) << 31 | number & 0x7FFFFFFF
    header = SESSION_ID.to_bytes(4) + word.to_bytes(4)
    aead = AESGCM(key) if suite is AES_GCM else ChaCha20Poly1305(key)
    body = aead.encrypt(nonce.to_bytes(12), plaintext, header)
    block = Cipher(AES(mask_key), ECB()).encryptor().update(body[-16:])
    return header[:4] + (word ^ int.from_bytes(block[:4])).to_bytes(4) + body


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
        span = 1 << 31
        self.assertEqual(decode_number(5, 0), 5)
        self.assertEqual(decode_number(5, span), span + 5)
        self.assertEqual(decode_number(span - 1, span + 3), span - 1)
        self.assertEqual(decode_number(2, span - 1), span + 2)
        self.assertEqual(decode_number(span - 1, 0), span - 1)

    @given(st.integers(0, 2**62), st.integers(-(2**30) + 1, 2**30 - 1))
    def test_any_number_near_the_expected_one(self, expected: int, distance: int) -> None:
        """
        The low 31 bits suffice within 2^30 of the expected number (M-11).
        """
        number = max(0, expected + distance)
        self.assertEqual(decode_number(number & 0x7FFFFFFF, expected), number)

    def test_beyond_the_low_bits(self) -> None:
        """
        Numbers go on past 2^31, where the low bits begin anew, in order and out of it (M-11).
        """
        sealer, opener = pair()
        for end in range(MAX_PACKETS_PER_KEY, 1 << 31, MAX_PACKETS_PER_KEY):
            opener.open(sealer.seal(SESSION_ID, [b"x"], end - 1))
            sealer.on_acked(end - 1)
            sealer.start_key_update()
        first = (1 << 31) - 3
        opener.open(sealer.seal(SESSION_ID, [b"x"], first - 1))
        sealer.on_acked(first - 1)
        sealer.start_key_update()  # so that the phase is 0 when the numbers carry into its bit
        packets = seal(sealer, 10)
        self.assertEqual(
            packets[4], reference_packet(AES_GCM, first + 4, b"plaintext %d" % (first + 4), 256)
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


class AttackTests(SynchronousTestCase):
    """
    What a stranger on the path can do to packets.
    """

    def test_forged_bytes(self) -> None:
        """
        A packet with any bit flipped is dropped and changes nothing; the genuine one still
        opens (M-12, M-14).
        """
        for suite in CipherSuite:
            sealer, opener = pair(suite)
            (packet,) = seal(sealer, 1)
            for at in range(len(packet)):
                forged = bytearray(packet)
                forged[at] ^= 0x80
                self.assertEqual(opener.open([bytes(forged)]), [None])
            self.assertEqual(opener.window.next_number, 0)
            self.assertEqual(opener.generation, 0)
            self.assertEqual(opener.drops, {DropTrigger.UNDECRYPTABLE: len(packet)})
            self.assertEqual(opener.open([packet]), opened(0, 1))

    def test_a_bad_packet_costs_only_itself(self) -> None:
        """
        Forged, short and foreign packets between genuine ones take none of them along (M-14).
        """
        sealer, opener = pair()
        packets = seal(sealer, 6)
        batch = [packets[0], bytes(60), packets[1], b"short", packets[2][:-1], packets[3], b""]
        batch += [Sealer(AES_GCM, bytes(32)).seal(SESSION_ID, [b"foreign"], 0)[0], packets[4]]
        result = opener.open([*batch, packets[5]])
        numbers = [one and one[0] for one in result]
        self.assertEqual(numbers, [0, None, 1, None, None, 3, None, None, 4, 5])
        self.assertEqual(opener.drops, {DropTrigger.TOO_SHORT: 2, DropTrigger.UNDECRYPTABLE: 3})
        self.assertEqual(opener.open([packets[2]]), opened(2, 3))

    def test_a_corrupted_packet_whose_turn_it_is(self) -> None:
        """
        A packet that is damaged in its body does not use up its number (M-12).
        """
        sealer, opener = pair()
        packets = seal(sealer, 3)
        damaged = packets[1][:10] + bytes([packets[1][10] ^ 1]) + packets[1][11:]
        result = opener.open([packets[0], damaged, packets[2]])
        self.assertEqual(result, [*opened(0, 1), None, *opened(2, 3)])
        self.assertEqual(opener.open([packets[1]]), opened(1, 2))

    def test_replay(self) -> None:
        """
        A recorded packet opens once, within a batch and across batches (M-13).
        """
        sealer, opener = pair()
        packets = seal(sealer, 4)
        self.assertEqual(opener.open([packets[0], packets[0]]), [*opened(0, 1), None])
        self.assertEqual(opener.open(packets), [None, *opened(1, 4)])
        self.assertEqual(opener.open(packets[::-1]), [None] * 4)
        self.assertEqual(opener.drops, {DropTrigger.DUPLICATE: 6})

    def test_too_old(self) -> None:
        """
        A genuine packet that arrives more than 65,536 numbers late is dropped (M-13).
        """
        sealer, opener = pair()
        late, not_so_late = seal(sealer, 2)
        opener.open(sealer.seal(SESSION_ID, [b"x"], 65_537))
        self.assertEqual(opener.open([late, not_so_late]), [None, *opened(1, 2)])
        self.assertEqual(opener.drops, {DropTrigger.TOO_OLD: 1})

    def test_reflection(self) -> None:
        """
        A packet that is sent back to its sender does not open: each direction has its secret.
        """
        to_server = Sealer(AES_GCM, SECRET)
        from_server = Opener(AES_GCM, SECRET[::-1])
        self.assertEqual(from_server.open(seal(to_server, 3)), [None] * 3)

    def test_truncation(self) -> None:
        """
        A packet that is cut short anywhere is dropped; below 25 bytes without a look (M-14).
        """
        sealer, opener = pair()
        (packet,) = seal(sealer, 1)
        cut = [packet[:size] for size in range(len(packet))]
        self.assertEqual(opener.open(cut), [None] * len(cut))
        self.assertEqual(opener.drops[DropTrigger.TOO_SHORT], MIN_PACKET_SIZE)

    def test_another_id(self) -> None:
        """
        A packet that was moved to another id does not open (M-9).
        """
        sealer, opener = pair()
        (packet,) = seal(sealer, 1)
        self.assertEqual(opener.open([b"\1\2\3\4" + packet[4:]]), [None])

    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=80), max_size=8))
    def test_garbage(self, packets: list[bytes]) -> None:
        """
        Whatever arrives, opening it raises nothing and changes nothing (M-12).
        """
        opener = Opener(AES_GCM, SECRET)
        self.assertEqual(opener.open(packets), [None] * len(packets))
        self.assertEqual((opener.window.next_number, opener.generation), (0, 0))

    @settings(deadline=None, max_examples=50)
    @given(st.integers(0, 2**32), st.sampled_from(list(CipherSuite)))
    def test_any_network(self, seed: int, suite: CipherSuite) -> None:
        """
        Under loss, reordering, duplication, damage and key updates each packet opens at most
        once, to what was sealed, and all that arrived undamaged do open.
        """
        dice = random.Random(seed)
        sealer, opener = pair(suite)
        received: dict[int, bytes] = {}
        arrived: set[int] = set()
        for _ in range(20):
            first = sealer.next_number
            flight = list(enumerate(seal(sealer, dice.randint(1, 12)), first))
            flight += [(n, p) for n, p in flight if dice.random() < 0.1]
            flight = [(n, p) for n, p in flight if dice.random() < 0.8]
            if dice.random() < 0.5:
                dice.shuffle(flight)
            arrived.update(number for number, _ in flight)
            packets = [packet for _, packet in flight]
            for _ in range(dice.randint(0, 2)):
                packets.insert(dice.randint(0, len(packets)), dice.randbytes(50))
            for one in opener.open(packets):
                if one is not None:
                    self.assertNotIn(one[0], received)
                    received[one[0]] = one[1]
            if received and max(received) >= first and dice.random() < 0.5:
                sealer.on_acked(max(received))
                sealer.start_key_update()
        self.assertEqual(received, {n: b"plaintext %d" % n for n in arrived})


class KeyUpdateTests(SynchronousTestCase):
    """
    Section 2.2.
    """

    def setUp(self) -> None:
        """
        Make a direction whose first packets were acknowledged.
        """
        self.sealer, self.opener = pair()
        self.opener.open(seal(self.sealer, 3))
        self.sealer.on_acked(2)

    def test_update(self) -> None:
        """
        The receiver follows to the next secret, and numbers go on (M-15, M-16).
        """
        self.sealer.start_key_update()
        self.assertEqual(self.opener.open(seal(self.sealer, 3)), opened(3, 6))
        self.assertEqual((self.sealer.generation, self.opener.generation), (1, 1))

    def test_the_next_secret(self) -> None:
        """
        The key and IV of the next phase come from the next secret, the mask stays (M-15).
        """
        self.sealer.start_key_update()
        (packet,) = self.sealer.seal(SESSION_ID, [b"words"], 3)
        self.assertEqual(packet, reference_packet(AES_GCM, 3, b"words", updates=1))

    def test_not_before_an_acknowledgement(self) -> None:
        """
        A second update waits until a packet of the new phase was acknowledged (M-15).
        """
        self.sealer.start_key_update()
        self.assertRaises(ValueError, self.sealer.start_key_update)
        self.sealer.on_acked(2)
        self.assertFalse(self.sealer.can_update_key)
        seal(self.sealer, 1)
        self.sealer.on_acked(3)
        self.sealer.start_key_update()
        self.assertEqual(self.sealer.generation, 2)

    def test_numbers_are_not_used_again(self) -> None:
        """
        After an update no number of before can be sealed, so no nonce comes twice (M-8).
        """
        self.sealer.start_key_update()
        self.assertRaises(ValueError, self.sealer.seal, SESSION_ID, [b"again"], 2)

    def test_replay_across_an_update(self) -> None:
        """
        A packet of the previous phase opens once, after the update too (M-13, M-16).
        """
        late = seal(self.sealer, 2)
        self.sealer.start_key_update()
        self.opener.open(seal(self.sealer, 1))
        self.assertEqual(self.opener.open(late), opened(3, 5))
        self.assertEqual(self.opener.open(late), [None, None])
        self.assertEqual(self.opener.drops, {DropTrigger.DUPLICATE: 2})

    def test_overtaken_packets(self) -> None:
        """
        Packets of both phases open in any order while the previous key is kept (M-16).
        """
        before = seal(self.sealer, 2)
        self.sealer.start_key_update()
        after = seal(self.sealer, 2)
        result = self.opener.open([after[1], before[1], after[0], before[0]])
        self.assertEqual([one and one[0] for one in result], [6, 4, 5, 3])

    def test_dropping_the_previous_key(self) -> None:
        """
        Once the previous key is gone, its packets are dropped with a reason (M-16).
        """
        late = seal(self.sealer, 1)
        self.sealer.start_key_update()
        self.opener.open(seal(self.sealer, 1))
        self.opener.drop_previous_key()
        self.assertEqual(self.opener.open(late), [None])
        self.assertEqual(self.opener.drops, {DropTrigger.KEY_UNAVAILABLE: 1})

    def test_a_forged_phase(self) -> None:
        """
        Packets with the phase bit flipped do not authenticate and change no phase (M-17).
        """
        for packet in seal(self.sealer, 20):
            forged = packet[:4] + bytes([packet[4] ^ 0x80]) + packet[5:]
            self.assertEqual(self.opener.open([forged]), [None])
        self.assertEqual(self.opener.generation, 0)
        self.assertEqual(self.opener.drops, {DropTrigger.UNDECRYPTABLE: 20})
        self.assertEqual(self.opener.open(seal(self.sealer, 1)), opened(23, 24))

    def test_following_the_peer(self) -> None:
        """
        Our direction follows the peer's without an acknowledgement, once (M-16).
        """
        ours = Sealer(AES_GCM, SECRET[::-1])
        self.sealer.start_key_update()
        self.opener.open(seal(self.sealer, 1))
        for _ in range(2):
            ours.follow(self.opener.generation)
            self.assertEqual(ours.generation, 1)

    def test_many_updates(self) -> None:
        """
        Update follows update, each with a batch in which the phase changes.
        """
        for _ in range(10):
            batch = seal(self.sealer, 2)
            self.sealer.on_acked(self.sealer.next_number - 1)
            self.sealer.start_key_update()
            batch += seal(self.sealer, 2)
            self.assertEqual(len([one for one in self.opener.open(batch) if one]), 4)
        self.assertEqual(self.opener.generation, 10)

    def test_limits(self) -> None:
        """
        After 2^22 packets an update is due, and a key never seals more than 2^23 (M-15).
        """
        self.assertFalse(self.sealer.wants_key_update)
        self.sealer.seal(SESSION_ID, [b"x"], KEY_UPDATE_AT - 1)
        self.assertTrue(self.sealer.wants_key_update)
        self.sealer.seal(SESSION_ID, [b"x"], MAX_PACKETS_PER_KEY - 2)
        self.assertEqual(self.sealer.room, 1)
        end = MAX_PACKETS_PER_KEY - 1
        self.assertRaises(LimitError, self.sealer.seal, SESSION_ID, [b"x", b"x"], end)
        self.sealer.seal(SESSION_ID, [b"x"], end)
        self.assertRaises(LimitError, self.sealer.seal, SESSION_ID, [b"x"], end + 1)
        self.sealer.start_key_update()
        self.assertEqual(self.sealer.room, MAX_PACKETS_PER_KEY)
        self.assertEqual(len(self.sealer.seal(SESSION_ID, [b"x"], end + 1)), 1)


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
        parked = []
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for n in range(100):
                secret = n.to_bytes(32)
                sealer, opener = Sealer(AES_GCM, secret), Opener(AES_GCM, secret, drops)
                opener.open(seal(sealer, 1000))
                sealer.park()
                opener.park()
                parked.append((sealer, opener))
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess((after - before) / len(parked), 1024 + 80)  # 80: the tuple and its place
