"""
Copies of thin traffic (docs/protocol.md, section 9): packets spent so that a keystroke does not
wait for the detection of a loss.

A loss costs a round trip or more, a copy some milliseconds. Data that is little compared with
what the path carries is sent several times, as many as leave one message in 200 without a copy
that arrives, within a budget that bulk traffic does not feel. While the loss of a path is unknown
it is taken for high: without loss that costs a new session some dozens of packets in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, log

#: Share of messages of which every copy may be lost; what a 99th percentile needs, and some.
RESIDUAL_LOSS = 0.005
#: Loss below which nothing is repeated.
MIN_LOSS = 0.005
#: Copies of a message, the first included, from the first loss on (M-45).
MIN_COPIES = 2
MAX_COPIES = 8
#: Seconds between copies: when losses are independent, and when they come in bursts, which a
#: copy should outlast.
SPACING = 0.0025
BURST_SPACING = 0.012
#: Losses come in bursts when their mean run is longer than so many independent ones would be.
BURST_FACTOR = 1.5
#: A message of more bytes is not thin, nor is a channel that takes more than this share of the
#: measured rate.
MAX_MESSAGE_SIZE = 600
THIN_SHARE = 0.1
#: Copies take this share of the measured rate at most, and so many bytes a second (M-46). What is
#: not used is kept for a second.
BUDGET_SHARE = 0.1
BUDGET_RATE = 64_000 / 8
BUDGET_MEMORY = 1.0
#: Seconds over which a channel's rate is measured.
RATE_MEMORY = 1.0


@dataclass(frozen=True, slots=True)
class Copies:
    """
    How a message is sent.

    :ivar count: packets that carry it, the first included; 1 is no redundancy.
    :ivar spacing: seconds between them. Those left are dropped when one is acknowledged.
    """

    count: int
    spacing: float


ONE_COPY = Copies(1, 0.0)


def copies_for(loss: float, *, mean_run: float = 1.0) -> Copies:
    """
    What a path's loss asks for.

    :param loss: the share of packets that is lost on the way there, 0 to 1.
    :param mean_run: how many packets in a row are lost at a time, on average.
    """
    if loss < MIN_LOSS:
        return ONE_COPY
    loss = min(loss, 0.99)
    count = ceil(log(RESIDUAL_LOSS) / log(loss))
    is_bursty = mean_run > BURST_FACTOR / (1 - loss)
    return Copies(
        count=min(max(count, MIN_COPIES), MAX_COPIES),
        spacing=BURST_SPACING if is_bursty else SPACING,
    )


class ThinTraffic:
    """
    Whether one channel sends little: small messages, at a small share of the path's rate.
    """

    __slots__ = ("_bytes", "_time")

    def __init__(self) -> None:
        self._bytes = 0.0
        self._time = 0.0

    def on_sent(self, size: int, *, now: float) -> None:
        """
        ``size`` new bytes of the channel were sent.
        """
        self._bytes = self._recent(now) + size
        self._time = now

    def is_thin(self, size: int, *, rate: float, now: float) -> bool:
        """
        Whether a message of ``size`` bytes is worth copies.

        :param rate: what the path carries, bytes a second.
        """
        if size > MAX_MESSAGE_SIZE:
            return False
        return self._recent(now) + size <= THIN_SHARE * rate * RATE_MEMORY

    def _recent(self, now: float) -> float:
        """
        The bytes of the last second; older ones fade.
        """
        return self._bytes * exp((self._time - now) / RATE_MEMORY)


class CopyBudget:
    """
    What a session may spend on copies: a token bucket of bytes.
    """

    __slots__ = ("_time", "_tokens")

    def __init__(self) -> None:
        self._tokens = 0.0
        self._time: float | None = None

    def grant(self, wanted: Copies, size: int, *, rate: float, now: float) -> Copies:
        """
        As many of the wanted copies as there is budget for, which they use up.

        :param size: bytes of each packet on the wire. :param rate: what the path carries, bytes
            a second.
        """
        budget_rate = min(BUDGET_SHARE * rate, BUDGET_RATE)
        capacity = budget_rate * BUDGET_MEMORY
        earned = capacity if self._time is None else budget_rate * (now - self._time)
        self._tokens = min(self._tokens + earned, capacity)
        self._time = now
        extra = min(wanted.count - 1, int(self._tokens // size))
        if extra <= 0:
            return ONE_COPY
        self._tokens -= extra * size
        return Copies(extra + 1, wanted.spacing)

    def refund(self, count: int, size: int) -> None:
        """
        ``count`` copies were not sent: the message was acknowledged before.
        """
        self._tokens += count * size
