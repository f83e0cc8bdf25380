"""
Tests of :mod:`resip.core.modern.session`: the end, keep-alives, keys, broken rules, and time.
"""

from __future__ import annotations

import contextlib
import random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ChannelError, LimitError, ResetCode
from resip.core.events import ChannelRequested, ChannelReset, PeerSilent, SessionLost
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW
from resip.core.modern.frames import (
    CloseCode,
    credit_frame,
    end_frame,
    open_frame,
    opened_frame,
    reset_frame,
    retire_id_frame,
    session_credit_frame,
    stream_frames,
)
from resip.core.modern.session import ModernSession
from resip.core.session import Session
from resip.core.types import Path, Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender
from resip.lab.link import LinkConditions
from resip.lab.pair import SERVER_ADDRESS, Host, SimulatedPair
from tests.support.modern import (
    TOKEN,
    Insider,
    make_modern_pair,
    open_accepted,
    send_as_client,
)
from tests.support.pair import PLAIN, TCP_TARGET, UDP_TARGET, get_events

DOWN = LinkConditions(delay=0.05, is_down=True)


def modern(host: Host) -> ModernSession:
    """
    The session with all its readings.
    """
    assert isinstance(host.session, ModernSession)
    return host.session


def set_conditions(pair: SimulatedPair, conditions: LinkConditions) -> None:
    """
    Both directions become like that.
    """
    pair.up.conditions = pair.down.conditions = conditions


class Case(SynchronousTestCase):
    """
    A pair on a plain line.
    """

    def setUp(self) -> None:
        """
        Let both sides settle.
        """
        self.pair = make_modern_pair(PLAIN)
        self.client, self.server = self.pair.client, self.pair.server
        self.pair.run_for(1)


class CloseTests(Case):
    """
    CLOSE.
    """

    def test_each_code(self) -> None:
        """
        The other side hears the reason in words, its channels first (section 8).
        """
        words = {CloseCode.REVOKED: "key", CloseCode.SHUTDOWN: "stops", CloseCode.NONE: "ended"}
        for code in CloseCode:
            self.setUp()
            channel_id = open_accepted(self.pair, TCP_TARGET)
            modern(self.server).close(code=code, now=self.pair.now)
            self.pair.run_for(0.2)
            reset, lost = self.client.events[-2:]
            self.assertEqual(reset, ChannelReset(channel_id, ResetCode.SESSION_LOST))
            assert isinstance(lost, SessionLost)
            self.assertIn(words.get(code, str(int(code))), lost.reason)

    def test_nothing_happens_afterwards(self) -> None:
        """
        No timer, no packet, no state; a second close does nothing.
        """
        session = self.client.session
        session.close(now=self.pair.now)
        session.close(now=self.pair.now)
        self.assertEqual(len(session.datagrams_to_send(now=self.pair.now)), 1)
        self.assertEqual(session.datagrams_to_send(now=self.pair.now), [])
        self.assertIsNone(session.get_timer())
        session.handle_timer(now=self.pair.now + 100)
        self.assertFalse(session.receive_datagrams([bytes(100)], self.pair.server_path, now=0.0))

    def test_what_follows_a_close_does_not_count(self) -> None:
        """
        Neither in its packet nor in those behind it.
        """
        insider = Insider()
        close = b"\x12\x00\x00"
        packets = [insider.seal(close, open_frame(1, TCP_TARGET))]
        packets.append(insider.seal(open_frame(3, TCP_TARGET)))
        session = modern(self.server)
        session.receive_datagrams(packets, self.pair.client_path, now=self.pair.now)
        self.server.flush()
        self.assertIsInstance(self.server.events[-1], SessionLost)
        self.assertEqual(get_events(self.server, ChannelRequested), [])


