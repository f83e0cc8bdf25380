"""
Virtual time: what is due next happens next, and waiting costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush


class Simulator:
    """
    A clock that jumps from event to event. Events of equal time run in the order of their calls.

    :ivar now: virtual seconds; advanced by :meth:`step` and :meth:`run_until` only.

    :param start: the first value of ``now``. Anything but 0 finds code that takes a time of
        0 for "never".
    """

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start
        # The counter decides between equal times, so that functions are never compared.
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    @property
    def next_time(self) -> float | None:
        """
        When the next event is due, ``None`` when there is none.
        """
        return self._events[0][0] if self._events else None

    def call_at(self, when: float, function: Callable[[], object]) -> None:
        """
        Call ``function`` at ``when``, or next if that is past. It cannot be taken back.
        """
        self._count += 1
        heappush(self._events, (when if when > self.now else self.now, self._count, function))

    def step(self) -> bool:
        """
        Jump to the next event and run it.

        :return: whether there was one.
        """
        if not self._events:
            return False
        self.now, _, function = heappop(self._events)
        function()
        return True

    def run_until(self, when: float) -> None:
        """
        Run everything that is due up to and at ``when``, which is ``now`` afterwards.
        """
        events = self._events
        while events and events[0][0] <= when:
            self.now, _, function = heappop(events)
            function()
        self.now = max(self.now, when)

    def run_while(self, condition: Callable[[], bool], limit: float) -> bool:
        """
        Run as long as ``condition()`` holds, at most up to the time ``limit``.

        :return: whether the condition came to an end in time. If it did not, ``now`` is
            ``limit``.
        """
        while condition():
            if not self._events or self._events[0][0] > limit:
                self.now = max(self.now, limit)
                return not condition()
            self.step()
        return True
