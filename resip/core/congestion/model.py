"""
The model of the path that all parts of the controller share.
"""

from __future__ import annotations

from array import array

from resip.core.congestion.delivery import RoundMeter
from resip.core.congestion.erasure import ErasureFloor
from resip.core.congestion.queue_delay import QueueDelay

#: Rounds over which the best counts.
FILTER_ROUNDS = 10
#: The rate never falls below so many packets a second: somebody has to ask the path.
MIN_PACKET_RATE = 2.0
#: No cycle step is shorter, seconds: timers cannot resolve less.
MIN_STEP = 0.01
#: A round trip is taken for no shorter when packets of thin traffic are counted, seconds.
THIN_TIME = 0.05
#: Growth of a round's measure over the model that loss may have faked.
LOSSY_GROWTH = 1.03


class RateModel:
    """
    A max filter over rounds: the rate of the bottleneck, bytes a second.

    :ivar value: the estimate.
    """

    __slots__ = ("_minimum", "_rounds", "value")

    def __init__(self, *, minimum: float) -> None:
        self._minimum = self.value = minimum
        # An array, since every idle session keeps these: a float takes 32 bytes.
        self._rounds = array("d")

    def push(self, rate: float) -> None:
        """
        A round measured ``rate``.
        """
        self._rounds.append(rate)
        del self._rounds[:-FILTER_ROUNDS]
        self.value = max(self._minimum, max(self._rounds))

    def reset(self, rate: float) -> None:
        """
        Forget the rounds; the rate is ``rate`` until they say otherwise.
        """
        del self._rounds[:]
        self.push(max(rate, self._minimum))

    def limit(self, rate: float) -> None:
        """
        The rate is at most ``rate``.
        """
        if self.value > rate:
            self.reset(rate)

    def grow(self, rate: float) -> None:
        """
        The rate is at least ``rate``.
        """
        if rate > self.value:
            self.push(rate)


class PathModel:
    """
    Everything that was learnt about the path.

    :ivar datagram_size: bytes of a full packet; may change with the path MTU.
    :ivar rates: the rate of the bottleneck. :ivar floor: its erasures.
    :ivar delay: round trips and queues. :ivar rounds: what the last round measured.
    :ivar bytes_in_flight: as last reported.
    :ivar is_competing: another sender fills the queue, so delay says nothing about ours.
    """

    __slots__ = (
        "bytes_in_flight",
        "datagram_size",
        "delay",
        "floor",
        "is_competing",
        "rates",
        "rounds",
    )

    def __init__(self, *, datagram_size: int, now: float) -> None:
        self.datagram_size = datagram_size
        self.rates = RateModel(minimum=MIN_PACKET_RATE * datagram_size)
        self.floor = ErasureFloor()
        self.delay = QueueDelay()
        self.rounds = RoundMeter(now=now)
        self.bytes_in_flight = 0
        self.is_competing = False

    @property
    def rate(self) -> float:
        """
        Of the bottleneck, bytes a second.
        """
        return self.rates.value

    @property
    def step(self) -> float:
        """
        The unit of the probe cycle: a round trip without queue, seconds.
        """
        return max(self.delay.minimum, MIN_STEP)

    @property
    def loop(self) -> float:
        """
        How long the path takes to answer now, queue included, seconds.
        """
        return max(self.delay.smoothed, self.step)

    @property
    def packet_time(self) -> float:
        """
        Seconds that the bottleneck needs for one packet.
        """
        return self.datagram_size / self.rate

    @property
    def low_delay(self) -> float:
        """
        See :meth:`QueueDelay.low`.
        """
        return self.delay.low(self.packet_time)

    @property
    def high_delay(self) -> float:
        """
        See :meth:`QueueDelay.high`.
        """
        return self.delay.high(self.packet_time)

    @property
    def is_lossy(self) -> bool:
        """
        Erasures are a part of the model, so growth must be proven.
        """
        return self.floor.is_lossy and not self.is_competing

    def is_thin(self, packets: float) -> bool:
        """
        Whether the application sends so little that neither delay nor loss are its doing.

        :param packets: full ones for each round trip, or for :data:`THIN_TIME` where that is more.
        """
        limit = packets * self.datagram_size / max(self.delay.minimum, THIN_TIME)
        return self.rounds.is_app_limited and self.rounds.served < limit

    @property
    def delivered_capacity(self) -> float:
        """
        The rate that the last round's deliveries and the floor explain, bytes a second.
        """
        return self.rounds.delivered / (1 - self.floor.value)

    def end_round(self, *, is_probing: bool) -> None:
        """
        Take in what a round measured.

        :param is_probing: it had UP packets, about which UP itself decides.
        """
        # A competitor that goes by its best sample would win, round for round, against a mean.
        rate = self.rounds.best if self.is_competing else self.rounds.served
        if self.rounds.is_app_limited and rate <= self.rate:
            return
        if self.is_lossy:
            rate = min(rate, self.rate * (1.0 if is_probing else LOSSY_GROWTH))
        self.rates.push(rate)
