"""
Which congestion control the kernel uses below a carrier's own pace.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

#: Where this side paces and nothing is lost, the kernel's control has nothing to do; but BBR stops
#: for a third of a second in every ten, to measure the path anew.
FIRST_CONTROL = "cubic"
#: Where packets are lost for other reasons than queues, CUBIC sends a fraction of what the path
#: carries, and BBR nearly all of it.
LOSS_CONTROL = "bbr"
#: Seconds between two looks for losses, and by how many the looks that find some have to exceed the
#: others: the queue that a start overflows is no reason.
LOOK_INTERVAL = 1.0
LOSSY_LOOKS = 3

# struct tcp_info of linux/tcp.h: 8 bytes, then u32 after u32.
_RETRANSMITTED = struct.Struct("=100xI")
_TCP_CONGESTION = 13


class KernelControl:
    """
    The control of one connection; the system's own where the kernel does not let us choose.

    :param seconds: a clock.
    """

    def __init__(self, handle: socket.socket, seconds: Callable[[], float]) -> None:
        self._handle = handle
        self._seconds = seconds
        self._retransmitted = 0
        self._lossy_looks = 0
        self._looked_at = seconds()
        self._choose(FIRST_CONTROL)

    def look(self) -> None:
        """
        Something is sent: see whether the path loses packets all the time.
        """
        now = self._seconds()
        if now - self._looked_at < LOOK_INTERVAL or self._lossy_looks == LOSSY_LOOKS:
            return
        self._looked_at = now
        before, self._retransmitted = self._retransmitted, self._count_retransmitted()
        if self._retransmitted == before:
            self._lossy_looks = max(0, self._lossy_looks - 1)
            return
        self._lossy_looks += 1
        if self._lossy_looks == LOSSY_LOOKS:
            self._choose(LOSS_CONTROL)

    def _count_retransmitted(self) -> int:
        size = _RETRANSMITTED.size
        with suppress(OSError, struct.error):
            info = self._handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
            return int(_RETRANSMITTED.unpack(info)[0])
        return 0

    def _choose(self, name: str) -> None:
        if sys.platform == "linux":
            with suppress(OSError):
                self._handle.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, name.encode())
