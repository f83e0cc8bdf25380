"""
Tests of :mod:`resip.core.modern.protection`: what a stranger on the path can do to packets.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.packet_keys import CipherSuite
from resip.core.modern.protection import DropTrigger, Opener, Sealer
from resip.core.trains import MIN_PACKET_SIZE
from tests.support.protection import AES_GCM, SECRET, SESSION_ID, opened, pair, seal


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

    @given(st.lists(st.binary(max_size=80), max_size=8))
    def test_garbage(self, packets: list[bytes]) -> None:
        """
        Whatever arrives, opening it raises nothing and changes nothing (M-12).
        """
        opener = Opener(AES_GCM, SECRET)
        self.assertEqual(opener.open(packets), [None] * len(packets))
        self.assertEqual((opener.window.next_number, opener.generation), (0, 0))

    @settings(max_examples=50)
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
