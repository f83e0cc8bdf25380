"""
Memory of a process that moves much data.
"""

from __future__ import annotations

#: Bytes of a block that glibc takes from the system by itself: some reads and writes of a carrier.
LARGE_BLOCK = 8 * 1024 * 1024


def keep_freed_memory() -> None:
    """
    Let the C library keep some megabytes that were freed, instead of giving them back at once.

    By itself glibc returns the end of its heap whenever 128 KiB there are free: a carrier's buffers
    are taken from the system and given back with every read, and half of the kernel's work
    is to clear pages. It learns from the first large block that is freed that such sizes come and
    go (mallopt(3), M_MMAP_THRESHOLD), and keeps twice as much from then on. Other libraries do
    not mind.
    """
    bytes(LARGE_BLOCK)
