"""
Classic sessions from a seed: two of them joined by a simulated network, and forged packets.

The same seed gives the same keys, the same random bytes and the same fate of every packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from resip.core.classic.cipher import CipherKeys, SessionKeys
from resip.core.classic.client import ClassicClientSession
from resip.core.classic.commands import Start, encode_acknowledgements
from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.packet import Flag, InnerPacket, OuterWrapper, PacketCodec
from resip.core.classic.server import ClassicEndpoint, ClassicServerSession
from resip.core.errors import ProtocolError
from resip.core.events import ChannelRequested, DataReceived, Event
from resip.core.session import Session
from resip.core.types import Path, Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender
from resip.lab.link import LinkConditions, LinkModel
from resip.lab.pair import Host, SimulatedPair
from tests.support.pair import PLAIN, get_events, run_until_true

TCP_TARGET = Target(Protocol.TCP, "127.0.0.1", 10_000)
TCP6_TARGET = Target(Protocol.TCP, "2001:db8::1", 10_000)
UDP_TARGET = Target(Protocol.UDP, "127.0.0.1", 10_000)

#: Where :func:`start_transfers` sends to, and where it fetches from.
UPLOAD_HOST = "127.0.0.1"
DOWNLOAD_HOST = "127.0.0.2"

#: One end of a bulk transfer.
Transfer = BulkSender | BulkReceiver

#: What the clock says in tests that have none, and when sessions are made.
NOW = 1000.0
#: The bytes of a client's command that starts channel 1.
START = Start(1, 6, "127.0.0.1", 80).encode()

#: Where a client seems to be that is not there.
ELSEWHERE = Path("simulated", ("203.0.113.9", 9))
#: Where the client of :func:`make_classic_pair` is at first.
CLIENT_PATH = Path("simulated", ("198.51.100.1", 40_000))


def make_ciphers(random: Random) -> CipherKeys:
    """
    Keys and IVs from dice.
    """
    return CipherKeys(
        random.randbytes(32), random.randbytes(16), random.randbytes(32), random.randbytes(16)
    )


@dataclass
class SessionMaker:
    """
    Both ends of one session, made on demand: a real one or a forger for each role.

    :param seed: of all keys and random bytes.
    :param sign_size: 20 for SHA-1, 16 for MD5.
    """

    seed: int = 1
    configuration: ClassicConfiguration = field(default_factory=ClassicConfiguration)
    sign_size: int = 20
    packet_size: int = 512
    now: float = NOW

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.master = make_ciphers(self.random)
        self.keys = SessionKeys(make_ciphers(self.random), self.random.randbytes(self.sign_size))
        self.endpoint = ClassicEndpoint(
            master=self.master, random_bytes=self.random.randbytes, packet_size=self.packet_size
        )
        self.server: ClassicServerSession = self.endpoint.add_session(
            self.keys, self.configuration, now=self.now
        )

    def make_codec(self, packet_size: int | None = None) -> PacketCodec:
        """
        Another codec with the session's keys; its packets may have another size.
        """
        outer = OuterWrapper(self.master, packet_size or self.packet_size)
        return PacketCodec(self.server.session_id, outer, self.keys, self.random.randbytes)

    def make_client(
        self, configuration: ClassicConfiguration | None = None
    ) -> ClassicClientSession:
        """
        The client's end.
        """
        return ClassicClientSession(
            self.make_codec(), configuration or self.configuration, now=self.now
        )

    def make_forger(self, *, is_server: bool) -> Forger:
        """
        A stand-in for one end, which sends what no session would.
        """
        return Forger(self.make_codec(), is_server=is_server)


class Forger:
    """
    Seals any inner packet as one end of a session, and opens what the other end sends.
    """

    def __init__(self, codec: PacketCodec, *, is_server: bool) -> None:
        self.codec = codec
        self.direction = int(Flag.FROM_SERVER) if is_server else 0
        self._next_command = 1

    def seal(self, channel_id: int, number: int, data: bytes = b"", flags: int = 0) -> bytes:
        """
        A packet of any channel with any number.
        """
        return self.codec.seal(InnerPacket(self.direction | flags, channel_id, number, data))

    def command(self, data: bytes) -> bytes:
        """
        The next ordered command.
        """
        self._next_command += 1
        return self.seal(0, self._next_command - 1, data)

    def acknowledge(self, channel_id: int, first: int, last: int | None = None) -> bytes:
        """
        An acknowledgement of one range.
        """
        ranges = iter([(channel_id, first, first if last is None else last)])
        (command,) = encode_acknowledgements(ranges, 400)
        return self.seal(0, 0, command)

    def open(self, packet: bytes) -> InnerPacket:
        """
        What is inside a packet of the other end.

        :raises ProtocolError: when it is not authentic.
        """
        return self.codec.open(self.codec.outer.open(packet))


class ClassicPair(SimulatedPair):
    """
    A pair whose sessions are known to be classic.
    """

    def __init__(
        self,
        client: ClassicClientSession,
        server: ClassicServerSession,
        up: LinkModel,
        down: LinkModel,
        *,
        is_reliable: bool = False,
        keeps_events: bool = True,
    ) -> None:
        super().__init__(
            client, server, up, down, is_reliable=is_reliable, keeps_events=keeps_events
        )
        self.client_session = client
        self.server_session = server


def make_links(
    seed: int, conditions: LinkConditions, down: LinkConditions | None = None
) -> tuple[LinkModel, LinkModel]:
    """
    The two links of a pair, of the same conditions unless ``down`` gives others.
    """
    return LinkModel(conditions, seed), LinkModel(down or conditions, seed + 1_000_003)


def make_classic_pair(
    seed: int = 1,
    conditions: LinkConditions = PLAIN,
    *,
    down: LinkConditions | None = None,
    configuration: ClassicConfiguration | None = None,
    server_configuration: ClassicConfiguration | None = None,
    is_reliable: bool = False,
    keeps_events: bool = True,
    packet_size: int = 512,
) -> ClassicPair:
    """
    A client and a server of the classic dialect on two links of the same conditions.
    """
    common = configuration or ClassicConfiguration()
    maker = SessionMaker(seed, server_configuration or common, packet_size=packet_size)
    return ClassicPair(
        maker.make_client(common),
        maker.server,
        *make_links(seed, conditions, down),
        is_reliable=is_reliable,
        keeps_events=keeps_events,
    )


def join(
    client: Session, server: Session, seed: int = 1, conditions: LinkConditions = PLAIN
) -> SimulatedPair:
    """
    Any two ends on two links of the same conditions.
    """
    return SimulatedPair(client, server, *make_links(seed, conditions))


class Accepting:
    """
    An application that accepts every channel, and consumes what arrives unless told not to.
    """

    def __init__(self, *, consumes: bool = True) -> None:
        self.consumes = consumes

    def on_event(self, host: Host, event: Event, *, now: float) -> None:
        """
        Accept; consume.
        """
        if isinstance(event, ChannelRequested):
            host.session.accept_channel(event.channel_id, now=now)
        elif self.consumes and isinstance(event, DataReceived):
            host.session.consume(event.channel_id, len(event.data), now=now)


def open_pair(
    seed: int = 1, conditions: LinkConditions = PLAIN, *, target: Target = TCP_TARGET
) -> tuple[ClassicPair, int]:
    """
    A pair with one open channel; both sides consume what they receive.
    """
    pair = make_classic_pair(seed, conditions)
    pair.client.attach(Accepting())
    pair.server.attach(Accepting())
    channel_id = pair.client.session.open_channel(target, now=pair.now)
    pair.run_for(1)
    assert get_events(pair.server, ChannelRequested), "the channel is open"
    return pair, channel_id


def start_transfers(pair: SimulatedPair, count: int, size: int, *, seed: int = 1) -> list[Transfer]:
    """
    Start ``count`` channels that upload ``size`` bytes, and as many that download as much.
    """
    programs: list[Transfer] = []
    for index in range(count):
        for host in (UPLOAD_HOST, DOWNLOAD_HOST):
            target = Target(Protocol.TCP, host, 1000 + index)
            sender = BulkSender(target, size=size, seed=seed + index)
            receiver = BulkReceiver(target, size=size, seed=seed + index)
            is_upload = host == UPLOAD_HOST
            served, started = (receiver, sender) if is_upload else (sender, receiver)
            served.serve(pair.server)
            started.start(pair.client)
            programs += [sender, receiver]
    return programs


def run_until_closed(pair: SimulatedPair, programs: list[Transfer], *, limit: float) -> float:
    """
    Run until every transfer is complete to the byte, and closed on both sides.

    :return: the virtual seconds that it took.
    """
    took = run_until_true(pair, lambda: all(p.is_gone for p in programs), limit=limit)
    for program in programs:
        assert program.is_closed, f"{program.target} was reset: {program.reset_code}"
        assert program.is_finished, f"{program.target} is not complete"
    return took


def sent_inner(session: Session, forger: Forger, *, now: float) -> Iterator[InnerPacket]:
    """
    What a session wants to send now, opened by a forger of its peer.
    """
    for _, packets in session.datagrams_to_send(now=now):
        for packet in packets:
            try:
                yield forger.open(packet)
            except ProtocolError as error:
                raise AssertionError("a session sends only authentic packets") from error


def drain(session: Session) -> list[Event]:
    """
    All events that a session has to report.
    """
    events = []
    while (event := session.next_event()) is not None:
        events.append(event)
    return events


class Victim:
    """
    A server session and a forger that plays its client, or the other way round.
    """

    def __init__(
        self,
        *,
        is_server: bool = True,
        configuration: ClassicConfiguration | None = None,
        sign_size: int = 20,
    ) -> None:
        self.maker = SessionMaker(1, configuration or ClassicConfiguration(), sign_size=sign_size)
        self.client = self.maker.make_client()
        self.server: ClassicServerSession = self.maker.server
        self.session = self.server if is_server else self.client
        self.forger = self.maker.make_forger(is_server=not is_server)
        if not is_server:
            self.client.use_path(CLIENT_PATH, now=NOW)
            drain(self.client)

    def receive(self, packet: bytes, path: Path = CLIENT_PATH, *, now: float = NOW) -> bool:
        """
        Let a packet arrive; returns whether it was authentic.
        """
        return self.session.receive_datagrams([packet], path, now=now)

    def open(self) -> None:
        """
        Channel 1 is there.
        """
        self.receive(self.forger.command(START))
        self.session.accept_channel(1, now=NOW)
        drain(self.session)

    def sent(self, *, now: float = NOW + 1) -> list[tuple[int, int, bytes]]:
        """
        Channel, number and data of what goes out.
        """
        return [
            (packet.channel_id, packet.number, packet.data)
            for packet in sent_inner(self.session, self.forger, now=now)
        ]
