"""
Acknowledgements (docs/protocol.md, sections 3.1 and 5): when to say what arrived, and how.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log
from struct import pack

from resip.core.errors import ProtocolError
from resip.core.modern.frames import ACK_DELAY_UNIT, MAX_ACK_PAIRS, FrameType, expand
from resip.core.rangeset import RangeSet

#: Seconds for which the first packet that asks may wait for a second; M-33 allows 25 ms.
ACK_DELAY = 0.005
#: Packets that ask and are acknowledged together, when nothing is missing (RFC 9000, 13.2.2).
ACK_THRESHOLD = 2
#: Seconds after a gap for which every packet that asks is acknowledged at once.
GAP_MEMORY = 0.1
#: Acknowledgements in which each number stands. At 90 % loss 3 % of the numbers stay unsaid;
#: at 50 %, none.
REPORTS = 32
#: Acknowledgement frames in one answer, for batches with more gaps than one frame can name.
MAX_FRAMES = 4
#: Share of missing numbers above which acknowledgements are repeated while nothing new arrives,
#: how often at most, and how many seconds apart.
REPEAT_LOSS = 0.2
MAX_REPEATS = 8
REPEAT_INTERVAL = 0.004
#: Numbers that must have passed before their loss means anything.
LOSS_SAMPLE = 20

_MAX_COUNT = 0xFFFF


class AckState:
    """
    When an acknowledgement is due, and the ACK frames that it consists of.

    An ACK frame names the numbers of the last :data:`REPORTS` acknowledgements, not all that
    are known: frames stay small on a path that loses a little for a long time.

    :param received: the numbers accepted, kept by
        :class:`~resip.core.modern.replay.ReplayWindow`, which bounds them; only read here.
    :ivar largest: the highest number received, -1 before the first.
    :ivar due_time: when :meth:`take` wants to be called, ``None`` when there is nothing to say.
    """

    __slots__ = (
        "_fresh_lowest",
        "_gap_time",
        "_largest_time",
        "_lows",
        "_marks",
        "_received",
        "_repeats",
        "_total",
        "_unacknowledged",
        "due_time",
        "largest",
    )

    def __init__(self, received: RangeSet) -> None:
        self.largest = -1
        self.due_time: float | None = None
        self._received = received
        #: How many numbers were received.
        self._total = 0
        self._largest_time = 0.0
        self._gap_time: float | None = None
        #: Packets that asked since the last acknowledgement.
        self._unacknowledged = 0
        #: Lowest number since the last acknowledgement.
        self._fresh_lowest: int | None = None
        #: That value, and (largest, total), for the last acknowledgements.
        self._lows: list[int] = []
        self._marks: list[tuple[int, int]] = []
        self._repeats = 0

    def add(self, first: int, last: int, *, asks: bool, now: float) -> None:
        """
        The packets ``first`` to ``last`` were accepted, all of them for the first time.

        :param asks: whether any of them asks for an acknowledgement.
        """
        if first != self.largest + 1:
            self._gap_time = now
        if last > self.largest:
            self.largest = last
            self._largest_time = now
        self._total += last - first + 1
        if self._fresh_lowest is None or first < self._fresh_lowest:
            self._fresh_lowest = first
        if asks:
            self._schedule(last - first + 1, now)

    @property
    def loss(self) -> float:
        """
        The share of the recent numbers that is missing, 0 to 1; 0 while too few are known.
        """
        if not self._marks:
            return 0.0
        largest, total = self._marks[0]
        span = self.largest - largest
        if span < LOSS_SAMPLE:
            return 0.0
        return max(0.0, 1 - (self._total - total) / span)

    def take(self, *, now: float) -> list[bytes]:
        """
        The ACK frames to send now: usually one; none before anything was received.
        """
        if self.largest < 0:
            return []
        fresh = self._fresh_lowest
        if fresh is not None:
            self._remember(fresh)
        # Only what asks starts repetitions anew; else two sides would answer each other's for ever.
        if self._unacknowledged:
            self._repeats = repeats_for(self.loss)
        elif self._repeats:
            self._repeats -= 1
        self._fresh_lowest = None
        self._unacknowledged = 0
        self.due_time = now + REPEAT_INTERVAL if self._repeats else None
        unsaid = self.largest if fresh is None else fresh
        return self._frames(unsaid, delay=now - self._largest_time)

    def repeat(self, *, now: float) -> list[bytes]:
        """
        The frames that the last :meth:`take` gave, with what came since.
        """
        if not self._lows:
            return []
        return self._frames(self.largest, delay=now - self._largest_time)

    def rest(self) -> None:
        """
        Nothing was sent for long: what was said before is not said again.
        """
        del self._lows[:-1], self._marks[1:]

    @property
    def is_waiting(self) -> bool:
        """
        Whether packets that ask are not acknowledged yet: whatever leaves now should say it.
        """
        return self._unacknowledged > 0

    def _schedule(self, count: int, now: float) -> None:
        self._unacknowledged += count
        has_gap = self._gap_time is not None and now - self._gap_time < GAP_MEMORY
        at = now if has_gap or self._unacknowledged >= ACK_THRESHOLD else now + ACK_DELAY
        if self.due_time is None or at < self.due_time:
            self.due_time = at

    def _remember(self, fresh: int) -> None:
        self._lows.append(fresh)
        self._marks.append((self.largest, self._total))
        if len(self._lows) > REPORTS:
            del self._lows[0], self._marks[0]

    def _frames(self, unsaid: int, *, delay: float) -> list[bytes]:
        """
        One frame with what was new in the last acknowledgements, newest first.

        More frames follow only for numbers from ``unsaid`` on, which no frame named yet: more
        gaps came at once than one frame holds.
        """
        floor = min(self._lows)
        frames: list[bytes] = []
        ranges: list[tuple[int, int]] = []
        for first, last in reversed(self._received):
            if last < floor:
                break
            ranges.append((first, last))
            if len(ranges) > MAX_ACK_PAIRS:
                frames.append(ack_frame(ranges, delay=delay))
                ranges = []
                floor = unsaid
                if len(frames) == MAX_FRAMES:
                    break
        if ranges:
            frames.append(ack_frame(ranges, delay=delay))
        return frames


def repeats_for(loss: float) -> int:
    """
    How often an acknowledgement is repeated so that three in four get through.
    """
    if loss <= REPEAT_LOSS:
        return 0
    if loss >= 1:
        return MAX_REPEATS
    return min(MAX_REPEATS, ceil(log(0.25) / log(loss)) - 1)


def ack_frame(ranges: Sequence[tuple[int, int]], *, delay: float) -> bytes:
    """
    An ACK frame.

    :param ranges: 1 to ``MAX_ACK_PAIRS + 1`` pairs of first and last number, highest first.
        What lies more than 65,535 below the number before it is left out.
    :param delay: seconds since the largest arrived; more than fit become the most that do.
    """
    below, largest = ranges[0]
    counts = [min(largest - below, _MAX_COUNT)]
    for first, last in ranges[1:]:
        gap, length = below - last - 1, last - first + 1
        if gap > _MAX_COUNT or largest - below > _MAX_COUNT:
            break
        counts += (gap, min(length, _MAX_COUNT))
        below = first
    units = min(max(int(delay / ACK_DELAY_UNIT), 0), _MAX_COUNT)
    layout = f">BIHB{len(counts)}H"
    return pack(layout, FrameType.ACK, largest & 0xFFFFFFFF, units, len(counts) // 2, *counts)


def acknowledged_ranges(
    largest_low32: int, counts: Sequence[int], *, next_number: int
) -> list[tuple[int, int]]:
    """
    The ranges that an ACK frame names, as (first, last), highest first.

    :param counts: as :meth:`resip.core.modern.frames.FrameSink.on_ack` gets them.
    :param next_number: the next number that this side will use.
    :raises ProtocolError: when a number was never sent (M-23).
    """
    largest = expand(largest_low32, 32, next_number)
    if largest >= next_number:
        raise ProtocolError(f"packet {largest} was acknowledged; the next to send is {next_number}")
    first = largest - counts[0]
    ranges = [(first, largest)]
    for at in range(1, len(counts), 2):
        last = first - counts[at] - 1
        first = last - counts[at + 1] + 1
        if first <= last:
            ranges.append((first, last))
    if first < 0:
        raise ProtocolError(f"packets down to {first} were acknowledged")
    return ranges
