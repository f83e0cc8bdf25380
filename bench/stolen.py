"""
What the host of a virtual machine gave of its processors to others, while they were wanted here.

A few per cent change nothing. With a third every process is away for tens of milliseconds at a
time: links run dry, and a run measures the neighbours.
"""

from __future__ import annotations

from pathlib import Path

_STAT = Path("/proc/stat")


class StolenTime:
    """
    Counts from when it is made.
    """

    def __init__(self) -> None:
        self._stolen, self._wanted = _read()

    @property
    def share(self) -> float:
        """
        Of the processor time wanted since, 0 to 1; 0 where the kernel does not tell.
        """
        stolen, wanted = _read()
        return (stolen - self._stolen) / max(1, wanted - self._wanted)

    def __str__(self) -> str:
        return f"{self.share:.0%} of the processor time wanted meanwhile was stolen by the host"


def _read() -> tuple[int, int]:
    """
    Ticks of all processors: stolen, and stolen or used; proc_stat(5).
    """
    try:
        fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _waiting, irq, softirq, stolen = map(int, fields[:8])
    except (OSError, ValueError):
        return 0, 0
    return stolen, user + nice + system + irq + softirq + stolen
