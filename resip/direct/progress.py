"""
How far a transfer is, in one line.
"""

from __future__ import annotations

from collections import deque

#: Seconds over which the rate is measured.
RATE_WINDOW = 5.0
#: Seconds without an answer that are not worth a word.
QUIET = 2.0

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class ProgressLine:
    """
    Says how far a transfer is.

    :param label: of what; safe to print.
    :param size: in bytes, ``None`` when it is not known.
    """

    def __init__(self, label: str, size: int | None) -> None:
        self.label = label
        self.size = size
        self._points: deque[tuple[float, int]] = deque()

    def restart(self) -> None:
        """
        The bytes from here on are counted anew, since those before took no time of the network.
        """
        self._points.clear()

    def text(self, done: int, *, now: float, silence: float = 0.0) -> str:
        """
        The line.

        :param done: bytes that have arrived.
        :param silence: seconds for which the peer owes an answer.
        """
        points = self._points
        points.append((now, done))
        while len(points) > 2 and points[1][0] <= now - RATE_WINDOW:
            points.popleft()
        words = [self.label, self._amount(done)]
        rate = self._rate()
        if silence > QUIET:
            words.append(f"waiting for the peer: no answer for {silence:.0f} s")
        elif rate is not None:
            words.append(f"{quantity(rate)}/s")
            if self.size is not None and rate > 0:
                words.append(f"{duration((self.size - done) / rate)} left")
        return "  ".join(words)

    def _amount(self, done: int) -> str:
        if not self.size:
            return quantity(done)
        return f"{100 * done // self.size:3d} %  {quantity(done)} of {quantity(self.size)}"

    def _rate(self) -> float | None:
        (start, before), (end, after) = self._points[0], self._points[-1]
        return (after - before) / (end - start) if end > start else None


def quantity(count: float) -> str:
    """
    Bytes with three digits at most: ``12.3 MB``. Units are powers of 1000.
    """
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    if not unit or count >= 99.95:
        return f"{count:.0f} {_UNITS[unit]}"
    return f"{count:.{2 if count < 9.995 else 1}f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """
    ``0:42`` or ``3:04:05``.
    """
    minutes, rest = divmod(round(min(seconds, 359_999.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
