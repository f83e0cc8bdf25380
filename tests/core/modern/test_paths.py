"""
Tests of :mod:`resip.core.modern.paths`.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.paths import (
    AMPLIFICATION_LIMIT,
    CHALLENGE_PACKET_SIZE,
    MAX_PATHS,
    MINIMUM_VALIDATION_TIME,
    OUTSTANDING_CHALLENGES,
    UNLIMITED,
    ChosenPath,
    PathSelector,
    PathState,
    Validation,
)
from resip.core.types import Path

PTO = 0.15
RTT = 0.1
START = 1000.0

HOME = Path("udp", ("192.0.2.1", 4000))
MOBILE = Path("udp", ("198.51.100.7", 9000))
FOREIGN = Path("udp", ("203.0.113.66", 53))
RELAY = Path("tcp-1", None, is_reliable=True)


class PathStateTests(SynchronousTestCase):
    """
    One address: what may be sent there, and how it is proven.
    """

    def setUp(self) -> None:
        """
        An address that nobody has proven.
        """
        self.random_bytes = Random(1).randbytes
        self.state = PathState(MOBILE)

    def challenge(self, now: float) -> bytes | None:
        """
        The challenge that is due.
        """
        return self.state.get_challenge(self.random_bytes, now=now)

    def test_three_times_what_came_may_be_sent(self) -> None:
        """
        M-20: until the address is validated; then the limit is gone.
        """
        self.assertEqual(self.state.budget, 0)
        self.state.on_received(100, now=START)
        self.assertEqual(self.state.budget, 100 * AMPLIFICATION_LIMIT)
        self.state.on_sent(250, number=0)
        self.assertEqual(self.state.budget, 50)
        self.state.on_sent(250, number=0)
        self.assertEqual(self.state.budget, 0)
        self.assertEqual(PathState(MOBILE, is_validated=True).budget, UNLIMITED)

    def test_an_answer_validates(self) -> None:
        """
        The answer to the challenge proves the address and measures the round trip.
        """
        self.state.on_received(100, now=START)
        self.state.start_validation(probe_timeout=PTO, now=START)
        challenge = self.challenge(START)
        assert challenge is not None
        self.assertFalse(self.state.on_response(b"whatever", now=START + RTT))
        self.assertTrue(self.state.on_response(challenge, now=START + RTT))
        self.assertTrue(self.state.is_validated)
        self.assertAlmostEqual(self.state.rtt or 0.0, RTT)
        self.assertIsNone(self.state.get_timer())
        self.assertFalse(self.state.on_response(challenge, now=START + RTT))

    def test_challenges_are_repeated_and_differ(self) -> None:
        """
        RFC 9000 section 8.2.1: another one each probe timeout; an answer to either is good.
        """
        self.state.on_received(1000, now=START)
        self.state.start_validation(probe_timeout=PTO, now=START)
        first = self.challenge(START)
        self.assertIsNone(self.challenge(START + PTO / 2))
        self.assertEqual(self.state.get_timer(), START + PTO)
        second = self.challenge(START + PTO)
        self.assertNotEqual(first, second)
        assert first is not None
        self.assertTrue(self.state.on_response(first, now=START + PTO))

    def test_is_given_up_in_the_end(self) -> None:
        """
        After three seconds, or three timeouts on a slow path, and may be started again.
        """
        for timeout, deadline in ((PTO, MINIMUM_VALIDATION_TIME), (2.0, 6.0)):
            state = PathState(MOBILE)
            state.start_validation(probe_timeout=timeout, now=START)
            state.handle_timer(now=START + deadline - 0.01)
            self.assertIs(state.validation, Validation.PENDING)
            state.handle_timer(now=START + deadline)
            self.assertIs(state.validation, Validation.FAILED)
            self.assertIsNone(state.get_timer())
            state.start_validation(probe_timeout=timeout, now=START + 60)
            self.assertIs(state.validation, Validation.PENDING)

    def test_outstanding_challenges_are_bounded(self) -> None:
        """
        Only the newest few can be answered.
        """
        self.state.on_received(10_000, now=START)
        self.state.start_validation(probe_timeout=PTO, now=START)
        sent = [self.challenge(START + PTO * at) or b"" for at in range(10)]
        self.assertFalse(self.state.on_response(sent[-OUTSTANDING_CHALLENGES - 1], now=START))
        self.assertTrue(self.state.on_response(sent[-OUTSTANDING_CHALLENGES], now=START))

    def test_no_challenge_beyond_the_budget(self) -> None:
        """
        Without budget none is sent, and the timer moves on nevertheless.
        """
        self.state.start_validation(probe_timeout=PTO, now=START)
        self.assertIsNone(self.challenge(START))
        self.assertEqual(self.state.get_timer(), START + PTO)

    def test_a_carrier_with_a_connection_is_proof_enough(self) -> None:
        """
        Whoever completed a TCP handshake receives at its address.
        """
        self.assertTrue(PathState(RELAY).is_validated)


class PathSelectorTests(SynchronousTestCase):
    """
    The server answers where the newest packet came from, if the client really is there.
    """

    def setUp(self) -> None:
        """
        The client is at home, and that is validated.
        """
        self.selector = PathSelector(Random(2).randbytes)
        self.now = START
        self.number = 0
        self.sent = 0
        self.receive(HOME)
        self.answer(HOME)
        self.assertIs(self.current.validation, Validation.VALIDATED)

    @property
    def current(self) -> PathState:
        """
        Where the server sends.
        """
        assert self.selector.current is not None
        return self.selector.current

    def receive(self, path: Path, *, number: int | None = None, size: int = 100) -> bool:
        """
        A new authentic packet arrives; without ``number`` it is the newest.
        """
        self.number += 1
        return self.selector.on_received(
            path,
            number=self.number if number is None else number,
            size=size,
            probe_timeout=PTO,
            now=self.now,
        )

    def answer(self, *reachable: Path) -> bool:
        """
        Send the challenges that are due; the client answers those that reach it.
        """
        has_changed = False
        for state, challenge in self.selector.get_challenges(now=self.now):
            state.on_sent(CHALLENGE_PACKET_SIZE, number=0)
            if state.path in reachable:
                self.receive(state.path)
                has_changed |= self.selector.on_response(challenge, now=self.now + RTT)
        return has_changed

    def test_the_first_address_is_used_within_its_budget(self) -> None:
        """
        There is no other, so it gets answers at once, and a challenge with them.
        """
        selector = PathSelector(Random(3).randbytes)
        self.assertIsNone(selector.current)
        changed = selector.on_received(HOME, number=0, size=100, probe_timeout=PTO, now=START)
        self.assertTrue(changed)
        assert selector.current is not None
        self.assertEqual((selector.current.path, selector.current.budget), (HOME, 300))
        self.assertEqual(len(selector.get_challenges(now=START)), 1)

    def test_a_client_that_moved_is_followed_within_a_round_trip(self) -> None:
        """
        M-37: its newest packet starts the validation, the answer to it the change.
        """
        self.assertFalse(self.receive(MOBILE))
        self.assertEqual(self.current.path, HOME)
        self.assertTrue(self.answer(MOBILE))
        self.assertEqual(self.current.path, MOBILE)
        self.assertEqual(self.current.budget, UNLIMITED)

    def test_a_lost_challenge_is_repeated(self) -> None:
        """
        The next one goes out a probe timeout later.
        """
        self.receive(MOBILE)
        self.answer()
        timer = self.selector.get_timer()
        self.assertEqual(timer, self.now + PTO)
        self.now += PTO
        self.assertTrue(self.answer(MOBILE))

    def test_older_packets_move_nothing(self) -> None:
        """
        What was overtaken says where the client was, not where it is.
        """
        self.receive(MOBILE)
        self.answer(MOBILE)
        self.assertFalse(self.receive(HOME, number=1))
        self.assertFalse(self.receive(FOREIGN, number=2))
        self.assertEqual(self.current.path, MOBILE)
        self.assertEqual(self.selector.get_challenges(now=self.now), [])

    def test_a_captured_packet_from_a_foreign_address_moves_nothing(self) -> None:
        """
        An attacker sends each packet of the client first, from an address that it forged: the
        answers go on to the client, and the forged address gets no more than three times what
        came from it.
        """
        forged_bytes = challenged_bytes = 0
        for _ in range(200):
            self.now += 0.05
            self.assertFalse(self.receive(FOREIGN, size=60))
            forged_bytes += 60
            for state, _ in self.selector.get_challenges(now=self.now):
                self.assertEqual(state.path, FOREIGN)
                state.on_sent(CHALLENGE_PACKET_SIZE, number=0)
                challenged_bytes += CHALLENGE_PACKET_SIZE
            self.selector.handle_timer(now=self.now)
            self.assertEqual(self.current.path, HOME)
        foreign = self.selector.get(FOREIGN)
        assert foreign is not None
        self.assertGreater(challenged_bytes, 0)
        self.assertLessEqual(challenged_bytes, AMPLIFICATION_LIMIT * forged_bytes)
        self.assertFalse(self.receive(HOME))

    def test_flapping_between_two_addresses_is_followed(self) -> None:
        """
        A client whose address changes every second is answered at its newest one, at once after
        both have been validated, without further challenges.
        """
        for turn in range(60):
            self.now += 1.0
            path = MOBILE if turn % 2 == 0 else HOME
            has_changed = self.receive(path)
            if turn == 0:
                has_changed = self.answer(MOBILE)
            self.assertTrue(has_changed)
            self.assertEqual(self.current.path, path)
            self.assertIsNone(self.selector.get_timer())
        self.assertEqual(len(self.selector), 2)

    def test_an_answer_that_comes_after_the_client_left_moves_nothing(self) -> None:
        """
        The path is proven, but the newest packet came from elsewhere.
        """
        self.receive(MOBILE)
        [(_, challenge)] = self.selector.get_challenges(now=self.now)
        self.receive(HOME)
        self.assertFalse(self.selector.on_response(challenge, now=self.now + RTT))
        self.assertEqual(self.current.path, HOME)
        self.assertTrue(self.receive(MOBILE))

    def test_the_number_of_paths_is_bounded(self) -> None:
        """
        A thousand addresses leave four: the one in use, the newest, and two others.
        """
        for port in range(1000):
            self.now += 0.01
            self.receive(Path("udp", ("203.0.113.66", port)))
        self.assertEqual(len(self.selector), MAX_PATHS)
        self.assertEqual(self.current.path, HOME)
        self.receive(MOBILE)
        self.assertTrue(self.answer(MOBILE))
        self.assertEqual(len(self.selector), MAX_PATHS)

    def test_a_proven_path_is_kept_before_others(self) -> None:
        """
        Addresses that nobody proved make room first, however new they are.
        """
        self.receive(MOBILE)
        self.answer(MOBILE)
        for port in range(20):
            self.now += 0.01
            self.receive(Path("udp", ("203.0.113.66", port)))
        self.assertTrue(self.receive(HOME))

    def test_a_closed_carrier_leaves_the_best_of_the_others(self) -> None:
        """
        The proven path heard from last is used, or none.
        """
        self.receive(RELAY)
        self.assertEqual(self.current.path, RELAY)
        self.assertFalse(self.selector.path_closed(FOREIGN))
        self.assertTrue(self.selector.path_closed(RELAY))
        self.assertEqual(self.current.path, HOME)
        self.assertTrue(self.selector.path_closed(HOME))
        self.assertIsNone(self.selector.current)
        self.assertTrue(self.receive(MOBILE))

    def test_a_closed_carrier_does_not_come_back(self) -> None:
        """
        An answer from a third path does not lead to the one that is gone.
        """
        self.receive(MOBILE)
        [(_, challenge)] = self.selector.get_challenges(now=self.now)
        self.receive(RELAY)
        self.selector.path_closed(RELAY)
        self.assertFalse(self.selector.on_response(challenge, now=self.now + RTT))
        self.assertEqual(self.current.path, HOME)

    def test_gives_up_on_an_address_that_does_not_answer(self) -> None:
        """
        The timer ends the validation, and nothing is due afterwards.
        """
        self.receive(FOREIGN)
        while (timer := self.selector.get_timer()) is not None:
            self.assertGreaterEqual(timer, self.now)
            self.now = timer
            self.selector.handle_timer(now=self.now)
            self.answer()
        foreign = self.selector.get(FOREIGN)
        assert foreign is not None
        self.assertIs(foreign.validation, Validation.FAILED)
        self.assertLessEqual(self.now, START + 10)


class ChosenPathTests(SynchronousTestCase):
    """
    The client sends where its carriers say.
    """

    def test_uses_what_it_is_told(self) -> None:
        """
        At once and without a limit; the same again is no change.
        """
        chosen = ChosenPath()
        self.assertIsNone(chosen.current)
        self.assertEqual(
            [chosen.use(HOME), chosen.use(HOME), chosen.use(RELAY)], [True, False, True]
        )
        assert chosen.current is not None
        self.assertEqual((chosen.current.path, chosen.current.budget), (RELAY, UNLIMITED))

    def test_a_closed_carrier_is_not_used(self) -> None:
        """
        Only the one in use matters.
        """
        chosen = ChosenPath()
        chosen.use(HOME)
        self.assertFalse(chosen.path_closed(RELAY))
        self.assertTrue(chosen.path_closed(HOME))
        self.assertIsNone(chosen.current)
        self.assertFalse(chosen.path_closed(HOME))
