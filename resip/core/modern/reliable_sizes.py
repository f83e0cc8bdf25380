"""
How much at a time a carrier is given that repeats what is lost.
"""

from __future__ import annotations

#: On a carrier that repeats what is lost, a packet takes so many seconds of the rate, within
#: these bounds in bytes: fewer seals for the same data, and others do not wait long for it.
RELIABLE_PACKET_TIME = 0.001
LEAST_RELIABLE_SIZE = 4 * 1024
MOST_RELIABLE_SIZE = 64 * 1024 - 1
#: Who sends packets of this size is neither paced nor held back by a window
#: (see :data:`~resip.core.modern.allowance.UNPACED_RATE`), and waits for no acknowledgement.
UNPACED_SIZE = 32 * 1024
#: And a burst so many, for the same reasons: a keystroke waits behind it.
RELIABLE_BURST_TIME = 0.005
LEAST_RELIABLE_BURST = 16 * 1024
MOST_RELIABLE_BURST = 1024 * 1024


def reliable_sizes(rate: float) -> tuple[int, int]:
    """
    Bytes of a packet and packets of a burst on a reliable path with ``rate`` bytes a second.
    """
    size = min(max(int(rate * RELIABLE_PACKET_TIME), LEAST_RELIABLE_SIZE), MOST_RELIABLE_SIZE)
    burst = min(max(int(rate * RELIABLE_BURST_TIME), LEAST_RELIABLE_BURST), MOST_RELIABLE_BURST)
    return size, max(2, burst // size)