class ViolationTests(Case):
    """
    An authentic peer that breaks the rules.
    """

    def check(self, word: str, frame: bytes) -> None:
        """
        The packet ends the session on both sides, for this reason.
        """
        self.setUp()
        send_as_client(self.pair, Insider(), frame)
        self.assertIsInstance(self.server.events[-1], SessionLost, frame)
        self.pair.run_for(0.2)
        lost = self.client.events[-1]
        assert isinstance(lost, SessionLost)
        self.assertIn(word, lost.reason)

    def test_frames_that_make_no_sense(self) -> None:
        """
        They end it with PROTOCOL (M-21, M-23, M-25).
        """
        for frame in (
            b"\x13",
            b"\xff",
            b"\x03\x00",
            b"\x02" + (10**6).to_bytes(4) + bytes(5),
            stream_frames(2, 0, [b"never opened"])[0],
            stream_frames(99_999, 0, [b"far ahead"])[0],
            retire_id_frame(77),
            end_frame(1, 5) + end_frame(1, 6),
            open_frame(1, TCP_TARGET) + credit_frame(1, 5, 10),
        ):
            self.check("", frame)

    def test_credit_exceeded(self) -> None:
        """
        It ends with FLOW_CONTROL (M-31): of a channel, of its END and of its RESET.
        """
        beyond = INITIAL_CHANNEL_WINDOW
        for frame in (
            stream_frames(1, beyond, [b"x"])[0],
            end_frame(1, beyond + 1),
            reset_frame(1, ResetCode.CANCELLED, beyond + 1),
            b"".join(
                b"\x0b" + (2 * n + 1).to_bytes(4) + (beyond - 1).to_bytes(4) + b"\x00\x01x"
                for n in range(9)
            ),
        ):
            self.check("were allowed", frame)

    def test_frames_for_channels_that_are_over(self) -> None:
        """
        They are late, and change nothing (M-25).
        """
        channel_id = open_accepted(self.pair, TCP_TARGET)
        self.client.session.reset(channel_id, ResetCode.CANCELLED, now=self.pair.now)
        self.pair.run_for(1)
        before = list(self.server.events)
        for frame in (
            open_frame(channel_id, TCP_TARGET),
            opened_frame(channel_id),
            end_frame(channel_id, 0),
            reset_frame(channel_id, ResetCode.CANCELLED, 0),
            credit_frame(channel_id, 0, 10),
            credit_frame(4711, 0, 10),
            session_credit_frame(0),
            stream_frames(channel_id, 0, [b"late"])[0],
        ):
            send_as_client(self.pair, Insider(), frame)
        self.assertEqual(self.server.events, before)
        self.assertEqual(modern(self.server).channel_count, 0)


class StatelessResetTests(Case):
    """
    The server forgot the session.
    """

    def test_the_right_token(self) -> None:
        """
        The client takes the session for lost (M-42).
        """
        channel_id = open_accepted(self.pair, TCP_TARGET)
        self.client.receive(bytes(20) + TOKEN, self.pair.server_path)
        self.assertEqual(self.client.events[-2], ChannelReset(channel_id, ResetCode.SESSION_LOST))
        self.assertIsInstance(self.client.events[-1], SessionLost)

    def test_any_other(self) -> None:
        """
        One bit makes it garbage, and the server obeys no token at all.
        """
        wrong = TOKEN[:-1] + bytes([TOKEN[-1] ^ 1])
        self.client.receive(bytes(20) + wrong, self.pair.server_path)
        self.client.receive(TOKEN, self.pair.server_path)
        self.server.receive(bytes(20) + TOKEN, self.pair.client_path)
        self.assertEqual(get_events(self.client, SessionLost), [])
        self.assertEqual(get_events(self.server, SessionLost), [])


