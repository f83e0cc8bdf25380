"""
A user of links for tests.
"""

from __future__ import annotations

from collections.abc import Sequence

from resip.carriers.interfaces import Carrier
from resip.core.types import Path


class RecordingLinkUser:
    """
    A :class:`~resip.services.links.LinkUser` that writes down what it hears.

    :ivar calls: what happened to which path. :ivar carriers: of each path that is open.
    :ivar received: every packet; those that begin with ``good`` are authentic.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Path]] = []
        self.carriers: dict[Path, Carrier] = {}
        self.received: list[tuple[bytes, Path]] = []

    def path_open(self, path: Path, carrier: Carrier) -> None:
        """
        Note it.
        """
        self.calls.append(("open", path))
        self.carriers[path] = carrier

    def path_closed(self, path: Path) -> None:
        """
        Note it.
        """
        self.calls.append(("closed", path))
        del self.carriers[path]

    def path_writable(self, path: Path) -> None:
        """
        Note it.
        """
        self.calls.append(("writable", path))

    def preamble(self, path: Path) -> bytes:
        """
        The same for all.
        """
        return b"\x8a\x01\x02\x03"

    def receive_datagrams(self, packets: Sequence[bytes], path: Path) -> bool:
        """
        Note it.
        """
        self.received += [(packet, path) for packet in packets]
        return any(packet.startswith(b"good") for packet in packets)
