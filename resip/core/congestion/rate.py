"""
The hooks between the loss recovery of the modern dialect and its congestion controller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from resip.core.modern.sent import SentRun


@dataclass(frozen=True, slots=True)
class AckReport:
    """
    What one acknowledgement brought.

    :ivar acked: runs acknowledged for the first time, oldest first; those that were declared lost
        before still say so.
    :ivar lost: runs declared lost by it, oldest first, path MTU probes left out.
    :ivar rtt: round-trip sample, seconds, the peer's delay taken off; ``None`` when the largest
        number was not newly acknowledged.
    :ivar bytes_in_flight: afterwards.
    :ivar transit: seconds that the largest took to the peer, plus a constant that nobody knows,
        as two clocks tell; ``None`` without :attr:`rtt`.
    """

    acked: Sequence[SentRun]
    lost: Sequence[SentRun]
    rtt: float | None
    bytes_in_flight: int
    transit: float | None = None

    @property
    def spurious_packets(self) -> int:
        """
        Packets among :attr:`acked` that had been declared lost.
        """
        return sum(run.count for run in self.acked if run.is_lost)


class RateController(Protocol):
    """
    Decides how fast packets leave and how many bytes may be in flight.

    :ivar datagram_size: bytes of a full packet; set when the path's size is learnt.
    """

    datagram_size: int

    @property
    def pacing_rate(self) -> float:
        """
        Bytes a second on the wire, above 0.
        """

    @property
    def congestion_window(self) -> int:
        """
        Bytes that may be in flight. Pacing rules; this only bounds the damage of bad feedback.
        """

    @property
    def stats(self) -> Mapping[str, float | str]:
        """
        Readings for a trace, perhaps none: rates in bytes a second, times in seconds.
        """

    def on_sent(self, run: SentRun, *, bytes_in_flight: int, now: float) -> None:
        """
        A run leaves; keep what a rate sample needs in ``run.snapshot``.

        :param bytes_in_flight: including the run.
        """

    def on_app_limited(self, *, bytes_in_flight: int, now: float) -> None:
        """
        There was nothing more to send although there was room.
        """

    def on_ack(self, report: AckReport, *, now: float) -> None:
        """
        An acknowledgement brought something.
        """

    def on_losses(self, lost: Sequence[SentRun], *, bytes_in_flight: int, now: float) -> None:
        """
        Runs were declared lost by a timer.
        """

    def on_probe_timeout(self, *, count: int, now: float) -> None:
        """
        The peer has not answered ``count`` probe timeouts in a row.
        """

    def on_path_changed(self, *, is_known: bool, now: float) -> None:
        """
        Packets take another path now; ``is_known`` when only the client's address changed.
        """

    def remember(self) -> object:
        """
        What was learnt of the path in use, for :meth:`recall` when it is in use again.
        """

    def recall(self, memory: object, *, now: float) -> None:
        """
        Packets take a path again of which ``memory`` was kept; follows on_path_changed.
        """
