"""
Tests of :mod:`resip.core.classic.integers`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.integers import Reader, pack, packed_size
from resip.core.errors import ProtocolError


class IntegerTests(SynchronousTestCase):
    """
    Integers in as few bytes as hold them.
    """

    def test_sizes(self) -> None:
        """
        Zero takes a byte, and each size ends where all bits are set.
        """
        sizes = [packed_size(value) for value in (0, 1, 255, 256, 65_535, 65_536, 2**32 - 1)]
        self.assertEqual(sizes, [1, 1, 1, 2, 2, 3, 4])

    @given(st.integers(0, 2**64 - 1))
    def test_round_trip(self, value: int) -> None:
        """
        What was packed reads back, and is as long as was said.
        """
        packed = pack(value)
        self.assertEqual(len(packed), packed_size(value))
        self.assertEqual(Reader(packed).integer(len(packed)), value)

    @given(st.binary(max_size=8), st.integers(0, 12))
    def test_a_reader_takes_all_or_raises(self, data: bytes, size: int) -> None:
        """
        A reader gives exactly the bytes that were asked for, or raises and takes none.
        """
        reader = Reader(data)
        if size > len(data):
            self.assertRaises(ProtocolError, reader.take, size)
            self.assertEqual((reader.position, reader.remaining), (0, len(data)))
        else:
            self.assertEqual(reader.take(size), data[:size])
            self.assertEqual(reader.remaining, len(data) - size)

    def test_leading_zeros_are_accepted(self) -> None:
        """
        A reader does not ask for the shortest form.
        """
        self.assertEqual(Reader(b"\x00\x00\x07").integer(3), 7)
