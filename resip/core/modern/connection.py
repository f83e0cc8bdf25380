"""
Everything below the channels of a modern session: packets, keys, ids, paths, loss, pace, size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from resip.core.congestion.rate import RateController
from resip.core.events import Event, PathAnswered
from resip.core.modern.acks import AckState, acknowledged_ranges, threshold_for
from resip.core.modern.delivery_meter import DeliveryMeter
from resip.core.modern.flow_control import SendCredit
from resip.core.modern.frames import PING_FRAME
from resip.core.modern.handshake import SessionSecrets
from resip.core.modern.id_exchange import IdExchange
from resip.core.modern.ids import IdPool, PeerIds
from resip.core.modern.keys import Keys
from resip.core.modern.mtu import PathMtuSearch
from resip.core.modern.outbound import PACKET_OVERHEAD, Outbound
from resip.core.modern.outbox import Outbox
from resip.core.modern.path_memory import PathMemories, PathMemory
from resip.core.modern.path_probes import PathProbes
from resip.core.modern.path_watch import PathWatch
from resip.core.modern.paths import ChosenPath, PathSelector, PathState
from resip.core.modern.readings import readings
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.side_paths import SidePaths
from resip.core.modern.sizing import LEAST_BUDGET, PacketSizing
from resip.core.trace import NULL_TRACE, Trace
from resip.core.trains import count_bytes
from resip.core.types import Path, RandomBytes

#: Packets with CLOSE that a closed session sends at once: nobody will repeat it later (M-61).
LAST_PACKETS = 3


class Connection:
    """
    Opens what arrives and seals what leaves.

    :ivar outbox: control frames to send. :ivar outbound: flows to send.
    :ivar recovery: what is in flight. :ivar last_received_time: of the last authentic packet.
    :ivar ids: what packets begin with. :ivar trace: hears what happens.
    """

    __slots__ = (
        "_chosen",
        "_controller",
        "_keys",
        "_memories",
        "_meter",
        "_selector",
        "_side",
        "_sizing",
        "_watch",
        "acks",
        "ids",
        "last_received_time",
        "outbound",
        "outbox",
        "recovery",
        "trace",
    )

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
        trace: Trace = NULL_TRACE,
    ) -> None:
        self._controller = controller
        self.trace = trace
        self._keys = Keys(secrets, trace)
        self._selector = None if is_client else PathSelector(random_bytes)
        self._chosen = ChosenPath()
        self._watch = PathWatch() if is_client else None
        self._meter = None if self._watch is None else DeliveryMeter(self._watch.events)
        self._memories = PathMemories()
        self.recovery = LossRecovery(controller, is_driving=is_client, trace=trace)
        self.acks = AckState(self._keys.opener.window.ranges)
        self.outbox = Outbox()
        own_ids = IdPool(local_id, allocate=allocate_id, release=release_id, token=id_token)
        peer_ids = PeerIds(peer_id, peer_token)
        self.ids = IdExchange(own_ids, peer_ids, self.outbox, is_client=is_client)
        self.outbound = Outbound(
            self._keys.sealer,
            self.recovery,
            controller,
            self.acks,
            self.outbox,
            peer_id=peer_id,
            session_credit=session_credit,
        )
        self._sizing = PacketSizing(
            self.outbound, self.recovery, controller, trace, is_client=is_client
        )
        self._side = SidePaths(
            self.outbound,
            self.recovery,
            self.acks,
            peer_ids,
            self._selector,
            PathProbes(random_bytes),
            trace,
        )
        self.last_received_time = now

    @property
    def path(self) -> Path | None:
        """
        Where packets go now.
        """
        state = self._current
        return None if state is None else state.path

    @property
    def path_events(self) -> list[Event]:
        """
        What the owner should hear of paths; taken out by the caller.
        """
        return [] if self._watch is None else self._watch.events

    @property
    def _current(self) -> PathState | None:
        return self._chosen.current if self._selector is None else self._selector.current

    # What arrives.

    def open(self, packets: Sequence[bytes], *, now: float) -> list[tuple[int, bytes] | None]:
        """
        Authenticate and decrypt; ``None`` for each packet that is not new and genuine.
        """
        return self._keys.open(packets, now=now)

    def on_dropped(self, *, now: float) -> None:
        """
        Some packets did not open.
        """
        self.trace.packets_dropped(self._keys.opener.drops, now=now)

    def on_received(
        self,
        path: Path,
        *,
        number: int,
        newest: int,
        count: int,
        copies: int,
        size: int,
        now: float,
    ) -> bool:
        """
        ``count`` authentic packets came by ``path``.

        :param number: the highest of their numbers. :param newest: the same without those that
            only probe a path, -1 for none. :param copies: those that brought nothing new.
        :param size: bytes of all of them.
        :return: whether packets go elsewhere from now on.
        """
        self.trace.packets_received(path, count=count, size=size, highest=number, now=now)
        if self._watch is not None and newest >= 0:
            self._watch.on_received(path, count - copies, now=now)
        if self._meter is not None and count > copies:
            news = size if not copies else size * (count - copies) // count
            rtt = self.recovery.rtt.minimum
            self._meter.on_received(path, size=news, count=count - copies, rtt=rtt, now=now)
        self.acks.threshold = threshold_for(size // count, is_reliable=path.is_reliable)
        self.last_received_time = now
        self.recovery.on_heard(loss=self.acks.loss)
        if self.acks.is_waiting and not self._sizing.is_introduced:
            self.outbox.say_once(PING_FRAME)
        self._keys.on_received(probe_timeout=self.recovery.base_probe_timeout, now=now)
        if self._selector is None:
            return False
        before = self.path
        has_changed = self._selector.on_received(
            path, number=newest, size=size, probe_timeout=self.recovery.base_probe_timeout, now=now
        )
        if has_changed:
            self._path_changed(before, now=now)
        return has_changed

    def on_ack(
        self,
        largest_low32: int,
        delay: float,
        counts: tuple[int, ...],
        arrived_at: float | None,
        *,
        now: float,
    ) -> None:
        """
        An ACK frame.
        """
        ranges = acknowledged_ranges(largest_low32, counts, next_number=self.recovery.next_number)
        report = self.recovery.on_ack(ranges[0][1], delay, ranges, arrived_at=arrived_at, now=now)
        self._keys.sealer.on_acked(ranges[0][1])
        if self._current is not None:
            self._current.on_acked(ranges)
        if self._watch is not None and report.acked:
            is_owed = self.recovery.in_flight.packets > 0
            self._watch.on_acked(report.acked[-1].end - 1, is_answer_owed=is_owed, now=now)
        if self._meter is not None and report.acked:
            has_more, rtt = self.outbound.has_more, self.recovery.rtt.minimum
            self._meter.on_acked(report.acked, has_more=has_more, rtt=rtt, now=now)
        self._sizing.on_ack(report, now=now)
        self.trace.metrics_updated(partial(readings, self.recovery, self._controller), now=now)

    def on_challenge(self, data: bytes, path: Path) -> None:
        """
        A PATH_CHALLENGE: answer where it came from.
        """
        self._side.on_challenge(data, path)

    def on_response(self, data: bytes, *, now: float) -> bool:
        """
        A PATH_RESPONSE; returns whether packets go elsewhere from now on.
        """
        if self._selector is None:
            path = self._side.probes.on_response(data)
            if path is not None and self._watch is not None:
                self._watch.events.append(PathAnswered(path))
            return False
        before = self.path
        has_changed = self._selector.on_response(data, now=now)
        if has_changed:
            self._path_changed(before, now=now)
        return has_changed

    # What leaves.

    def packets_to_send(self, *, now: float) -> list[tuple[Path, Sequence[bytes]]]:
        """
        Packets for the path in use.
        """
        state = self._current
        if state is None:
            return []
        self._keys.update(now=now)
        self._sizing.choose(state, now=now)
        if state.budget < LEAST_BUDGET:
            return []
        first = self.recovery.next_number
        has_acks = self.acks.is_waiting
        packets = self.outbound.packets_to_send(now=now)
        if not packets:
            return []
        count, size = self.recovery.next_number - first, count_bytes(packets)
        self.trace.packets_sent(state.path, count=count, size=size, first=first, now=now)
        state.on_sent(size, number=first, count=count)
        if self._watch is not None:
            self._watch.on_sent(is_answer_owed=self.recovery.in_flight.packets > 0, now=now)
        early = self._side.early_acks(now=now) if has_acks else []
        return [*early, (state.path, packets)]

    def probes_to_send(self, *, now: float) -> list[tuple[Path, Sequence[bytes]]]:
        """
        Packets for other paths.
        """
        self.ids.say_retired()
        return self._side.packets_to_send(now=now)

    def get_timer(self) -> float | None:
        """
        When anything is due.
        """
        times = [self.recovery.get_timer(), self._keys.discard_time, self._side.get_timer()]
        if self._watch is not None:
            probe_timeout, rtt = self.recovery.base_probe_timeout, self.recovery.rtt.smoothed
            times.append(self._watch.get_timer(probe_timeout=probe_timeout, rtt=rtt))
        state = self._current
        if state is not None and state.budget >= LEAST_BUDGET:
            times += [self.acks.due_time, self.outbound.pacing_time, self.outbound.copy_time]
        return min([time for time in times if time is not None], default=None)

    def handle_timer(self, *, now: float) -> bool:
        """
        Act on passed deadlines; returns whether the peer missed one.
        """
        if self._selector is not None:
            before = self.path
            if self._selector.handle_timer(now=now):
                self._path_changed(before, now=now)
        probe_timeout, rtt = self.recovery.base_probe_timeout, self.recovery.rtt.smoothed
        if self._watch is not None and self._watch.handle_timer(
            probe_timeout=probe_timeout, rtt=rtt, now=now
        ):
            self.outbox.say_once(PING_FRAME)
        self._keys.handle_timer(now=now)
        probes = self.recovery.handle_timer(now=now)
        if probes:
            count = self.recovery.pto_count
            self.trace.probe_timeout_expired(count=count, probes=probes, now=now)
            self.outbound.probe(probes)
            self._sizing.on_probe_timeout(count)
        return probes > 0

    def use_path(self, path: Path, *, now: float) -> bool:
        """
        The client's carriers say where to send; returns whether that is elsewhere.
        """
        before = self.path
        if not self._chosen.use(path):
            return False
        self._path_changed(before, now=now)
        self._sizing.introduce(is_reliable=path.is_reliable)
        return True

    def probe_path(self, path: Path, *, now: float) -> None:
        """
        Ask whether the server answers by a path that is not in use.
        """
        if path != self.path:
            self._side.probes.ask(path, probe_timeout=self.recovery.base_probe_timeout, now=now)

    def preamble(self, path: Path) -> bytes:
        """
        What a connection begins with (M-47).
        """
        return self.ids.peer.id_for(path).to_bytes(4)

    def renew_id(self) -> None:
        """
        The network may be another one: nobody there should know the id (M-38).
        """
        path = self.path
        if path is not None and not path.is_reliable and self.ids.peer.spares:
            self.ids.peer.release(path)
            self.outbound.peer_id = self.ids.peer.use(path)

    def path_closed(self, path: Path, *, now: float) -> bool:
        """
        A carrier is gone; returns whether packets go elsewhere, or nowhere, from now on.
        """
        self._side.probes.forget(path)
        self.ids.peer.release(path)
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
        return self._keys.generation

    def request_key_update(self) -> None:
        """
        Use the next key as soon as that is allowed (M-15).
        """
        self._keys.request_update()

    @property
    def is_at_rest(self) -> bool:
        """
        Whether there is nothing to put away.
        """
        return not self._keys.has_ciphers

    def rest(self) -> None:
        """
        Put away what the next packet builds again: the ciphers, and room for more.
        """
        self._keys.park()
        self.acks.rest()
        self.outbox.rest()
        self.outbound.rest()

    def close(self) -> tuple[int, ...]:
        """
        Release what others keep for this session; returns the ids under which it received.
        """
        return self.ids.close()

    def seal_last(self, frame: bytes, *, now: float) -> list[tuple[Path, Sequence[bytes]]]:
        """
        Packets with ``frame`` after which none follows (M-61).
        """
        state = self._current
        if state is None:
            return []
        count = min(LAST_PACKETS, state.budget // (len(frame) + PACKET_OVERHEAD))
        if not count:
            return []
        packets = [self.outbound.seal_alone(frame, now=now) for _ in range(count)]
        return [(state.path, packets)]

    def _path_changed(self, before: Path | None, *, now: float) -> None:
        path = self.path
        self.outbound.start_path(is_reliable=path is not None and path.is_reliable)
        is_known = before is not None and path is not None and before.carrier == path.carrier
        self.trace.path_updated(path, is_known=is_known, now=now)
        memory = self._memories.change(
            before,
            PathMemory(self.recovery.remember(), self._sizing.mtu),
            path,
            is_working=self.recovery.pto_count == 0,
            now=now,
        )
        self._sizing.mtu = PathMtuSearch() if memory is None else memory.mtu
        self.recovery.on_path_changed(
            is_known=is_known,
            is_reliable=self.outbound.is_reliable,
            measured=None if memory is None else memory.measured,
            now=now,
        )
        if self._watch is not None:
            self._watch.on_path_changed(path, next_number=self.recovery.next_number)
        if self._meter is not None:
            self._meter.on_path_changed(path, now=now)
        if path is None:
            return
        self._side.probes.forget(path)
        self.outbound.peer_id = self.ids.peer.use(path)
        if before is not None:
            self.outbox.say_once(PING_FRAME)
            if self._watch is not None:
                self.acks.on_path_changed(now=now)
