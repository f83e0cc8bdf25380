"""
Tests of :mod:`resip.core.congestion.delay`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.delay import (
    BASE_LIFETIME,
    EXCESS,
    INITIAL_WINDOW,
    MAXIMUM_WINDOW,
    MINIMUM_WINDOW,
    QUEUE_TARGET,
    SOCKET_BUFFER,
    DelayController,
)


class Rounds:
    """
    Plays a path to a controller, one round trip after the other.

    :ivar controller: what is played to.
    :param capacity: packets that the path delivers in a base round trip.
    """

    def __init__(self, *, base: float = 0.1, capacity: float = 1e9) -> None:
        self.controller = DelayController(ack_delay=0.0)
        self.base = base
        self.capacity = capacity
        self.now = 1000.0
        self.is_app_limited = False
        self.lose: Callable[[int], int] = lambda sent: 0

    @property
    def window(self) -> int:
        """
        The controller's window.
        """
        return self.controller.window

    def run(self, count: int) -> None:
        """
        Let ``count`` windows go round.
        """
        for _ in range(count):
            sent = self.window
            queue = max(0.0, sent - self.capacity)
            rtt = self.base * (1 + queue / self.capacity)
            self.now += rtt * 1.001
            lost = self.lose(sent)
            if lost:
                self.controller.on_packets_lost(lost, now=self.now)
            for index in range(4):
                self.controller.on_packets_acked(
                    (sent - lost) // 4,
                    in_flight=0,
                    rtt=rtt if index == 0 else None,
                    is_app_limited=self.is_app_limited,
                    now=self.now + index * 1e-6,
                )


class DelayControllerTests(SynchronousTestCase):
    """
    A window that follows the delay.
    """

    def test_it_starts_small_and_doubles(self) -> None:
        """
        On a path without a queue the window doubles each round trip, up to the maximum.
        """
        rounds = Rounds()
        self.assertEqual(rounds.window, INITIAL_WINDOW)
        rounds.run(4)
        self.assertGreaterEqual(rounds.window, 4 * INITIAL_WINDOW)
        rounds.run(30)
        self.assertEqual(rounds.window, MAXIMUM_WINDOW)

    def test_start_up_ends_when_a_queue_stands(self) -> None:
        """
        The pacing gain falls when the delay says that the path is full.
        """
        rounds = Rounds(capacity=200)
        gain = rounds.controller.pacing_rate / rounds.window
        rounds.run(30)
        self.assertLess(rounds.controller.pacing_rate / rounds.window, gain)

    def test_it_keeps_a_small_queue(self) -> None:
        """
        In the end the window is the path's capacity and about the target in its queue.
        """
        rounds = Rounds(capacity=300)
        rounds.run(200)
        self.assertAlmostEqual(rounds.window, 300 + QUEUE_TARGET, delta=QUEUE_TARGET)

    def test_loss_alone_changes_nothing(self) -> None:
        """
        Random loss of a third of all packets leaves the window where it is without loss.
        """
        lossless, lossy = Rounds(capacity=300), Rounds(capacity=300)
        lossy.lose = lambda sent: sent // 3
        lossless.run(200)
        lossy.run(200)
        self.assertAlmostEqual(lossy.window, lossless.window, delta=lossless.window / 4)

    def test_a_path_that_drops_without_delay_has_a_ceiling(self) -> None:
        """
        Where a policer delivers 50 packets a round trip whatever is sent, the window stays
        below what was delivered times the excess, plus a socket's buffer.
        """
        rounds = Rounds()
        rounds.lose = lambda sent: max(0, sent - 50)
        rounds.run(100)
        self.assertLessEqual(rounds.window, SOCKET_BUFFER + EXCESS * 50 * 1.1)

    def test_the_window_never_falls_below_the_minimum(self) -> None:
        """
        Even a path that holds one packet leaves the minimum.
        """
        rounds = Rounds(capacity=1)
        rounds.run(300)
        self.assertGreaterEqual(rounds.window, MINIMUM_WINDOW)

    def test_an_idle_application_does_not_grow_the_window(self) -> None:
        """
        Rounds in which the application was the limit teach nothing.
        """
        rounds = Rounds()
        rounds.is_app_limited = True
        rounds.run(50)
        self.assertLessEqual(rounds.window, INITIAL_WINDOW)

    def test_acknowledgements_without_samples_move_nothing(self) -> None:
        """
        Repeated packets give no round trip, and a round without one leaves the window alone.
        """
        controller = DelayController(ack_delay=0.0)
        for index in range(50):
            controller.on_packets_acked(
                8, in_flight=8, rtt=None, is_app_limited=False, now=1000 + index
            )
        self.assertEqual(controller.window, INITIAL_WINDOW)
        rounds = Rounds()
        rounds.run(3)
        before = rounds.window
        rounds.controller.on_packets_acked(
            8, in_flight=8, rtt=None, is_app_limited=False, now=rounds.now + 50
        )
        self.assertEqual(rounds.window, before)

    def test_a_longer_route_is_learnt(self) -> None:
        """
        When the base delay grows for good, the window recovers after the base's lifetime.
        """
        rounds = Rounds(capacity=300)
        rounds.run(100)
        rounds.base = 0.3
        rounds.run(3 * int(BASE_LIFETIME / rounds.base))
        self.assertGreater(rounds.window, 250)

    def test_a_new_path_starts_over(self) -> None:
        """
        What was learnt on one path does not hold for another.
        """
        rounds = Rounds()
        rounds.run(10)
        rounds.controller.on_path_changed(now=rounds.now)
        self.assertEqual(rounds.window, INITIAL_WINDOW)
