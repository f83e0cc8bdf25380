"""
A path that a :class:`~resip.services.choice.CarrierChoice` may use.
"""

from __future__ import annotations

from dataclasses import dataclass

from resip.core.types import Path

#: Seconds between two probes of a better kind that was left: the first two.
FIRST_RETURN = 1.0
#: Seconds between two probes while the path in use is doubted: the first two. Each probe is
#: repeated by the session for 3 s.
FIRST_ROUND = 3.0
#: An answer so many seconds old still shows that a path works.
FRESH = 2.0


@dataclass(slots=True, eq=False)
class Candidate:
    """
    One path, and when to ask it.

    :ivar kind: index of its kind. :ivar used_time: when it came into use.
    :ivar answered_time: of the last answer.
    :ivar next_probe: when to ask next.
    :ivar round_interval: seconds to the probe after the next, while the path in use is doubted.
    :ivar return_interval: the same while one of a worse kind is in use.
    """

    path: Path
    kind: int
    used_time: float = 0.0
    answered_time: float = float("-inf")
    next_probe: float | None = None
    round_interval: float = FIRST_ROUND
    return_interval: float = FIRST_RETURN

    def is_fresh(self, *, now: float) -> bool:
        """
        Whether it answered just now.
        """
        return now - self.answered_time <= FRESH
