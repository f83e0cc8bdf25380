"""
The two clocks of a service: one that only goes forward, one that people read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Clocks:
    """
    Where services take the time from; tests give their own.

    The reactor's ``seconds()`` is neither: with epoll it is the wall clock, which jumps.

    :ivar monotonic: seconds that only grow, whatever happens to the wall clock.
    :ivar wall: Unix seconds.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


def use_monotonic_time(reactor: Any) -> None:
    """
    Let ``reactor`` measure its delays by the clock that never jumps, from now on.

    By its own, the wall clock, a step back of an hour stops every timer of the process for an
    hour. To be called before anything is scheduled.
    """
    reactor.seconds = time.monotonic
