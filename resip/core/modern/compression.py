"""
Compression of one direction of one channel: a raw deflate stream, flushed at every pause.

Never across channels, so that nobody learns about one channel's secrets by writing to another.
"""

from __future__ import annotations

import zlib

from resip.core.errors import ProtocolError

LEVEL = 6


class Deflater:
    """
    Compresses what is written, so that everything written can be read at once.
    """

    def __init__(self) -> None:
        self._stream = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)

    def write(self, data: bytes) -> bytes:
        """
        The bytes to send for ``data``.
        """
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)


class Inflater:
    """
    The other end of a :class:`Deflater`, never more than a limit at a time.

    Keeps count of both sides, since credit is given for compressed bytes and applications
    consume plain ones.
    """

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._waiting = b""
        self._is_full = False

    @property
    def has_more(self) -> bool:
        """
        Whether :meth:`read` has output for data that it was given before.
        """
        return bool(self._waiting) or self._is_full

    def read(self, data: bytes, limit: int) -> bytes:
        """
        The plain bytes of what arrived, at most ``limit`` of them; call again for the rest.

        :raises ProtocolError: when it is not a deflate stream.
        """
        try:
            plain = self._stream.decompress(self._waiting + data, limit)
        except zlib.error as error:
            raise ProtocolError(f"compressed data does not inflate: {error}") from None
        if self._stream.eof:  # what follows would be kept for ever, and never come out
            raise ProtocolError("compressed data says that it ends, which END does")
        self._waiting = self._stream.unconsumed_tail
        # zlib may have taken in everything and hold back what did not fit.
        self._is_full = len(plain) >= limit
        return plain
