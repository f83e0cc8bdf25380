"""
One direction of a bad network link, as arithmetic: no sockets, no clock, seeded dice.

A packet passes the stages in the order of a real link. It may find the link down or too
narrow (``mtu``), wait at the bottleneck or be dropped there (``rate``, ``queue_limit``), get
lost behind it (``loss``), be copied (``duplicate``), and it arrives after ``delay`` plus
``jitter``, perhaps out of its place (``reorder``).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from random import Random

#: What IPv4 and UDP headers add to a datagram.
IPV4_UDP_OVERHEAD = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConditions:
    """
    How bad one direction of a link is. The default is a perfect link.

    :ivar rate: bits per second that the bottleneck passes, > 0; ``None`` for no bottleneck.
    :ivar queue_limit: packets that may wait while another one is being sent, >= 0; further
        ones are dropped. 0 makes the bottleneck a policer: it delays nothing and drops what
        exceeds a token bucket of ``burst`` bytes that fills at ``rate``.
    :ivar burst: bytes that a policer lets pass at once, > 0; a larger packet never passes.
    :ivar delay: seconds that every packet takes, >= 0.
    :ivar jitter: seconds, >= 0; each packet takes up to that much longer, evenly distributed.
    :ivar keeps_order: a packet that would overtake an earlier one arrives together with it.
    :ivar loss: share of the packets that vanish in the long run, 0 to 1.
    :ivar loss_burst: mean number of packets lost in a row, >= 1 and >= ``loss / (1 - loss)``
        (Gilbert's two-state model); ``None`` draws every packet independently.
    :ivar duplicate: probability, 0 to 1, that a packet arrives twice.
    :ivar reorder: probability, 0 to 1, that a packet is held back so that later ones overtake
        it, even where the link otherwise keeps the order.
    :ivar reorder_delay: seconds that such a packet is held back, >= 0.
    :ivar mtu: bytes, ``overhead`` included; larger packets vanish. ``None`` for no limit.
    :ivar overhead: bytes of lower headers that every packet costs, >= 0; counted against
        ``rate``, ``burst`` and ``mtu``.
    :ivar is_down: nothing enters the link; what is already on its way arrives.

    :raises ValueError: on construction, when a field is out of its range.
    """

    rate: float | None = None
    queue_limit: int = 100
    burst: int = 15_000
    delay: float = 0.0
    jitter: float = 0.0
    keeps_order: bool = True
    loss: float = 0.0
    loss_burst: float | None = None
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_delay: float = 0.02
    mtu: int | None = None
    overhead: int = IPV4_UDP_OVERHEAD
    is_down: bool = False

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a probability from 0 to 1")
        for name in ("delay", "jitter", "reorder_delay"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "finite seconds, >= 0")
        for name in ("queue_limit", "overhead"):
            self._require(name, getattr(self, name) >= 0, ">= 0")
        self._require("burst", self.burst > 0, "> 0 bytes")
        rate, mtu = self.rate, self.mtu
        self._require("rate", rate is None or 0 < rate < math.inf, "> 0 bit/s, or None")
        self._require("mtu", mtu is None or mtu > 0, "> 0 bytes, or None")
        shortest = 1.0 if self.loss >= 1 else max(1.0, self.loss / (1 - self.loss))
        is_possible = self.loss_burst is None or shortest <= self.loss_burst < math.inf
        self._require("loss_burst", is_possible, f">= {shortest:g} packets, or None")

    def _require(self, name: str, is_valid: bool, wanted: str) -> None:
        if not is_valid:
            raise ValueError(f"{name} is {getattr(self, name)!r}, but must be {wanted}")


@dataclass(slots=True)
class LinkCounters:
    """
    What became of the packets, so far. ``sent + duplicated`` is always
    ``delivered + lost + dropped + too_big``.

    :ivar sent: packets offered to the link.
    :ivar lost: vanished by ``loss``, or because the link was down.
    :ivar dropped: refused by a full queue or by the policer.
    :ivar too_big: above the MTU.
    :ivar delivered: copies that arrive, or are on their way.
    :ivar duplicated: how many of those are second copies.
    :ivar reordered: copies out of their place: held back, or overtaking by jitter.
    :ivar sent_bytes: payload of the packets sent, without overhead.
    :ivar delivered_bytes: payload of the copies delivered, without overhead.
    """

    sent: int = 0
    lost: int = 0
    dropped: int = 0
    too_big: int = 0
    delivered: int = 0
    duplicated: int = 0
    reordered: int = 0
    sent_bytes: int = 0
    delivered_bytes: int = 0


class LinkModel:
    """
    One direction of a link. The same seed and the same packets give the same fate, always.

    :ivar conditions: may be replaced at any time. Packets that are on their way keep the
        time they were given; at a bottleneck, later ones queue behind them.
    :ivar seed: what the dice were made from; print it where a run fails.
    :ivar counters: see :class:`LinkCounters`.
    """

    def __init__(self, conditions: LinkConditions, seed: int) -> None:
        self.conditions = conditions
        self.seed = seed
        self.counters = LinkCounters()
        self._random = Random(seed).random
        # When the packets at the bottleneck leave it: the one being sent, then those waiting.
        self._departures: deque[float] = deque()
        self._tokens = math.inf
        self._tokens_time = 0.0
        self._latest_arrival = -math.inf
        self._is_in_loss_burst: bool | None = None

    def transmit(self, data: bytes, *, now: float) -> list[tuple[float, bytes]]:
        """
        Offer one packet to the link.

        :param now: seconds, never less than in the call before.
        :return: when which copy arrives, absolute seconds >= ``now``; empty when it does not.
        """
        counters = self.counters
        counters.sent += 1
        counters.sent_bytes += len(data)
        departure = self._pass_bottleneck(len(data) + self.conditions.overhead, now)
        if departure is None:
            return []
        if self._is_lost():
            counters.lost += 1
            return []
        arrivals = [(self._choose_arrival(departure), data)]
        if self.conditions.duplicate and self._random() < self.conditions.duplicate:
            counters.duplicated += 1
            arrivals.append((self._choose_arrival(departure), data))
        counters.delivered += len(arrivals)
        counters.delivered_bytes += len(data) * len(arrivals)
        return arrivals

    def get_queue_delay(self, *, now: float) -> float:
        """
        The seconds that a packet offered now would wait until its own sending starts.
        """
        return max(0.0, self._departures[-1] - now) if self._departures else 0.0

    def _pass_bottleneck(self, size: int, now: float) -> float | None:
        """
        When a packet of ``size`` bytes is past the bottleneck; ``None`` when it never is.
        """
        conditions, counters = self.conditions, self.counters
        if conditions.is_down:
            counters.lost += 1
            return None
        if conditions.mtu is not None and size > conditions.mtu:
            counters.too_big += 1
            return None
        if conditions.rate is None:
            return now
        if conditions.queue_limit == 0:
            departure = self._police(size, conditions.rate, now)
        else:
            departure = self._queue(size, conditions.rate, now)
        if departure is None:
            counters.dropped += 1
        return departure

    def _police(self, size: int, rate: float, now: float) -> float | None:
        refill = (now - self._tokens_time) * rate / 8
        self._tokens = min(self.conditions.burst, self._tokens + refill)
        self._tokens_time = now
        if self._tokens < size:
            return None
        self._tokens -= size
        return now

    def _queue(self, size: int, rate: float, now: float) -> float | None:
        departures = self._departures
        while departures and departures[0] <= now:
            departures.popleft()
        # The first of them is being sent, it does not wait.
        if len(departures) > self.conditions.queue_limit:
            return None
        start = departures[-1] if departures else now
        departure = start + size * 8 / rate
        departures.append(departure)
        return departure

    def _is_lost(self) -> bool:
        """
        Gilbert's model: everything is lost in the bad state, nothing in the good one.

        The bad state is left with probability 1/B, so it lasts B packets in the mean; it is
        entered with the probability that makes ``loss`` the share of time spent in it.
        """
        loss, length = self.conditions.loss, self.conditions.loss_burst
        if not 0 < loss < 1:
            return loss > 0
        probability = loss
        if length is not None and self._is_in_loss_burst is not None:
            is_bad = self._is_in_loss_burst
            probability = 1 - 1 / length if is_bad else loss / (1 - loss) / length
        self._is_in_loss_burst = self._random() < probability
        return self._is_in_loss_burst

    def _choose_arrival(self, departure: float) -> float:
        conditions = self.conditions
        arrival = departure + conditions.delay
        if conditions.jitter:
            arrival += self._random() * conditions.jitter
        if conditions.reorder and self._random() < conditions.reorder:
            self.counters.reordered += 1
            return arrival + conditions.reorder_delay
        if arrival >= self._latest_arrival:
            self._latest_arrival = arrival
        elif conditions.keeps_order:
            return self._latest_arrival
        else:
            self.counters.reordered += 1
        return arrival
