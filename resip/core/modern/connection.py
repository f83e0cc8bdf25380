"""
Everything below the channels of a modern session: packets, keys, ids, paths, loss, pace, size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from resip.core.congestion.rate import RateController
from resip.core.modern.acks import AckState, acknowledged_ranges
from resip.core.modern.flow_control import SendCredit
from resip.core.modern.frames import (
    PING_FRAME,
    new_id_frame,
    path_challenge_frame,
    path_response_frame,
    retire_id_frame,
)
from resip.core.modern.handshake import SessionSecrets
from resip.core.modern.ids import IdPool, IssuedId, PeerIds
from resip.core.modern.mtu import PathMtuSearch
from resip.core.modern.outbound import BASE_DATAGRAM_SIZE, BURST, PACKET_OVERHEAD, Outbound
from resip.core.modern.outbox import Outbox
from resip.core.modern.paths import ChosenPath, PathSelector, PathState
from resip.core.modern.protection import Opener, Sealer
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.reset import is_reset
from resip.core.types import Path, RandomBytes

#: Bytes of a packet on a carrier that repeats what is lost: fewer seals for the same data.
RELIABLE_DATAGRAM_SIZE = 16_384
#: docs/protocol.md M-16: probe timeouts for which the key of the phase before is kept.
KEY_RETENTION = 3
#: Chance below which silence counts as a sign that large packets vanish.
UNLIKELY = 1e-4
#: Bytes to an address that is not validated below which waiting for more is better.
LEAST_BUDGET = 128
#: Bytes of that kept back for the next challenge.
CHALLENGE_RESERVE = 48
#: Answers to challenges that wait for the next packets; each was asked for by one packet.
MAX_PATH_RESPONSES = 8


class Connection:
    """
    Opens what arrives and seals what leaves.

    :ivar outbox: control frames to send. :ivar outbound: flows to send.
    :ivar recovery: what is in flight. :ivar last_received_time: of the last authentic packet.
    """

    def __init__(
        self,
        secrets: SessionSecrets,
        controller: RateController,
        *,
        is_client: bool,
        local_id: int,
        peer_id: int,
        peer_token: bytes | None,
        session_credit: SendCredit,
        random_bytes: RandomBytes,
        allocate_id: Callable[[], int],
        release_id: Callable[[int], None],
        id_token: Callable[[int], bytes],
        now: float,
    ) -> None:
        self._controller = controller
        self._opener = Opener(secrets.cipher, secrets.receive)
        self._sealer = Sealer(secrets.cipher, secrets.send)
        self._random_bytes = random_bytes
        self._ids = IdPool(local_id, allocate=allocate_id, release=release_id, token=id_token)
        self._peer_ids = PeerIds(peer_id, peer_token)
        self._mtu = PathMtuSearch()
        self._selector = None if is_client else PathSelector(random_bytes)
        self._chosen = ChosenPath()
        self._responses: list[tuple[Path, bytes]] = []
        self._key_discard_time: float | None = None
        self._has_old_key = False
        self._wants_key_update = False
        self._is_unanswered = is_client
        self._wants_introduction = is_client
        self.recovery = LossRecovery(controller)
        self.acks = AckState(self._opener.window.ranges)
        self.outbox = Outbox()
        self.outbound = Outbound(
            self._sealer,
            self.recovery,
            controller,
            self.acks,
            self.outbox,
            peer_id=peer_id,
            session_credit=session_credit,
        )
        self.last_received_time = now
        self._provide_ids()

    @property
    def path(self) -> Path | None:
        """
        Where packets go now.
        """
        state = self._current
        return None if state is None else state.path

    @property
    def _current(self) -> PathState | None:
        return self._chosen.current if self._selector is None else self._selector.current

    # What arrives.

    def open(self, packets: Sequence[bytes]) -> list[tuple[int, bytes] | None]:
        """
        Authenticate and decrypt; ``None`` for each packet that is not new and genuine.
        """
        generation = self._opener.generation
        opened = self._opener.open(packets)
        if self._opener.generation != generation:
            self._sealer.follow(self._opener.generation)
            self._key_discard_time = None
            self._has_old_key = True
        return opened

    def is_reset(self, packet: bytes) -> bool:
        """
        Whether a packet that did not open says that the peer has lost the session (M-42).
        """
        return is_reset(packet, self._peer_ids.tokens)

    def on_received(self, path: Path, *, number: int, size: int, now: float) -> bool:
        """
        Authentic packets came by ``path``.

        :param number: the highest of their numbers. :param size: bytes of all of them.
        :return: whether packets go elsewhere from now on.
        """
        self.last_received_time = now
        self._is_unanswered = False
        if self._has_old_key and self._key_discard_time is None:
            self._key_discard_time = now + KEY_RETENTION * self.recovery.base_probe_timeout
        if self._selector is None:
            return False
        before = self.path
        has_changed = self._selector.on_received(
            path, number=number, size=size, probe_timeout=self.recovery.base_probe_timeout, now=now
        )
        if has_changed:
            self._path_changed(before, now=now)
        return has_changed

    def on_ack(
        self, largest_low32: int, delay: float, counts: tuple[int, ...], *, now: float
    ) -> None:
        """
        An ACK frame.
        """
        ranges = acknowledged_ranges(largest_low32, counts, next_number=self.recovery.next_number)
        report = self.recovery.on_ack(ranges[0][1], delay, ranges, now=now)
        self._sealer.on_acked(ranges[0][1])
        if self._current is not None:
            self._current.on_acked(ranges[0][1])
        self._mtu.on_ack(report, probe_timeout=self.recovery.base_probe_timeout)

    def on_challenge(self, data: bytes, path: Path) -> None:
        """
        A PATH_CHALLENGE: answer where it came from.
        """
        if len(self._responses) < MAX_PATH_RESPONSES:
            self._responses.append((path, path_response_frame(data)))

    def on_response(self, data: bytes, *, now: float) -> bool:
        """
        A PATH_RESPONSE; returns whether packets go elsewhere from now on.
        """
        if self._selector is None:
            return False
        before = self.path
        has_changed = self._selector.on_response(data, now=now)
        if has_changed:
            self._path_changed(before, now=now)
        return has_changed

    def on_new_id(self, issued: IssuedId) -> None:
        """
        A NEW_ID frame.
        """
        self._peer_ids.add(issued)

    def on_retire_id(self, sequence: int) -> None:
        """
        A RETIRE_ID frame.
        """
        self._ids.on_retired(sequence)
        self._provide_ids()

    # What leaves.

    def packets_to_send(self, *, now: float) -> list[tuple[Path, list[bytes]]]:
        """
        Packets for each path.
        """
        batches = self._path_packets(now=now)
        state = self._current
        if state is None:
            return batches
        self._update_key()
        self._size_packets(state, now=now)
        if state.budget < LEAST_BUDGET:
            return batches
        first = self.recovery.next_number
        packets = self.outbound.packets_to_send(now=now)
        if packets:
            state.on_sent(sum(map(len, packets)), number=first)
            batches.append((state.path, packets))
        return batches

    def get_timer(self) -> float | None:
        """
        When anything is due.
        """
        times = [self.recovery.get_timer(), self._key_discard_time]
        if self._selector is not None:
            times.append(self._selector.get_timer())
        state = self._current
        if state is not None and state.budget >= LEAST_BUDGET:
            times += [self.acks.due_time, self.outbound.pacing_time, self.outbound.copy_time]
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, *, now: float) -> bool:
        """
        Act on passed deadlines; returns whether the peer missed one.
        """
        if self._selector is not None:
            self._selector.handle_timer(now=now)
        if self._key_discard_time is not None and now >= self._key_discard_time:
            self._opener.drop_previous_key()
            self._has_old_key = False
            self._key_discard_time = None
        probes = self.recovery.handle_timer(now=now)
        if probes:
            self.outbound.probe(probes)
            self._wants_introduction = self._is_unanswered
            self._mtu.on_probe_timeout(self.recovery.pto_count - self._ordinary_timeouts())
        return probes > 0

    def use_path(self, path: Path, *, now: float) -> bool:
        """
        The client's carriers say where to send; returns whether that is elsewhere.
        """
        before = self.path
        if not self._chosen.use(path):
            return False
        self._path_changed(before, now=now)
        self._is_unanswered = self._wants_introduction = True
        return True

    def path_closed(self, path: Path, *, now: float) -> bool:
        """
        A carrier is gone; returns whether packets go elsewhere, or nowhere, from now on.
        """
        paths = self._chosen if self._selector is None else self._selector
        if not paths.path_closed(path):
            return False
        self._path_changed(path, now=now)
        return True

    def probe_now(self, *, now: float) -> None:
        """
        Something changed outside: ask at once.
        """
        self.outbound.probe(self.recovery.probe_now(now=now))

    @property
    def key_generation(self) -> int:
        """
        How often the keys of what is sent were replaced.
        """
        return self._sealer.generation

    def request_key_update(self) -> None:
        """
        Use the next key as soon as that is allowed (M-15).
        """
        self._wants_key_update = True

    def _update_key(self) -> None:
        sealer = self._sealer
        if sealer.wants_key_update or (self._wants_key_update and sealer.can_update_key):
            sealer.start_key_update()
            self._wants_key_update = False

    def close(self) -> None:
        """
        Release what others keep for this session.
        """
        self._ids.close()

    def seal_last(self, frame: bytes, *, now: float) -> list[tuple[Path, list[bytes]]]:
        """
        One packet with ``frame`` after which none follows.
        """
        state = self._current
        if state is None or state.budget < len(frame) + PACKET_OVERHEAD:
            return []
        return [(state.path, [self.outbound.seal_alone(frame, now=now)])]

    def _path_packets(self, *, now: float) -> list[tuple[Path, list[bytes]]]:
        batches = []
        if self._selector is not None:
            for state, challenge in self._selector.get_challenges(now=now):
                number = self.recovery.next_number
                packet = self.outbound.seal_alone(path_challenge_frame(challenge), now=now)
                if state.budget >= len(packet):
                    state.on_sent(len(packet), number=number)
                    batches.append((state.path, [packet]))
        for path, frame in self._responses:
            told = None if self._selector is None else self._selector.get(path)
            if told is not None:
                if told.budget < len(frame) + PACKET_OVERHEAD:
                    continue
                told.on_sent(len(frame) + PACKET_OVERHEAD, number=self.recovery.next_number)
            batches.append((path, [self.outbound.seal_alone(frame, now=now)]))
        self._responses.clear()
        return batches

    def _size_packets(self, state: PathState, *, now: float) -> None:
        if state.path.is_reliable:
            self.outbound.datagram_size = RELIABLE_DATAGRAM_SIZE
        else:
            if self._wants_introduction:
                # A first packet of full size lets the server answer with three times as much.
                self.outbound.introduce(BASE_DATAGRAM_SIZE)
            elif (
                state.is_validated
                and self.recovery.in_flight.packets
                and not self.recovery.pto_count
            ):
                probe = self._mtu.get_probe(now=now)
                if probe is not None:
                    self.outbound.send_padded(probe, probe.size)
            self.outbound.datagram_size = self._mtu.size
        self._wants_introduction = False
        self._controller.datagram_size = self.outbound.datagram_size
        # To an address that is not validated: one packet at a time, within the budget (M-20).
        is_free = state.is_validated
        self.outbound.packet_limit = BURST if is_free else 1
        if not is_free:
            self.outbound.datagram_size = min(
                self.outbound.datagram_size, max(LEAST_BUDGET, state.budget) - CHALLENGE_RESERVE
            )

    def _path_changed(self, before: Path | None, *, now: float) -> None:
        path = self.path
        self.outbound.is_reliable = path is not None and path.is_reliable
        is_known = before is not None and path is not None and before.carrier == path.carrier
        self.recovery.on_path_changed(
            is_known=is_known, is_reliable=self.outbound.is_reliable, now=now
        )
        self._mtu = PathMtuSearch()
        if before is None or path is None:
            return
        retired = self._peer_ids.switch()
        if retired is not None:
            self.outbound.peer_id = self._peer_ids.current
            self.outbox.say(retire_id_frame(retired))
        self.outbox.say_once(PING_FRAME)

    def _ordinary_timeouts(self) -> int:
        """
        How many probe timeouts in a row the measured loss explains, in both directions.
        """
        loss = min(self.recovery.loss.rate, 0.95)
        is_unanswered = 1 - (1 - loss) ** 2
        silence = is_unanswered ** math.ceil(2 / (1 - loss))
        return int(math.log(UNLIKELY) / math.log(silence)) if silence > UNLIKELY else 0

    def _provide_ids(self) -> None:
        for issued in self._ids.replenish():
            self.outbox.say(new_id_frame(issued.sequence, issued.session_id, issued.token))
