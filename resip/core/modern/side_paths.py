"""
What goes by paths that are not in use: questions, answers, early acknowledgements.
"""

from __future__ import annotations

from collections.abc import Sequence

from resip.core.modern.acks import AckState
from resip.core.modern.frames import path_challenge_frame, path_response_frame
from resip.core.modern.ids import PeerIds
from resip.core.modern.outbound import PACKET_OVERHEAD, Outbound
from resip.core.modern.path_probes import PathProbes
from resip.core.modern.paths import CHALLENGE_RESERVE, PathSelector, PathState
from resip.core.modern.recovery import LossRecovery
from resip.core.trace import Trace
from resip.core.types import Path

#: Answers to challenges that wait for the next packets; each was asked for by one packet.
MAX_PATH_RESPONSES = 8

Batches = list[tuple[Path, Sequence[bytes]]]


class SidePaths:
    """
    Builds these packets. None of them asks for an acknowledgement, so that a path which loses
    them all delays nothing (M-22).

    :param selector: the server's paths, ``None`` at the client, which owes nobody proofs.
    """

    __slots__ = (
        "_acks",
        "_outbound",
        "_peer_ids",
        "_recovery",
        "_responses",
        "_selector",
        "_trace",
        "probes",
    )

    def __init__(
        self,
        outbound: Outbound,
        recovery: LossRecovery,
        acks: AckState,
        peer_ids: PeerIds,
        selector: PathSelector | None,
        probes: PathProbes,
        trace: Trace,
    ) -> None:
        self._outbound = outbound
        self._recovery = recovery
        self._acks = acks
        self._peer_ids = peer_ids
        self._selector = selector
        self._trace = trace
        self._responses: list[tuple[Path, bytes]] = []
        self.probes = probes

    def on_challenge(self, data: bytes, path: Path) -> None:
        """
        A PATH_CHALLENGE: answer where it came from.
        """
        if len(self._responses) < MAX_PATH_RESPONSES:
            self._responses.append((path, data))

    def packets_to_send(self, *, now: float) -> Batches:
        """
        Questions and answers, one packet each.
        """
        batches: Batches = []
        for path, challenge in self.probes.get_challenges(now=now):
            self._add(batches, path, path_challenge_frame(challenge), now=now)
        if self._selector is not None:
            for state, challenge in self._selector.get_challenges(now=now):
                self._add(batches, state.path, path_challenge_frame(challenge), state, now=now)
        for path, data in self._responses:
            told = None if self._selector is None else self._selector.get(path)
            self._add(batches, path, path_response_frame(data), told, now=now)
        self._responses.clear()
        return batches

    def early_acks(self, *, now: float) -> Batches:
        """
        What was just acknowledged on the path in use, for the path of the newest packets, which
        is not validated yet. The one in use is probably dead; an upload must not wait for that.
        """
        state = None if self._selector is None else self._selector.pending
        if state is None:
            return []
        frame = b"".join(self._acks.repeat(now=now)[:1])
        # Challenges come first.
        if not frame or state.budget < len(frame) + PACKET_OVERHEAD + CHALLENGE_RESERVE:
            return []
        batches: Batches = []
        self._add(batches, state.path, frame, state, now=now)
        return batches

    def get_timer(self) -> float | None:
        """
        When a question is due.
        """
        times = [self.probes.get_timer()]
        if self._selector is not None:
            times.append(self._selector.get_timer())
        return min([time for time in times if time is not None], default=None)

    def _add(
        self,
        batches: Batches,
        path: Path,
        frame: bytes,
        state: PathState | None = None,
        *,
        now: float,
    ) -> None:
        size = len(frame) + PACKET_OVERHEAD
        if state is not None and state.budget < size:
            return
        number = self._recovery.next_number
        packet = self._outbound.seal_alone(frame, peer_id=self._peer_ids.id_for(path), now=now)
        self._trace.packets_sent(path, count=1, size=len(packet), first=number, now=now)
        if state is not None:
            state.on_sent(size, number=number)
        batches.append((path, [packet]))
