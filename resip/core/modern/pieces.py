"""
Parts of packets and of streams: large ones are views of what they are a part of.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Bytes from which on a view costs less than a copy.
LEAST_VIEW_SIZE = 4 * 1024

Pieces = Sequence[bytes | memoryview]
