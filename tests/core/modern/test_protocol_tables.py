"""
docs/protocol.md and the code say the same.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.frames import CloseCode, FrameType
from resip.core.modern.handshake import Field

PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "protocol.md"


def table(*header: str) -> list[list[str]]:
    """
    The rows of the page's table with this header, as cells.
    """
    lines = PAGE.read_text().splitlines()
    start = lines.index(f"| {' | '.join(header)} |") + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


class TableTests(SynchronousTestCase):
    """
    Each table of codes has one row for each member of an enumeration, in its order.
    """

    def check(self, rows: list[list[str]], members: type[IntEnum]) -> None:
        """
        Compare codes and names.
        """
        told = [(int(row[0], 16), row[1]) for row in rows]
        self.assertEqual(told, [(member.value, member.name) for member in members])

    def test_frame_types(self) -> None:
        """
        Section 3 lists the frames.
        """
        self.check(table("type", "name", "layout after the type", "repeated when lost"), FrameType)

    def test_handshake_fields(self) -> None:
        """
        Section 1 lists the fields of hello and welcome.
        """
        self.check(table("type", "name", "in", "value"), Field)

    def test_close_codes(self) -> None:
        """
        Section 8 lists the reasons for which a session ends.
        """
        self.check(table("code", "name", "meaning"), CloseCode)
