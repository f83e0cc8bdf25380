"""
Tests of :mod:`resip.core.modern.fragments`, by the numbers of docs/protocol.md.
"""

from __future__ import annotations

import random

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.fragments import (
    LEAST_FRAGMENT,
    MAX_FRAGMENTS,
    MAX_INCOMPLETE,
    MAX_JOINED_SIZE,
    FragmentStore,
    count_fragments,
)
from resip.core.modern.packet_keys import CipherSuite, expand
from resip.core.modern.protection import DropTrigger, Sealer
from resip.core.trains import HEADER_SIZE, MIN_PACKET_SIZE, TAG_SIZE, Train, Trains
from tests.support.protection import (
    AES_GCM,
    SECRET,
    SESSION_ID,
    opened,
    pair,
    reference_packet,
    seal,
)

LARGEST = 1472


def large(number: int, size: int = 30_000) -> bytes:
    """
    A plaintext of ``size`` bytes, another one for each number.
    """
    return random.Random(number).randbytes(size)


def fragmented(
    sealer: Sealer, plaintexts: list[bytes], first: int, *, largest: int = LARGEST
) -> list[bytes]:
    """
    The datagrams of some packets, the large ones in fragments.
    """
    return list(sealer.seal_in_trains(SESSION_ID, plaintexts, first, largest=largest))


class WireTests(SynchronousTestCase):
    """
    The bytes of fragments.
    """

    def test_layout(self) -> None:
        """
        Behind their headers, fragments make up the packet behind its own; the masked words say
        phase, number, count and place (M-9, M-10, section 2.7).
        """
        for suite in CipherSuite:
            sealer, _ = pair(suite)
            seal(sealer, 5)
            fragments = fragmented(sealer, [large(5)], 5)
            whole = reference_packet(suite, 5, large(5))
            self.assertEqual(
                b"".join(each[HEADER_SIZE:] for each in fragments), whole[HEADER_SIZE:]
            )
            encryptor = Cipher(AES(expand(SECRET, b"resip hp", suite.key_size)), ECB()).encryptor()
            for place, fragment in enumerate(fragments):
                self.assertEqual(fragment[:4], SESSION_ID.to_bytes(4))
                mask = encryptor.update(fragment[-16:])[:4]
                word = int.from_bytes(fragment[4:8]) ^ int.from_bytes(mask)
                self.assertEqual(word, 1 << 30 | 5 << 12 | len(fragments) - 1 << 6 | place)

    @given(
        st.lists(st.integers(1, 64_000), min_size=1, max_size=4),
        st.sampled_from([484, 1200, 1472, 8972]),
    )
    @settings(max_examples=50)
    def test_sizes(self, sizes: list[int], largest: int) -> None:
        """
        No datagram is too large unless 64 are too few; none is too short, and all fragments of a
        packet but the last have one size (M-69).
        """
        for size in sizes:
            sealer, opener = pair()
            datagrams = fragmented(sealer, [bytes(size)], 0, largest=largest)
            lengths = list(map(len, datagrams))
            if size + 16 > MAX_FRAGMENTS * (largest - HEADER_SIZE):
                self.assertEqual(len(datagrams), 1)
            else:
                self.assertLessEqual(max(lengths), largest)
            if len(datagrams) > 1:
                self.assertEqual(len(set(lengths[:-1])), 1)
                self.assertGreaterEqual(lengths[0], lengths[-1])
                self.assertGreaterEqual(lengths[-1], LEAST_FRAGMENT)
            self.assertEqual(opener.open(datagrams)[-1], (0, bytes(size)))

    def test_every_byte_after_the_id_looks_random(self) -> None:
        """
        Nothing behind the id tells a fragment from a packet, or one fragment from another (M-10).
        """
        sealer, _ = pair()
        seen: list[set[int]] = [set() for _ in range(40)]
        for number in range(60):
            for fragment in fragmented(sealer, [bytes(20_000)], number):
                for at, byte in enumerate(fragment[4:44]):
                    seen[at].add(byte)
        self.assertGreater(min(map(len, seen)), 200)

    def test_how_many(self) -> None:
        """
        Packets of nearly 64 KiB: in 44 datagrams of Ethernet's size, in 7 jumbo frames; no more
        than the word has room for, and none on a path that takes the largest datagrams anyway.
        """
        counts = [count_fragments(size) for size in (484, 1472, 8972, 65_507)]
        self.assertEqual(counts, [64, 44, 7, 1])


