"""
A random life of two sessions, by seed: whatever programs and networks do to them, both sides keep
what a tunnel promises.

A life has programs that open channels, write, end, reset and read late, and networks that lose,
delay, repeat, narrow, fall silent for hours, change addresses, and cut connections. Each event is
checked when it comes. In the end the network is a common one again, and then all bytes of all
channels that nobody reset must be there, all channels closed, and nothing kept for anybody.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from resip.core.session import Session
from resip.core.types import Path, Protocol, Target
from resip.lab.link import LinkConditions, LinkModel
from resip.lab.pair import CLIENT_HOST, SERVER_ADDRESS, Host
from resip.lab.simulator import Simulator
from tests.support.parties import Party

#: Deeds of a life, and channels that a side has opened at once.
DEEDS = 120
MOST_CHANNELS = 12
#: The most bytes of a write, of one in a hundred each; most are small.
WRITES = 30 * [1] + 40 * [200] + 20 * [5_000] + 8 * [60_000] + 2 * [400_000]
#: A network within one room, and how a program uses it: bytes of a write, writes, seconds between.
QUICK = LinkConditions(delay=0.0003, mtu=1500)
QUICK_WRITE, QUICK_WRITES, QUICK_PAUSE = 250_000, 30, 0.004
#: Virtual seconds in which everything is to be delivered when the network is a common one again.
PATIENCE = 120.0
#: Those after which nothing is going on any more.
REST = 60.0
#: Packets, events and timers at one instant.
MOST_STEPS = 20_000
#: How long a network may carry nothing, at most, seconds.
OUTAGES = (0.2, 3.0, 60.0, 600.0, 6 * 3600.0)


@dataclass
class Way:
    """
    One way between the two: an address of the client with UDP, or a connection.

    :ivar to_server: as the client sees it. :ivar to_client: as the server does.
    """

    to_server: Path
    to_client: Path
    up: LinkModel
    down: LinkModel
    is_open: bool = True


class Life(ABC):
    """
    Two sessions, their programs, and the networks between them.

    :param log: is told what happens, line by line.
    """

    #: Where targets are.
    host = "host.example"
    #: Path MTUs of the networks.
    mtus: tuple[int | None, ...] = (None, 576, 1280, 1500, 9000)

    def __init__(self, seed: int, *, log: Callable[[str], None] = lambda line: None) -> None:
        self._seed = seed
        self._log = log
        self.dice = random.Random(seed)
        self.simulator = Simulator()
        self._ways: list[Way] = []
        #: Packets that are handed over together: for whom, by which path, with which id.
        self._batches: dict[tuple[str, Path, bytes], list[bytes]] = {}
        self._instant = 0.0
        self._steps = 0
        self.client, self.server = Party("client", self), Party("server", self)
        self.client.peer, self.server.peer = self.server, self.client
        sessions = self.make_sessions(seed, now=self.simulator.now)
        sends = (self._send_up, self._send_down)
        for session, send, party in zip(sessions, sends, self.parties, strict=True):
            party.host = Host(
                session,
                self.simulator,
                send=send,
                count_step=self._count_step,
                keeps_events=False,
            )
            party.host.attach(party)
        self._ports = 40_000
        self._udp = self._add_way(Path("udp", SERVER_ADDRESS), self._conditions())
        self._use(self._udp)

    @property
    def parties(self) -> tuple[Party, Party]:
        """
        The client's programs, and the server's.
        """
        return self.client, self.server

    @property
    def openers(self) -> Sequence[Party]:
        """
        Who may open channels, each as likely as it is often here.
        """
        return (self.client,)

    @abstractmethod
    def make_sessions(self, seed: int, *, now: float) -> tuple[Session, Session]:
        """
        A client's session and the server's.
        """

    @abstractmethod
    def check_rest(self) -> None:
        """
        What the sessions themselves say is over, too.
        """

    def __str__(self) -> str:
        """
        What repeats this life.
        """
        return f"seed {self._seed}, at {self.simulator.now:.3f}"

    def _count_step(self) -> None:
        now = self.simulator.now
        self._steps = self._steps + 1 if now == self._instant else 0
        self._instant = now
        assert self._steps < MOST_STEPS, f"the two chase each other at one instant ({self})"

    def note(self, line: str) -> None:
        """
        Something happened.
        """
        self._log(f"{self.simulator.now:.4f} {line}")

    def live(self) -> None:
        """
        All of it, and the end.
        """
        deeds, weights = zip(*self.deeds(), strict=True)
        for deed in self.dice.choices(deeds, weights, k=DEEDS):
            deed()
            self.flush()
            pause = self.dice.choice((0.0, 0.001, 0.03, 0.3, 3.0))
            self.simulator.run_until(self.simulator.now + pause * self.dice.random())
        self._finish()

    def decide_later(self, party: Party, channel_id: int) -> None:
        """
        A program takes its time to say whether a channel may be.
        """
        delay = self.dice.choice((0.0, 0.0, 0.1, 5.0))
        is_welcome = self.dice.random() < 0.9
        party.host.call_later(delay, partial(party.decide, channel_id, is_welcome))

    # What the networks are.

    def _conditions(self) -> LinkConditions:
        dice = self.dice
        loss = dice.choice((0.0, 0.0, 0.01, 0.1, 0.3, 0.6))
        return LinkConditions(
            rate=dice.choice((None, 1e6, 20e6, 200e6)),
            queue_limit=dice.choice((0, 5, 30, 200)),
            delay=dice.choice((0.0, 0.001, 0.02, 0.1, 0.4)),
            jitter=dice.choice((0.0, 0.0, 0.01, 0.2)),
            keeps_order=dice.random() < 0.7,
            loss=loss,
            loss_burst=dice.choice((None, None, 5.0, 30.0)) if loss else None,
            duplicate=dice.choice((0.0, 0.0, 0.2)),
            reorder=dice.choice((0.0, 0.0, 0.2)),
            mtu=dice.choice(self.mtus),
        )

    def _add_way(self, to_server: Path, conditions: LinkConditions) -> Way:
        self._ports += 1
        address = (CLIENT_HOST, self._ports)
        is_reliable = to_server.is_reliable
        to_client = Path("tcp" if is_reliable else "udp", address, is_reliable=is_reliable)
        seeds = (self.dice.getrandbits(32) for _ in range(2))
        up, down = (LinkModel(conditions, seed) for seed in seeds)
        way = Way(to_server, to_client, up, down)
        self._ways.append(way)
        return way

    def _use(self, way: Way) -> None:
        self.note(f"use {way.to_server} from {way.to_client}")
        self.client.host.session.use_path(way.to_server, now=self.simulator.now)

    def _send_up(self, path: Path, packet: bytes) -> None:
        way = self._udp
        if path.is_reliable:
            way = next(each for each in self._ways if each.to_server == path)
        for at, data in way.up.transmit(packet, now=self.simulator.now):
            arrive = partial(self._arrive, self.server, way, way.to_client, data)
            self.simulator.call_at(at, arrive)

    def _send_down(self, path: Path, packet: bytes) -> None:
        way = next(each for each in self._ways if each.to_client == path)
        for at, data in way.down.transmit(packet, now=self.simulator.now):
            arrive = partial(self._arrive, self.client, way, way.to_server, data)
            self.simulator.call_at(at, arrive)

    def _arrive(self, party: Party, way: Way, path: Path, data: bytes) -> None:
        if not way.is_open:
            return
        # A server's packets are sorted by id before a session has them.
        batch = self._batches.setdefault((party.name, path, data[:4]), [])
        batch.append(data)
        if len(batch) == 1:
            delay = self.dice.choice((0.0, 0.0, 0.0003, 0.003))
            deliver = partial(self._deliver, party, path, data[:4])
            self.simulator.call_at(self.simulator.now + delay, deliver)

    def _deliver(self, party: Party, path: Path, first: bytes) -> None:
        batch = self._batches.pop((party.name, path, first))
        party.host.session.receive_datagrams(batch, path, now=self.simulator.now)
        party.host.flush()

    # What happens.

    def deeds(self) -> list[tuple[Callable[[], None], int]]:
        """
        What may be done next, and how often.
        """
        return [
            (self._open, 12),
            (self._write, 30),
            (self._end, 6),
            (self._reset, 2),
            (self._consume, 6),
            (self._read_late, 2),
            (self._hurry, 1),
            (self._change_conditions, 4),
            (self._change_address, 4),
            (self._fall_silent, 2),
            (self._connect, 3),
            (self._cut, 3),
            (self._return_to_udp, 3),
            (self._probe, 2),
            (self._retry, 1),
        ]

    def _open(self) -> None:
        dice = self.dice
        party = dice.choice(self.openers)
        if len(party.usable()) < MOST_CHANNELS:
            protocol = dice.choice((Protocol.TCP, Protocol.TCP, Protocol.UDP))
            target = Target(protocol, self.host, 1 + dice.randrange(65_535))
            compress = protocol is Protocol.TCP and dice.random() < 0.2
            party.open(target, compress=compress)

    def _write(self) -> None:
        dice = self.dice
        party = dice.choice(self.parties)
        channels = party.usable(writable=True)
        if channels:
            size = 1 + dice.randrange(dice.choice(WRITES))
            party.write(dice.choice(channels), dice.randbytes(size))

    def _hurry(self) -> None:
        # Fast enough for packets in fragments, until the network becomes another one.
        self._udp.up.conditions = self._udp.down.conditions = QUICK
        party = self.dice.choice(self.parties)
        channels = [
            each for each in party.usable(writable=True) if not party.ends[each].is_datagram
        ]
        if channels:
            channel_id, data = self.dice.choice(channels), self.dice.randbytes(QUICK_WRITE)
            for _ in range(QUICK_WRITES):
                if party.ends[channel_id].is_gone:
                    break
                party.write(channel_id, data)
                self.flush()
                self.simulator.run_until(self.simulator.now + QUICK_PAUSE)

    def _end(self) -> None:
        party = self.dice.choice(self.parties)
        channels = party.usable(writable=True)
        if channels:
            party.end(self.dice.choice(channels))

    def _reset(self) -> None:
        party = self.dice.choice(self.parties)
        channels = party.usable()
        if channels:
            party.reset(self.dice.choice(channels))

    def _consume(self) -> None:
        party = self.dice.choice(self.parties)
        for channel_id in party.usable():
            party.consume(channel_id)

    def _read_late(self) -> None:
        party = self.dice.choice(self.parties)
        party.reads_late = self.dice.random() < 0.5

    def _change_conditions(self) -> None:
        way, conditions = self._udp, self._conditions()
        if self.dice.random() < 0.5:
            way.up.conditions = way.down.conditions = conditions
        elif self.dice.random() < 0.5:
            way.up.conditions = conditions
        else:
            way.down.conditions = conditions
        self.note(f"{conditions}")

    def _change_address(self) -> None:
        old = self._udp
        self._udp = self._add_way(old.to_server, old.up.conditions)
        old.is_open = self.dice.random() < 0.3  # what is under way may still arrive
        self.note(f"address {self._udp.to_client}")
        if self.dice.random() < 0.5 and self.client.host.session.path == old.to_server:
            self._use(self._udp)

    def _fall_silent(self) -> None:
        links = [self._udp.up, self._udp.down]
        if self.dice.random() < 0.3:
            links.pop(self.dice.randrange(2))
        before = [link.conditions for link in links]
        for link in links:
            link.conditions = LinkConditions(is_down=True)
        length = self.dice.choice(OUTAGES) * self.dice.random()
        self.note(f"silence of {length:.1f} s")
        self.flush()
        self.simulator.run_until(self.simulator.now + length)
        for link, conditions in zip(links, before, strict=True):
            link.conditions = conditions

    def _connect(self) -> None:
        conditions = LinkConditions(delay=self.dice.choice((0.001, 0.05)))
        path = Path(f"tcp-{self._ports}", SERVER_ADDRESS, is_reliable=True)
        way = self._add_way(path, conditions)
        self._use(way)

    def _cut(self) -> None:
        connections = [way for way in self._ways if way.to_server.is_reliable and way.is_open]
        if not connections:
            return
        way = self.dice.choice(connections)
        way.is_open = False
        self.note(f"cut {way.to_server}")
        sides = [(self.client, way.to_server), (self.server, way.to_client)]
        self.dice.shuffle(sides)
        for party, path in sides:
            delay = self.dice.choice((0.0, 0.02, 2.0))
            close = partial(party.host.session.path_closed, path, now=self.simulator.now + delay)
            party.host.call_later(delay, close)

    def _return_to_udp(self) -> None:
        self._use(self._udp)

    def _probe(self) -> None:
        path = self._udp.to_server
        if self.client.host.session.path not in (path, None):
            self.client.host.session.probe_path(path, now=self.simulator.now)

    def _retry(self) -> None:
        self.client.host.session.retry(now=self.simulator.now)

    # The end.

    def flush(self) -> None:
        """
        Let both sides act on what was done to them.
        """
        self.client.host.flush()
        self.server.host.flush()

    def _finish(self) -> None:
        dice = self.dice
        conditions = LinkConditions(
            rate=20e6, delay=0.03, loss=dice.choice((0.0, 0.1, 0.3)), mtu=1500
        )
        self.note("the end begins")
        self._udp = self._add_way(self._udp.to_server, conditions)
        self._use(self._udp)
        self.flush()
        end = self.simulator.now + PATIENCE
        while self._is_busy() and self.simulator.now < end:
            for party in self.parties:
                self._wind_up(party)
            self.flush()
            self.simulator.run_until(self.simulator.now + 0.5)
        for party in self.parties:
            party.check(all(each.is_gone for each in party.ends.values()), "all channels are gone")
            for channel_id, each in party.ends.items():
                other = party.peer.ends.get(channel_id)
                if other is not None and not (each.was_reset or other.was_reset):
                    party.check(each.received == len(other.written), "all bytes have come")
        self.simulator.run_until(self.simulator.now + REST)
        self.check_rest()

    def _is_busy(self) -> bool:
        parties = self.parties
        return any(not end.is_gone for party in parties for end in party.ends.values())

    def _wind_up(self, party: Party) -> None:
        party.reads_late = False
        for channel_id in party.usable():
            party.consume(channel_id)
        for channel_id in party.usable(writable=True):
            if not party.ends[channel_id].awaits_room:
                party.end(channel_id)
