"""
Tests of :mod:`resip.core.modern.endpoint`.
"""

from __future__ import annotations

import random

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.errors import LimitError
from resip.core.modern.endpoint import Accepted, ModernEndpoint
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.handshake import ClientHandshake, Hello
from resip.core.modern.ids import MAX_ACTIVE_IDS
from resip.core.modern.noise import HandshakeError, public_key_of
from resip.core.modern.reset import MAX_RESETS_PER_SECOND

NOW = 1000.0


class EndpointTests(SynchronousTestCase):
    """
    A server's sessions.
    """

    def setUp(self) -> None:
        """
        An endpoint that knows one client.
        """
        self.dice = random.Random(1)
        #: What the next ids are drawn from, before the dice.
        self.draws: list[bytes] = []
        #: Ids that mean something else to the owner.
        self.taken: set[int] = set()
        self.client_key = X25519PrivateKey.from_private_bytes(self.dice.randbytes(32))
        self.endpoint: ModernEndpoint[str] = ModernEndpoint(
            X25519PrivateKey.from_private_bytes(self.dice.randbytes(32)),
            server_run=1,
            random_bytes=self.draw,
            make_controller=lambda: ErasureAwareController(
                datagram_size=1200, random=self.dice.random, now=NOW
            ),
            max_sessions=2,
            is_taken=self.taken.__contains__,
        )

    def draw(self, size: int) -> bytes:
        """
        Random bytes.
        """
        return self.draws.pop(0) if size == 4 and self.draws else self.dice.randbytes(size)

    def accept(self, key: X25519PrivateKey | None = None) -> Accepted[str]:
        """
        Shake hands.
        """
        hello = Hello(7, 1, INITIAL_SESSION_WINDOW, INITIAL_CHANNEL_WINDOW)
        public_key = self.endpoint.public_key
        key = key or self.client_key
        handshake = ClientHandshake(key, public_key, hello, self.dice.randbytes)
        known = {public_key_of(self.client_key): "alice"}
        return self.endpoint.accept(handshake.message1, lambda key, _: known.get(key), now=NOW)

    def test_ids_that_are_taken_are_not_given(self) -> None:
        """
        A number by which the owner knows another session is never an id of a new one.
        """
        state = self.dice.getstate()
        session = self.accept().session
        first = session.session_id
        session.close(now=NOW)
        self.dice.setstate(state)
        self.taken.add(first)
        self.assertNotEqual(self.accept().session.session_id, first)

    def test_no_id_is_given_twice(self) -> None:
        """
        The random part of an id has 20 bits, so one is drawn again now and then. The client would
        end the session over it.
        """
        first, second, third = (number << 12 for number in (1, 2, 3))
        self.draws = [number.to_bytes(4) for number in (first, first, second, second, third)]
        session = self.accept().session
        self.assertEqual(self.draws, [])
        session.close(now=NOW)
        farewell = session.farewell
        assert farewell is not None
        self.assertEqual(len(set(farewell.ids)), MAX_ACTIVE_IDS)
        drawn = [session_id >> 12 << 12 for session_id in farewell.ids]
        self.assertEqual(drawn[:3], [first, second, third])

    def test_a_known_client(self) -> None:
        """
        It gets a session, which packets find by its id.
        """
        accepted = self.accept()
        self.assertEqual((accepted.owner, len(self.endpoint)), ("alice", 1))
        packet = accepted.session.session_id.to_bytes(4) + bytes(40)
        self.assertIs(self.endpoint.find(packet), accepted.session)
        self.assertIsNone(self.endpoint.find(packet[:24]))
        self.assertIsNone(self.endpoint.find(bytes(44)))

    def test_strangers_and_garbage(self) -> None:
        """
        They get the same error, and leave nothing (M-4).
        """
        stranger = X25519PrivateKey.from_private_bytes(self.dice.randbytes(32))
        with self.assertRaises(HandshakeError):
            self.accept(stranger)
        with self.assertRaises(HandshakeError):
            self.endpoint.accept(self.dice.randbytes(200), lambda key, hello: "bob", now=NOW)
        self.assertEqual(len(self.endpoint), 0)

    def test_too_many_sessions(self) -> None:
        """
        There is a limit, until one is removed.
        """
        first = self.accept()
        self.accept()
        with self.assertRaises(LimitError):
            self.accept()
        first.session.close(now=NOW)
        self.endpoint.remove(first.session.session_id, now=NOW)
        self.accept()

    def test_a_closed_session_cannot_be_found(self) -> None:
        """
        Its packets are answered like those of a session of a former run (M-41).
        """
        accepted = self.accept()
        packet = accepted.session.session_id.to_bytes(4) + bytes(40)
        accepted.session.close(now=NOW)
        self.assertIsNone(self.endpoint.find(packet))
        answer = self.endpoint.answer_stranger(packet, now=NOW)
        assert answer is not None
        self.assertLess(len(answer), len(packet))

    def test_packets_of_a_session_closed_a_moment_ago(self) -> None:
        """
        They are answered with its CLOSE for a while, and its ids are given to nobody (M-62).
        """
        session = self.accept().session
        packet = session.session_id.to_bytes(4) + bytes(40)
        session.close(now=NOW)
        self.endpoint.remove(session.session_id, now=NOW)
        farewell = session.farewell
        assert farewell is not None
        self.assertIn(session.session_id, farewell.ids)
        self.assertIsNone(self.endpoint.find(packet))
        self.assertEqual(self.endpoint.answer_stranger(packet, now=NOW + 1), farewell.packet)

    def test_resets_are_limited(self) -> None:
        """
        A hundred a second for all together (M-43).
        """
        accepted = self.accept()
        packet = accepted.session.session_id.to_bytes(4) + bytes(40)
        accepted.session.close(now=NOW)
        answers = [self.endpoint.answer_stranger(packet, now=NOW) for _ in range(200)]
        self.assertEqual(len([a for a in answers if a]), MAX_RESETS_PER_SECOND)
