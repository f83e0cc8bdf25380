"""
A congestion controller for which erasure is not congestion.

The facade over the parts of this package: it keeps the books about packets, lets the parts
learn, and answers how fast to send. In short: a rate model as in BBR, built from the progress
of packet numbers (:mod:`.delivery`); an erasure floor that rises only after an experiment
(:mod:`.erasure`, :mod:`.experiment`); a queue kept short by delay (:mod:`.queue_delay`); a
probe cycle with additive increase and multiplicative decrease (:mod:`.cycle`, :mod:`.growth`);
and a mode for queues that others fill (:mod:`.competition`).
docs/decisions/congestion.md says why, and what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from resip.core.congestion.cycle import ProbeCycle
from resip.core.congestion.delivery import DeliverySampler, Snapshot
from resip.core.congestion.model import PathModel
from resip.core.congestion.phases import PhaseLog, State
from resip.core.congestion.rate import AckReport
from resip.core.congestion.startup import INITIAL_PACKETS
from resip.core.modern.sent import SentRun

#: The window is a safety net: so many products of rate and round trip ...
WINDOW_PRODUCTS = 2.0
#: ... the round trip being longer by so many intervals between acknowledgements ...
SPACING_INTERVALS = 3.0
#: ... but not by more than so many round trips, and seconds ...
SPACING_STEPS = 4.0
SPACING_TIME = 0.2
#: ... and so many packets on top.
WINDOW_PACKETS = 6
#: Packets unresolved for so many loops when a probe timeout fires were given up by it.
EXPIRED_LOOPS = 4.0
#: From this probe timeout in a row on the path counts as down, later when much is lost anyway.
OUTAGE_PROBES = 3
MAXIMUM_OUTAGE_PROBES = 10


@dataclass(frozen=True, slots=True)
class _Memory:
    model: PathModel
    log: PhaseLog
    cycle: ProbeCycle


class ErasureAwareController:
    """
    Implements :class:`~resip.core.congestion.rate.RateController`.

    :param datagram_size: bytes of a full packet.
    :param random: evenly distributed numbers from 0 to below 1.
    """

    __slots__ = (
        "_cycle",
        "_is_outage",
        "_limited_until",
        "_log",
        "_model",
        "_next_number",
        "_now",
        "_random",
        "_sampler",
    )

    def __init__(
        self, *, datagram_size: int, random: Callable[[], float], now: float = 0.0
    ) -> None:
        self._random = random
        self._next_number = 0
        self._sampler = DeliverySampler(now=now)
        self._begin(datagram_size, now)

    def _begin(self, datagram_size: int, now: float) -> None:
        self._model = PathModel(datagram_size=datagram_size, now=now)
        self._log = PhaseLog(now=now)
        self._cycle = ProbeCycle(self._model, self._log, self._random)
        # Packets that leave before this number is answered find a path that was not full.
        self._limited_until = -1
        self._is_outage = False
        self._now = now

    @property
    def datagram_size(self) -> int:
        """
        Bytes of a full packet. Set it when the path MTU changes.
        """
        return self._model.datagram_size

    @datagram_size.setter
    def datagram_size(self, size: int) -> None:
        self._model.datagram_size = size

    @property
    def pacing_rate(self) -> float:
        """
        Bytes a second on the wire, above 0.
        """
        return self._cycle.pacing_rate(now=self._now)

    @property
    def congestion_window(self) -> int:
        """
        Bytes that may be in flight.
        """
        model, state = self._model, self._cycle.state
        size = model.datagram_size
        product = model.rate * (model.delay.minimum + model.delay.way_back)
        if self._cycle.competition is not None:
            return int(self._cycle.competition.window(now=self._now))
        late = min(
            SPACING_INTERVALS * self._sampler.spacing,
            max(SPACING_STEPS * model.delay.minimum, SPACING_TIME),
        )
        window = WINDOW_PRODUCTS * (product + model.rate * (model.delay.jitter + late))
        if state is State.STARTUP:
            return int(max(window, INITIAL_PACKETS / 2 * size) + INITIAL_PACKETS / 2 * size)
        return int(window + WINDOW_PACKETS * size)

    @property
    def stats(self) -> dict[str, float | str]:
        """
        Readings for a trace: rates in bytes a second, times in seconds.
        """
        model, cycle = self._model, self._cycle
        verdicts = {each.value: count for each, count in cycle.experiment.verdicts.items()}
        return {
            "state": cycle.state.value,
            "rate": model.rate,
            "erasure_floor": model.floor.value,
            "min_rtt": model.delay.minimum,
            "queue_delay": model.delay.current,
            "rounds": model.rounds.count,
            "competing": int(model.is_competing),
            "competitions": cycle.competitions,
            **verdicts,
        }

    def on_sent(self, run: SentRun, *, bytes_in_flight: int, now: float) -> None:
        """
        A run leaves; its snapshot is what a rate sample needs.
        """
        self._now = now
        self._next_number = run.end
        self._model.bytes_in_flight = bytes_in_flight
        if run.is_probe:
            return
        phase = self._log.current
        phase.sent += run.count
        phase.end_number = run.end
        is_idle = bytes_in_flight <= run.wire_bytes
        is_limited = self._sampler.acked_number < self._limited_until
        self._sampler.on_sent(run, phase, is_idle=is_idle, is_app_limited=is_limited, now=now)

    def on_app_limited(self, *, bytes_in_flight: int, now: float) -> None:
        """
        There was nothing more to send although there was room.
        """
        self._limited_until = self._next_number

    def on_ack(self, report: AckReport, *, now: float) -> None:
        """
        Learn from an acknowledgement.
        """
        if not report.acked:
            self.on_losses(report.lost, bytes_in_flight=report.bytes_in_flight, now=now)
            return
        self._now = now
        model, newest = self._model, report.acked[-1]
        model.bytes_in_flight = report.bytes_in_flight
        if self._is_outage:
            self._end_outage(now)
        packets = self._count_acked(report.acked)
        lost = self._count_lost(report.lost)
        if report.rtt is not None:
            self._measure_delay(report.rtt, report.transit, newest, now)
        sample = self._sampler.on_ack(
            report.acked,
            floor=model.floor.value,
            shortest=min(model.delay.minimum, model.delay.smoothed),
            jitter=model.delay.jitter,
            now=now,
        )
        model.rounds.add(packets, lost, sample)
        has_round = model.rounds.end(largest=newest.end - 1, next_number=self._next_number, now=now)
        if has_round:
            model.delay.end_round(now=now)
        self._cycle.on_ack(sample, largest=newest.end - 1, has_round=has_round, now=now)

    def on_losses(self, lost: Sequence[SentRun], *, bytes_in_flight: int, now: float) -> None:
        """
        Later packets were acknowledged some time ago, so these runs are lost like any others.
        """
        self._now = now
        self._model.bytes_in_flight = bytes_in_flight
        self._model.rounds.add(0, self._count_lost(lost), None)

    def on_probe_timeout(self, *, count: int, now: float) -> None:
        """
        The peer does not answer.
        """
        self._now = now
        self._log.settle(before=now - EXPIRED_LOOPS * self._model.loop)
        patience = OUTAGE_PROBES / (1 - self._model.floor.value)
        if count >= min(patience, MAXIMUM_OUTAGE_PROBES):
            self._is_outage = True

    def on_path_changed(self, *, is_known: bool, now: float) -> None:
        """
        Packets take another path.
        """
        if is_known:
            self._end_outage(now)
        else:
            self._begin(self._model.datagram_size, now)
            self._sampler.restart(now=now)
            self._model.rounds.restart(end_number=self._next_number, now=now)

    def remember(self) -> object:
        """
        The model of the path in use, and where its cycle stands.
        """
        return _Memory(self._model, self._log, self._cycle)

    def recall(self, memory: object, *, now: float) -> None:
        """
        Go on with a model as after an outage: what is on its way tells nothing.
        """
        if isinstance(memory, _Memory):
            self._model, self._log, self._cycle = memory.model, memory.log, memory.cycle
            self._end_outage(now)

    def _end_outage(self, now: float) -> None:
        self._is_outage = False
        self._sampler.restart(now=now)
        self._model.rounds.restart(end_number=self._next_number, now=now)
        self._model.delay.excuse(now=now)
        self._cycle.resume(now=now)

    def _measure_delay(
        self, rtt: float, transit: float | None, newest: SentRun, now: float
    ) -> None:
        queue_delay = self._model.delay.update(rtt, transit=transit, now=now)
        if isinstance(newest.snapshot, Snapshot):
            phase = newest.snapshot.phase
            phase.rtt_samples += 1
            phase.queue_delay = min(phase.queue_delay, queue_delay)

    def _count_acked(self, acked: Sequence[SentRun]) -> int:
        """
        Book acknowledged packets in their phases.
        """
        total = 0
        for run in acked:
            total += run.count
            if isinstance(run.snapshot, Snapshot):
                phase = run.snapshot.phase
                phase.acked += run.count
                if run.is_lost:
                    phase.lost -= run.count
        self._model.floor.bursts.add_arrived(total)
        return total

    def _count_lost(self, lost: Sequence[SentRun]) -> int:
        total = 0
        for run in lost:
            total += run.count
            if isinstance(run.snapshot, Snapshot):
                run.snapshot.phase.lost += run.count
        self._model.floor.bursts.add(lost)
        return total
