"""
Writes down what sessions did, for somebody who looks at it afterwards: ``--qlog DIR``.

One file for each session, in qlog 0.3 as JSON-SEQ (draft-ietf-quic-qlog-main-schema-02, the
version that the tools read; RFC 7464): a header, then one event a line, each behind the byte
0x1E. What is more than QUIC's is an additional field of an event.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path as FilePath
from typing import Protocol

from twisted.logger import Logger

from resip.core.modern.protection import DropTrigger
from resip.core.modern.sent import SentRun
from resip.core.trace import NULL_TRACE, Readings, Trace
from resip.core.types import Path
from resip.services.clock import Clocks

#: Bytes of a file; when it is full it becomes the one before, and that one goes.
MAX_FILE_SIZE = 64 * 1024 * 1024
#: Sessions of one run of a program that are traced: the disk space is bounded by both.
MAX_TRACES = 100
#: Written at once, or after so many seconds of the session's time.
CHUNK = 64 * 1024
FLUSH_INTERVAL = 1.0
#: Readings in seconds and in bytes a second; qlog has milliseconds and bits a second.
TIMES = frozenset(
    {
        "min_rtt",
        "smoothed_rtt",
        "latest_rtt",
        "rtt_variance",
        "controller_min_rtt",
        "controller_queue_delay",
    }
)
RATES = frozenset({"pacing_rate", "controller_rate"})

Value = float | str | bool | None | Mapping[str, float | str]


class Sink(Protocol):
    """
    An open file that is not buffered.
    """

    def write(self, data: memoryview, /) -> int | None:
        """
        Returns how many bytes it took.
        """

    def close(self) -> None:
        """
        No more.
        """


def create_file(path: FilePath) -> Sink:
    """
    A new file that only its owner may read: it has addresses.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return open(os.open(path, flags, 0o600), "wb", buffering=0)


def trace_maker(path: FilePath | None, *, role: str, clocks: Clocks) -> Callable[[int], Trace]:
    """
    Makes the traces of new sessions, by their ids: in the directory ``path``, or null ones.
    """
    if path is None:
        return lambda session_id: NULL_TRACE
    return QlogDirectory(path, role=role, clocks=clocks).start


class QlogDirectory:
    """
    Where the traces of one program go. When one cannot be written, there are no more.

    :param role: ``client`` or ``server``.
    """

    _log = Logger()

    def __init__(
        self,
        path: FilePath,
        *,
        role: str,
        clocks: Clocks,
        max_file_size: int = MAX_FILE_SIZE,
        create: Callable[[FilePath], Sink] = create_file,
    ) -> None:
        self.path = path
        self.role = role
        self.clocks = clocks
        self.max_file_size = max_file_size
        self.create = create
        self._count = 0
        self._is_off = False

    def start(self, session_id: int) -> Trace:
        """
        The trace of a new session.
        """
        if self._count >= MAX_TRACES:
            self._stop(f"{MAX_TRACES} sessions were traced, which is enough")
        if self._is_off:
            return NULL_TRACE
        self._count += 1
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            return QlogTrace(self, session_id)
        except OSError as error:
            self.on_error(error)
            return NULL_TRACE

    def on_error(self, error: OSError) -> None:
        """
        A file could not be written.
        """
        self._stop(f"{error.strerror} ({self.path})")

    def _stop(self, reason: str) -> None:
        if not self._is_off:
            self._is_off = True
            self._log.warn("no more traces are written: {reason}", reason=reason)