class LivenessTests(Case):
    """
    Who says something while nothing happens.
    """

    def test_an_idle_server_rests(self) -> None:
        """
        It has no timer, and sends nothing but answers.
        """
        self.pair.run_for(10)
        self.assertIsNone(self.server.session.get_timer())
        up, down = self.pair.up.counters.sent, self.pair.down.counters.sent
        self.pair.run_for(3600)
        self.assertLessEqual(abs(self.pair.up.counters.sent - up - 60), 2)
        self.assertLessEqual(abs(self.pair.down.counters.sent - down - 60), 2)

    def test_keep_alives_are_more_frequent_with_channels(self) -> None:
        """
        A NAT must not forget the session while it is used.
        """
        open_accepted(self.pair, TCP_TARGET)
        up = self.pair.up.counters.sent
        self.pair.run_for(3600)
        self.assertLessEqual(abs(self.pair.up.counters.sent - up - 180), 5)

    def test_a_silent_peer(self) -> None:
        """
        The client's owner hears of it every ten seconds while an answer is owed.
        """
        set_conditions(self.pair, DOWN)
        self.client.session.retry(now=self.pair.now)
        self.pair.run_for(65)
        silent = [event.seconds for event in get_events(self.client, PeerSilent)]
        self.assertEqual([round(seconds) for seconds in silent], [10, 20, 30, 40, 50, 60])
        set_conditions(self.pair, PLAIN)
        self.pair.run_for(60)
        self.assertEqual(len(get_events(self.client, PeerSilent)), len(silent))

    def test_an_outage_without_any_path(self) -> None:
        """
        A day of it piles nothing up.
        """
        self.client.session.path_closed(self.pair.server_path, now=self.pair.now)
        sent = self.pair.up.counters.sent
        self.pair.run_for(86_400)
        self.assertEqual(self.pair.up.counters.sent, sent)
        self.client.session.use_path(self.pair.server_path, now=self.pair.now)
        self.pair.run_for(5)
        self.assertLess(self.pair.up.counters.sent - sent, 24)

    def test_the_clock_jumps(self) -> None:
        """
        After an hour of sleep all goes on, with bytes in flight or without.
        """
        t = Target(Protocol.TCP, "x", 1)
        receiver = BulkReceiver(t, size=300_000)
        receiver.serve(self.server)
        BulkSender(t, size=300_000).start(self.client)
        self.pair.run_for(0.2)
        self.pair.simulator.now += 3600.0
        self.pair.run_for(10)
        self.assertTrue(receiver.is_finished)
        self.assertEqual(get_events(self.client, SessionLost), [])


class KeyUpdateTests(SynchronousTestCase):
    """
    New keys while data flows.
    """

    def test_both_sides_update_all_the_time(self) -> None:
        """
        Nothing is lost by it, under loss and reordering, and both sides have the same keys.
        """
        pair = make_modern_pair(
            LinkConditions(rate=20e6, delay=0.02, loss=0.1, reorder=0.1), keeps_events=False
        )
        t = Target(Protocol.TCP, "x", 1)
        receiver = BulkReceiver(t, size=2_000_000)
        receiver.serve(pair.server)
        BulkSender(t, size=2_000_000).start(pair.client)
        dice = random.Random(2)
        while not receiver.is_finished and pair.now < 1100:
            modern(dice.choice((pair.client, pair.server))).request_key_update(now=pair.now)
            pair.run_for(0.05)
        self.assertTrue(receiver.is_finished)
        generations = [modern(h).connection.key_generation for h in (pair.client, pair.server)]
        self.assertGreater(min(generations), 5)
        self.assertLessEqual(abs(generations[0] - generations[1]), 1)

    def test_no_packet_repeats_another(self) -> None:
        """
        Numbers are not used twice under one key: all packets of a session differ (M-8).
        """
        pair = make_modern_pair(PLAIN)
        seen: set[bytes] = set()
        transmit = pair.up.transmit

        def watch(data: bytes, *, now: float) -> list[tuple[float, bytes]]:
            self.assertNotIn(data, seen)
            seen.add(data)
            return transmit(data, now=now)

        self.patch(pair.up, "transmit", watch)
        channel_id = open_accepted(pair, TCP_TARGET)
        set_conditions(pair, LinkConditions(delay=0.02, loss=0.3))
        for _ in range(20):
            pair.client.session.write(channel_id, bytes(5000), now=pair.now)
            modern(pair.client).request_key_update(now=pair.now)
            pair.run_for(0.3)
        self.assertGreater(len(seen), 50)


