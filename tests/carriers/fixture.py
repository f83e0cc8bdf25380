"""
What the tests of carriers share: a session by script, a real pair of sessions, and
TCP connections in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.channels import Channel
from resip.carriers.driver import SessionDriver
from resip.carriers.tcp import TCPCarrier
from resip.carriers.udp import UDPCarrier
from resip.core.classic.cipher import CipherKeys, SessionKeys
from resip.core.classic.client import ClassicClientSession
from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.packet import OuterWrapper, PacketCodec
from resip.core.classic.server import ClassicEndpoint, ClassicServerSession
from resip.core.errors import ChannelError, ResetCode
from resip.core.events import ChannelReset, Event
from resip.core.session import WithoutProbes
from resip.core.types import Path, Protocol, Target
from tests.support.network import DatagramReactor
from tests.tunnel.programs import MemoryTransport, RecordingUser

TARGET = Target(Protocol.TCP, "192.0.2.9", 22)
PATH = Path("udp", ("192.0.2.1", 31266))
#: Bytes of a block, and two blocks of which :class:`TCPCarrierTestCase` likes the first.
SIZE = 64
GOOD = b"good".ljust(SIZE, b".")
BAD = b"bad".ljust(SIZE, b".")


class ScriptedSession(WithoutProbes):
    """
    Offers the interface of :class:`resip.core.session.Session`; does what the test says.

    :ivar calls: the verbs that were called, in order, with their arguments but the time.
    :ivar events: what ``next_event`` gives.
    :ivar packets: what ``datagrams_to_send`` gives, once.
    :ivar is_gone: every channel verb raises ``ChannelError``.
    """

    resolves_names = False
    session_id = 7
    last_received_time = 0.0

    def __init__(self) -> None:
        self.path: Path | None = PATH
        self.calls: list[tuple[object, ...]] = []
        self.events: deque[Event] = deque()
        self.packets: list[bytes] = []
        self.timer: float | None = None
        self.room = 1000
        self.is_gone = False

    def verbs(self) -> list[object]:
        """
        The names of what was called, without the questions that every turn asks.
        """
        return [call[0] for call in self.calls]

    def receive_datagrams(self, packets: Sequence[bytes], path: Path, *, now: float) -> bool:
        """
        Packets that start with ``good`` are authentic.
        """
        self.calls += [("receive", packet) for packet in packets]
        return any(packet.startswith(b"good") for packet in packets)

    def datagrams_to_send(self, *, now: float) -> list[tuple[Path, Sequence[bytes]]]:
        """
        The packets of the script.
        """
        packets, self.packets = self.packets, []
        return [(self.path, packets)] if packets and self.path is not None else []

    def get_timer(self) -> float | None:
        """
        The deadline of the script.
        """
        return self.timer

    def handle_timer(self, *, now: float) -> None:
        """
        A deadline that has passed is done with.
        """
        self.calls.append(("timer", now))
        if self.timer is not None and now >= self.timer:
            self.timer = None

    def next_event(self) -> Event | None:
        """
        The next event of the script.
        """
        return self.events.popleft() if self.events else None

    def use_path(self, path: Path, *, now: float) -> None:
        """
        Note it.
        """
        self.path = path
        self.calls.append(("use_path", path))

    def path_closed(self, path: Path, *, now: float) -> None:
        """
        Note it.
        """
        self.path = None
        self.calls.append(("path_closed", path))

    def retry(self, *, now: float) -> None:
        """
        Note it.
        """
        self.calls.append(("retry",))

    def open_channel(self, target: Target, *, now: float, compress: bool = False) -> int:
        """
        A new id each time.
        """
        if self.is_gone:
            raise ChannelError("the session is over")
        self.calls.append(("open", target, compress))
        return sum(call[0] == "open" for call in self.calls)

    def accept_channel(self, channel_id: int, *, now: float) -> None:
        """
        Note it.
        """
        self._channel_verb("accept", channel_id)

    def refuse_channel(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Note it.
        """
        self._channel_verb("refuse", channel_id, code)

    def write(self, channel_id: int, data: bytes, *, now: float) -> int:
        """
        Accept as much as there is room, as one packet.
        """
        self._channel_verb("write", channel_id, data)
        accepted = min(len(data), self.room)
        self.packets.append(data[:accepted])
        return accepted

    def end(self, channel_id: int, *, now: float) -> None:
        """
        Note it.
        """
        self._channel_verb("end", channel_id)

    def reset(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Note it.
        """
        self._channel_verb("reset", channel_id, code)

    def consume(self, channel_id: int, count: int, *, now: float) -> None:
        """
        Note it.
        """
        self.calls.append(("consume", channel_id, count))

    def close(self, *, now: float) -> None:
        """
        Reset channel 1, and say so to the peer.
        """
        self.calls.append(("close",))
        self.events.append(ChannelReset(1, ResetCode.SESSION_LOST))
        self.packets.append(b"goodbye")

    def _channel_verb(self, *call: object) -> None:
        self.calls.append(call)
        if self.is_gone:
            raise ChannelError("there is no such channel")


class ListCarrier:
    """
    Keeps what it was given.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_full = False

    def send(self, path: Path, packets: Sequence[bytes]) -> None:
        """
        Keep the packets.
        """
        self.sent += packets

    def is_writable(self, path: Path) -> bool:
        """
        Unless it is full.
        """
        return not self.is_full


class EchoUser(RecordingUser):
    """
    Sends back what it hears, and ends after the peer did. Never has more than the channel takes.
    """

    def data_received(self, data: bytes) -> None:
        """
        Echo it.
        """
        super().data_received(data)
        assert self.channel is not None
        assert self.channel.write(data) == len(data)

    def channel_ended(self) -> None:
        """
        End, too.
        """
        super().channel_ended()
        assert self.channel is not None
        self.channel.end()


def make_sessions(
    *, now: float = 0.0, seed: int = 1
) -> tuple[ClassicClientSession, ClassicEndpoint, ClassicServerSession]:
    """
    Both sides of a classic session, and the endpoint that the server's side belongs to.
    """
    random_bytes = Random(seed).randbytes
    master, ciphers = (
        CipherKeys(*(random_bytes(size) for size in (32, 16, 32, 16))) for _ in range(2)
    )
    keys = SessionKeys(ciphers, random_bytes(20))
    endpoint = ClassicEndpoint(master=master, random_bytes=random_bytes)
    server = endpoint.add_session(keys, ClassicConfiguration(), now=now)
    codec = PacketCodec(server.session_id, OuterWrapper(master), keys, random_bytes)
    return ClassicClientSession(codec, now=now), endpoint, server


class DriverPair:
    """
    A client and a server, each a driven session on a UDP socket in memory.

    :ivar accepted: what the server's users heard, one for each channel; they echo.
    :ivar client_carrier: the client's socket.
    """

    def __init__(self, *, latency: float = 0.01) -> None:
        self.reactor = DatagramReactor(latency=latency)
        self.accepted: list[EchoUser] = []
        client, _, server = make_sessions(now=self.reactor.seconds())
        self.client, self.client_carrier = self._drive(client)
        self.server, _ = self._drive(server)
        host = self.reactor.ports[1].address
        self.server_path = Path("udp", host)
        self.client.use_path(self.server_path)

    def _drive(
        self, session: ClassicClientSession | ClassicServerSession
    ) -> tuple[SessionDriver, UDPCarrier]:
        carrier = UDPCarrier(lambda packets, path: driver.receive_datagrams(packets, path))
        driver = SessionDriver(
            session,
            {carrier.name: carrier},
            clock=self.reactor,
            now=self.reactor.seconds,
            on_request=self._accept,
        )
        self.reactor.listenUDP(0, carrier)
        return driver, carrier

    def _accept(self, channel: Channel) -> None:
        user = EchoUser()
        user.channel = channel
        self.accepted.append(user)
        channel.accept(user)

    def open(self) -> tuple[Channel, RecordingUser]:
        """
        A channel of the client.
        """
        user = RecordingUser()
        user.channel = self.client.open_channel(TARGET, user)
        return user.channel, user

    def run(self, seconds: float) -> None:
        """
        Let time pass, finely enough for timers.
        """
        for _ in range(round(seconds / 0.005)):
            self.reactor.advance(0.005)

    def stop(self) -> None:
        """
        Stop both sides.
        """
        self.client.stop()
        self.server.stop()


class MemoryConnection:
    """
    A connection of a carrier, and the transport below it.
    """

    def __init__(self, carrier: TCPCarrier, port: int) -> None:
        address = IPv4Address("TCP", "192.0.2.7", port)
        self.protocol = carrier.buildProtocol(cast(IAddress, address))
        self.transport = MemoryTransport()
        self.transport.peerAddr = address
        self.protocol.makeConnection(cast(ITCPTransport, self.transport))
        assert self.protocol.path is not None
        self.path = self.protocol.path

    @property
    def is_aborted(self) -> bool:
        """
        Whether the carrier cut it.
        """
        return "abort" in self.transport.ends

    def lose(self) -> None:
        """
        The connection is gone.
        """
        self.protocol.connectionLost()


class TCPCarrierTestCase(SynchronousTestCase):
    """
    A carrier for whom packets that start with ``good`` are authentic.
    """

    requires_introduction = True

    def setUp(self) -> None:
        """
        Make it.
        """
        self.clock = Clock()
        self.received: list[tuple[bytes, Path]] = []
        self.connected: list[Path] = []
        self.closed: list[Path] = []
        self.writable: list[Path] = []
        self.carrier = self.make_carrier()

    def make_carrier(self) -> TCPCarrier:
        """
        One for the classic dialect.
        """
        return TCPCarrier(
            self.receive,
            packet_size=SIZE,
            clock=self.clock,
            on_connected=self.connected.append,
            on_closed=self.closed.append,
            on_writable=self.writable.append,
            requires_introduction=self.requires_introduction,
        )

    def receive(self, packets: Sequence[bytes], path: Path) -> bool:
        """
        Keep them.
        """
        self.received += [(packet, path) for packet in packets]
        return any(packet.startswith(b"good") for packet in packets)

    def connect(self, port: int = 1) -> MemoryConnection:
        """
        A new connection.
        """
        return MemoryConnection(self.carrier, port)
