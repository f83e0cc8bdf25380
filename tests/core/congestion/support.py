"""
What several tests of this package build.
"""

from __future__ import annotations

from resip.core.congestion.delivery import RateSample
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import Phase, State
from resip.core.modern.sent import SentRun

SIZE = 1200


def make_run(first: int, count: int, *, time: float) -> SentRun:
    """
    A run of full packets.
    """
    return SentRun(first=first, end=first + count, time=time, size=SIZE, last_size=SIZE)


def make_phase(state: State = State.CRUISE, *, sent: int, lost: int) -> Phase:
    """
    A finished phase, every packet of which is resolved, seen with a short queue.
    """
    phase = Phase(state, rate=1e6, now=0.0)
    phase.sent, phase.lost, phase.acked = sent, lost, sent - lost
    phase.ended_at, phase.queue_delay, phase.rtt_samples = 1.0, 0.0, 20
    return phase


def make_sample(
    phase: Phase,
    *,
    served: float,
    delivered: float | None = None,
    total: int = 0,
    sent_at: float = 0.0,
    is_app_limited: bool = False,
) -> RateSample:
    """
    What an acknowledgement says: bytes a second; all that was served is delivered if not given.
    """
    return RateSample(
        total=total,
        delivered=served if delivered is None else delivered,
        served=served,
        phase=phase,
        sent_at=sent_at,
        is_app_limited=is_app_limited,
    )


def make_model(*, rate: float = 2e6, loss: float = 0.0, rtt: float = 0.1) -> PathModel:
    """
    A model of a path that is known for long, whose last round delivered what the floor leaves.
    """
    model = PathModel(datagram_size=SIZE, now=0.0)
    for _ in range(20):
        model.delay.update(rtt, now=0.0)
    model.delay.end_round(now=0.0)
    model.rates.reset(rate)
    model.floor.prove(loss, packets=800)
    # Independent losses, so that the meter knows that they do not come in bursts.
    model.floor.bursts.add(make_run(2 * n, 1, time=0.0) for n in range(50))
    end_round(model, served=rate, delivered=rate * (1 - loss), now=1.0)
    return model


def end_round(model: PathModel, *, served: float, delivered: float, now: float) -> None:
    """
    Let a round of 100 packets end with these rates, bytes a second.
    """
    phase = Phase(State.CRUISE, rate=served, now=0.0)
    sample = make_sample(phase, served=served, delivered=delivered)
    model.rounds.add(100, 0, sample)
    assert model.rounds.end(largest=1 << 40, next_number=0, now=now)