class FuzzTests(SynchronousTestCase):
    """
    Random verbs on both sides, on a random line, with random packets thrown in.
    """

    def test_only_documented_errors(self) -> None:
        """
        Nothing else is raised, and no side keeps more than its limits.
        """
        for seed in range(12):
            self.run_one(seed, is_hostile=seed % 2 == 1)

    def run_one(self, seed: int, *, is_hostile: bool) -> None:
        """
        300 steps.
        """
        dice = random.Random(seed)
        line = LinkConditions(
            delay=0.01, jitter=0.03, keeps_order=False, loss=0.3, duplicate=0.2, reorder=0.2
        )
        pair = make_modern_pair(line, seed=seed)
        for _ in range(300):
            host = dice.choice((pair.client, pair.server))
            with contextlib.suppress(ChannelError, LimitError):
                self.act(host, dice)
            if dice.random() < 0.2:
                host.receive(dice.randbytes(dice.randrange(200)), Path("x", ("192.0.2.9", 9)))
            if is_hostile and dice.random() < 0.02:
                frame = bytes([dice.randrange(20)]) + dice.randbytes(dice.randrange(60))
                send_as_client(pair, Insider(seed), frame)
            pair.run_for(dice.random() * 0.05)
        for host in (pair.client, pair.server):
            self.assertLessEqual(modern(host).channel_count, 1024)
            self.assertLess(modern(host).connection.outbox.unacked, 2000)
            if not is_hostile:
                self.assertEqual(get_events(host, SessionLost), [], f"seed {seed}")

    def act(self, host: Host, dice: random.Random) -> None:
        """
        One random verb.
        """
        session, now = host.session, host.now
        channel_id = dice.randrange(1, 20)
        match dice.randrange(10):
            case 0:
                target = dice.choice((TCP_TARGET, UDP_TARGET))
                session.open_channel(target, now=now, compress=dice.random() < 0.3)
            case 1 | 2:
                session.accept_channel(channel_id, now=now)
            case 3:
                session.refuse_channel(channel_id, ResetCode.REFUSED, now=now)
            case 4 | 5:
                session.write(channel_id, dice.randbytes(dice.randrange(3000)), now=now)
            case 6:
                session.end(channel_id, now=now)
            case 7:
                session.consume(channel_id, dice.randrange(3000), now=now)
            case 8:
                if dice.random() < 0.3:
                    session.reset(channel_id, ResetCode.CANCELLED, now=now)
                else:
                    session.retry(now=now)
            case 9:
                self.act_on_paths(session, dice, now)
        host.flush()

    def act_on_paths(self, session: Session, dice: random.Random, now: float) -> None:
        """
        One random verb about a path that leads nowhere.
        """
        path = Path(f"carrier {dice.randrange(9)}", SERVER_ADDRESS, is_reliable=dice.random() < 0.5)
        match dice.randrange(3):
            case 0:
                session.probe_path(path, now=now)
            case 1:
                session.preamble(path)
            case 2:
                session.path_closed(path, now=now)


class QuietTests(Case):
    """
    A timer that is due is one that has something to do.
    """

    def test_timers_do_not_spin(self) -> None:
        """
        Handling the timer and sending moves it into the future, in every state of the line.
        """
        open_accepted(self.pair, TCP_TARGET)
        for conditions in (PLAIN, DOWN, LinkConditions(delay=0.05, loss=0.5)):
            set_conditions(self.pair, conditions)
            for host in (self.client, self.server):
                self.pair.run_for(7)
                now = self.pair.now
                for _ in range(10):
                    host.session.handle_timer(now=now)
                    host.session.datagrams_to_send(now=now)
                timer = host.session.get_timer()
                self.assertTrue(timer is None or timer > now, (conditions, timer))
