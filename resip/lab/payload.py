"""
Bytes that are made from a seed, so that whoever knows the seed can check them.
"""

from __future__ import annotations

from random import Random

_BLOCK_SIZE = 65_536


class SeededBytes:
    """
    An endless stream of pseudo-random bytes, the same for the same seed however it is cut.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._block = memoryview(b"")

    def read(self, count: int) -> bytes:
        """
        The next ``count`` bytes of the stream.
        """
        parts = []
        while count > 0:
            if not self._block:
                self._block = memoryview(self._random.randbytes(_BLOCK_SIZE))
            parts.append(self._block[:count])
            count -= len(parts[-1])
            self._block = self._block[len(parts[-1]) :]
        return b"".join(parts)
