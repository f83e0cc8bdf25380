"""
Whether the server answers by the path in use, for the client's choice among paths.
"""

from __future__ import annotations

from resip.core.events import Event, PathAnswered, PathSilent
from resip.core.types import Path

#: Probe timeouts, and seconds at least, for which an answer may be owed. A round of probes could
#: have been answered by then, and of the two seconds in which a dead path should be left enough
#: remain to dial another. A mistake costs a dial, and some seconds on a worse path where a spare
#: connection is the first to answer.
SILENT_TIMEOUTS = 2
MIN_SILENCE = 0.6
#: But no longer than so many seconds, or round trips: where queues come and go the probe timeout is
#: a multiple of the round trip.
MAX_SILENCE = 1.2
MAX_SILENT_ROUND_TRIPS = 1.5
#: The same on a connection: what loss there is shows as pauses of its own repetition, which
#: begin with 0.2 s and double (RFC 6298).
MIN_RELIABLE_SILENCE = 1.2
#: Packets within a second that make a stream of them. When it stops the client asks, since a dead
#: path and a server that has nothing more to say look alike to whoever only receives. And when it
#: is the client's address that has changed, the question is what tells the new one.
STREAM_PACKETS = 16
STREAM_TIME = 1.0
#: Seconds that such a stream may pause.
STREAM_PAUSE = 0.05
#: The same for a denser one, from some 3 Mbit/s on.
DENSE_STREAM_PACKETS = 256
DENSE_STREAM_PAUSE = 0.02
#: The same for a thinner one: fewer packets, and a longer pause. An answer to the question is one
#: packet, so questions do not keep each other going.
THIN_STREAM_PACKETS = 4
THIN_STREAM_PAUSE = 0.5


class PathWatch:
    """
    Notices that what was sent is not answered, and that it is again.

    :ivar events: what the owner of the session should hear.
    """

    __slots__ = (
        "_count_before",
        "_first_number",
        "_has_answered",
        "_heard_time",
        "_is_silent",
        "_owed_since",
        "_path",
        "_pause",
        "_quiet_time",
        "_sent_time",
        "_stream_count",
        "_stream_start",
        "events",
    )

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._path: Path | None = None
        #: Since the path came into use, or since it was called silent.
        self._has_answered = False
        self._is_silent = False
        #: When a stream of packets last came by the path in use.
        self._heard_time = 0.0
        self._first_number = 0
        self._owed_since: float | None = None
        self._stream_start = 0.0
        self._stream_count = 0
        #: Packets of the second before, which still make a stream.
        self._count_before = 0
        self._pause = THIN_STREAM_PAUSE
        self._quiet_time: float | None = None
        self._sent_time = 0.0

    def on_path_changed(self, path: Path | None, *, next_number: int) -> None:
        """
        Another path is in use.

        :param next_number: of the first packet that will take it.
        """
        self._path = path
        self._has_answered = self._is_silent = False
        self._first_number = next_number
        self._heard_time = 0.0
        self._owed_since = self._quiet_time = None
        self._stream_count = self._count_before = 0

    def on_sent(self, *, is_answer_owed: bool, now: float) -> None:
        """
        Packets left.

        :param is_answer_owed: whether any is to be acknowledged.
        """
        self._sent_time = now
        if is_answer_owed and self._owed_since is None:
            self._owed_since = now

    def on_acked(self, newest: int, *, is_answer_owed: bool, now: float) -> None:
        """
        Packets were acknowledged for the first time.

        :param newest: the highest of their numbers.
        :param is_answer_owed: whether more are to be.
        """
        if newest < self._first_number:
            return
        self._owed_since = now if is_answer_owed else None
        self._is_silent = False
        if not self._has_answered and self._path is not None:
            self._has_answered = True
            self.events.append(PathAnswered(self._path))

    def on_received(self, path: Path, count: int, *, now: float) -> None:
        """
        So many packets came by a path.
        """
        age = now - self._stream_start
        if age > STREAM_TIME:
            self._count_before = self._stream_count if age <= 2 * STREAM_TIME else 0
            self._stream_start, self._stream_count = now, 0
        self._stream_count += count
        packets = max(self._stream_count, self._count_before)
        if packets < THIN_STREAM_PACKETS:
            self._quiet_time = None
            return
        if packets >= STREAM_PACKETS and path == self._path:
            self._heard_time = now
        if packets >= DENSE_STREAM_PACKETS:
            self._pause = DENSE_STREAM_PAUSE
        else:
            self._pause = STREAM_PAUSE if packets >= STREAM_PACKETS else THIN_STREAM_PAUSE
        self._quiet_time = now + self._pause

    def get_timer(self, *, probe_timeout: float, rtt: float) -> float | None:
        """
        When :meth:`handle_timer` has something to do.

        :param probe_timeout: seconds, without backoff. :param rtt: the round trip, seconds.
        """
        times = (self._quiet_time, self._silent_time(probe_timeout, rtt))
        return min([time for time in times if time is not None], default=None)

    def handle_timer(self, *, probe_timeout: float, rtt: float, now: float) -> bool:
        """
        Call the path silent if it is; returns whether to ask the server for an answer, because
        its stream of packets stopped just now.
        """
        silent_time = self._silent_time(probe_timeout, rtt)
        if silent_time is not None and now >= silent_time and self._path is not None:
            self._has_answered = False
            self._is_silent = True
            self.events.append(PathSilent(self._path))
        if self._quiet_time is None or now < self._quiet_time:
            return False
        self._quiet_time = None
        self._stream_count = self._count_before = 0
        # What was sent meanwhile and is to be answered asks as well.
        return self._owed_since is None or now - self._sent_time > self._pause / 2

    def _silent_time(self, probe_timeout: float, rtt: float) -> float | None:
        if self._owed_since is None or self._is_silent or self._path is None:
            return None
        least = MIN_RELIABLE_SILENCE if self._path.is_reliable else MIN_SILENCE
        most = max(MAX_SILENCE, MAX_SILENT_ROUND_TRIPS * rtt)
        # Who goes on sending a stream gets answers from us: without any it would soon have stopped.
        # So only its own answers got lost, which is ordinary where half of all packets do.
        since = max(self._owed_since, self._heard_time)
        return since + max(least, min(SILENT_TIMEOUTS * probe_timeout, most))
