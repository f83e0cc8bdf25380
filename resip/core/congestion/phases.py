"""
Phases: what became of the packets that were sent in one state of the probe cycle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum

from resip.core.modern.sent import SentRun

#: Earlier phases that are followed; when more are unresolved, the oldest teaches nothing.
MAX_PENDING_PHASES = 32


class State(Enum):
    """
    What the controller is doing.
    """

    #: Doubling the rate until the path shows a limit.
    STARTUP = "startup"
    #: Working off the queue that start-up left.
    DRAIN = "drain"
    #: Sending at the rate of the model.
    CRUISE = "cruise"
    #: Sending more, to see whether more arrives.
    UP = "up"
    #: Waiting for the answers to UP.
    HOLD = "hold"
    #: Sending less, to empty the queue.
    DOWN = "down"
    #: Sending little, to see the path's shortest round trip.
    MIN_RTT = "min_rtt"
    #: Sending far less, until the queue notices.
    CUT_SETTLE = "cut_settle"
    #: Sending far less, to see whether loss follows the own rate.
    CUT = "cut"
    #: Waiting for the answers to CUT.
    CUT_RESULT = "cut_result"
    #: Sending half, to see whether a competitor still fills the queue.
    YIELD = "yield"


class Phase:
    """
    One visit of a state.

    :ivar rate: of the model when it began, bytes a second.
    :ivar sent: packets. :ivar acked: of them. :ivar lost: of them.
    :ivar end_number: one more than the number of the last packet.
    :ivar queue_delay: smallest seen by its packets, seconds. :ivar rtt_samples: how many saw it.
    :ivar ended_at: infinite while it lasts.
    """

    __slots__ = (
        "acked",
        "end_number",
        "ended_at",
        "lost",
        "queue_delay",
        "rate",
        "rtt_samples",
        "sent",
        "started_at",
        "state",
    )

    def __init__(self, state: State, *, rate: float, now: float) -> None:
        self.state = state
        self.rate = rate
        self.started_at = now
        self.ended_at = math.inf
        self.sent = self.acked = self.lost = self.end_number = self.rtt_samples = 0
        self.queue_delay = math.inf

    @property
    def is_resolved(self) -> bool:
        """
        It is over, and the fate of each packet is known.
        """
        return self.ended_at < math.inf and self.acked + self.lost >= self.sent

    @property
    def loss(self) -> float:
        """
        Share of the resolved packets that is lost.
        """
        return self.lost / max(1, self.acked + self.lost)


class PhaseLog:
    """
    The current phase, and the earlier ones that still have packets on their way.

    :ivar current: takes the packets sent now.
    """

    __slots__ = ("_pending", "current")

    def __init__(self, *, now: float) -> None:
        self.current = Phase(State.STARTUP, rate=0.0, now=now)
        self._pending: list[Phase] = []

    def enter(self, state: State, *, rate: float, now: float) -> Phase:
        """
        Begin a phase, and return it.
        """
        self.current.ended_at = now
        self._pending.append(self.current)
        del self._pending[:-MAX_PENDING_PHASES]
        self.current = Phase(state, rate=rate, now=now)
        return self.current

    def take_resolved(self) -> list[Phase]:
        """
        The phases whose last packet was resolved since the call before.
        """
        pending = self._pending
        if not any(phase.is_resolved for phase in pending):
            return []
        resolved = [phase for phase in pending if phase.is_resolved]
        for phase in resolved:
            pending.remove(phase)
        return resolved

    def settle(self, *, before: float) -> None:
        """
        Packets of phases that ended earlier and are still unresolved expired; nobody counts them.
        """
        for phase in self._pending:
            if phase.ended_at < before:
                phase.sent = phase.acked + phase.lost

    def abandon(self) -> None:
        """
        Draw no conclusion from anything that is on its way.
        """
        self._pending.clear()


class BurstMeter:
    """
    How much losses come in bursts, as a factor on the variance of their number.

    The losses are taken for Gilbert's two-state chain, whose correlation follows from the mean
    length of the bursts; the variance of a mean over such a chain is that of independent
    losses times ``(1 + correlation) / (1 - correlation)``.
    """

    __slots__ = ("_arrived", "_bursts", "_end", "_losses")

    #: Counters decay by this factor with every loss.
    DECAY = 0.998
    #: Until so many losses were seen, the factor is a guess.
    ENOUGH = 10
    GUESS = 4.0
    LIMIT = 12.0

    def __init__(self) -> None:
        self._arrived = self._losses = self._bursts = 0.0
        self._end = -1

    def add_arrived(self, count: int) -> None:
        """
        Count packets that were not lost.
        """
        self._arrived += count

    def add(self, lost: Iterable[SentRun]) -> None:
        """
        Count lost runs, oldest first.
        """
        for run in lost:
            decay = self.DECAY**run.count
            self._arrived *= decay
            self._losses = self._losses * decay + run.count
            self._bursts = self._bursts * decay + (run.first != self._end)
            self._end = run.end

    @property
    def stretch(self) -> float:
        """
        How many times longer the bursts are than those of as many independent losses.

        Unlike :meth:`inflation` it takes what was lost, not the floor, for the mean: a queue that
        overflows by half loses pairs by chance. 1 until enough losses were seen.
        """
        if self._losses < self.ENOUGH:
            return 1.0
        share = self._arrived / (self._arrived + self._losses)
        return self._losses / max(self._bursts, 1e-9) * share

    def inflation(self, loss: float) -> float:
        """
        The factor, 1 to :data:`LIMIT`.

        :param loss: mean share of lost packets, below 1.
        """
        if self._losses < self.ENOUGH:
            return self.GUESS
        length = max(1.0, self._losses / max(self._bursts, 1e-9))
        correlation = 1 - 1 / length - loss / ((1 - loss) * length)
        if correlation <= 0:
            return 1.0
        return min(self.LIMIT, (1 + correlation) / max(1e-9, 1 - correlation))
