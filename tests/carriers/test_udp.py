"""
Tests of :mod:`resip.carriers.udp`, on a network in memory.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Sequence
from random import Random
from unittest import skipUnless

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorUDP
from twisted.internet.udp import Port
from twisted.trial.unittest import SynchronousTestCase, TestCase

from resip.carriers.driver import SessionDriver
from resip.carriers.udp import (
    IP_MTU_DISCOVER,
    IPV6_MTU_DISCOVER,
    MAX_CACHED_PATHS,
    PMTUDISC_PROBE,
    UDPCarrier,
)
from resip.core.types import Path
from tests.carriers.fixture import DriverPair, make_sessions
from tests.support.network import DatagramReactor
from tests.tunnel.programs import DatagramProgram


class UDPCarrierTests(SynchronousTestCase):
    """
    Datagrams in and out.
    """

    def setUp(self) -> None:
        """
        A carrier with a socket.
        """
        self.reactor = DatagramReactor()
        self.received: list[tuple[bytes, Path]] = []
        self.carrier = UDPCarrier(self.receive)
        self.port = self.reactor.listenUDP(0, self.carrier)

    def receive(self, packets: Sequence[bytes], path: Path) -> bool:
        """
        Keep them.
        """
        self.received += [(packet, path) for packet in packets]
        return True

    def test_a_datagram_arrives_with_its_path(self) -> None:
        """
        The path says by which carrier and from whom, over IPv4 and IPv6.
        """
        for source in (("192.0.2.7", 5), ("2001:db8::7", 5)):
            self.reactor.transmit(b"packet", source, self.port.address)
            self.reactor.advance(0)
            self.assertEqual(self.received.pop(), (b"packet", Path("udp", source)))

    def test_packets_go_to_the_address_of_the_path(self) -> None:
        """
        Every packet is one datagram, in order.
        """
        program = DatagramProgram()
        far = self.reactor.listenUDP(0, program)
        path = Path("udp", far.address)
        self.assertTrue(self.carrier.is_writable(path))
        self.carrier.send(path, [b"one", b"two"])
        self.reactor.advance(0)
        self.assertEqual(program.received, [b"one", b"two"])

    def test_what_the_system_refuses_is_lost(self) -> None:
        """
        Without a route a packet is lost like any other, counted, and the next one is tried.
        """
        self.reactor.refusal = OSError(errno.ENETUNREACH, "Network is unreachable")
        self.carrier.send(Path("udp", ("192.0.2.7", 5)), [b"one", b"two"])
        self.assertEqual(self.carrier.unsendable, 2)
        self.reactor.refusal = None
        self.carrier.send(Path("udp", ("192.0.2.7", 5)), [b"three"])
        self.assertEqual([data for data, _, _ in self.reactor.sent], [b"three"])

    def test_what_is_too_long_is_told(self) -> None:
        """
        Of a packet that is too large for the way the size is told; of other refusals nothing.
        """
        told: list[tuple[Path, int]] = []
        carrier = UDPCarrier(self.receive, on_unsendable=lambda *args: told.append(args))
        self.reactor.listenUDP(0, carrier)
        path = Path("udp", ("192.0.2.7", 5))
        self.reactor.refusal = OSError(errno.EMSGSIZE, "Message too long")
        carrier.send(path, [bytes(1472), bytes(9000)])
        self.reactor.refusal = OSError(errno.ENETUNREACH, "Network is unreachable")
        carrier.send(path, [bytes(20)])
        self.assertEqual(told, [(path, 1472), (path, 9000)])
        self.assertEqual(carrier.unsendable, 3)

    def test_without_a_socket_packets_are_lost(self) -> None:
        """
        A carrier whose socket is closed loses packets, and says nothing.
        """
        self.port.stopListening()
        self.carrier.send(Path("udp", ("192.0.2.7", 5)), [b"packet"])
        self.assertEqual(self.reactor.sent, [])

    def test_strangers_do_not_fill_the_memory(self) -> None:
        """
        With more addresses than are remembered, paths still are right, and one address's are
        one object while it is remembered.
        """
        for number in range(MAX_CACHED_PATHS + 2):
            self.carrier.datagramReceived(b"", ("192.0.2.7", number))
        self.carrier.datagramReceived(b"", ("192.0.2.7", MAX_CACHED_PATHS + 1))
        paths = [path for _, path in self.received]
        self.assertEqual(paths[0], Path("udp", ("192.0.2.7", 0)))
        self.assertIs(paths[-1], paths[-2])
        self.carrier.datagramReceived(b"", ("192.0.2.7", 0))
        self.assertIsNot(self.received[-1][1], paths[0])


@skipUnless(sys.platform == "linux", "only Linux has the option")
class FragmentTests(TestCase):
    """
    Real sockets do not fragment.
    """

    def listen(self, carrier: UDPCarrier, interface: str) -> Port:
        """
        Open a socket.
        """
        port = IReactorUDP(reactor).listenUDP(0, carrier, interface, 8192)
        self.addCleanup(port.stopListening)
        assert isinstance(port, Port)
        return port

    def test_the_sockets_probe(self) -> None:
        """
        The option is set, over IPv6 also for the IPv4 that such a socket may take.
        """
        for interface in ("127.0.0.1", "::1"):
            handle = self.listen(UDPCarrier(lambda packets, path: True), interface).getHandle()
            options = [handle.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER)]
            if interface == "::1":
                options.append(handle.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER))
            self.assertEqual(set(options), {PMTUDISC_PROBE})

    def test_too_long_for_any_way(self) -> None:
        """
        A packet that no datagram can hold is told like one that is too long for the way.
        """
        told: list[int] = []
        carrier = UDPCarrier(
            lambda packets, path: True, on_unsendable=lambda path, size: told.append(size)
        )
        port = self.listen(carrier, "127.0.0.1")
        carrier.send(Path("udp", ("127.0.0.1", port.getHost().port)), [bytes(65_508)])
        self.assertEqual(told, [65_508])


class HostileDatagramTests(SynchronousTestCase):
    """
    What strangers can send to a real session's socket.
    """

    def setUp(self) -> None:
        """
        A pair with a channel in use, and all packets that it has sent.
        """
        self.pair = DriverPair()
        self.addCleanup(self.pair.stop)
        self.channel, self.user = self.pair.open()
        self.channel.write(b"before ")
        self.pair.run(1)
        self.genuine = [data for data, _, to in self.pair.reactor.sent if to == self.server]
        self.home = self.pair.server.session.path

    @property
    def server(self) -> tuple[str, int]:
        """
        The server's address.
        """
        assert self.pair.server_path.address is not None
        return self.pair.server_path.address

    def attack(self, *datagrams: bytes) -> None:
        """
        Send datagrams from elsewhere to the server, and see that nothing changes.
        """
        seen = self.pair.server.session.last_received_time
        sent = len(self.pair.reactor.sent)
        attacker = ("192.0.2.66", 666)
        for datagram in datagrams:
            self.pair.reactor.transmit(datagram, attacker, self.server)
        self.pair.reactor.advance(0.02)
        self.assertEqual(self.pair.server.session.last_received_time, seen)
        self.assertEqual(self.pair.server.session.path, self.home)
        answers = [to for _, _, to in self.pair.reactor.sent[sent:] if to == attacker]
        self.assertEqual(answers, [])
        self.channel.write(b"after")
        self.pair.run(1)
        self.assertEqual(self.user.received, b"before after")

    def test_random(self) -> None:
        """
        Random bytes of every length, the empty one and the longest included, change nothing.
        """
        dice = Random(3)
        sizes = [0, 1, 15, 16, 511, 512, 513, 528, 65_507, *(dice.randrange(2000) for _ in "1234")]
        self.attack(*(dice.randbytes(size) for size in sizes))

    def test_truncated_and_oversized(self) -> None:
        """
        A genuine packet that lost or gained bytes is no packet.
        """
        packet = self.genuine[-1]
        self.attack(packet[:-1], packet[:-16], packet[:64], packet + b"\0", packet + bytes(16))

    def test_forged(self) -> None:
        """
        A genuine packet with one bit turned, wherever, is no packet.
        """
        forgeries = []
        for position in range(len(self.genuine[-1])):
            forged = bytearray(self.genuine[-1])
            forged[position] ^= 0x10
            forgeries.append(bytes(forged))
        self.attack(*forgeries)

    def test_replayed(self) -> None:
        """
        Old genuine packets from elsewhere do not turn the server's answers to there.
        """
        self.attack(*self.genuine)

    def test_a_server_that_is_gone(self) -> None:
        """
        Packets of another run's session change nothing.
        """
        client, _, _ = make_sessions(seed=99)
        carrier = UDPCarrier(lambda packets, path: False)
        driver = SessionDriver(
            client, {"udp": carrier}, clock=self.pair.reactor, now=self.pair.reactor.seconds
        )
        self.pair.reactor.listenUDP(0, carrier)
        driver.use_path(Path("udp", ("192.0.2.99", 1)))
        self.pair.run(0.05)
        sent = [data for data, _, to in self.pair.reactor.sent if to[0] == "192.0.2.99"]
        driver.stop()
        self.assertTrue(sent)
        self.attack(*sent)
