"""
What a driver needs of a carrier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from resip.core.types import Path

#: Called with the packets that arrived together by one path; says whether any was authentic.
ReceivePackets = Callable[[Sequence[bytes], Path], bool]


class Carrier(Protocol):
    """
    Moves packets to the other host, or loses them, in any order and any number of copies.
    """

    def send(self, path: Path, packets: Sequence[bytes]) -> None:
        """
        Send packets on one of this carrier's paths. A path that is gone loses them.
        """

    def is_writable(self, path: Path) -> bool:
        """
        Whether the path takes more now; if not, its owner is called back when it does.
        """
