"""
The hooks between loss recovery and a congestion controller.
"""

from __future__ import annotations

from typing import Protocol


class CongestionController(Protocol):
    """
    Decides how many packets may be in flight, and how fast they leave.
    """

    @property
    def window(self) -> int:
        """
        How many packets may be in flight.
        """

    @property
    def pacing_rate(self) -> float:
        """
        Packets a second.
        """

    def on_packets_acked(
        self, count: int, *, in_flight: int, rtt: float | None, is_app_limited: bool, now: float
    ) -> None:
        """
        ``count`` packets were acknowledged for the first time.

        :param in_flight: packets still unacknowledged afterwards.
        :param rtt: a round-trip sample, seconds, when this acknowledgement gave one.
        :param is_app_limited: the window was not what held the sender back.
        """

    def on_packets_lost(self, count: int, *, now: float) -> None:
        """
        ``count`` packets were declared lost.
        """

    def on_path_changed(self, *, now: float) -> None:
        """
        What was learnt belongs to another path.
        """
