"""
Which congestion control the kernel uses below a carrier's own pace.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

#: Where packets are lost for other reasons than queues, CUBIC sends a fraction of what the path
#: carries, and BBR nearly all of it. A connection begins with it: once CUBIC has held the session
#: back, its pace takes long to rise again.
LOSS_CONTROL = "bbr"
#: Where this side paces and nothing is lost, the kernel's control has nothing to do; but BBR stops
#: for a third of a second in every ten, to measure the path anew.
CLEAN_CONTROL = "cubic"
#: Seconds between two looks at what was sent.
LOOK_INTERVAL = 0.25
#: Segments from one decision to the next, and how many of them a lossy path has sent again.
DECISION_SEGMENTS = 1000
LOSSY_SEGMENTS = 3

# struct tcp_info of linux/tcp.h: tcpi_total_retrans behind 100 bytes, tcpi_segs_out behind 136.
_COUNTS = struct.Struct("=100xI32xI")
_TCP_CONGESTION = 13


class KernelControl:
    """
    The control of one connection; the system's own where the kernel does not let us choose.

    :param seconds: a clock.
    """

    def __init__(self, handle: socket.socket, seconds: Callable[[], float]) -> None:
        self._handle = handle
        self._seconds = seconds
        self._looked_at = seconds()
        self._repeated = self._sent = 0
        self._control = ""
        self._choose(LOSS_CONTROL)

    def look(self) -> None:
        """
        Something is sent: now and then, see whether the path loses packets.
        """
        now = self._seconds()
        if now - self._looked_at < LOOK_INTERVAL:
            return
        self._looked_at = now
        repeated, sent = self._count()
        if sent - self._sent < DECISION_SEGMENTS:
            return
        is_lossy = repeated - self._repeated >= LOSSY_SEGMENTS
        self._repeated, self._sent = repeated, sent
        self._choose(LOSS_CONTROL if is_lossy else CLEAN_CONTROL)

    def _count(self) -> tuple[int, int]:
        with suppress(OSError, struct.error):
            info = self._handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _COUNTS.size)
            repeated, sent = _COUNTS.unpack(info)
            return repeated, sent
        return self._repeated, self._sent

    def _choose(self, name: str) -> None:
        if name != self._control and sys.platform == "linux":
            self._control = name
            with suppress(OSError):
                self._handle.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, name.encode())
