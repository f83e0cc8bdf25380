"""
The search for the largest packet that a path takes (RFC 8899; docs/protocol.md M-18, M-39, M-40).

Larger packets are tried with probes while packets of a proven size carry the data. The usual
sizes are tried first, upwards; the first one that fails is approached by halves. All sizes
are those of UDP payloads.

::

            base size arrived              nothing left to try
    BASE ----------------------> SEARCHING --------------------> COMPLETE
     |                            |   ^  ^                         |  |
     |  base size fails           |   |  |    ten minutes later    |  |
     v                            |   |  +-------------------------+  |
    ERROR ------------------------|---+                               |
       anything arrived           v        black hole                 v
                                 BASE  <------------------------------+

From everywhere, when nothing is answered any more, to ERROR.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from resip.core.congestion.rate import AckReport
from resip.core.modern.sent import SentRun

#: What every path is expected to take: IPv6 guarantees 1,232 (RFC 8899 section 5.1.2).
BASE_SIZE = 1200
#: What is sent where even that does not arrive: paths of 512 bytes.
MINIMUM_SIZE = 484
#: Sizes tried: IPv6's minimum of 1,280 over IPv4, WireGuard's 1,420, Ethernet under IPv6 and
#: under IPv4, jumbo frames, and the largest UDP payload, which loopback takes.
CANDIDATES = (1252, 1392, 1452, 1472, 8972, 65507)
#: Halving ends when at most this share of the size could still be gained.
RESOLUTION = 1 / 16
#: RFC 8899 section 5.1.2, MAX_PROBES: probes of one size that may get lost. Where packets get lost
#: anyway it takes more to tell, up to the second number.
MAX_PROBES = 3
MAX_LOSSY_PROBES = 40
#: RFC 8899 section 5.1.1, PMTU_RAISE_TIMER: seconds until a size that failed is tried again.
RAISE_INTERVAL = 600.0
#: Seconds between a lost probe and the next one, so that the search costs next to nothing.
RETRY_INTERVAL = 0.25
#: A lost probe says something of its size only when ordinary packets that were sent within so many
#: seconds after it arrived: else nothing got through, and its size is not why.
NEIGHBOUR_TIME = 0.25
#: A black hole: so many large packets in a row are lost, small ones being acknowledged, over
#: so many probe timeouts (M-40 allows three).
BLACK_HOLE_LOSSES = 3
BLACK_HOLE_TIMEOUTS = 2
#: Probe timeouts in a row after which the base size is given up as well.
ERROR_TIMEOUTS = 4


class SearchState(Enum):
    """
    How far the search is; the names are those of RFC 8899 section 5.2.
    """

    #: The base size is used and being confirmed.
    BASE = auto()
    #: There are sizes to try.
    SEARCHING = auto()
    #: The size found is used until it is time to look again.
    COMPLETE = auto()
    #: Not even the base size seems to arrive; the minimum is used.
    ERROR = auto()


class SearchInput(Enum):
    """
    What moves the search on.
    """

    #: A packet of the size in use arrived.
    CONFIRMED = auto()
    #: No size is left to try.
    EXHAUSTED = auto()
    #: Packets above the base size do not arrive any more.
    BLACK_HOLE = auto()
    #: Packets of the base size do not arrive either.
    BASE_FAILED = auto()
    #: It is time to look again.
    RAISE_DUE = auto()


#: Pairs that are missing change nothing.
TRANSITIONS = {
    (SearchState.BASE, SearchInput.CONFIRMED): SearchState.SEARCHING,
    (SearchState.BASE, SearchInput.BASE_FAILED): SearchState.ERROR,
    (SearchState.SEARCHING, SearchInput.EXHAUSTED): SearchState.COMPLETE,
    (SearchState.SEARCHING, SearchInput.BLACK_HOLE): SearchState.BASE,
    (SearchState.SEARCHING, SearchInput.BASE_FAILED): SearchState.ERROR,
    (SearchState.COMPLETE, SearchInput.RAISE_DUE): SearchState.SEARCHING,
    (SearchState.COMPLETE, SearchInput.BLACK_HOLE): SearchState.BASE,
    (SearchState.COMPLETE, SearchInput.BASE_FAILED): SearchState.ERROR,
    (SearchState.ERROR, SearchInput.CONFIRMED): SearchState.SEARCHING,
}


class MtuProbe:
    """
    One probe on its way; rides as a control in its run.

    :ivar size: bytes of the packet.
    """

    __slots__ = ("_search", "size")

    def __init__(self, search: PathMtuSearch, size: int) -> None:
        self.size = size
        self._search = search

    def on_acked(self) -> None:
        """
        The path takes this size.
        """
        self._search.on_probe_acked(self)

    def on_lost(self) -> None:
        """
        The path does not take it, or the probe was unlucky.
        """
        self._search.on_probe_lost(self)


class PathMtuSearch:
    """
    Searches one path; a changed path gets a new search.

    It has no timer: whoever sends data anyway asks :meth:`get_probe` first, so an idle session
    sends no probes. The probe must be the only packet of its run, with ``is_probe`` set and the
    :class:`MtuProbe` among its controls.

    :ivar state: see :data:`TRANSITIONS`.
    :ivar size: bytes, the largest packet that data may be sent in.

    :param maximum: bytes, the largest packet that the carrier takes.
    """

    __slots__ = (
        "_allowed",
        "_attempts",
        "_base",
        "_failed",
        "_first_large_loss",
        "_has_neighbour",
        "_large_losses",
        "_last_large_loss",
        "_maximum",
        "_missing",
        "_probe",
        "_probe_time",
        "_proven",
        "_raise_time",
        "size",
        "state",
    )

    def __init__(self, *, maximum: int = CANDIDATES[-1]) -> None:
        self.state = SearchState.BASE
        self._maximum = maximum
        self._base = min(BASE_SIZE, maximum)
        self.size = self._base
        self._failed = maximum + 1
        # A size that was proven before everything fell silent is tried first afterwards.
        self._proven = 0
        self._probe: MtuProbe | None = None
        self._probe_time = 0.0
        # The latest probe when it is lost and nobody knows why; an ordinary packet that was sent
        # with the latest one arrived.
        self._missing: MtuProbe | None = None
        self._has_neighbour = False
        self._attempts = 0
        self._allowed = MAX_PROBES
        self._raise_time = 0.0
        self._large_losses = 0
        self._first_large_loss = 0.0
        self._last_large_loss = 0.0

    def get_probe(self, *, loss: float = 0.0, now: float) -> MtuProbe | None:
        """
        The probe to send now, ``None`` when none is wanted. The caller must send it.

        :param loss: share of the packets that is lost whatever their size, 0 to 1.
        """
        if self.state is SearchState.COMPLETE and now >= self._raise_time:
            self._failed = self._maximum + 1
            self._enter(SearchInput.RAISE_DUE)
        if self.state in (SearchState.COMPLETE, SearchState.ERROR) or self._probe is not None:
            return None
        if (
            self._attempts or self._missing is not None
        ) and now < self._probe_time + RETRY_INTERVAL:
            return None
        size = self._base if self.state is SearchState.BASE else self._next_size()
        if size is None:
            self._raise_time = now + RAISE_INTERVAL
            self._enter(SearchInput.EXHAUSTED)
            return None
        self._probe = MtuProbe(self, size)
        self._probe_time = now
        self._missing = None
        self._has_neighbour = False
        self._allowed = int(MAX_PROBES / max(1 - loss, MAX_PROBES / MAX_LOSSY_PROBES))
        return self._probe

    def on_ack(self, report: AckReport, *, probe_timeout: float) -> None:
        """
        Ordinary packets were acknowledged or lost.

        :param probe_timeout: seconds, without backoff: the measure of a black hole's age.
        """
        if self.state is SearchState.ERROR and report.acked:
            self._enter(SearchInput.CONFIRMED)
        if self._probe is not None or self._missing is not None:
            self._look_for_neighbours(report.acked)
        self.on_losses(report.lost)
        if self._large_losses:
            self._watch_black_hole(report.acked, BLACK_HOLE_TIMEOUTS * probe_timeout)

    def on_losses(self, lost: Sequence[SentRun]) -> None:
        """
        Ordinary packets were declared lost by a timer.
        """
        for run in lost:
            if run.size > self._floor:
                if not self._large_losses:
                    self._first_large_loss = run.time
                self._large_losses += run.count
                self._last_large_loss = run.time

    def on_probe_timeout(self, count: int) -> None:
        """
        ``count`` probe timeouts in a row brought no answer: smaller packets may get through.

        What failed before stays failed and what worked is tried first, since this is more
        often an outage than a change of the path.
        """
        is_base_due = count >= ERROR_TIMEOUTS
        if not is_base_due and (count < BLACK_HOLE_TIMEOUTS or self.size <= self._base):
            return
        if self.size > self._base:
            self._proven = self.size
        if is_base_due:
            self._fall_back_to(MINIMUM_SIZE)
        else:
            self._fall_back_to(self._base)

    def on_refused(self, size: int) -> None:
        """
        The system refused to send a packet of ``size`` bytes; waiting for its loss is pointless.
        """
        self._failed = min(self._failed, size)
        if self._probe is not None and self._probe.size >= size:
            self._end_step()
        if self.size >= size:
            self._fall_back_to(self._floor)

    def on_probe_acked(self, probe: MtuProbe) -> None:
        """
        Called by :class:`MtuProbe`. An answer that comes late counts while it tells something.
        """
        is_current = probe is self._probe
        if self.state is SearchState.BASE and is_current:
            self._enter(SearchInput.CONFIRMED)
        elif self.state is SearchState.SEARCHING and self.size < probe.size < self._failed:
            self.size = probe.size
            self._large_losses = 0
        if is_current:
            self._end_step()

    def on_probe_lost(self, probe: MtuProbe) -> None:
        """
        Called by :class:`MtuProbe`.
        """
        if probe is not self._probe:
            return
        self._probe = None
        self._missing = probe
        if self._has_neighbour:
            self._on_attempt_failed(probe)

    @property
    def _floor(self) -> int:
        """
        What is fallen back to when the size in use fails.
        """
        return self._base if self.size > self._base else MINIMUM_SIZE

    def _next_size(self) -> int | None:
        """
        What was proven once, else the next usual size, else the middle of what is left.
        """
        if self.size < self._proven < self._failed:
            return self._proven
        for candidate in (self._base, *CANDIDATES):
            if self.size < candidate < self._failed:
                return candidate
        if self.size < self._maximum < self._failed:
            return self._maximum
        if self._failed - self.size <= max(2, int(self.size * RESOLUTION)):
            return None
        return (self.size + self._failed) // 2

    def _look_for_neighbours(self, acked: Sequence[SentRun]) -> None:
        latest = self._probe_time + NEIGHBOUR_TIME
        if not any(self._probe_time <= run.time <= latest and not run.is_probe for run in acked):
            return
        self._has_neighbour = True
        if self._missing is not None:
            self._on_attempt_failed(self._missing)

    def _on_attempt_failed(self, probe: MtuProbe) -> None:
        self._missing = None
        self._attempts += 1
        if self._attempts < self._allowed:
            return
        self._failed = min(self._failed, probe.size)
        self._end_step()
        if self.state is SearchState.BASE:
            self._fall_back_to(MINIMUM_SIZE)

    def _watch_black_hole(self, acked: Sequence[SentRun], patience: float) -> None:
        is_passing_small = False
        for run in acked:
            if run.size > self._floor and run.time >= self._first_large_loss:
                self._large_losses = 0
                return
            is_passing_small = is_passing_small or run.time > self._first_large_loss
        is_old = self._last_large_loss - self._first_large_loss >= patience
        if is_passing_small and is_old and self._large_losses >= BLACK_HOLE_LOSSES:
            self._failed = self.size
            self._proven = 0
            self._fall_back_to(self._floor)

    def _end_step(self) -> None:
        self._probe = self._missing = None
        self._attempts = 0

    def _fall_back_to(self, size: int) -> None:
        self.size = min(self.size, size)
        self._large_losses = 0
        self._end_step()
        is_base = self.size == self._base
        self._enter(SearchInput.BLACK_HOLE if is_base else SearchInput.BASE_FAILED)

    def _enter(self, why: SearchInput) -> None:
        self.state = TRANSITIONS.get((self.state, why), self.state)
