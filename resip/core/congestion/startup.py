"""
Start-up: more than doubling the rate each round trip until the path shows a limit.
"""

from __future__ import annotations

import math

from resip.core.congestion.delivery import RateSample
from resip.core.congestion.model import PathModel

#: Packets sent before the first answer, spread over so many seconds.
INITIAL_PACKETS = 32
INITIAL_TIME = 0.05
#: 2.77 (BBR) overflows a queue of 0.85 bandwidth-delay products; 2.0 takes longer.
GAIN = 2.3
#: A train of packets shows a rate when it has so many, over so many seconds.
TRAIN_PACKETS = 16
TRAIN_TIME = 0.01
#: Round trips in which trains are looked at.
TRAIN_ROUNDS = 2
#: The path is full when so many rounds brought less growth than this factor.
FULL_ROUNDS = 3
FULL_GROWTH = 1.25
#: Queue delay that ends start-up: seconds, or a share of the shortest round trip.
DELAY_MINIMUM = 0.004
DELAY_SHARE = 1 / 8
#: The erasure estimate is pooled over so many packets; later it only sinks.
POOL_PACKETS = 150
SINK_WEIGHT = 0.3
#: A round of so many packets that loses this much more than the estimate found a limit.
EXCESS_KNOWN_PACKETS = 60
EXCESS_ROUND_PACKETS = 30
EXCESS_DEVIATIONS = 2.5
EXCESS_MARGIN = 0.03
EXCESS_AT_ONCE = 0.3
#: An application that sends less than so many packets a round trip shows no limit.
THIN_PACKETS = 16


class PacketTrains:
    """
    Measures how fast packets follow each other, both when they leave and when they are answered.

    The first samples of a rate are means over a round trip in which the window was soon full and
    nothing was sent; what was sent until then went through faster than that.
    """

    def __init__(self) -> None:
        #: For each answer: packets answered by then, when, and when the newest had left.
        self._answers: list[tuple[int, float, float]] = []

    def measure(self, sample: RateSample, *, now: float) -> float:
        """
        Packets a second of the train that ends with this answer; 0 when it is too short.
        """
        answers, acked = self._answers, sample.phase.acked
        if sample.is_app_limited:
            answers.clear()
            return 0.0
        answers.append((acked, now, sample.sent_at))
        rate = 0.0
        while acked - answers[0][0] >= TRAIN_PACKETS and now - answers[0][1] >= TRAIN_TIME:
            first, answered_at, sent_at = answers.pop(0)
            rate = (acked - first) / max(now - answered_at, sample.sent_at - sent_at)
        return rate


class Startup:
    """
    Grows the model's rate and decides when that is enough.

    While it lasts, the model's floor is the loss seen so far. That may be congestion already,
    so :meth:`finish` leaves a floor which the cycle soon puts to the test.
    """

    def __init__(self, model: PathModel) -> None:
        self._model = model
        self._packets = self._lost = 0
        self._best = self._best_delivered = self._latest_delivered = 0.0
        self._flat_rounds = 0
        self._excess_rounds = 0
        self._trains = PacketTrains()

    @property
    def pacing_rate(self) -> float:
        """
        Bytes a second.
        """
        initial = INITIAL_PACKETS * self._model.datagram_size
        return max(initial / INITIAL_TIME, GAIN * self._model.rate)

    @property
    def _is_thin(self) -> bool:
        """
        The application sends so little that neither delay nor loss are its own doing.
        """
        model = self._model
        loop = max(model.delay.minimum, INITIAL_TIME)
        few = THIN_PACKETS * model.datagram_size / loop
        return model.rounds.is_app_limited and model.rounds.served < few

    def on_ack(self, sample: RateSample | None, *, now: float) -> bool:
        """
        Take the best sample for the rate.

        :return: whether a queue fills: start-up is over.
        """
        model = self._model
        if sample is not None:
            if not (sample.is_app_limited and sample.served_rate < model.rate):
                model.rates.grow(sample.served_rate)
            if model.rounds.count < TRAIN_ROUNDS:
                model.rates.grow(self._trains.measure(sample, now=now) * model.datagram_size)
            self._latest_delivered = sample.delivered_rate
        delay = model.delay
        limit = max(DELAY_MINIMUM, DELAY_SHARE * delay.minimum) + 0.5 * delay.jitter
        return delay.recent > limit and not self._is_thin

    def on_round(self) -> bool:
        """
        Judge growth and loss of a round.

        :return: whether the path is full: start-up is over.
        """
        rounds = self._model.rounds
        self._best_delivered = max(self._best_delivered, rounds.delivered)
        if rounds.delivered > FULL_GROWTH * self._best:
            self._best = rounds.delivered
            self._flat_rounds = 0
        elif not rounds.is_app_limited:
            self._flat_rounds += 1
        is_excess = not self._is_thin and self._has_excess_loss()
        self._estimate_floor()
        return is_excess or self._flat_rounds >= FULL_ROUNDS

    def finish(self) -> None:
        """
        Leave a rate that the deliveries prove.
        """
        model = self._model
        floor = model.floor.value
        model.floor.prove(floor, packets=max(self._packets, 50))
        # The last complete round is old when the rate doubles in each.
        delivered = max(self._best_delivered, self._latest_delivered)
        if delivered:
            model.rates.reset(delivered / (1 - floor))

    def _has_excess_loss(self) -> bool:
        floor, rounds = self._model.floor, self._model.rounds
        if self._packets < EXCESS_KNOWN_PACKETS or rounds.packets < EXCESS_ROUND_PACKETS:
            return False
        excess = rounds.lost / rounds.packets - floor.value - EXCESS_MARGIN
        variance = max(floor.value * (1 - floor.value), 0.004) * floor.bursts.inflation(floor.value)
        excess -= EXCESS_DEVIATIONS * math.sqrt(variance / rounds.packets)
        self._excess_rounds += excess > 0
        return excess > EXCESS_AT_ONCE or self._excess_rounds >= 2

    def _estimate_floor(self) -> None:
        floor, rounds = self._model.floor, self._model.rounds
        loss = rounds.lost / max(1, rounds.packets)
        if self._packets < POOL_PACKETS:
            self._packets += rounds.packets
            self._lost += rounds.lost
            floor.value = min(0.95, self._lost / max(1, self._packets))
        elif loss < floor.value:
            floor.value += SINK_WEIGHT * (loss - floor.value)
