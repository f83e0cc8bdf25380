"""
Tests of :mod:`resip.carriers.driver`.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.channels import Channel
from resip.carriers.driver import BLOCKED_INTERVAL, BULK_PACKETS, FOLD_INTERVAL, SessionDriver
from resip.carriers.tcp_socket import MAX_HASTY_WRITE
from resip.core import events
from resip.core.errors import ResetCode
from resip.core.types import Path
from tests.carriers.fixture import PATH, TARGET, ListCarrier, ScriptedSession
from tests.tunnel.programs import RecordingUser


class DriverTestCase(SynchronousTestCase):
    """
    A driver of a scripted session. Its own clock and the reactor's are two.
    """

    def setUp(self) -> None:
        """
        Join the parts, and let the first turn pass.
        """
        self.session = ScriptedSession()
        self.carrier = ListCarrier()
        self.reactor = Clock()
        self.clock = Clock()
        self.requests: list[Channel] = []
        self.paths: list[Path | None] = []
        self.silences: list[float] = []
        self.driver = SessionDriver(
            self.session,
            {"udp": self.carrier},
            clock=self.reactor,
            now=self.clock.seconds,
            on_request=self.requests.append,
            on_path=self.paths.append,
            on_silence=self.silences.append,
        )

    def pass_time(self, seconds: float) -> None:
        """
        Take the turn that waits, then let both clocks run.
        """
        self.reactor.advance(0)
        self.clock.advance(seconds)
        self.reactor.advance(seconds)

    def open(self) -> tuple[Channel, RecordingUser]:
        """
        A channel that is used from this side.
        """
        user = RecordingUser()
        channel = user.channel = self.driver.open_channel(TARGET, user)
        return channel, user


class TurnTests(DriverTestCase):
    """
    When events are delivered, packets sent and timers set.
    """

    def test_first_packet_is_acted_on_at_once(self) -> None:
        """
        After a pause, what a packet brings is delivered and answered before the call returns.
        """
        _, user = self.open()
        self.pass_time(1)
        self.session.events.append(events.DataReceived(1, b"question"))
        self.session.packets.append(b"answer")
        self.assertTrue(self.driver.receive_datagrams([b"good"], PATH))
        self.assertEqual(user.heard, [b"question"])
        self.assertEqual(self.carrier.sent, [b"answer"])

    def test_packets_in_a_row_are_folded_into_one_turn(self) -> None:
        """
        Packets that follow within the fold interval wait for the reactor's next iteration.
        """
        _, user = self.open()
        self.pass_time(1)
        self.driver.receive_datagrams([b"good"], PATH)
        for number in range(3):
            self.clock.advance(FOLD_INTERVAL / 4)
            self.session.events.append(events.DataReceived(1, bytes([number])))
            self.driver.receive_datagrams([b"good"], PATH)
        self.assertEqual(user.heard, [])
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(0)
        self.assertEqual(user.heard, [b"\x00", b"\x01", b"\x02"])

    def test_bulk_is_folded_into_one_turn(self) -> None:
        """
        After a turn that sent many packets, even a packet that comes late waits for the others.
        """
        _, user = self.open()
        self.pass_time(1)
        self.session.packets += [b"bulk"] * BULK_PACKETS
        self.driver.receive_datagrams([b"good"], PATH)
        self.clock.advance(2 * FOLD_INTERVAL)
        self.session.events.append(events.DataReceived(1, b"data"))
        self.driver.receive_datagrams([b"good"], PATH)
        self.assertEqual(user.heard, [])
        self.reactor.advance(0)
        self.assertEqual(user.heard, [b"data"])

    def test_a_large_write_waits_for_the_turn(self) -> None:
        """
        It leaves together with what follows.
        """
        channel, _ = self.open()
        self.pass_time(1)
        data = bytes(MAX_HASTY_WRITE + 1)
        self.session.room = len(data)
        channel.write(data)
        self.assertEqual(self.carrier.sent, [])
        self.reactor.advance(0)
        self.assertEqual(self.carrier.sent, [data])

    def test_forged_packets_cause_no_turn(self) -> None:
        """
        A packet that is not authentic costs no turn and is reported as such.
        """
        self.assertFalse(self.driver.receive_datagrams([b"bad"], PATH))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_write_after_a_pause_goes_out_at_once(self) -> None:
        """
        The first write is sent before the call returns, but no event is delivered within it.
        """
        channel, user = self.open()
        self.pass_time(1)
        self.session.events.append(events.DataReceived(1, b"late"))
        self.assertEqual(channel.write(b"now"), 3)
        self.assertEqual(self.carrier.sent, [b"now"])
        self.assertEqual(user.heard, [])
        self.reactor.advance(0)
        self.assertEqual(user.heard, [b"late"])

    def test_partly_accepted_writes_say_so(self) -> None:
        """
        A write returns what the session took.
        """
        channel, _ = self.open()
        self.session.room = 2
        self.assertEqual(channel.write(b"abc"), 2)

    def test_the_timer_follows_the_session(self) -> None:
        """
        The driver wakes up at the session's deadline, once, and sleeps when there is none.
        """
        self.session.timer = 5.0
        self.driver.turn_soon()
        self.pass_time(4.9)
        self.assertNotIn("timer", self.session.verbs())
        self.pass_time(0.2)
        self.assertEqual(self.session.verbs(), ["timer"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_deadline_that_moves_is_followed(self) -> None:
        """
        When the deadline moves, in either direction, there still is one timer, at the new time.
        """
        for deadline in (5.0, 9.0, 2.0):
            self.session.timer = deadline
            self.driver.turn_soon()
            self.reactor.advance(0)
            (call,) = self.reactor.getDelayedCalls()
            self.assertEqual(call.getTime(), deadline)
        self.session.timer = None
        self.driver.turn_soon()
        self.reactor.advance(0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_reactor_clock_that_jumps_does_no_harm(self) -> None:
        """
        When the reactor wakes the driver too early, it waits for what is left by its own clock.
        """
        self.session.timer = 5.0
        self.driver.turn_soon()
        self.reactor.advance(0)
        self.clock.advance(1)
        self.reactor.advance(3600)  # the wall clock was set forward
        self.assertEqual(self.session.timer, 5.0)
        (call,) = self.reactor.getDelayedCalls()
        self.assertEqual(call.getTime() - self.reactor.seconds(), 4.0)

    def test_a_full_carrier_is_given_nothing(self) -> None:
        """
        Packets stay with the session while the carrier is full, and a deadline in the past does
        not make the driver spin.
        """
        self.carrier.is_full = True
        self.session.packets.append(b"later")
        self.session.timer = 0.0
        self.driver.turn_soon()
        self.reactor.advance(0)
        (call,) = self.reactor.getDelayedCalls()
        self.assertEqual(call.getTime(), BLOCKED_INTERVAL)
        self.assertEqual(self.carrier.sent, [])
        self.carrier.is_full = False
        self.driver.turn_soon()
        self.reactor.advance(0)
        self.assertEqual(self.carrier.sent, [b"later"])

    def test_paths_and_silence_are_reported(self) -> None:
        """
        The owner hears where packets go, and of a peer that owes an answer.
        """
        self.session.events += [events.PathChanged(PATH), events.PathChanged(None)]
        self.session.events.append(events.PeerSilent(12.0))
        self.driver.turn_soon()
        self.reactor.advance(0)
        self.assertEqual(self.paths, [PATH, None])
        self.assertEqual(self.silences, [12.0])

    def test_the_end_of_a_silence_is_reported_once(self) -> None:
        """
        The owner hears when the peer answers after it was silent or out of reach.
        """
        answers: list[float] = []
        session = ScriptedSession()
        driver = SessionDriver(
            session,
            {"udp": self.carrier},
            clock=self.reactor,
            now=self.clock.seconds,
            on_answer=lambda: answers.append(self.clock.seconds()),
        )
        for number, event in enumerate((events.PeerSilent(12.0), events.PathChanged(None))):
            session.events.append(event)
            for life in (number, number + 1, number + 2):
                session.last_received_time = life
                driver.turn_soon()
                self.pass_time(1)
                self.assertEqual(driver.is_peer_silent, life == number)
            self.assertEqual(len(answers), number + 1)

    def test_path_verbs_reach_the_session(self) -> None:
        """
        What the owner learns about paths is passed on.
        """
        self.driver.use_path(PATH)
        self.driver.path_closed(PATH)
        self.driver.retry()
        self.assertEqual(self.session.verbs(), ["use_path", "path_closed", "retry"])


class ChannelTests(DriverTestCase):
    """
    What users of channels hear, and may do.
    """

    def test_users_hear_all_events_in_order(self) -> None:
        """
        Every event of a channel becomes a call; after the last one the channel is forgotten.
        """
        _, user = self.open()
        self.session.events += [
            events.ChannelOpened(1),
            events.DataReceived(1, b"data"),
            events.ChannelWritable(1),
            events.ChannelEnded(1),
            events.ChannelClosed(1),
            events.DataReceived(1, b"too late"),
        ]
        self.reactor.advance(0)
        self.assertEqual(user.heard, ["opened", b"data", "writable", "ended", "closed"])
        self.assertEqual(self.driver.channel_count, 0)

    def test_a_channel_that_is_gone_does_nothing(self) -> None:
        """
        After a reset every call returns without reaching the session.
        """
        channel, user = self.open()
        self.session.events.append(events.ChannelReset(1, ResetCode.SESSION_LOST))
        self.reactor.advance(0)
        self.session.calls.clear()
        self.assertEqual(channel.write(b"data"), 0)
        channel.end()
        channel.consume(5)
        channel.reset()
        channel.refuse(ResetCode.REFUSED)
        self.assertEqual(self.session.calls, [])
        self.assertEqual(user.heard, [ResetCode.SESSION_LOST])
        self.assertEqual(channel.channel_id, 1)

    def test_a_request_that_was_given_up_is_reset_when_accepted(self) -> None:
        """
        Whoever accepts a channel that is gone meanwhile hears so at once.
        """
        self.session.events.append(events.ChannelRequested(1, TARGET))
        self.driver.turn_soon()
        self.reactor.advance(0)
        self.session.events.append(events.ChannelReset(1, ResetCode.CANCELLED))
        self.driver.turn_soon()
        self.reactor.advance(0)
        user = RecordingUser()
        self.requests[0].accept(user)
        self.assertEqual(user.heard, [ResetCode.CANCELLED])
        self.assertNotIn("accept", self.session.verbs())

    def test_the_session_may_be_ahead_of_the_user(self) -> None:
        """
        Calls on a channel that the session has forgotten already are not errors.
        """
        channel, _ = self.open()
        self.session.is_gone = True
        self.assertEqual(channel.write(b"data"), 0)
        channel.end()
        channel.reset()

    def test_a_reset_silences_the_channel(self) -> None:
        """
        Whoever resets a channel hears nothing more of it.
        """
        channel, user = self.open()
        self.session.events.append(events.DataReceived(1, b"data"))
        channel.reset(ResetCode.PROTOCOL)
        self.reactor.advance(0)
        self.assertEqual(user.heard, [])
        self.assertIn(("reset", 1, ResetCode.PROTOCOL), self.session.calls)

    def test_requests_are_accepted_or_refused(self) -> None:
        """
        A channel that the peer asks for has its target, and takes one answer.
        """
        self.session.events += [
            events.ChannelRequested(1, TARGET),
            events.ChannelRequested(2, TARGET),
        ]
        self.driver.turn_soon()
        self.reactor.advance(0)
        first, second = self.requests
        self.assertEqual(first.target, TARGET)
        first.accept(RecordingUser())
        second.refuse(ResetCode.CONNECT_FAILED)
        self.assertIn(("accept", 1), self.session.calls)
        self.assertIn(("refuse", 2, ResetCode.CONNECT_FAILED), self.session.calls)
        self.assertEqual(self.driver.channel_count, 1)

    def test_a_side_that_serves_nothing_refuses(self) -> None:
        """
        Without anybody to ask, a requested channel is refused.
        """
        driver = SessionDriver(self.session, {}, clock=self.reactor, now=self.clock.seconds)
        self.session.events.append(events.ChannelRequested(4, TARGET))
        driver.turn_soon()
        self.reactor.advance(0)
        self.assertEqual(self.session.calls, [("refuse", 4, ResetCode.REFUSED)])

    def test_a_user_may_act_within_its_calls(self) -> None:
        """
        A user that writes, resets and opens channels while it is called breaks nothing.
        """
        session, driver = self.session, self.driver

        class Busy(RecordingUser):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                assert self.channel is not None
                self.channel.write(b"echo")
                self.channel.reset()
                driver.open_channel(TARGET, RecordingUser())

        user = Busy()
        user.channel = driver.open_channel(TARGET, user)
        session.events += [events.DataReceived(1, b"a"), events.DataReceived(1, b"b")]
        self.reactor.advance(0)
        self.assertEqual(user.heard, [b"a"])
        self.assertEqual(self.carrier.sent, [b"echo"])
        self.assertEqual(driver.channel_count, 1)


class StopTests(DriverTestCase):
    """
    The end of a driver.
    """

    def test_stop_tells_everybody_and_leaves_nothing(self) -> None:
        """
        Users hear that the session is lost, the peer gets the goodbye, no call is left.
        """
        _, user = self.open()
        self.session.timer = 60.0
        self.pass_time(1)
        self.driver.stop()
        self.assertEqual(user.heard, [ResetCode.SESSION_LOST])
        self.assertEqual(self.carrier.sent, [b"goodbye"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_the_goodbye_is_sent_even_if_the_carrier_is_full(self) -> None:
        """
        It is the last thing, so there is nothing to wait for.
        """
        self.carrier.is_full = True
        self.driver.stop()
        self.assertEqual(self.carrier.sent, [b"goodbye"])

    def test_a_stopped_driver_stays_stopped(self) -> None:
        """
        Nothing that comes after the stop reaches the session or starts a timer.
        """
        self.driver.stop()
        self.session.calls.clear()
        self.driver.stop()
        self.assertFalse(self.driver.receive_datagrams([b"good"], PATH))
        self.driver.turn_soon()
        self.driver.input_received()
        self.assertEqual(self.session.calls, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_from_within_a_turn(self) -> None:
        """
        An owner that stops the driver because of what it reports leaves no call behind.
        """
        session = ScriptedSession()
        session.timer = 60.0
        driver = SessionDriver(
            session,
            {"udp": self.carrier},
            clock=self.reactor,
            now=self.clock.seconds,
            on_silence=lambda seconds: driver.stop(),
        )
        session.events += [events.PeerSilent(20.0), events.PathChanged(None)]
        driver.turn_soon()
        self.reactor.advance(0)
        self.assertIn("close", session.verbs())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
