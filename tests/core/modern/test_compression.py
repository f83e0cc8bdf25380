"""
Tests of :mod:`resip.core.modern.compression`.
"""

from __future__ import annotations

import contextlib
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ProtocolError
from resip.core.modern.compression import Deflater, Inflater


class CompressionTests(SynchronousTestCase):
    """
    What one end writes, the other reads.
    """

    def test_everything_written_can_be_read_at_once(self) -> None:
        """
        Each write is flushed.
        """
        deflater, inflater = Deflater(), Inflater()
        for text in (b"a", b"", b"hello" * 1000, b"\x00"):
            self.assertEqual(inflater.read(deflater.write(text), 10_000), text)

    @settings(max_examples=100)
    @given(st.integers(0, 20_000), st.integers(1, 5000), st.integers(0, 3))
    def test_no_byte_stays_inside(self, size: int, limit: int, kind: int) -> None:
        """
        Read until there is no more gives all, whatever the limit: zlib itself may hold back what
        did not fit after it took in all input.
        """
        data = bytes(size) if kind else bytes(range(256)) * (size // 256)
        inflater = Inflater()
        plain = inflater.read(Deflater().write(data), limit)
        while inflater.has_more:
            piece = inflater.read(b"", limit)
            self.assertLessEqual(len(piece), limit)
            plain += piece
        self.assertEqual(plain, data)

    def test_a_bomb_comes_out_in_portions(self) -> None:
        """
        No read gives more than its limit.
        """
        inflater = Inflater()
        bomb = Deflater().write(bytes(50_000_000))
        self.assertEqual(len(inflater.read(bomb, 1000)), 1000)
        self.assertTrue(inflater.has_more)

    def test_garbage(self) -> None:
        """
        What is no deflate stream raises the documented error.
        """
        with self.assertRaises(ProtocolError):
            Inflater().read(b"\xff" * 100, 1000)

    def test_a_stream_that_says_it_ends(self) -> None:
        """
        A final block is refused: what follows it would pile up inside.
        """
        compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        with self.assertRaises(ProtocolError):
            Inflater().read(compressor.compress(b"x") + compressor.flush(), 1000)

    @settings(max_examples=100)
    @given(st.binary(max_size=300))
    def test_anything(self, data: bytes) -> None:
        """
        No input raises anything else.
        """
        inflater = Inflater()
        with contextlib.suppress(ProtocolError):
            inflater.read(data, 100)
