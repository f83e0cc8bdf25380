"""
Competition mode: another sender fills the queue, so delay is not ours to keep low.

The sender then takes the larger of two windows: that of the rate model, which holds its own
against BBR and in shallow queues, and that of CUBIC (RFC 9438), which does in deep ones.
"""

from __future__ import annotations

import math

from resip.core.congestion.model import PathModel

#: RFC 9438 sections 5 and 4.6, 4.3, 4.7.
CUBIC_C = 0.4
CUBIC_BETA = 0.7
RENO_SLOPE = 0.53
FAST_CONVERGENCE = 0.85
#: The model's part of the window, in bandwidth-delay products and packets.
MODEL_PRODUCTS = 2.5
MODEL_PACKETS = 4
#: The CUBIC window is paced a little faster than it turns around.
WINDOW_PACING = 1.1
#: Losses that the floor does not explain before a round counts as a congestion event.
EVENT_DEVIATIONS = 3.0
EVENT_MARGIN = 1.5
#: The competitor has left when the queue was short for so many rounds.
CALM_ROUNDS = 12
CALM_SHARE = 0.7
#: Seconds between tests whether it has left.
YIELD_INTERVAL = 8.0


class CubicWindow:
    """
    The window of RFC 9438, counted in packets.
    """

    __slots__ = ("_epoch", "_maximum", "_start")

    def __init__(self, packets: float, *, now: float) -> None:
        self._maximum = packets
        self._start = packets
        self._epoch = now

    def value(self, *, rtt: float, now: float) -> float:
        """
        Packets, at least 2.

        :param rtt: seconds.
        """
        elapsed = now - self._epoch
        inflexion = math.cbrt(max(0.0, self._maximum - self._start) / CUBIC_C)
        cubic = CUBIC_C * (elapsed - inflexion) ** 3 + self._maximum
        reno = self._start + RENO_SLOPE * elapsed / max(rtt, 0.001)
        return max(2.0, cubic, reno)

    def reduce(self, *, rtt: float, now: float) -> None:
        """
        There was a congestion event.
        """
        value = self.value(rtt=rtt, now=now)
        self._maximum = FAST_CONVERGENCE * value if value < self._maximum else value
        self._start = max(2.0, CUBIC_BETA * value)
        self._epoch = now

    def limit(self, packets: float, *, now: float) -> None:
        """
        The window was not used beyond ``packets``; grow from there.
        """
        self._maximum = self._start = max(2.0, packets)
        self._epoch = now


