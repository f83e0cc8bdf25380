"""
Tests of :mod:`resip.core.modern.ids` (M-38).
"""

from __future__ import annotations

from itertools import count

from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ProtocolError
from resip.core.modern.ids import MAX_ACTIVE_IDS, IdPool, IssuedId, PeerIds
from resip.core.types import Path

PATHS = [Path(name) for name in "abcde"]
A, B, C = PATHS[:3]


def issued(sequence: int, session_id: int | None = None) -> IssuedId:
    """
    What a NEW_ID of ``sequence`` brings.
    """
    return IssuedId(sequence, sequence + 1000 if session_id is None else session_id, b"t" * 16)


class IdPoolTests(SynchronousTestCase):
    """
    The ids that we gave to the peer.
    """

    def setUp(self) -> None:
        """
        Make a pool whose ids count up from 1,000.
        """
        self.released: list[int] = []
        numbers = count(1001)
        self.pool = IdPool(
            1000,
            allocate=lambda: next(numbers),
            release=self.released.append,
            token=lambda session_id: session_id.to_bytes(16),
        )

    def test_replenish(self) -> None:
        """
        The peer gets ids, with their tokens, until it holds six, and then no more.
        """
        new = self.pool.replenish()
        self.assertEqual(
            [(i.sequence, i.session_id) for i in new], [(n, 1000 + n) for n in range(1, 6)]
        )
        self.assertEqual(new[0].token, (1001).to_bytes(16))
        self.assertEqual(self.pool.replenish(), [])
        self.assertEqual(self.pool.active, tuple(range(1000, 1006)))

    def test_what_the_dice_repeat(self) -> None:
        """
        No id is given twice, and 0 is none.
        """
        draws = [7, 0, 8, 8, 7, 9, 10, 11, 12]
        pool = IdPool(
            7, allocate=lambda: draws.pop(0), release=self.released.append, token=lambda _: b""
        )
        self.assertEqual([i.session_id for i in pool.replenish()], [8, 9, 10, 11, 12])
        self.assertEqual((draws, self.released), ([], []))

    def test_retire(self) -> None:
        """
        A retired id is released once, however often the peer says so, and replaced.
        """
        self.pool.replenish()
        self.pool.on_retired(0)
        self.pool.on_retired(0)
        self.assertEqual(self.released, [1000])
        self.assertFalse(self.pool.is_active(0))
        self.assertEqual([i.sequence for i in self.pool.replenish()], [6])

    def test_retiring_what_was_never_issued(self) -> None:
        """
        A RETIRE_ID of a sequence number in the future breaks the protocol.
        """
        self.assertRaises(ProtocolError, self.pool.on_retired, 1)
        self.assertEqual(self.released, [])

    def test_the_table_is_bounded(self) -> None:
        """
        However many ids a peer retires, it never holds more than six.
        """
        for sequence in range(100):
            self.pool.replenish()
            self.pool.on_retired(sequence)
            self.assertLessEqual(len(self.pool.active), MAX_ACTIVE_IDS)

    def test_close(self) -> None:
        """
        Closing releases every id that is left.
        """
        self.pool.replenish()
        self.pool.close()
        self.assertEqual(self.released, list(range(1000, 1006)))

    def test_tokens_are_not_shown(self) -> None:
        """
        The repr of an issued id keeps its token to itself.
        """
        self.assertNotIn("tttt", repr(issued(1)))


