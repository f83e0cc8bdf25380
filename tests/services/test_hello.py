"""
Tests of :mod:`resip.services.hello`: handshakes in packets, in memory and between real services.
"""

from __future__ import annotations

import os
from random import Random

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.handshake import OutgoingHandshake
from resip.bootstrap.invitation import Invitation
from resip.bootstrap.keystore import KeyRecord
from resip.carriers.udp import UDPCarrier
from resip.core.modern.handshake_packets import MESSAGE1_PACKET_SIZE, HandshakePackets
from resip.core.modern.noise import public_key_of
from resip.core.types import Path
from resip.services import hello as hello_module
from resip.services.clock import Clocks
from resip.services.handshakes import (
    ADDRESS_BURST,
    ANSWER_LIFETIME,
    LATER_COPIES,
    MAX_REPETITIONS,
)
from resip.services.hello import Agreed, PacketHandshake
from resip.services.links import LinkUser
from resip.services.sessions import ARRIVAL_TIMEOUT, MAX_SESSIONS_PER_KEY, ServerSessions
from tests.services.fixture import HOST, ServiceTestCase
from tests.support.network import DatagramReactor

SERVER_KEY = X25519PrivateKey.from_private_bytes(b"\x05" * 32)
CLIENT_KEY = X25519PrivateKey.from_private_bytes(b"\x06" * 32)
STRANGER_KEY = X25519PrivateKey.from_private_bytes(b"\x07" * 32)
SERVER_PUBLIC_KEY = public_key_of(SERVER_KEY)
START = 1_000_000.0


class MemoryLink:
    """
    A link by a UDP socket in memory.
    """

    def __init__(self, reactor: DatagramReactor, server: tuple[str, int]) -> None:
        self._reactor = reactor
        self._server = server
        self.is_open = False

    def start(self, user: LinkUser) -> None:
        """
        Open the socket and offer it.
        """
        carrier = UDPCarrier(user.receive_datagrams)
        self._port = self._reactor.listenUDP(0, carrier)
        self.is_open = True
        user.path_open(Path("udp", self._server), carrier)

    def renew(self) -> None:
        """
        There is nothing to look up.
        """

    def stop(self) -> Deferred[None]:
        """
        Close the socket.
        """
        if self.is_open:
            self.is_open = False
            return self._port.stopListening()
        return succeed(None)


class PacketHandshakeTestCase(SynchronousTestCase):
    """
    A server with one known key, whose socket is in memory.
    """

    def setUp(self) -> None:
        """
        Start without sessions.
        """
        self.dice = Random(1)
        self.reactor = DatagramReactor(latency=0.05)
        self.clocks = Clocks(
            monotonic=self.reactor.seconds, wall=lambda: START + self.reactor.seconds()
        )
        carriers: dict[str, UDPCarrier] = {}
        self.sessions = ServerSessions(
            carriers,
            clock=self.reactor,
            clocks=self.clocks,
            random_bytes=self.dice.randbytes,
            on_request=lambda channel, name: None,
            is_classic=False,
        )
        self.known = {public_key_of(CLIENT_KEY): KeyRecord("laptop", b"", None, 0)}
        self.sessions.speak_modern(SERVER_KEY, self.known.get, hello_floor_ms=int(START * 1000))
        carriers["udp"] = UDPCarrier(self.sessions.receive_datagrams)
        self.server = self.reactor.listenUDP(0, carriers["udp"]).address
        self.reactor.advance(1)

    def begin(self, key: X25519PrivateKey = CLIENT_KEY) -> PacketHandshake:
        """
        A client's handshake, which ends with the test.
        """
        outgoing = OutgoingHandshake(
            key, SERVER_PUBLIC_KEY, random_bytes=self.dice.randbytes, wall_clock=self.clocks.wall
        )
        self.link = MemoryLink(self.reactor, self.server)
        handshake = PacketHandshake(
            self.reactor,
            outgoing,
            SERVER_PUBLIC_KEY,
            [self.link],
            random_bytes=self.dice.randbytes,
        )
        self.addCleanup(handshake.stop)
        return handshake

    def run_for(self, seconds: float) -> None:
        """
        Let time pass.
        """
        for _ in range(round(seconds / 0.01)):
            self.reactor.advance(0.01)

    def answers(self) -> list[bytes]:
        """
        What the server has sent.
        """
        return [data for data, source, _ in self.reactor.sent if source == self.server]

    def hello_packet(self, key: X25519PrivateKey = CLIENT_KEY) -> bytes:
        """
        A packet with a new message 1.
        """
        outgoing = OutgoingHandshake(
            key, SERVER_PUBLIC_KEY, random_bytes=self.dice.randbytes, wall_clock=self.clocks.wall
        )
        packets = HandshakePackets(SERVER_PUBLIC_KEY)
        return packets.wrap_message1(outgoing.message1, self.dice.randbytes)

    def say(self, packet: bytes, *, host: str = "192.0.2.7") -> list[bytes]:
        """
        Send a packet to the server, and return what it sends back.
        """
        before = len(self.answers())
        self.reactor.transmit(packet, (host, 7), self.server)
        self.run_for(0.2)
        return self.answers()[before:]


