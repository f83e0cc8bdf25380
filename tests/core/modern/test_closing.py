"""
The end of a session: who hears of it, from which packet, and why.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.events import SessionLost
from resip.core.modern.closing import CLOSING_TIME, MAX_CLOSING, ClosingSessions, Farewell
from resip.core.modern.connection import LAST_PACKETS
from resip.core.modern.frames import CloseCode
from resip.lab.link import LinkConditions
from tests.support.modern import DOWN, ModernCase, modern
from tests.support.pair import PLAIN, get_events

PACKET = bytes(130)


def packet_for(session_id: int, size: int = 44) -> bytes:
    """
    A packet that names a session.
    """
    return session_id.to_bytes(4) + bytes(size - 4)


class ClosingSessionsTests(SynchronousTestCase):
    """
    What an endpoint answers for sessions that it closed.
    """

    def setUp(self) -> None:
        """
        One that was closed.
        """
        self.closing = ClosingSessions()
        self.closing.add(Farewell((1, 2), PACKET), now=0.0)

    def test_any_of_its_ids(self) -> None:
        """
        Packets for all ids of the session get its CLOSE, others nothing (M-62).
        """
        self.assertEqual(self.closing.answer(packet_for(1), now=1.0), PACKET)
        self.assertEqual(self.closing.answer(packet_for(2), now=1.0), PACKET)
        self.assertIsNone(self.closing.answer(packet_for(3), now=1.0))

    def test_ever_fewer_answers(self) -> None:
        """
        The first packet is answered, the second, the fourth and so on (M-62).
        """
        answers = [self.closing.answer(packet_for(1), now=1.0) for _ in range(1000)]
        self.assertEqual(len(answers) - answers.count(None), 10)

    def test_no_amplification(self) -> None:
        """
        What is smaller than a third of the answer gets none (M-20).
        """
        self.assertIsNone(self.closing.answer(packet_for(1, len(PACKET) // 3), now=1.0))

    def test_a_while(self) -> None:
        """
        After a minute it is over, and the next session takes the place.
        """
        self.assertIsNone(self.closing.answer(packet_for(1), now=CLOSING_TIME))
        self.closing.add(Farewell((3,), PACKET), now=CLOSING_TIME)
        self.assertEqual(len(self.closing), 1)
        self.assertNotIn(1, self.closing)

    def test_a_limit(self) -> None:
        """
        So many sessions are answered for; the oldest is forgotten.
        """
        for session_id in range(10, 10 + MAX_CLOSING):
            self.closing.add(Farewell((session_id,), PACKET), now=1.0)
        self.assertEqual(len(self.closing), MAX_CLOSING)
        self.assertNotIn(1, self.closing)


class CloseTests(ModernCase):
    """
    CLOSE between two sessions.
    """

    def close(self, code: CloseCode) -> list[str]:
        """
        The server ends the session; returns the reasons that the client reports.
        """
        modern(self.server).close(now=self.pair.now, code=code)
        self.pair.run_for(1)
        return [event.reason for event in get_events(self.client, SessionLost)]

    def test_the_reason(self) -> None:
        """
        The client can say why.
        """
        for code, word in (
            (CloseCode.REVOKED, "key"),
            (CloseCode.SHUTDOWN, "stops"),
            (CloseCode.NONE, "peer"),
        ):
            self.make()
            self.open()
            (reason,) = self.close(code)
            self.assertIn(word, reason)

    def test_it_is_said_more_than_once(self) -> None:
        """
        Three packets say it, since nobody repeats it (M-61).
        """
        self.open()
        before = self.pair.down.counters.sent
        self.close(CloseCode.NONE)
        self.assertEqual(self.pair.down.counters.sent - before, LAST_PACKETS)

    def test_loss(self) -> None:
        """
        At 30 % loss hardly any CLOSE is missed.
        """
        heard = 0
        for _ in range(20):
            self.make()
            self.open()
            self.pair.down.conditions = LinkConditions(delay=0.05, loss=0.3)
            heard += len(self.close(CloseCode.NONE))
        self.assertGreater(heard, 17)

    def test_a_client_that_missed_it(self) -> None:
        """
        What it sends afterwards is answered with the CLOSE, which it understands (M-62).
        """
        self.open()
        self.pair.down.conditions = DOWN
        self.close(CloseCode.REVOKED)
        farewell = modern(self.server).farewell
        assert farewell is not None
        closing = ClosingSessions()
        closing.add(farewell, now=self.pair.now)
        self.pair.down.conditions = PLAIN
        self.client.session.retry(now=self.pair.now)
        ((_, packets),) = self.client.session.datagrams_to_send(now=self.pair.now)
        answer = closing.answer(packets[0], now=self.pair.now)
        assert answer is not None
        self.client.receive(answer, self.pair.server_path)
        (lost,) = get_events(self.client, SessionLost)
        self.assertIn("key", lost.reason)
