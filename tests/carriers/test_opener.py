"""
Tests of :mod:`resip.carriers.opener`.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.channels import Channel
from resip.carriers.driver import SessionDriver
from resip.carriers.opener import MAX_WAITING, SessionOpener
from resip.core import events
from resip.core.errors import LimitError, ResetCode
from tests.carriers.fixture import TARGET, ListCarrier, ScriptedSession
from tests.tunnel.programs import RecordingUser


class SessionOpenerTests(SynchronousTestCase):
    """
    Channels before there is a session, and with one.
    """

    def setUp(self) -> None:
        """
        An opener without a session, and a session that could be used.
        """
        self.opener = SessionOpener(resolves_names=False)
        self.clock = Clock()
        self.session = ScriptedSession()
        self.driver = SessionDriver(
            self.session, {"udp": ListCarrier()}, clock=self.clock, now=self.clock.seconds
        )

    def open(self, *, compress: bool = False) -> tuple[Channel, RecordingUser]:
        """
        One more channel.
        """
        user = RecordingUser()
        user.channel = self.opener.open_channel(TARGET, user, compress=compress)
        return user.channel, user

    def test_a_channel_waits_for_a_session(self) -> None:
        """
        While it waits it takes nothing; then its user hears that there is room.
        """
        channel, user = self.open(compress=True)
        self.assertEqual(channel.write(b"early"), 0)
        self.assertEqual((channel.channel_id, channel.target), (0, TARGET))
        self.assertEqual(self.opener.waiting_count, 1)
        self.opener.use(self.driver)
        self.assertEqual(user.heard, ["writable"])
        self.assertEqual(channel.write(b"early"), 5)
        self.assertEqual(channel.channel_id, 1)
        self.assertIn(("open", TARGET, True), self.session.calls)
        self.assertEqual(self.opener.waiting_count, 0)

    def test_an_end_waits_too(self) -> None:
        """
        A channel that was ended while it waited is opened and ended.
        """
        channel, user = self.open()
        channel.end()
        self.opener.use(self.driver)
        self.assertEqual(user.heard, [])
        self.assertEqual(self.session.verbs(), ["open", "end"])

    def test_verbs_reach_the_session(self) -> None:
        """
        Once carried, the channel passes everything on.
        """
        channel, user = self.open()
        self.opener.use(self.driver)
        channel.consume(3)
        channel.end()
        channel.reset()
        self.assertEqual(self.session.verbs(), ["open", "consume", "end", "reset"])
        self.session.events.append(events.DataReceived(1, b"late"))
        self.clock.advance(0)
        self.assertEqual(user.heard, ["writable"])

    def test_with_a_session_channels_do_not_wait(self) -> None:
        """
        A channel of a live session is the session's own; when that is gone they wait again.
        """
        self.opener.use(self.driver)
        channel, _ = self.open()
        self.assertEqual(channel.channel_id, 1)
        self.opener.use(None)
        self.open()
        self.assertEqual(self.opener.waiting_count, 1)

    def test_a_session_that_has_just_ended(self) -> None:
        """
        A channel that comes too late for the session waits for the next one.
        """
        self.session.is_gone = True
        self.opener.use(self.driver)
        _, user = self.open()
        self.assertEqual(self.opener.waiting_count, 1)
        self.session.is_gone = False
        self.opener.use(self.driver)
        self.assertEqual(user.heard, ["writable"])

    def test_an_abandoned_channel_is_not_opened(self) -> None:
        """
        Whoever gives up while waiting leaves nothing behind.
        """
        channel, user = self.open()
        channel.reset()
        self.opener.use(self.driver)
        self.assertEqual(self.session.calls, [])
        self.assertEqual(user.heard, [])

    def test_a_user_may_give_up_when_another_is_served(self) -> None:
        """
        Channels that are reset or opened while the waiting ones are opened are in order.
        """
        first, _ = self.open()
        second, heard_by_second = self.open()
        user = RecordingUser()

        class Jealous(RecordingUser):
            def channel_writable(self) -> None:
                second.reset()

        first.reset()
        jealous = Jealous()
        self.opener.open_channel(TARGET, jealous)
        third, _ = self.open()
        # The jealous one stands behind the second, so the second is opened before it is reset.
        self.opener.use(self.driver)
        self.assertEqual(heard_by_second.heard, ["writable"])
        self.assertEqual(third.channel_id, 3)
        self.assertEqual(self.session.verbs().count("reset"), 1)
        self.assertEqual(user.heard, [])

    def test_what_a_session_cannot_carry_is_refused(self) -> None:
        """
        A session that is full when its turn comes refuses, and goes on with the next.
        """

        def refuse(*args: object, **kwargs: object) -> int:
            raise LimitError("full")

        _, user = self.open()
        self.patch(self.session, "open_channel", refuse)
        self.opener.use(self.driver)
        self.assertEqual(user.heard, [ResetCode.REFUSED])

    def test_the_number_of_waiting_channels_is_limited(self) -> None:
        """
        One more than the limit is refused by name, and none of those that wait is harmed.
        """
        for _ in range(MAX_WAITING):
            self.open()
        with self.assertRaisesRegex(LimitError, str(MAX_WAITING)):
            self.open()
        self.assertEqual(self.opener.waiting_count, MAX_WAITING)

    def test_close_tells_those_that_wait(self) -> None:
        """
        When no session will come, the channels are lost.
        """
        _, user = self.open()
        self.opener.close()
        self.assertEqual(user.heard, [ResetCode.SESSION_LOST])
        self.assertEqual(self.opener.waiting_count, 0)

    def test_nobody_asks_whoever_opens(self) -> None:
        """
        Accepting or refusing a channel that this side opens changes nothing.
        """
        channel, user = self.open()
        channel.accept(RecordingUser())
        channel.refuse(ResetCode.REFUSED)
        channel.consume(1)
        self.opener.use(self.driver)
        self.assertEqual(user.heard, ["writable"])
