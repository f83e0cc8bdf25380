"""
How large the next packets are, and how many go at a time: what the path takes and may be sent.
"""

from __future__ import annotations

from resip.core.congestion.rate import AckReport, RateController
from resip.core.modern.introduction import FIRST_INTRODUCTIONS, Introduction
from resip.core.modern.loss import ordinary_timeouts
from resip.core.modern.mtu import PathMtuSearch
from resip.core.modern.outbound import BURST, Outbound
from resip.core.modern.paths import CHALLENGE_RESERVE, PathState
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.reliable_sizes import reliable_sizes
from resip.core.trace import Trace

#: Bytes to an address that is not validated below which waiting for more is better.
LEAST_BUDGET = 128


class PacketSizing:
    """
    Decides before each burst, and sends the packets whose size is their purpose.

    :ivar mtu: the search for what the path in use takes; each carrier has its own.
    """

    __slots__ = (
        "_controller",
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

    def on_ack(self, report: AckReport) -> None:
        """
        Packets were acknowledged or lost.
        """
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
        if state.path.is_reliable:
            size, limit = reliable_sizes(self._controller.pacing_rate)
            outbound.datagram_size = size
        else:
            self._pad(state, now=now)
            outbound.datagram_size = self.mtu.size
        self._is_introduction_due = False
        self._trace.size_chosen(outbound.datagram_size, now=now)
        self._controller.datagram_size = outbound.datagram_size
        # To an address that is not validated: one packet at a time, within the budget (M-20).
        is_free = state.is_validated
        outbound.burst.limit = limit if is_free else 1
        if not is_free:
            outbound.datagram_size = min(
                outbound.datagram_size, max(LEAST_BUDGET, state.budget) - CHALLENGE_RESERVE
            )

    def _pad(self, state: PathState, *, now: float) -> None:
        recovery = self._recovery
        if self._is_introduction_due:
            # A first packet of full size lets the server answer with three times as much.
            self._outbound.introduce(FIRST_INTRODUCTIONS if not recovery.pto_count else 1)
        elif state.is_validated and recovery.in_flight.packets and not recovery.pto_count:
            probe = self.mtu.get_probe(loss=recovery.likely_loss, now=now)
            if probe is not None:
                self._outbound.send_padded(probe.size, probe)