class OpenTests(SynchronousTestCase):
    """
    From fragments to packets.
    """

    def test_a_burst(self) -> None:
        """
        Packets come out in the places of their last fragments, small ones among them.
        """
        for suite in CipherSuite:
            sealer, opener = pair(suite)
            plaintexts = [b"small", large(1), large(2), b"x" * 1440, large(4, 5000), b"small, too"]
            datagrams = fragmented(sealer, plaintexts, 0)
            result = opener.open(datagrams)
            self.assertEqual(len(result), len(datagrams))
            self.assertEqual([one for one in result if one], list(enumerate(plaintexts)))
            self.assertEqual((result[0], result[1]), ((0, b"small"), None))
            self.assertEqual(opener.drops, {})

    @given(st.randoms(use_true_random=False), st.integers(1, 30))
    @settings(max_examples=30)
    def test_any_order(self, dice: random.Random, batch: int) -> None:
        """
        Fragments of two packets in any order, in batches and doubled, give each packet once
        (M-13, M-70).
        """
        sealer, opener = pair()
        plaintexts = [large(0), large(1), b"small"]
        datagrams = 2 * fragmented(sealer, plaintexts, 0)
        dice.shuffle(datagrams)
        result = []
        for at in range(0, len(datagrams), batch):
            result += opener.open(datagrams[at : at + batch])
        self.assertEqual(sorted(one for one in result if one), list(enumerate(plaintexts)))

    def test_replay(self) -> None:
        """
        All fragments of a packet once more are one duplicate (M-13).
        """
        sealer, opener = pair()
        datagrams = fragmented(sealer, [large(0)], 0)
        opener.open(datagrams)
        self.assertEqual(opener.open(datagrams), [None] * len(datagrams))
        self.assertEqual(opener.drops, {DropTrigger.DUPLICATE: 1})

    def test_a_missing_fragment(self) -> None:
        """
        It costs its own packet, not the next ones.
        """
        sealer, opener = pair()
        for number in range(10):
            datagrams = fragmented(sealer, [large(number)], number)
            result = opener.open(datagrams[:3] + datagrams[4:] if number == 4 else datagrams)
            self.assertEqual(result[-1], None if number == 4 else (number, large(number)))

    def test_the_low_bits_begin_anew(self) -> None:
        """
        Eighteen bits of the number suffice where packets come in order (M-11).
        """
        sealer, opener = pair()
        for number in ((1 << 18) - 1, (1 << 18) + 5, (5 << 18) + 3):
            opener.open(sealer.seal(SESSION_ID, [b"small"], number - 1))
            datagrams = fragmented(sealer, [large(1)], number)
            self.assertEqual(opener.open(datagrams)[-1], (number, large(1)))

    def test_key_update(self) -> None:
        """
        Fragments move the phase like packets (M-16).
        """
        sealer, opener = pair()
        opener.open(seal(sealer, 1))
        sealer.on_acked(0)
        sealer.start_key_update()
        datagrams = fragmented(sealer, [large(1)], 1)
        self.assertEqual(opener.open(datagrams)[-1], (1, large(1)))
        self.assertEqual(opener.generation, 1)

    def test_parking_forgets(self) -> None:
        """
        A session that is put away keeps no fragments.
        """
        sealer, opener = pair()
        datagrams = fragmented(sealer, [large(0)], 0)
        opener.open(datagrams[:-1])
        opener.park()
        self.assertEqual(opener.open(datagrams[-1:]), [None])