class QlogTrace(Trace):
    """
    Writes the events of one session. What stays as it was is not repeated.

    :raises OSError: when the file cannot be made; later errors end the trace.
    """

    __slots__ = (
        "_directory",
        "_dropped",
        "_file",
        "_flush_time",
        "_known",
        "_name",
        "_parts",
        "_size",
        "_start",
        "_unwritten",
        "_wall_start",
    )

    def __init__(self, directory: QlogDirectory, session_id: int) -> None:
        self._directory = directory
        self._name = f"{directory.role}-{session_id:08x}"
        self._start = directory.clocks.monotonic()
        self._wall_start = directory.clocks.wall()
        self._dropped: dict[DropTrigger, int] = {}
        self._known: dict[str, float | str] = {}
        self._file: Sink | None = None
        self._open()

    def _open(self) -> None:
        self._file = self._directory.create(self._path())
        self._parts: list[bytes] = []
        self._size = self._unwritten = 0
        self._flush_time = -1.0
        fields = {"time_format": "relative", "reference_time": round(self._wall_start * 1e3, 3)}
        point = {"name": f"resip-{self._directory.role}", "type": self._directory.role}
        header = {
            "qlog_version": "0.3",
            "qlog_format": "JSON-SEQ",
            "title": self._name,
            "trace": {"vantage_point": point, "common_fields": fields},
        }
        self._append(header)

    def _path(self, suffix: str = "") -> FilePath:
        return self._directory.path / f"{self._name}{suffix}.sqlog"

    # Events.

    def session_started(self, *, now: float) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        self._write("connectivity:connection_started", {}, now=now)

    def session_closed(self, reason: str, *, now: float) -> None:
        """
        The last event.
        """
        self._write("connectivity:connection_closed", {"reason": reason}, now=now)
        self._flush()
        self._close()

    def path_updated(self, path: Path | None, *, is_known: bool, now: float) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        data: dict[str, Value] = {"path": None if path is None else str(path), "is_known": is_known}
        self._write("connectivity:path_assigned", data, now=now)

    def size_chosen(self, size: int, *, now: float) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        old = self._known.get("size")
        if size != old:
            self._known["size"] = size
            self._write("connectivity:mtu_updated", {"old": old, "new": size}, now=now)

    def packets_sent(self, path: Path, *, count: int, size: int, first: int, now: float) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        self._write_packets("packet_sent", first, count, size, now=now)

    def packets_received(
        self, path: Path, *, count: int, size: int, highest: int, now: float
    ) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        self._write_packets("packet_received", highest, count, size, now=now)

    def packets_dropped(self, totals: Mapping[DropTrigger, int], *, now: float) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        for trigger, total in totals.items():
            count = total - self._dropped.get(trigger, 0)
            if count:
                self._dropped[trigger] = total
                data: dict[str, Value] = {"trigger": trigger, "count": count}
                self._write("transport:packet_dropped", data, now=now)

    def metrics_updated(self, read: Callable[[], Readings], *, now: float) -> None:
        """
        Writes what is another value than before.
        """
        changed: dict[str, Value] = {}
        known = self._known
        for name, value in read().items():
            if isinstance(value, float):
                if not isfinite(value):
                    continue  # nothing was measured yet
                value = _round(name, value)
            if known.get(name) != value:
                changed[name] = known[name] = value
        state = changed.pop("controller_state", None)
        if state is not None:
            self._write("recovery:congestion_state_updated", {"new": state}, now=now)
        if changed:
            self._write("recovery:metrics_updated", changed, now=now)

    def packets_lost(self, runs: Sequence[SentRun], trigger: str, *, now: float) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        for run in runs:
            data: dict[str, Value] = {
                "header": {"packet_type": "1RTT", "packet_number": run.first},
                "count": run.count,
                "trigger": trigger,
            }
            self._write("recovery:packet_lost", data, now=now)

    def probe_timeout_expired(self, *, count: int, probes: int, now: float) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        data: dict[str, Value] = {
            "timer_type": "pto",
            "event_type": "expired",
            "pto_count": count,
            "probes": probes,
        }
        self._write("recovery:loss_timer_updated", data, now=now)

    def keys_updated(self, generation: int, *, is_ours: bool, now: float) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        side = self._directory.role
        if not is_ours:
            side = "client" if side == "server" else "server"
        data: dict[str, Value] = {
            "key_type": f"{side}_1rtt_secret",
            "generation": generation,
            "trigger": "local_update" if is_ours else "remote_update",
        }
        self._write("security:key_updated", data, now=now)

    def channel_updated(self, channel_id: int, state: str, *, now: float) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        data: dict[str, Value] = {"stream_id": channel_id, "new": state}
        self._write("transport:stream_state_updated", data, now=now)

    # The file.

    def _write_packets(self, name: str, number: int, count: int, size: int, *, now: float) -> None:
        data: dict[str, Value] = {
            "header": {"packet_type": "1RTT", "packet_number": number},
            "raw": {"length": size},
            "count": count,
        }
        self._write(f"transport:{name}", data, now=now)

    def _write(self, name: str, data: Mapping[str, Value], *, now: float) -> None:
        if self._file is None:
            return
        since = now - self._start
        self._append({"time": round(since * 1e3, 3), "name": name, "data": data})
        if self._unwritten >= CHUNK or since >= self._flush_time:
            self._flush_time = since + FLUSH_INTERVAL
            self._flush()
        if self._size >= self._directory.max_file_size:
            self._rotate(now=now)

    def _append(self, record: Mapping[str, object]) -> None:
        line = b"\x1e" + json.dumps(record, separators=(",", ":")).encode() + b"\n"
        self._parts.append(line)
        self._size += len(line)
        self._unwritten += len(line)

    def _flush(self) -> None:
        data = memoryview(b"".join(self._parts))
        self._parts.clear()
        self._unwritten = 0
        try:
            while data and self._file is not None:
                data = data[self._file.write(data) or 0 :]
        except OSError as error:
            self._fail(error)

    def _rotate(self, *, now: float) -> None:
        self._flush()
        if self._file is None:
            return
        self._close()
        try:
            self._path().replace(self._path(".1"))
            self._open()
        except OSError as error:
            self._fail(error)
        else:
            self._write("recovery:metrics_updated", self._known, now=now)

    def _fail(self, error: OSError) -> None:
        self._close()
        self._directory.on_error(error)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()


def _round(name: str, value: float) -> float:
    if name in TIMES:
        return round(value * 1e3, 3)
    if name in RATES:
        return round(value * 8)
    return round(value, 4)
