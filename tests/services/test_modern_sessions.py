"""
Modern sessions in :mod:`resip.services.sessions`: how they end, and who must go when they are many.
"""

from __future__ import annotations

from random import Random

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.keystore import KeyRecord
from resip.carriers.driver import SessionDriver
from resip.carriers.udp import UDPCarrier
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.handshake import ClientHandshake, Hello
from resip.core.modern.noise import public_key_of
from resip.core.modern.parts import Agreement, IdAllocation
from resip.core.modern.session import ModernSession
from resip.core.types import Path
from resip.services import sessions as sessions_module
from resip.services.clock import Clocks
from resip.services.sessions import ServerSessions
from resip.services.starters import make_controller
from tests.support.network import DatagramReactor


class ModernSessionsTests(SynchronousTestCase):
    """
    Sessions of a server whose socket is in memory.
    """

    def setUp(self) -> None:
        """
        Start without sessions.
        """
        self.reactor = DatagramReactor()
        self.dice = Random(1)
        self.reasons: list[str] = []
        carriers: dict[str, UDPCarrier] = {}
        self.sessions = ServerSessions(
            carriers,
            clock=self.reactor,
            clocks=Clocks(monotonic=self.reactor.seconds, wall=lambda: 1000.9),
            random_bytes=self.dice.randbytes,
            on_request=lambda channel, key: None,
        )
        carriers["udp"] = UDPCarrier(self.sessions.receive_datagrams)
        self.address = self.reactor.listenUDP(0, carriers["udp"]).address
        self.key = X25519PrivateKey.from_private_bytes(self.dice.randbytes(32))
        public_key = public_key_of(self.key)
        known = {public_key: KeyRecord("laptop", public_key, None, 0)}
        self.server_key = self.sessions.speak_modern(
            X25519PrivateKey.from_private_bytes(self.dice.randbytes(32)), known.get
        )

    def start(self) -> Agreement:
        """
        Shake hands.
        """
        local_id = self.dice.getrandbits(32)
        hello = Hello(local_id, 1, INITIAL_SESSION_WINDOW, INITIAL_CHANNEL_WINDOW)
        handshake = ClientHandshake(self.key, self.server_key, hello, self.dice.randbytes)
        answer = self.sessions.accept_handshake(handshake.message1)
        assert answer is not None
        welcome, secrets = handshake.finish(answer.message2)
        return Agreement(
            secrets,
            is_client=True,
            local_id=local_id,
            peer_id=welcome.session_id,
            session_credit=welcome.session_credit,
            channel_credit=welcome.channel_credit,
            peer_token=welcome.reset_token,
        )

    def dial(self) -> SessionDriver:
        """
        A client with a new session that has said something.
        """
        session = ModernSession(
            self.start(),
            make_controller(self.dice.randbytes, now=self.reactor.seconds()),
            ids=IdAllocation(
                lambda: self.dice.getrandbits(32), lambda _: None, lambda _: bytes(16)
            ),
            random_bytes=self.dice.randbytes,
            now=self.reactor.seconds(),
        )
        carrier = UDPCarrier(lambda packets, path: driver.receive_datagrams(packets, path))
        driver = SessionDriver(
            session,
            {"udp": carrier},
            clock=self.reactor,
            now=self.reactor.seconds,
            on_lost=self.reasons.append,
        )
        self.reactor.listenUDP(0, carrier)
        driver.use_path(Path("udp", self.address))
        self.addCleanup(driver.stop)
        self.run_for(1)
        return driver

    def run_for(self, seconds: float) -> None:
        """
        Let time pass.
        """
        for _ in range(round(seconds / 0.01)):
            self.reactor.advance(0.01)

    def test_a_revoked_key(self) -> None:
        """
        Its clients hear why their sessions end.
        """
        self.dial()
        self.sessions.end_sessions_of(lambda name: False)
        self.run_for(0.5)
        self.assertEqual(self.reasons, ["the key is not valid any more"])

    def test_a_server_that_stops(self) -> None:
        """
        Its clients hear it, those whose sessions are folded up too.
        """
        self.dial()
        self.reactor.advance(200)
        self.sessions.park_idle()
        self.sessions.stop()
        self.run_for(0.5)
        self.assertEqual(self.reasons, ["the server stops"])

    def test_sessions_that_nobody_uses_go_first(self) -> None:
        """
        Recorded hellos that are said again start sessions, but none of these takes the place of
        one whose client has come.
        """
        self.patch(sessions_module, "MAX_SESSIONS_PER_KEY", 3)
        used = self.dial().session.session_id
        for _ in range(5):
            self.run_for(1)
            self.start()
        key = KeyRecord("laptop", public_key_of(self.key), None, 0)
        self.assertTrue(self.sessions.has_session(used, key))
        self.assertEqual(len(self.sessions), 3)

    def test_a_hello_said_again(self) -> None:
        """
        The very same one starts no second session, by HTTPS neither (M-51).
        """
        hello = Hello(7, 1, INITIAL_SESSION_WINDOW, INITIAL_CHANNEL_WINDOW)
        handshake = ClientHandshake(self.key, self.server_key, hello, self.dice.randbytes)
        answers = [self.sessions.accept_handshake(handshake.message1) for _ in range(3)]
        self.assertEqual(len({answer.message2 for answer in answers if answer}), 1)
        self.assertEqual(len(self.sessions), 1)
