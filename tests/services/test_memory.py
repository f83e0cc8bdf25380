"""
Tests of :mod:`resip.services.memory`.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

#: Takes and frees what a few reads of a carrier take, and prints how many pages the kernel cleared.
PROGRAM = """
import resource
from resip.services.memory import keep_freed_memory
{first}
small = [b"x" * 300 for _ in range(1000)]
def use():
    for _ in range(50):
        blocks = [b"x" * 100_000 for _ in range(20)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@skipUnless(platform.libc_ver()[0] == "glibc", "it is glibc that gives memory back at once")
class KeepFreedMemoryTests(SynchronousTestCase):
    """
    Buffers that come and go cost the kernel nothing.
    """

    def count_faults(self, first: str) -> int:
        """
        The pages that a fresh process needs for the same buffers over and over.
        """
        command = [sys.executable, "-c", PROGRAM.format(first=first)]
        return int(subprocess.run(command, check=True, capture_output=True).stdout)

    def test_pages_are_kept(self) -> None:
        """
        Once used, the memory is there; without asking for it, it is fetched every time.
        """
        self.assertLess(self.count_faults("keep_freed_memory()"), 1000)
        self.assertGreater(self.count_faults(""), 10_000)
