"""
Two modern sessions, several simulated carriers between them, and a choice among these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from resip.core.events import Event, PathAnswered, PathChanged, PathDelivered, PathSilent
from resip.core.session import Session
from resip.core.types import Path, Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender
from resip.lab.link import LinkConditions, LinkModel
from resip.lab.pair import CLIENT_HOST, FIRST_CLIENT_PORT, SERVER_ADDRESS, Host
from resip.lab.simulator import Simulator
from resip.services.choice import CarrierChoice
from resip.services.path_actions import ProbePath, RenewKind, StartKind, UsePath
from tests.support.modern import agree, make_session

TARGET = Target(Protocol.TCP, "server.example", 80)
#: More than arrives in any test.
ENDLESS = 1_000_000_000
#: A connection drops nothing: what does not fit waits.
ENDLESS_QUEUE = 1_000_000
#: Seconds of data that wait in a connection before it takes no more.
FULL = 0.02
#: Less than so many seconds more is nothing: the clock may not be able to tell the difference.
ROUNDING = 1e-6
#: Seconds until a dial that was not answered is repeated.
REDIAL = 1.0


class SimulatedCarrier:
    """
    One kind of carrier, with a link for each direction.

    A connection is a path that opens after a round trip. While the carrier is down it stays as it
    is and carries nothing, as behind a firewall that begins to drop.

    :ivar is_down: it loses everything.
    """

    def __init__(self, name: str, port: int, conditions: LinkConditions, seed: int) -> None:
        is_reliable = name != "udp"
        if is_reliable:
            conditions = replace(conditions, loss=0.0, queue_limit=ENDLESS_QUEUE, mtu=None)
        self.server_path = Path(name, SERVER_ADDRESS, is_reliable=is_reliable)
        self.client_path = Path(name, (CLIENT_HOST, port), is_reliable=is_reliable)
        self.up = LinkModel(conditions, seed)
        self.down = LinkModel(conditions, seed + 1)
        self.delay = conditions.delay
        self.is_down = False
        self.dial_number = 0


class _Gated:
    """
    A session that is not asked for packets while its connection is full, as by a driver.

    :param get_wait: seconds until a path takes more.
    """

    def __init__(
        self, session: Session, get_wait: Callable[[Path | None], float], now: Callable[[], float]
    ) -> None:
        self._session = session
        self._get_wait = get_wait
        self._now = now

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def datagrams_to_send(self, *, now: float) -> Sequence[tuple[Path, Sequence[bytes]]]:
        """
        Nothing while the connection is full.
        """
        is_full = self._get_wait(self._session.path) > 0
        return [] if is_full else self._session.datagrams_to_send(now=now)

    def get_timer(self) -> float | None:
        """
        Not before there is room.
        """
        timer = self._session.get_timer()
        if timer is None:
            return None
        return max(timer, self._now() + self._get_wait(self._session.path))


class CarrierNetwork:
    """
    A client that chooses among carriers, and its server.

    :param conditions: of each carrier, in the order of preference; ``udp`` is the only one that
        is no connection.
    :param head_starts: of each carrier.
    :ivar carriers: by name. :ivar used: when which carrier came into use.
    :ivar probed: when which carrier was probed.
    """

    def __init__(
        self,
        conditions: Mapping[str, LinkConditions],
        *,
        head_starts: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0),
        seed: int = 1,
    ) -> None:
        self.simulator = Simulator()
        self.carriers = {
            name: SimulatedCarrier(name, FIRST_CLIENT_PORT + index, each, seed + 10 * index)
            for index, (name, each) in enumerate(conditions.items())
        }
        self._names = list(conditions)
        self.used: list[tuple[float, str]] = []
        self.probed: list[tuple[float, str]] = []
        client, server = agree(seed)
        make_host = partial(
            Host, simulator=self.simulator, count_step=lambda: None, keeps_events=True
        )
        self.client = make_host(
            self._gate(make_session(client, seed=seed, now=self.now), is_up=True),
            send=partial(self._send, is_up=True),
        )
        self.server = make_host(
            self._gate(make_session(server, seed=seed + 1, now=self.now), is_up=False),
            send=partial(self._send, is_up=False),
        )
        self.client.attach(self)
        self.choice = CarrierChoice(head_starts[: len(self.carriers)], can_probe=True, now=self.now)
        self._act()

    @property
    def now(self) -> float:
        """
        The virtual time.
        """
        return self.simulator.now

    @property
    def in_use(self) -> str:
        """
        The carrier that the client sends by.
        """
        path = self.client.session.path
        return "" if path is None else path.carrier

    def run_for(self, seconds: float) -> None:
        """
        Let that much virtual time pass.
        """
        self.client.flush()
        self.server.flush()
        self.simulator.run_until(self.now + seconds)

    def on_event(self, host: Host, event: Event, *, now: float) -> None:
        """
        Hand on what the client's session says of paths.
        """
        match event:
            case PathAnswered(path):
                self.choice.path_answered(path, now=now)
            case PathSilent(path):
                self.choice.path_silent(path, now=now)
            case PathDelivered():
                self.choice.path_delivered(event, now=now)
            case PathChanged(path) if path is not None:
                self.used.append((now, path.carrier))
        self._act()

    def cut(self, name: str) -> None:
        """
        A connection is reset; it is dialled again.
        """
        self._lose(name)
        self._dial(name)
        self.client.flush()

    def retry(self) -> None:
        """
        What a user's signal does.
        """
        self.client.session.retry(now=self.now)
        self.choice.retry(now=self.now)
        self._act()
        self.client.flush()

    def _gate(self, session: Session, *, is_up: bool) -> Session:
        def get_wait(path: Path | None) -> float:
            if path is None or not path.is_reliable:
                return 0.0
            carrier = self.carriers[path.carrier]
            link = carrier.up if is_up else carrier.down
            waiting = link.get_queue_delay(now=self.now)
            return waiting - FULL if waiting > FULL + ROUNDING else 0.0

        return cast(Session, _Gated(session, get_wait, lambda: self.now))

    def _act(self) -> None:
        for action in self.choice.take_actions():
            match action:
                case StartKind(kind):
                    self._dial(self._names[kind])
                case RenewKind(kind):
                    self._lose(self._names[kind])
                    self._dial(self._names[kind])
                case ProbePath(path):
                    self.probed.append((self.now, path.carrier))
                    self.client.session.probe_path(path, now=self.now)
                case UsePath(path):
                    self.client.session.use_path(path, now=self.now)
        timer = self.choice.get_timer()
        if timer is not None:
            self.simulator.call_at(max(timer, self.now), self._on_timer)

    def _on_timer(self) -> None:
        timer = self.choice.get_timer()
        if timer is not None and timer <= self.now:
            self.choice.handle_timer(now=self.now)
            self._act()
            self.client.flush()

    def _lose(self, name: str) -> None:
        carrier = self.carriers[name]
        carrier.dial_number += 1
        self.client.session.path_closed(carrier.server_path, now=self.now)
        self.server.session.path_closed(carrier.client_path, now=self.now)
        self.choice.path_closed(carrier.server_path, now=self.now)
        self._act()

    def _dial(self, name: str) -> None:
        carrier = self.carriers[name]
        carrier.dial_number += 1
        if carrier.server_path.is_reliable:
            after = self.now + 2 * carrier.delay
            self.simulator.call_at(after, partial(self._dialled, name, carrier.dial_number))
        else:
            self._dialled(name, carrier.dial_number)

    def _dialled(self, name: str, number: int) -> None:
        carrier = self.carriers[name]
        if number != carrier.dial_number:
            return
        if carrier.is_down and carrier.server_path.is_reliable:
            self.simulator.call_at(self.now + REDIAL, partial(self._dialled, name, number))
            return
        self.choice.path_open(self._names.index(name), carrier.server_path, now=self.now)
        self._act()
        self.client.flush()

    def _send(self, path: Path, data: bytes, *, is_up: bool) -> None:
        carrier = self.carriers[path.carrier]
        if carrier.is_down:
            return
        link, host = (carrier.up, self.server) if is_up else (carrier.down, self.client)
        came_by = carrier.client_path if is_up else carrier.server_path
        for at, packet in link.transmit(data, now=self.now):
            self.simulator.call_at(at, partial(host.receive, packet, came_by))


def start_bulk(network: CarrierNetwork, *, is_download: bool = False) -> BulkReceiver:
    """
    A transfer that goes on for ever, opened by its sender.
    """
    source, sink = network.client, network.server
    if is_download:
        source, sink = sink, source
        network.run_for(0.2)  # the server has to know where its client is
    receiver = BulkReceiver(TARGET, size=ENDLESS)
    receiver.serve(sink)
    BulkSender(TARGET, size=ENDLESS).start(source)
    return receiver
