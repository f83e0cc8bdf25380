"""
The client's questions by paths that it does not use: whether the server answers there (M-64).
"""

from __future__ import annotations

from resip.core.modern.paths import CHALLENGE_SIZE, OUTSTANDING_CHALLENGES
from resip.core.types import Path, RandomBytes

#: Times that a question is asked, each time after twice as long: within some three seconds on
#: most paths, often enough for one that loses every second packet each way.
MAX_CHALLENGES = 5
#: Seconds between the first two, at most and at least. The probe timeout of the path in use is
#: no more than a hint.
MAX_FIRST_INTERVAL = 0.4
MIN_FIRST_INTERVAL = 0.1
#: Paths that are asked at the same time.
MAX_PROBES = 16


class _Probe:
    """
    The question to one path.
    """

    __slots__ = ("challenges", "count", "interval", "next_time")

    def __init__(self, interval: float, now: float) -> None:
        self.challenges: dict[bytes, None] = {}
        self.count = 0
        self.interval = interval
        self.next_time = now


class PathProbes:
    """
    Asks each path until it answers, or :data:`MAX_CHALLENGES` times.
    """

    __slots__ = ("_probes", "_random_bytes")

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._probes: dict[Path, _Probe] = {}

    def ask(self, path: Path, *, probe_timeout: float, now: float) -> None:
        """
        Begin to ask a path, anew if it is being asked.

        :param probe_timeout: seconds, of the path in use.
        """
        interval = max(MIN_FIRST_INTERVAL, min(MAX_FIRST_INTERVAL, probe_timeout))
        before = self._probes.pop(path, None)
        if len(self._probes) < MAX_PROBES:
            probe = self._probes[path] = _Probe(interval, now)
            if before is not None:
                probe.challenges = before.challenges

    def forget(self, path: Path) -> None:
        """
        Ask no more: the path is gone, or in use.
        """
        self._probes.pop(path, None)

    def get_challenges(self, *, now: float) -> list[tuple[Path, bytes]]:
        """
        The contents of the PATH_CHALLENGEs to send now, and where.
        """
        due = []
        for path, probe in list(self._probes.items()):
            if now < probe.next_time:
                continue
            if probe.count >= MAX_CHALLENGES:
                del self._probes[path]
                continue
            challenge = self._random_bytes(CHALLENGE_SIZE)
            probe.challenges[challenge] = None
            if len(probe.challenges) > OUTSTANDING_CHALLENGES:
                del probe.challenges[next(iter(probe.challenges))]
            probe.count += 1
            probe.next_time = now + probe.interval
            probe.interval *= 2
            due.append((path, challenge))
        return due

    def on_response(self, response: bytes) -> Path | None:
        """
        A PATH_RESPONSE arrived; returns the path that was asked.
        """
        for path, probe in self._probes.items():
            if response in probe.challenges:
                del self._probes[path]
                return path
        return None

    def get_timer(self) -> float | None:
        """
        When :meth:`get_challenges` has something to do.
        """
        return min((probe.next_time for probe in self._probes.values()), default=None)
