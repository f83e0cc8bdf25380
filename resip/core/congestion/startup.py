"""
Start-up: more than doubling the rate each round trip until the path shows a limit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from resip.core.congestion.delivery import RateSample
from resip.core.congestion.model import PathModel

#: Packets sent before the first answer, spread over so many seconds.
INITIAL_PACKETS = 32
INITIAL_TIME = 0.05
#: 2.77 (BBR) overflows a queue of 0.85 bandwidth-delay products; 2.0 takes longer.
GAIN = 2.3
#: A train of packets shows a rate when it has so many, half full at least, over so many seconds,
#: and on a long path over this share of a round trip: too high a rate does the more harm there.
TRAIN_PACKETS = 16
TRAIN_SIZE = TRAIN_PACKETS * 600
TRAIN_TIME = 0.01
TRAIN_SHARE = 1 / 20
#: Weight of a sample that comes when start-up is over.
LATE_WEIGHT = 1 / 16
#: They count when they show so much more than start-up found.
LATE_GROWTH = 1.5
#: On a slow line the answers to the first window take this share of a round trip and more.
SLOW_SHARE = 1 / 4
#: Round trips in which trains are looked at, from when there is much to send.
TRAIN_ROUNDS = 2
#: The path is full when so many rounds brought less growth than this factor.
FULL_ROUNDS = 3
FULL_GROWTH = 1.25
#: Queue delay that ends start-up: seconds, or a share of the shortest round trip.
DELAY_MINIMUM = 0.004
DELAY_SHARE = 1 / 8
#: The erasure estimate is pooled over so many packets; later it only sinks.
POOL_PACKETS = 150
#: While the application sends less than the path carries, losses are none of its doing. They
#: are pooled, and half of them is forgotten beyond so many packets.
LIMITED_POOL_PACKETS = 600
SINK_WEIGHT = 0.3
#: A round of so many packets that loses this much more than the estimate found a limit.
EXCESS_KNOWN_PACKETS = 60
EXCESS_ROUND_PACKETS = 30
EXCESS_DEVIATIONS = 2.5
EXCESS_MARGIN = 0.03
EXCESS_AT_ONCE = 0.3
#: An application that sends less than so many packets a round trip shows no limit.
THIN_PACKETS = 16


class Answer(NamedTuple):
    """
    What had been answered at some time.

    :ivar packets: how many packets. :ivar size: how many bytes.
    :ivar time: when. :ivar sent_at: when the newest of them had left.
    """

    packets: int
    size: int
    time: float
    sent_at: float

    def is_train_from(self, first: Answer) -> bool:
        """
        Whether enough was answered since.
        """
        packets, size = self.packets - first.packets, self.size - first.size
        return packets >= TRAIN_PACKETS and size >= TRAIN_SIZE

    def seconds_since(self, first: Answer) -> float:
        """
        Between two answers, or between their packets, whichever is more.
        """
        return max(self.time - first.time, self.sent_at - first.sent_at)


class PacketTrains:
    """
    Measures how fast packets follow each other, both when they leave and when they are answered.

    The first samples of a rate are means over a round trip in which the window was soon full and
    nothing was sent; what was sent until then went through faster than that.
    """

    __slots__ = ("_answers", "_first")

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self._first: Answer | None = None

    def measure(self, sample: RateSample, *, time: float = TRAIN_TIME, now: float) -> float:
        """
        Packets a second of the train that ends with this answer; 0 when it is too short.

        :param time: seconds that it takes at least.
        """
        answers, last = self._answers, Answer(sample.phase.acked, sample.total, now, sample.sent_at)
        answers.append(last)
        self._first = self._first or last
        rate = 0.0
        while last.is_train_from(answers[0]) and now - answers[0].time >= time:
            first = answers.pop(0)
            rate = (last.packets - first.packets) / last.seconds_since(first)
        return rate

    def measure_all(self, sample: RateSample, *, time: float, now: float) -> float:
        """
        Bytes a second of all answers since the first; 0 when they are too few.

        :param time: seconds that they take at least: packets leave, and answers come, in clumps.
        """
        last = Answer(sample.phase.acked, sample.total, now, sample.sent_at)
        first = self._first or last
        if now - first.time < time or not last.is_train_from(first):
            return 0.0
        return (last.size - first.size) / last.seconds_since(first)

    def forget(self) -> None:
        """
        What follows belongs to another train.
        """
        self._answers.clear()
        self._first = None


class Startup:
    """
    Grows the model's rate and decides when that is enough.

    While it lasts, the model's floor is the loss seen so far. That may be congestion already,
    so :meth:`finish` leaves a floor which the cycle soon puts to the test.
    """

    __slots__ = (
        "_best",
        "_best_delivered",
        "_excess_rounds",
        "_final_rate",
        "_flat_rounds",
        "_latest_delivered",
        "_lost",
        "_model",
        "_packets",
        "_train_rounds",
        "_trains",
    )

    def __init__(self, model: PathModel) -> None:
        self._model = model
        self._packets = self._lost = 0
        self._best = self._best_delivered = self._latest_delivered = 0.0
        self._final_rate = 0.0
        self._flat_rounds = 0
        self._excess_rounds = 0
        self._trains = PacketTrains()
        self._train_rounds = 0

    @property
    def pacing_rate(self) -> float:
        """
        Bytes a second.
        """
        initial = INITIAL_PACKETS * self._model.datagram_size
        return max(initial / INITIAL_TIME, GAIN * self._model.rate)

    def on_ack(self, sample: RateSample | None, *, now: float) -> bool:
        """
        Take the best sample for the rate.

        :return: whether a queue fills: start-up is over.
        """
        model = self._model
        if sample is not None:
            if not (sample.is_app_limited and sample.served_rate < model.rate):
                model.rates.grow(sample.served_rate)
            if self._train_rounds < TRAIN_ROUNDS:
                time = max(TRAIN_TIME, TRAIN_SHARE * model.delay.minimum)
                packets = self._trains.measure(sample, time=time, now=now)
                model.rates.grow(packets * model.datagram_size)
            self._latest_delivered = sample.delivered_rate
        delay = model.delay
        limit = max(DELAY_MINIMUM, DELAY_SHARE * delay.minimum) + 0.5 * delay.jitter
        return delay.recent > limit and not model.is_thin(THIN_PACKETS)

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
        self._train_rounds += 1
        is_excess = self._has_excess_loss()
        self._estimate_floor()
        if self._model.is_thin(THIN_PACKETS):
            self._flat_rounds = self._excess_rounds = self._train_rounds = 0
            self._trains.forget()
            return False
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
        self._final_rate = model.rate

    def on_late_sample(self, sample: RateSample, *, now: float) -> None:
        """
        Start-up is over, and what it sent is answered for a round trip more. On a long path the
        samples until then are means over a round trip that began with few packets. On a slow one
        the first packets fill a queue: how fast they are answered is its rate.
        """
        model = self._model
        self._latest_delivered += LATE_WEIGHT * (sample.delivered_rate - self._latest_delivered)
        rate = self._latest_delivered / (1 - model.floor.value)
        if self._train_rounds < TRAIN_ROUNDS:
            time = max(TRAIN_TIME, SLOW_SHARE * model.delay.minimum)
            rate = max(rate, self._trains.measure_all(sample, time=time, now=now))
        if rate > LATE_GROWTH * self._final_rate:
            model.rates.grow(rate)

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
        if self._packets < POOL_PACKETS or rounds.is_app_limited:
            if self._packets > LIMITED_POOL_PACKETS:
                self._packets //= 2
                self._lost //= 2
            self._packets += rounds.packets
            self._lost += rounds.lost
            floor.value = min(0.95, self._lost / max(1, self._packets))
        elif loss < floor.value:
            floor.value += SINK_WEIGHT * (loss - floor.value)
