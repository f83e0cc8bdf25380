"""
How large the next packets are, and how many go at a time: what the path takes and may be sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from resip.core.congestion.rate import AckReport, RateController
from resip.core.modern.fragments import FragmentTrial, count_fragments
from resip.core.modern.introduction import FIRST_INTRODUCTIONS, Introduction
from resip.core.modern.loss import ordinary_timeouts
from resip.core.modern.mtu import BASE_SIZE, PathMtuSearch
from resip.core.modern.outbound import BURST, Outbound
from resip.core.modern.paths import CHALLENGE_RESERVE, PathState
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.reliable_sizes import reliable_sizes
from resip.core.modern.sent import SentRun
from resip.core.trace import Trace
from resip.core.trains import HEADER_SIZE

#: Bytes to an address that is not validated below which waiting for more is better.
LEAST_BUDGET = 128
#: Probe timeouts in a row from which on packets have the base size.
SILENT_TIMEOUTS = 2
#: Packets in fragments that leave together. Half as many cost a tenth more.
FRAGMENTED_BURST = 8


class PacketSizing:
    """
    Decides before each burst, and sends the packets whose size is their purpose.

    :ivar mtu: the search for what the path in use takes; each carrier has its own.
    """

    __slots__ = (
        "_controller",
        "_fragments",
        "_introduction",
        "_is_introduction_due",
        "_outbound",
        "_recovery",
        "_trace",
        "mtu",
    )

    def __init__(
        self,
        outbound: Outbound,
        recovery: LossRecovery,
        controller: RateController,
        trace: Trace,
        *,
        is_client: bool,
    ) -> None:
        self._outbound = outbound
        self._recovery = recovery
        self._controller = controller
        self._trace = trace
        self._introduction = Introduction(is_over=not is_client)
        self._is_introduction_due = is_client
        # Most sessions never send any.
        self._fragments: FragmentTrial | None = None
        self.mtu = PathMtuSearch()

    @property
    def is_introduced(self) -> bool:
        """
        Whether a client's server has proof of its address.
        """
        return self._introduction.is_over

    def introduce(self, *, is_reliable: bool) -> None:
        """
        A client uses another path, which a connection proves by itself.
        """
        self._introduction = Introduction(is_over=is_reliable)
        self._outbound.small.introduction = self._introduction
        self._is_introduction_due = True

    def on_ack(self, report: AckReport, *, now: float) -> None:
        """
        Packets were acknowledged or lost.
        """
        if self._fragments is not None:
            if self._has_large(report.acked):
                self._fragments.on_acked()
            if self._has_large(report.lost):
                self._fragments.on_lost(now=now)
        self.mtu.on_ack(report, probe_timeout=self._recovery.base_probe_timeout)

    def on_probe_timeout(self, count: int) -> None:
        """
        ``count`` probe timeouts in a row brought no answer.
        """
        self._is_introduction_due = not self._introduction.is_over
        self.mtu.on_probe_timeout(count - ordinary_timeouts(self._recovery.likely_loss))

    def choose(self, state: PathState, *, now: float) -> None:
        """
        Set the sizes of the next burst, which goes by the path of ``state``.
        """
        outbound = self._outbound
        limit = BURST
        outbound.largest_datagram = None
        if state.path.is_reliable:
            size, limit = reliable_sizes(self._controller.pacing_rate)
            outbound.datagram_size = size
        else:
            is_probing = self._pad(state, now=now)
            size = outbound.datagram_size = self._datagram_size
            if self._may_fragment(now=now) and not is_probing and state.is_validated:
                limit = self._fragment(size)
        self._is_introduction_due = False
        self._trace.size_chosen(size, now=now)
        self._controller.datagram_size = size
        # To an address that is not validated: one packet at a time, within the budget (M-20).
        is_free = state.is_validated
        outbound.burst.limit = limit if is_free else 1
        if not is_free:
            outbound.datagram_size = min(
                outbound.datagram_size, max(LEAST_BUDGET, state.budget) - CHALLENGE_RESERVE
            )

    @property
    def _datagram_size(self) -> int:
        """
        What the path takes; less where answers are missing, lest it takes that no more. What is
        lost with a size that began to vanish looks like a path which loses packets of all sizes.
        """
        is_silent = self._recovery.pto_count >= SILENT_TIMEOUTS
        return min(self.mtu.size, BASE_SIZE) if is_silent else self.mtu.size

    def _has_large(self, runs: Sequence[SentRun]) -> bool:
        return any(run.size > self.mtu.size and not run.is_probe for run in runs)

    def _may_fragment(self, *, now: float) -> bool:
        is_on = self._fragments is None or self._fragments.is_on(now=now)
        return is_on and self._outbound.may_fragment

    def _fragment(self, size: int) -> int:
        """
        Make packets of several datagrams, of ``size`` bytes each; returns how many make a burst.
        """
        outbound, count = self._outbound, count_fragments(size)
        if count == 1:
            return BURST
        outbound.largest_datagram = size
        self._fragments = self._fragments or FragmentTrial()
        count = min(count, self._fragments.count)
        outbound.datagram_size = HEADER_SIZE + count * (size - HEADER_SIZE)
        return FRAGMENTED_BURST

    def _pad(self, state: PathState, *, now: float) -> bool:
        """
        Send what has its size as its purpose; returns whether there was any.
        """
        recovery = self._recovery
        if self._is_introduction_due:
            # A first packet of full size lets the server answer with three times as much.
            self._outbound.introduce(FIRST_INTRODUCTIONS if not recovery.pto_count else 1)
            return True
        if state.is_validated and recovery.in_flight.packets and not recovery.pto_count:
            probe = self.mtu.get_probe(loss=recovery.likely_loss, now=now)
            if probe is not None:
                self._outbound.send_padded(probe.size, probe)
                return True
        return False
