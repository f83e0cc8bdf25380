"""
What a session tells about itself while it runs, for somebody who looks at the run afterwards.

The events are those of qlog (draft-ietf-quic-qlog-quic-events), for batches where QUIC has
packets. The parts of a session call their :class:`Trace` always; what is written down, and
whether, is decided outside of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from resip.core.modern.protection import DropTrigger
from resip.core.modern.sent import SentRun
from resip.core.types import Path

#: What a part of a session measures: times in seconds, sizes in bytes, rates in bytes a second.
Readings = Mapping[str, float | str]


class Trace:
    """
    Hears everything and forgets it. A tracer that keeps something overrides the methods.

    ``now`` is the session's time: seconds, monotonic. No method is told a key or any data.
    """

    __slots__ = ()

    def session_started(self, *, now: float) -> None:
        """
        connectivity:connection_started.
        """

    def session_closed(self, reason: str, *, now: float) -> None:
        """
        connectivity:connection_closed; only the packet that says so may follow.
        """

    def path_updated(self, path: Path | None, *, is_known: bool, now: float) -> None:
        """
        connectivity:path_assigned.

        :param path: where packets go now. :param is_known: only the peer's address changed.
        """

    def size_chosen(self, size: int, *, now: float) -> None:
        """
        connectivity:mtu_updated, when it is another one than before.

        :param size: bytes of the largest packet for now.
        """

    def packets_sent(self, path: Path, *, count: int, size: int, first: int, now: float) -> None:
        """
        transport:packet_sent.

        :param count: packets, perhaps cut into more datagrams. :param size: bytes of all of them.
        :param first: number of the first packet; the others follow.
        """

    def packets_received(
        self, path: Path, *, count: int, size: int, highest: int, now: float
    ) -> None:
        """
        transport:packet_received.

        :param count: packets that were new and genuine. :param size: bytes of all of them.
        :param highest: of their numbers.
        """

    def packets_dropped(self, totals: Mapping[DropTrigger, int], *, now: float) -> None:
        """
        transport:packet_dropped.

        :param totals: packets dropped since the session began, by trigger.
        """

    def metrics_updated(self, read: Callable[[], Readings], *, now: float) -> None:
        """
        recovery:metrics_updated and recovery:congestion_state_updated.

        :param read: called, or not, before this returns.
        """

    def packets_lost(self, runs: Sequence[SentRun], trigger: str, *, now: float) -> None:
        """
        recovery:packet_lost.
        """

    def probe_timeout_expired(self, *, count: int, probes: int, now: float) -> None:
        """
        recovery:loss_timer_updated.

        :param count: probe timeouts in a row. :param probes: packets that it sends.
        """

    def keys_updated(self, generation: int, *, is_ours: bool, now: float) -> None:
        """
        security:key_updated.

        :param is_ours: the keys of what is sent; else of what arrives.
        """

    def channel_updated(self, channel_id: int, state: str, *, now: float) -> None:
        """
        transport:stream_state_updated.

        :param state: ``open``, ``closed`` or ``reset``.
        """


NULL_TRACE = Trace()