class PeerIdsTests(SynchronousTestCase):
    """
    The ids that the peer gave to us.
    """

    def setUp(self) -> None:
        """
        Begin with the id of the handshake.
        """
        self.ids = PeerIds(1000, b"0" * 16)

    def test_each_path_has_its_own(self) -> None:
        """
        A path takes an id that was not used, and keeps it while others are used.
        """
        self.ids.add(issued(2))
        self.ids.add(issued(1))
        self.assertEqual([self.ids.use(path) for path in (A, B, A)], [1000, 1001, 1000])
        self.assertEqual([self.ids.id_for(path) for path in (C, B)], [1002, 1001])
        self.assertEqual(self.ids.take_retired(), [])

    def test_an_empty_stock(self) -> None:
        """
        Without a spare id a path shares the newest one in use, until there is one.
        """
        self.assertEqual([self.ids.use(A), self.ids.use(B)], [1000, 1000])
        self.ids.add(issued(1))
        self.assertEqual(self.ids.use(B), 1001)

    def test_what_was_not_used_for_longest_goes(self) -> None:
        """
        Two ids are kept for paths to come; the path in use is never the one that gives.
        """
        for sequence in range(1, MAX_ACTIVE_IDS):
            self.ids.add(issued(sequence))
        self.ids.use(A)
        for path in PATHS[1:4]:
            self.ids.id_for(path)
        self.assertEqual(self.ids.take_retired(), [])
        self.ids.id_for(PATHS[4])
        self.assertEqual(self.ids.take_retired(), [1])
        self.assertEqual(self.ids.id_for(A), 1000)
        self.assertEqual(self.ids.spares, MAX_ACTIVE_IDS - 5)

    def test_release(self) -> None:
        """
        A path that is gone gives its id back, and takes another one when it returns. The last id
        is kept all the same.
        """
        self.ids.use(A)
        self.ids.release(A)
        self.ids.release(B)
        self.assertEqual(self.ids.take_retired(), [])
        self.ids.add(issued(1))
        self.assertEqual(self.ids.use(A), 1000)
        self.ids.release(A)
        self.assertEqual(self.ids.take_retired(), [0])
        self.assertEqual(self.ids.use(A), 1001)

    def test_repeated_frames(self) -> None:
        """
        A NEW_ID that arrives again changes nothing, not even after its id was retired.
        """
        for _ in range(2):
            self.ids.add(issued(1))
        self.assertEqual(self.ids.spares, 2)
        self.ids.use(A)
        self.ids.release(A)
        self.ids.add(issued(1))
        self.ids.add(issued(0, 1000))
        self.assertEqual(self.ids.spares, 1)

    def test_contradictions(self) -> None:
        """
        One number with two ids, or one id with two numbers, breaks the protocol.
        """
        self.ids.add(issued(1))
        self.assertRaises(ProtocolError, self.ids.add, issued(1, 77))
        self.assertRaises(ProtocolError, self.ids.add, issued(2, 1001))
        self.assertRaises(ProtocolError, self.ids.add, issued(2, 1000))

    def test_the_stock_is_bounded(self) -> None:
        """
        A peer that provides a seventh id while we hold six breaks the protocol.
        """
        for sequence in range(1, 6):
            self.ids.add(issued(sequence))
        self.assertRaises(ProtocolError, self.ids.add, issued(6))
        self.ids.use(A)
        self.ids.release(A)
        self.ids.add(issued(6))
        self.assertRaises(ProtocolError, self.ids.add, issued(7))

    def test_numbers_cannot_be_skipped(self) -> None:
        """
        A peer that leaves numbers out, to make us remember gaps, runs into the same limit.
        """
        self.assertRaises(ProtocolError, self.ids.add, issued(6))

    def test_tokens(self) -> None:
        """
        The tokens are those of the id in use and of the spares, not of retired ids.
        """
        self.ids.add(IssuedId(1, 1001, b"1" * 16))
        self.assertEqual(self.ids.tokens, (b"0" * 16, b"1" * 16))
        self.ids.use(A)
        self.ids.release(A)
        self.assertEqual(self.ids.tokens, (b"1" * 16,))
        self.assertEqual(PeerIds(5, None).tokens, ())

    def test_both_sides_together(self) -> None:
        """
        A client that roams a thousand times is never without an id, and never repeats one.
        """
        numbers, used = count(1001), set[int]()
        pool = IdPool(
            1000, allocate=lambda: next(numbers), release=lambda _: None, token=lambda _: b"t" * 16
        )
        for number in range(1000):
            for new in pool.replenish():
                self.ids.add(new)
            current = self.ids.use(Path(f"carrier {number}"))
            for sequence in self.ids.take_retired():
                pool.on_retired(sequence)
            self.assertNotIn(current, used)
            used.add(current)
