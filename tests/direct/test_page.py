"""
docs/transfer.md and the code say the same.
"""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from resip.direct.messages import MAX_CHECKPOINTS, MAX_CONTROL, MAX_DATA, TARGET, FailureCode, Kind
from resip.direct.names import PARTIAL_SUFFIX
from resip.direct.sources import STREAM_BUFFER

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "transfer.md").read_text()


class PageTests(SynchronousTestCase):
    """
    What the page repeats.
    """

    def test_tables(self) -> None:
        """
        Messages and codes are those of the enumerations.
        """
        kinds, codes = PAGE.split("| code | name | meaning |")
        row = re.compile(r"^\| (0x[0-9a-f]{2}) \| ([A-Z_]+) \|", re.MULTILINE)
        for text, names in ((kinds, Kind), (codes, FailureCode)):
            table = {int(number, 16): name for number, name in row.findall(text)}
            self.assertEqual(table, {each.value: each.name for each in names})

    def test_values(self) -> None:
        """
        Limits and names are those of the code.
        """
        for value in (
            f"{MAX_DATA:,} bytes",
            f"{MAX_CONTROL:,} bytes",
            f"up to {MAX_CHECKPOINTS}",
            f"{STREAM_BUFFER >> 20} MiB",
            f"`{TARGET.host}`, port {TARGET.port}",
            PARTIAL_SUFFIX,
        ):
            self.assertIn(value, PAGE)

    def test_requirements(self) -> None:
        """
        Each ``T-n`` is defined once, in order; whatever is cited exists.
        """
        defined = [int(number) for number in re.findall(r"^- \*\*T-(\d+)\*\*", PAGE, re.MULTILINE)]
        self.assertEqual(defined, list(range(1, len(defined) + 1)))
        for file in (ROOT / "tests").rglob("*.py"):
            cited = {int(number) for number in re.findall(r"\bT-(\d+)\b", file.read_text())}
            self.assertLessEqual(cited, set(defined), file.name)
