"""
Acknowledgements (docs/protocol.md, sections 3.1 and 5): when to say what arrived, and how.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from struct import pack

from resip.core.errors import ProtocolError
from resip.core.modern.frame_parser import expand
from resip.core.modern.frames import ACK_LAYOUT, ACK_TIME_UNIT, FLAG_TIME, MAX_ACK_PAIRS, FrameType
from resip.core.modern.reliable_sizes import UNPACED_SIZE
from resip.core.rangeset import RangeSet

#: Seconds for which the first packet that asks may wait for a second; M-33 allows 25 ms.
ACK_DELAY = 0.005
#: Packets that ask and are acknowledged together, when nothing is missing (RFC 9000, 13.2.2).
ACK_THRESHOLD = 2
#: The same when the sender waits for none: one costs both sides as much as several packets.
PATIENT_THRESHOLD = 16
#: And when it sends packets of that size in fragments: not yet half of what it may have in flight.
FRAGMENTED_THRESHOLD = 10
#: Seconds after a packet that gets an answer for which those that bring nothing new are its
#: copies and get none. What is sent because no answer came, comes later (M-35).
COPY_TIME = 0.025
#: Packets that ask and come within so many seconds may fill a queue: the peer is told when they
#: came. Thin traffic fills none, and would pay for these bytes.
DENSE_TIME = 0.05
#: Acknowledgements in which each number stands: so many that this share of the numbers stays
#: unsaid, within these limits. At 90 % loss it is 3 %.
UNSAID = 0.002
LEAST_REPORTS = 4
REPORTS = 32
#: Weight of a gap in their mean length.
GAP_WEIGHT = 1 / 64
#: Bytes of the largest ACK frame.
LARGEST_ACK = ACK_LAYOUT.size + 2 + 4 * MAX_ACK_PAIRS + 4
#: Acknowledgement frames in one answer, for batches with more gaps than one frame can name.
MAX_FRAMES = 4
#: Share of missing numbers above which acknowledgements are repeated while nothing new arrives,
#: how often at most, and over how many seconds: within what M-33 allows.
REPEAT_LOSS = 0.2
MAX_REPEATS = 8
REPEAT_TIME = 0.015
#: Numbers that must have passed before their loss means anything.
LOSS_SAMPLE = 20

_MAX_COUNT = 0xFFFF


class AckState:
    """
    When an acknowledgement is due, and the ACK frames that it consists of.

    An ACK frame names the numbers of the last acknowledgements, not all that are known: frames
    stay small.

    :param received: the numbers accepted, kept by
        :class:`~resip.core.modern.replay.ReplayWindow`, which bounds them; only read here.
    :ivar largest: the highest number received, -1 before the first.
    :ivar threshold: packets that ask and are acknowledged together.
    :ivar due_time: when :meth:`take` wants to be called, ``None`` when there is nothing to say.
    """

    __slots__ = (
        "_asked_time",
        "_fresh_lowest",
        "_gap",
        "_has_news",
        "_is_dense",
        "_largest_time",
        "_lows",
        "_marks",
        "_received",
        "_repeat_interval",
        "_repeats",
        "_total",
        "_unacknowledged",
        "due_time",
        "largest",
        "threshold",
    )

    def __init__(self, received: RangeSet) -> None:
        self.largest = -1
        self.due_time: float | None = None
        self.threshold = ACK_THRESHOLD
        self._received = received
        #: How many numbers were received.
        self._total = 0
        #: Mean length of a gap in the numbers.
        self._gap = 1.0
        self._largest_time = 0.0
        self._has_news = False
        self._is_dense = False
        self._asked_time = -math.inf
        #: Packets that asked since the last acknowledgement.
        self._unacknowledged = 0
        #: Lowest number since the last acknowledgement.
        self._fresh_lowest: int | None = None
        #: That value, and (largest, total), for the last acknowledgements.
        self._lows: list[int] = []
        self._marks: list[tuple[int, int]] = []
        self._repeats = 0
        self._repeat_interval = 0.0

    def add(self, first: int, last: int, *, asks: bool, is_news: bool = True, now: float) -> None:
        """
        The packets ``first`` to ``last`` were accepted, all of them for the first time.

        :param asks: whether any of them asks for an acknowledgement.
        :param is_news: whether any of those brings something that had not arrived yet.
        """
        missing = first - self.largest - 1
        if last > self.largest:
            if missing > 0:
                self._gap += GAP_WEIGHT * (missing - self._gap)
            self.largest = last
            self._largest_time = now
        self._total += last - first + 1
        if self._fresh_lowest is None or first < self._fresh_lowest:
            self._fresh_lowest = first
        if asks and (is_news or now - self._asked_time >= COPY_TIME):
            self._has_news = self._has_news or is_news
            self._is_dense = last > first or now - self._asked_time < DENSE_TIME
            self._asked_time = now
            self._schedule(last - first + 1, missing, now)

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
        # Only news starts repetitions anew; else two sides would answer each other's for ever.
        if self._has_news:
            self._repeats = repeats_for(self.loss)
            self._repeat_interval = REPEAT_TIME / max(1, self._repeats)
        elif self._repeats:
            self._repeats -= 1
        self._fresh_lowest = None
        self._has_news = False
        self._unacknowledged = 0
        self.due_time = now + self._repeat_interval if self._repeats else None
        unsaid = self.largest if fresh is None else fresh
        return self._frames(unsaid, now=now)

    def repeat(self, *, now: float) -> list[bytes]:
        """
        The frames that the last :meth:`take` gave, with what came since.
        """
        if not self._lows:
            return []
        return self._frames(self.largest, now=now)

    def on_path_changed(self, *, now: float) -> None:
        """
        What was said last may be lost with the path before: say it again, once. A peer that sends
        by a connection has no timer that would ask for it.
        """
        if self._lows:
            self.due_time = now

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

    def is_due(self, *, within: float = 0.0, now: float) -> bool:
        """
        Whether an acknowledgement, perhaps repeated, has to leave.

        :param within: now or in so many seconds.
        """
        return self.due_time is not None and self.due_time <= now + within

    @property
    def _reports(self) -> int:
        # The first ones may well be lost in a row. What was then said late looks like reordering.
        is_known = self._marks and self.largest - self._marks[0][0] >= LOSS_SAMPLE
        return reports_for(self.loss, burst=self._gap) if is_known else REPORTS

    def _schedule(self, count: int, missing: int, now: float) -> None:
        self._unacknowledged += count
        # Where many are acknowledged together, a loss is told at once.
        is_loss = missing > 0 and self.threshold > ACK_THRESHOLD
        is_now = is_loss or self._unacknowledged >= self.threshold
        at = now if is_now else now + ACK_DELAY
        if self.due_time is None or at < self.due_time:
            self.due_time = at

    def _remember(self, fresh: int) -> None:
        self._lows.append(fresh)
        self._marks.append((self.largest, self._total))
        if len(self._lows) > REPORTS:
            del self._lows[0], self._marks[0]

    def _frames(self, unsaid: int, *, now: float) -> list[bytes]:
        """
        One frame with what was new in the last acknowledgements, newest first.

        More frames follow only for numbers from ``unsaid`` on, which no frame named yet: more
        gaps came at once than one frame holds.
        """
        floor = min(self._lows[-self._reports :])
        arrived_at = self._largest_time if self._is_dense else None
        delay = now - self._largest_time
        frames: list[bytes] = []
        ranges: list[tuple[int, int]] = []
        for first, last in reversed(self._received):
            if last < floor:
                break
            ranges.append((first, last))
            if len(ranges) > MAX_ACK_PAIRS:
                frames.append(ack_frame(ranges, delay=delay, arrived_at=arrived_at))
                ranges = []
                floor = unsaid
                if len(frames) == MAX_FRAMES:
                    break
        if ranges:
            frames.append(ack_frame(ranges, delay=delay, arrived_at=arrived_at))
        return frames


def threshold_for(size: int, *, is_reliable: bool) -> int:
    """
    How many packets of ``size`` bytes are acknowledged together.

    :param is_reliable: they come on a connection, else in fragments if they are large.
    """
    if size < UNPACED_SIZE:
        return ACK_THRESHOLD
    return PATIENT_THRESHOLD if is_reliable else FRAGMENTED_THRESHOLD


def repeats_for(loss: float) -> int:
    """
    How often an acknowledgement is repeated so that three in four get through.
    """
    if loss <= REPEAT_LOSS:
        return 0
    if loss >= 1:
        return MAX_REPEATS
    return min(MAX_REPEATS, math.ceil(math.log(0.25) / math.log(loss)) - 1)


def reports_for(loss: float, *, burst: float = 1.0) -> int:
    """
    In how many acknowledgements each number stands, where so many of them are lost.

    :param burst: how many in a row, on average.
    """
    if loss <= UNSAID:
        return LEAST_REPORTS
    # After one that is lost, the next is lost too with this probability.
    again = max(loss, 1 - 1 / burst)
    if again >= 1:
        return REPORTS
    count = 1 + math.ceil(math.log(UNSAID / loss) / math.log(again))
    return min(max(count, LEAST_REPORTS), REPORTS)


def ack_frame(
    ranges: Sequence[tuple[int, int]], *, delay: float, arrived_at: float | None = None
) -> bytes:
    """
    An ACK frame.

    :param ranges: 1 to ``MAX_ACK_PAIRS + 1`` pairs of first and last number, highest first.
        What lies more than 65,535 below the number before it is left out.
    :param delay: seconds since the largest arrived; more than fit become the most that do.
    :param arrived_at: when it did, if the peer should know: seconds of this side's clock (M-73).
    """
    below, largest = ranges[0]
    counts = [min(largest - below, _MAX_COUNT)]
    for first, last in ranges[1:]:
        gap, length = below - last - 1, last - first + 1
        if gap > _MAX_COUNT or largest - below > _MAX_COUNT:
            break
        counts += (gap, min(length, _MAX_COUNT))
        below = first
    units = min(max(int(delay / ACK_TIME_UNIT), 0), _MAX_COUNT)
    flagged = len(counts) // 2 | (0 if arrived_at is None else FLAG_TIME)
    layout = f">BIHB{len(counts)}H"
    frame = pack(layout, FrameType.ACK, largest & 0xFFFFFFFF, units, flagged, *counts)
    if arrived_at is None:
        return frame
    return frame + (int(arrived_at / ACK_TIME_UNIT) & 0xFFFFFFFF).to_bytes(4)


def acknowledged_ranges(
    largest_low32: int, counts: Sequence[int], *, next_number: int
) -> list[tuple[int, int]]:
    """
    The ranges that an ACK frame names, as (first, last), highest first.

    :param counts: as :meth:`resip.core.modern.frame_parser.FrameSink.on_ack` gets them.
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