class ClientTests(PacketHandshakeTestCase):
    """
    What a client does.
    """

    def test_one_round_trip(self) -> None:
        """
        Nothing lost, nothing repeated.
        """
        agreed = self.begin().start()
        self.run_for(0.11)
        agreement, welcome = self.successResultOf(agreed)
        self.assertTrue(self.sessions.knows(agreement.peer_id.to_bytes(4)))
        self.assertEqual(welcome.server_run, self.sessions.started)
        self.assertEqual(len(self.reactor.sent), 2)

    def measure_starts(self, *, count: int, loss: float) -> list[float]:
        """
        Seconds that clients needed where so many packets get lost each way, in ascending order;
        60 for those that gave up.
        """
        dice = Random(5)
        self.reactor.drops = lambda data: dice.random() < loss
        times = []
        for number in range(count):
            client = X25519PrivateKey.from_private_bytes(number.to_bytes(32))
            self.known[public_key_of(client)] = KeyRecord(f"client-{number}", b"", None, 0)
            handshake = self.begin(client)
            start = self.reactor.seconds()
            agreed: list[Agreed] = []
            handshake.start().addCallback(agreed.append)
            while not agreed and self.reactor.seconds() - start < 60:
                self.reactor.advance(0.01)
            times.append(self.reactor.seconds() - start)
            self.successResultOf(handshake.stop())
        return sorted(times)

    def test_half_of_all_packets_lost(self) -> None:
        """
        Of 200 tries at 50 % loss each way all succeed, half within 1 s and nineteen in twenty
        within 2.5 s; and each starts one session.
        """
        times = self.measure_starts(count=200, loss=0.5)
        self.assertLess(times[100], 1.0)
        self.assertLess(times[190], 2.5)
        self.assertLess(times[-1], 60)
        self.assertEqual(len(self.sessions), 200)

    def test_nine_of_ten_packets_lost(self) -> None:
        """
        Of 50 tries two in three succeed within 20 s.
        """
        self.assertLess(self.measure_starts(count=50, loss=0.9)[33], 20)

    def test_pace(self) -> None:
        """
        Without an answer hellos get rarer, and always are the same.
        """
        self.reactor.drops = lambda data: True
        self.begin().start()
        self.run_for(60)
        sent = [data for data, *_ in self.reactor.sent]
        self.assertEqual(len(set(sent)), 1)
        self.assertIn(len(sent), range(125, 135))

    def test_a_forged_answer(self) -> None:
        """
        An answer that is not the server's is ignored, and the genuine one still counts.
        """
        agreed = self.begin().start()
        self.run_for(0.07)
        client = self.reactor.sent[0][1]
        (genuine,) = self.answers()
        packets = HandshakePackets(SERVER_PUBLIC_KEY)
        unwrapped = packets.unwrap_message2(genuine)
        assert unwrapped is not None
        forged = packets.wrap_message2(unwrapped[0], self.dice.randbytes(len(unwrapped[1])))
        self.reactor.transmit(forged, self.server, client)
        self.reactor.transmit(os.urandom(100), self.server, client)
        self.run_for(0.1)
        self.successResultOf(agreed)

    def test_stop(self) -> None:
        """
        Afterwards nothing is said and nothing heard.
        """
        handshake = self.begin()
        agreed = handshake.start()
        self.run_for(0.01)
        self.successResultOf(handshake.stop())
        self.assertFalse(self.link.is_open)
        count = len(self.reactor.sent)
        self.run_for(5)
        self.assertEqual(len(self.reactor.sent) - count, 1)  # the server's answer
        self.assertNoResult(agreed)


