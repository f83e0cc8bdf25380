"""
Tests of :mod:`resip.services.sessions`, on a clock and without sockets.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.keystore import KeyRecord
from resip.bootstrap.messages import SessionGrant
from resip.carriers.channels import Channel
from resip.carriers.driver import SessionDriver
from resip.carriers.udp import UDPCarrier
from resip.core.classic.cipher import HashName
from resip.core.classic.client import ClassicClientSession
from resip.core.classic.packet import OuterWrapper, PacketCodec
from resip.core.errors import LimitError, ResetCode
from resip.core.types import Path
from resip.services import sessions as sessions_module
from resip.services.clock import Clocks
from resip.services.sessions import SESSION_LIFETIME, ServerSessions
from tests.carriers.fixture import TARGET, EchoUser
from tests.support.network import DatagramReactor
from tests.tunnel.programs import RecordingUser


def make_key(name: str) -> KeyRecord:
    """
    A key of that name.
    """
    return KeyRecord(name, bytes(32), None, 0)


class ServerSessionsTests(SynchronousTestCase):
    """
    Sessions of a server whose socket is in memory.
    """

    def setUp(self) -> None:
        """
        Start without sessions.
        """
        self.reactor = DatagramReactor()
        self.requests: list[tuple[Channel, str]] = []
        carriers: dict[str, UDPCarrier] = {}
        self.sessions = ServerSessions(
            carriers,
            clock=self.reactor,
            clocks=Clocks(monotonic=self.reactor.seconds, wall=lambda: 1000.9),
            random_bytes=Random(1).randbytes,
            on_request=self.accept,
        )
        carriers["udp"] = UDPCarrier(self.sessions.receive_datagrams)
        self.address = self.reactor.listenUDP(0, carriers["udp"]).address

    def accept(self, channel: Channel, key_name: str) -> None:
        """
        Echo on every channel.
        """
        self.requests.append((channel, key_name))
        user = EchoUser()
        user.channel = channel
        channel.accept(user)

    def start(self, key_name: str = "laptop") -> SessionGrant:
        """
        Start a session.
        """
        return self.sessions.start_session(make_key(key_name), HashName.SHA1, False)

    def dial(self, grant: SessionGrant) -> SessionDriver:
        """
        A client for a granted session.
        """
        wrapper = OuterWrapper(grant.master, grant.packet_size)
        codec = PacketCodec(grant.session_id, wrapper, grant.session, Random(2).randbytes)
        carrier = UDPCarrier(lambda packets, path: driver.receive_datagrams(packets, path))
        driver = SessionDriver(
            ClassicClientSession(codec, now=self.reactor.seconds()),
            {"udp": carrier},
            clock=self.reactor,
            now=self.reactor.seconds,
        )
        self.reactor.listenUDP(0, carrier)
        driver.use_path(Path("udp", self.address))
        self.addCleanup(driver.stop)
        return driver

    def echo(self, driver: SessionDriver) -> RecordingUser:
        """
        Send a word through a new channel, and let a second pass.
        """
        user = RecordingUser()
        user.channel = driver.open_channel(TARGET, user)
        user.channel.write(b"hello")
        self.run_for(1)
        return user

    def run_for(self, seconds: float) -> None:
        """
        Let time pass.
        """
        for _ in range(round(seconds / 0.01)):
            self.reactor.advance(0.01)

    def test_grants(self) -> None:
        """
        Each session has its own id and keys; run, packet size and master keys are one.
        """
        one, two = self.start(), self.start()
        self.assertEqual((one.started, one.current), (1000, 1000))
        self.assertEqual(one.packet_size, self.sessions.packet_size)
        self.assertEqual(one.master, two.master)
        self.assertNotEqual(one.session, two.session)
        self.assertNotEqual(one.session_id, two.session_id)
        self.assertEqual(len(self.sessions), 2)

    def test_packets_find_their_session(self) -> None:
        """
        Two clients are served apart, and the server knows whose key each has.
        """
        drivers = [self.dial(self.start(name)) for name in ("laptop", "phone")]
        for driver in drivers:
            self.assertEqual(self.echo(driver).received, b"hello")
        self.assertEqual([name for _, name in self.requests], ["laptop", "phone"])
        self.assertEqual([channel.target for channel, _ in self.requests], [TARGET, TARGET])

    def test_a_closed_path_is_forgotten(self) -> None:
        """
        When a connection is gone, the sessions that sent on it wait for their clients.
        """
        driver = self.dial(self.start())
        self.echo(driver)
        (home,) = [port.address for port in self.reactor.ports if port.address != self.address]
        before = len(self.reactor.sent)
        self.sessions.path_closed(Path("udp", ("192.0.2.1", 1)))
        self.sessions.path_closed(Path("udp", home))
        self.sessions.path_writable(Path("udp", home))
        self.requests[0][0].write(b"unsendable")
        self.reactor.advance(0)
        sent = [source for _, source, _ in self.reactor.sent[before:]]
        self.assertNotIn(self.address, sent)

    def test_sessions_of_revoked_keys_end(self) -> None:
        """
        Channels of a key that is not valid any more are reset; others are not touched.
        """
        lost, kept = (self.echo(self.dial(self.start(name))) for name in ("laptop", "phone"))
        self.sessions.end_sessions_of(lambda name: name == "phone")
        self.run_for(0.5)
        self.assertIsInstance(lost.heard[-1], ResetCode)
        self.assertEqual(kept.heard[-1], b"hello")
        self.assertEqual(len(self.sessions), 1)

    def test_silent_sessions_end(self) -> None:
        """
        A session that nobody has used for its lifetime is forgotten, others stay.
        """
        self.patch(sessions_module, "ARRIVAL_TIMEOUT", SESSION_LIFETIME)
        self.start("old")
        self.reactor.advance(SESSION_LIFETIME - 10)
        self.sessions.end_silent()
        self.start("new")
        self.assertEqual(len(self.sessions), 2)
        self.reactor.advance(11)
        self.sessions.end_silent()
        self.assertEqual(len(self.sessions), 1)

    def test_sessions_of_one_key_are_limited(self) -> None:
        """
        Beyond the limit the most silent session of the same key ends; no other key's does.
        """
        self.patch(sessions_module, "MAX_SESSIONS_PER_KEY", 3)
        other = self.dial(self.start("phone"))
        drivers = []
        for _ in range(3):
            self.reactor.advance(1)
            drivers.append(self.dial(self.start()))
        self.echo(drivers[0])  # so that the second is the most silent
        self.start()
        self.assertEqual(len(self.sessions), 4)
        self.assertEqual(self.echo(drivers[1]).received, b"")
        for driver in (other, drivers[0], drivers[2]):
            self.assertEqual(self.echo(driver).received, b"hello")

    def test_all_sessions_are_limited(self) -> None:
        """
        Beyond the limit a new session is refused, and those that are there stay.
        """
        self.patch(sessions_module, "MAX_SESSIONS", 3)
        for name in "abc":
            self.start(name)
        self.assertRaises(LimitError, self.start, "d")
        self.assertEqual(len(self.sessions), 3)

    def test_stop(self) -> None:
        """
        Clients are told, and no call is left.
        """
        driver = self.dial(self.start())
        user = self.echo(driver)
        self.sessions.stop()
        self.run_for(0.5)
        self.assertIsInstance(user.heard[-1], ResetCode)
        driver.stop()
        self.reactor.advance(0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