class Competition:
    """
    The time spent in competition mode.

    :param window: bytes to start from.
    """

    __slots__ = (
        "_calm_rounds",
        "_cubic",
        "_model",
        "_reduced_at",
        "_yield_at",
        "_yield_delay",
        "_yield_started_at",
    )

    def __init__(self, model: PathModel, *, window: float, now: float) -> None:
        self._model = model
        self._cubic = CubicWindow(window / model.datagram_size, now=now)
        self._calm_rounds = 0
        self._reduced_at = now
        self._yield_at = now + YIELD_INTERVAL
        self._yield_delay = 0.0
        self._yield_started_at = now

    @property
    def model_window(self) -> float:
        """
        The part of the window that the rate model asks for, bytes.
        """
        model = self._model
        product = model.rate * model.delay.minimum
        return MODEL_PRODUCTS * product + MODEL_PACKETS * model.datagram_size

    def cubic_window(self, *, now: float) -> float:
        """
        The part that CUBIC asks for, bytes.
        """
        model = self._model
        return self._cubic.value(rtt=model.loop, now=now) * model.datagram_size

    def window(self, *, now: float) -> float:
        """
        Bytes that may be in flight.
        """
        return max(self.model_window, self.cubic_window(now=now))

    def minimum_rate(self, *, now: float) -> float:
        """
        Bytes a second that the CUBIC window needs, 0 while the model's is the larger one.
        """
        cubic = self.cubic_window(now=now)
        return WINDOW_PACING * cubic / self._model.loop if cubic > self.model_window else 0.0

    def on_round(self, *, now: float) -> bool:
        """
        Look at a round.

        :return: whether the queue was short for long: the competitor has left.
        """
        model, rounds, floor = self._model, self._model.rounds, self._model.floor.value
        expected = rounds.packets * floor
        limit = expected + EVENT_DEVIATIONS * math.sqrt(expected * (1 - floor)) + EVENT_MARGIN
        if rounds.lost > limit and now - self._reduced_at > model.loop:
            self._reduced_at = now
            self._cubic.reduce(rtt=model.loop, now=now)
        is_calm = model.delay.current < CALM_SHARE * model.high_delay
        self._calm_rounds = self._calm_rounds + 1 if is_calm else 0
        return self._calm_rounds >= CALM_ROUNDS

    def wants_yield(self, *, now: float) -> bool:
        """
        Whether it is time to see if the queue drains when the sender yields.
        """
        return now >= self._yield_at

    def begin_yield(self, *, now: float) -> None:
        """
        The sender halves its rate.
        """
        self._yield_started_at = now
        self._yield_delay = self._model.delay.current

    def end_yield(self, *, now: float) -> bool:
        """
        See what the queue did meanwhile.

        :return: whether it drained, so that nobody else fills it.
        """
        model = self._model
        self._yield_at = now + YIELD_INTERVAL
        expected = 0.5 * (now - self._yield_started_at - model.loop)
        fallen = self._yield_delay - model.delay.current
        has_fallen = fallen >= 0.6 * min(self._yield_delay, expected) > 0
        return model.delay.current <= model.low_delay or has_fallen


class CompetitorDetector:
    """
    Watches a queue that should drain because the sender sends less than the path carries.

    A queue that does not is filled by somebody else.
    """

    __slots__ = (
        "_best_served",
        "_bytes_in_flight",
        "_checked_at",
        "_marked",
        "_model",
        "_started_at",
    )

    #: The deliveries are taken for the rate after so many loops, and the queue is measured.
    PATIENCE = 2.0
    #: From then on it is measured again every so many loops.
    INTERVAL = 1.5
    #: Steps before a competitor may be suspected.
    STEPS = 4.0
    #: The share of the expected fall that clears everybody else.
    FALL = 0.4
    #: The sender competes for queues of so many high delays only: several flows of our own fill
    #: shorter ones, too, and loss keeps them in check.
    DEPTH = 1.5
    #: What the sender leaves free while it drains, as a share of the path's rate.
    SPARE = 0.25

    def __init__(self, model: PathModel, *, now: float) -> None:
        self._model = model
        self._started_at = self._checked_at = now
        self._marked: float | None = None
        self._best_served = 0.0
        self._bytes_in_flight = model.bytes_in_flight

    def on_round(self) -> None:
        """
        Remember the best delivery meanwhile.
        """
        self._best_served = max(self._best_served, self._model.rounds.served)

    def finds_competitor(self, *, now: float) -> bool:
        """
        Whether the queue stays although it should fall.
        """
        model, elapsed = self._model, now - self._checked_at
        # The loop is that of now: it grows while a queue builds up that nobody expected.
        if elapsed < (self.PATIENCE if self._marked is None else self.INTERVAL) * model.loop:
            return False
        delay, marked = model.delay.current, self._marked
        self._marked, self._checked_at = delay, now
        if marked is None:
            if self._best_served:
                model.rates.limit(self._best_served)
            return False
        expected = self.SPARE * (elapsed - 0.5 * model.loop)
        is_late = now - self._started_at >= self.STEPS * model.step
        is_deep = delay > self.DEPTH * model.high_delay
        return is_late and is_deep and marked - delay < self.FALL * expected

    def initial_window(self) -> float:
        """
        The window that competition should start from, bytes.
        """
        model = self._model
        return max(
            model.rounds.served * model.delay.smoothed,
            model.bytes_in_flight,
            CUBIC_BETA * self._bytes_in_flight,
        )