class ServerTests(PacketHandshakeTestCase):
    """
    What a server does with hellos in packets.
    """

    def test_answer_is_small(self) -> None:
        """
        It sends back a fraction of what it got, and no more than that when it repeats itself
        (M-20).
        """
        packet = self.hello_packet()
        (answer,) = self.say(packet)
        self.assertLess(len(answer), MESSAGE1_PACKET_SIZE / 4)
        self.assertEqual(self.say(packet), [answer] * LATER_COPIES)
        self.assertLessEqual(len(answer) * LATER_COPIES, MESSAGE1_PACKET_SIZE)

    def test_strangers_get_silence(self) -> None:
        """
        A key that is not known, and a mac that is not right, get nothing, not even a reset for
        the former (M-19, M-50), and leave nothing.
        """
        self.assertEqual(self.say(self.hello_packet(STRANGER_KEY)), [])
        forged = bytearray(self.hello_packet())
        forged[700] ^= 1
        for answer in self.say(bytes(forged)):
            self.assertLess(len(answer), 43)
        self.assertEqual(len(self.sessions), 0)

    def test_repeated_hello(self) -> None:
        """
        The same hello again has the same answer, from wherever it comes, and there is one
        session (M-51).
        """
        packet = self.hello_packet()
        (first,) = self.say(packet)
        self.assertEqual(set(self.say(packet, host="192.0.2.8")), {first})
        self.run_for(30)
        for _ in range(32):
            self.assertEqual(set(self.say(packet)), {first})
        self.assertEqual(len(self.sessions), 1)

    def test_repetitions_end(self) -> None:
        """
        Nobody can make a server repeat itself for ever.
        """
        packet = self.hello_packet()
        answers = [self.say(packet) for _ in range(MAX_REPETITIONS + 20)]
        self.assertEqual(sum(map(bool, answers)), MAX_REPETITIONS + 1)

    def test_recorded_hello(self) -> None:
        """
        One that is said again later, or after a newer one of its key, starts nothing (M-7).
        """
        old, recorded = self.hello_packet(), self.hello_packet()
        self.run_for(0.01)
        self.assertEqual(len(self.say(self.hello_packet())), 1)
        self.assertEqual(self.say(old), [])
        self.run_for(ANSWER_LIFETIME + 1)
        self.assertEqual(self.say(recorded), [])
        self.assertEqual(len(self.sessions), 1)

    def test_hello_of_before_the_start(self) -> None:
        """
        A server that was started anew remembers nothing, so it takes no hello of before.
        """
        self.clocks = Clocks(monotonic=self.reactor.seconds, wall=lambda: START - 1)
        self.assertEqual(self.say(self.hello_packet()), [])

    def test_rates(self) -> None:
        """
        Only so many hellos of one address are decrypted; others are not held up by it (M-50).
        """
        for _ in range(ADDRESS_BURST):
            self.reactor.transmit(self.hello_packet(STRANGER_KEY), ("192.0.2.7", 7), self.server)
        self.assertEqual(self.say(self.hello_packet()), [])
        self.assertEqual(len(self.say(self.hello_packet(), host="192.0.2.9")), 1)

    def test_a_session_without_its_client_ends(self) -> None:
        """
        Whoever does not come within ten minutes is not waited for (M-52).
        """
        self.say(self.hello_packet())
        self.reactor.advance(ARRIVAL_TIMEOUT - 10)
        self.sessions.end_silent()
        self.assertEqual(len(self.sessions), 1)
        self.reactor.advance(20)
        self.sessions.end_silent()
        self.assertEqual(len(self.sessions), 0)

    def test_many_sessions(self) -> None:
        """
        One key has so many sessions and no more.
        """
        for number in range(MAX_SESSIONS_PER_KEY + 5):
            self.run_for(0.01)
            self.say(self.hello_packet(), host=f"192.0.{number}.1")
        self.assertEqual(len(self.sessions), MAX_SESSIONS_PER_KEY)

    def test_over_https_and_in_packets(self) -> None:
        """
        However the hello comes it is one session (M-51).
        """
        packet = self.hello_packet()
        message1 = HandshakePackets(SERVER_PUBLIC_KEY).unwrap_message1(packet)
        assert message1 is not None
        over_https = self.sessions.accept_handshake(message1)
        assert over_https is not None
        self.assertIn(over_https.message2, self.say(packet)[0])
        self.assertEqual(len(self.sessions), 1)


class RaceTests(ServiceTestCase):
    """
    A client and a server, with HTTPS out of order.
    """

    async def test_https_is_down(self) -> None:
        """
        A client gets its session in packets by either carrier, and its log says why.
        """
        server = self.start_server()
        _, port = self.serve(echoes=True)
        for carrier in ("udp", "tcp"):
            client = self.start_client(
                port, carrier=carrier, invitation=self.invitation(https_port=1)
            )
            await self.echo(client)
            await self.logged("started with", "in packets", "refuses connections")
            self.assertEqual(len(server.sessions), 1)
            await self.stop(client)
            self.events.clear()
        self.assertEqual(self.tracebacks, [])

    async def test_https_is_silent(self) -> None:
        """
        While HTTPS takes its time packets are tried.
        """
        self.patch(hello_module, "HTTPS_HEAD_START", 0.1)
        self.start_server()
        _, port = self.serve(echoes=True)
        programs, https_port = self.serve()
        client = self.start_client(port, invitation=self.invitation(https_port=https_port))
        await self.echo(client)
        await self.logged("started with", "in packets", "no answer yet")
        self.assertEqual(len(programs.connections), 1)

    async def test_https_first(self) -> None:
        """
        Where HTTPS answers nothing is said in packets.
        """
        server = self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port)
        await self.echo(client)
        self.assertEqual(self.lines("in packets"), [])
        self.assertEqual(len(server.sessions), 1)

    async def test_the_servers_own_word(self) -> None:
        """
        A key that the server refuses over HTTPS is not tried in packets.
        """
        self.start_server()
        self.start_client(f"0:{HOST}:1", invitation=self.invitation(secret=bytes(32)))
        await self.logged("does not accept the key")
        self.assertEqual(self.lines("in packets"), [])

    async def test_stop_in_the_middle(self) -> None:
        """
        A client that is stopped while it tries leaves nothing behind.
        """
        client = self.start_client(f"0:{HOST}:1", invitation=(await self._far_invitation()))
        await self.pass_time(0.1)
        await self.stop(client)
        self.assertEqual(self.tracebacks, [])

    async def _far_invitation(self) -> Invitation:
        server = self.start_server()
        invitation = self.invitation(https_port=1, port=1)
        await self.stop(server)
        return invitation