class AttackTests(SynchronousTestCase):
    """
    What a stranger on the path can do with fragments.
    """

    def test_forged_fragments(self) -> None:
        """
        A fragment that was changed loses its packet and no other; nothing of it counts (M-12).
        """
        dice = random.Random(1)
        sealer, opener = pair()
        datagrams = fragmented(sealer, [large(0)], 0)
        for _ in range(50):
            forged = list(datagrams)
            at, byte = dice.randrange(len(forged)), dice.randrange(8, LARGEST)
            changed = bytearray(forged[at])
            changed[min(byte, len(changed) - 1)] ^= 1 << dice.randrange(8)
            forged[at] = bytes(changed)
            self.assertFalse(any(opener.open(forged)))
        self.assertEqual((opener.window.next_number, opener.generation), (0, 0))
        self.assertEqual(opener.open(datagrams)[-1], (0, large(0)))

    def test_what_is_short_is_no_fragment(self) -> None:
        """
        Noise that is too short for a fragment is dropped as a packet would be, and counted (M-69).
        """
        dice = random.Random(2)
        _, opener = pair()
        noise = [
            dice.randbytes(dice.randrange(MIN_PACKET_SIZE, LEAST_FRAGMENT)) for _ in range(200)
        ]
        self.assertFalse(any(opener.open(noise)))
        self.assertEqual(opener.drops, {DropTrigger.UNDECRYPTABLE: 200})

    def test_noise_between_fragments(self) -> None:
        """
        Noise that looks like fragments takes no packet along which comes in order beside it.
        """
        dice = random.Random(3)
        sealer, opener = pair()
        for number in range(20):
            noise = [dice.randbytes(LARGEST) for _ in range(20)]
            datagrams = fragmented(sealer, [large(number)], number)
            result = opener.open(noise + datagrams + noise)
            self.assertIn((number, large(number)), result)

    def test_bounds(self) -> None:
        """
        Incomplete packets never take more than four times 64 KiB (M-70).
        """
        store = FragmentStore()
        dice = random.Random(4)
        for _ in range(2000):
            word = dice.getrandbits(32) | 1 << 30
            store.add(word, bytes(dice.choice((1400, 2000, 60_000, 65_499))))
            self.assertLessEqual(store.size, MAX_INCOMPLETE * MAX_JOINED_SIZE)
        self.assertGreater(store.size, 0)

    def test_packets_that_are_too_large(self) -> None:
        """
        What follows the header of a packet may have 65,536 bytes, and not one more, whether its
        fragments come in order or not (M-70); the packet after it opens.
        """
        largest = HEADER_SIZE + MAX_JOINED_SIZE // 16
        for size, is_opened in ((MAX_JOINED_SIZE, True), (MAX_JOINED_SIZE + 1, False)):
            for step in (1, -1):
                sealer, opener = pair()
                plaintext = bytes(size - TAG_SIZE)
                datagrams = fragmented(sealer, [plaintext], 0, largest=largest)[::step]
                self.assertGreater(len(datagrams), 1)
                result = opener.open(datagrams)
                self.assertEqual(result[-1], (0, plaintext) if is_opened else None)
                self.assertEqual(opener.open(sealer.seal(SESSION_ID, [b"next"], 1)), [(1, b"next")])

    def test_places_that_do_not_exist(self) -> None:
        """
        The sixth fragment of five is nothing.
        """
        store = FragmentStore()
        word = 1 << 30 | 4 << 6
        for place in (5, 63):
            self.assertIsNone(store.add(word | place, bytes(200)))
        self.assertEqual(store.size, 0)
        self.assertEqual(
            [store.add(word | place, b"%d" % place) for place in range(5)][-1], b"01234"
        )

    def test_packets_still_open(self) -> None:
        """
        After any of that, packets open as ever.
        """
        sealer, opener = pair(AES_GCM)
        opener.open(fragmented(sealer, [large(0)], 0)[1:])
        self.assertEqual(opener.open(seal(sealer, 3)), opened(1, 4))


class TrainTests(SynchronousTestCase):
    """
    What is read of a whole train at once.
    """

    @given(st.randoms(use_true_random=False), st.booleans())
    @settings(max_examples=50)
    def test_trains_and_datagrams(self, dice: random.Random, is_damaged: bool) -> None:
        """
        Packets come out of trains as they do of datagrams one by one, whole or in fragments,
        damaged, cut short, doubled, or in another order.
        """
        sealer, opener = pair()
        other = pair()[1]
        plaintexts = [large(number, dice.choice([20, 900, 1440, 9000])) for number in range(10)]
        first = sealer.seal_in_trains(SESSION_ID, plaintexts, 0, largest=LARGEST)
        equal = seal(sealer, 5)
        trains = [*first.trains, Train(b"".join(equal), len(equal[0]))]
        if is_damaged:
            trains += dice.choices(trains, k=3)
            dice.shuffle(trains)
            for at in range(0, len(trains), 3):
                size = len(trains[at].data)
                end = dice.choice([dice.randrange(1, size + 1), min(size, trains[at].size + 7)])
                data = bytearray(trains[at].data[:end])
                data[dice.randrange(len(data))] ^= 1
                trains[at] = Train(bytes(data), trains[at].size)
        packets = Trains(trains)
        self.assertEqual(opener.open(packets), [other.open([one])[0] for one in packets])
        self.assertEqual(opener.drops, other.drops)
        self.assertEqual(any(opener.drops.values()), is_damaged)
