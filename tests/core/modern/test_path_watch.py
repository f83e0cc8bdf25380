"""
Tests of :mod:`resip.core.modern.path_watch`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.events import PathAnswered, PathSilent
from resip.core.modern.path_watch import (
    DENSE_STREAM_PACKETS,
    DENSE_STREAM_PAUSE,
    MAX_SILENCE,
    MAX_SILENT_ROUND_TRIPS,
    MIN_RELIABLE_SILENCE,
    MIN_SILENCE,
    SILENT_TIMEOUTS,
    STREAM_PACKETS,
    STREAM_PAUSE,
    STREAM_TIME,
    THIN_STREAM_PACKETS,
    THIN_STREAM_PAUSE,
    PathWatch,
)
from resip.core.types import Path

UDP, TCP = Path("udp"), Path("tcp", is_reliable=True)


class PathWatchTests(SynchronousTestCase):
    """
    A watch by script, on a path that has answered.
    """

    def setUp(self) -> None:
        """
        Use UDP.
        """
        self.watch = PathWatch()
        self.use(UDP)

    def use(self, path: Path) -> None:
        """
        Take a path, by which packet 10 is acknowledged.
        """
        self.watch.on_path_changed(path, next_number=10)
        self.watch.on_sent(is_answer_owed=True, now=0.0)
        self.watch.on_acked(10, is_answer_owed=False, now=0.0)

    def advance(self, now: float) -> bool:
        """
        Act at a time, as far as the watch's timer asks for it.
        """
        timer = self.watch.get_timer(probe_timeout=0.1, rtt=0.1)
        if timer is None or timer > now:
            return False
        return self.watch.handle_timer(probe_timeout=0.1, rtt=0.1, now=now)

    def test_the_first_answer(self) -> None:
        """
        It is told, once; acknowledgements of what took the path before do not count.
        """
        self.assertEqual(self.watch.events, [PathAnswered(UDP)])
        self.watch.on_path_changed(TCP, next_number=20)
        self.watch.on_acked(19, is_answer_owed=True, now=1.0)
        self.assertEqual(len(self.watch.events), 1)
        self.watch.on_acked(20, is_answer_owed=True, now=1.0)
        self.watch.on_acked(21, is_answer_owed=True, now=1.0)
        self.assertEqual(self.watch.events[1:], [PathAnswered(TCP)])

    def test_silence_and_its_end(self) -> None:
        """
        An answer that is owed for too long is told once, and the answer, too.
        """
        self.watch.on_sent(is_answer_owed=True, now=1.0)
        self.watch.on_sent(is_answer_owed=True, now=1.4)
        self.advance(1.0 + MIN_SILENCE - 0.01)
        self.assertEqual(len(self.watch.events), 1)
        self.advance(1.0 + MIN_SILENCE)
        self.advance(10.0)
        self.assertEqual(self.watch.events[1:], [PathSilent(UDP)])
        self.watch.on_acked(12, is_answer_owed=False, now=11.0)
        self.assertEqual(self.watch.events[2:], [PathAnswered(UDP)])

    def test_a_path_that_never_answers(self) -> None:
        """
        It is called silent as well: whoever chose it may have trusted an earlier answer.
        """
        self.watch.on_path_changed(TCP, next_number=20)
        self.watch.on_sent(is_answer_owed=True, now=1.0)
        self.advance(1.0 + MIN_RELIABLE_SILENCE)
        self.advance(10.0)
        self.assertEqual(self.watch.events[1:], [PathSilent(TCP)])

    def test_progress_is_no_silence(self) -> None:
        """
        A long queue of packets is acknowledged bit by bit.
        """
        self.watch.on_sent(is_answer_owed=True, now=0.0)
        for number in range(20):
            now = 0.9 * MIN_SILENCE * number
            self.advance(now)
            self.watch.on_acked(11 + number, is_answer_owed=True, now=now)
        self.assertEqual(self.watch.events, [PathAnswered(UDP)])

    def test_patience(self) -> None:
        """
        Where round trips are long answers may be, too, and on a connection, which repeats.
        """
        self.watch.on_sent(is_answer_owed=True, now=0.0)
        for probe_timeout, rtt, patience in (
            (0.5, 0.4, SILENT_TIMEOUTS * 0.5),
            (1.5, 0.4, MAX_SILENCE),
            (3.0, 2.0, MAX_SILENT_ROUND_TRIPS * 2.0),
        ):
            timer = self.watch.get_timer(probe_timeout=probe_timeout, rtt=rtt)
            self.assertEqual(timer, patience)
        self.use(TCP)
        self.watch.on_sent(is_answer_owed=True, now=0.0)
        self.assertEqual(self.watch.get_timer(probe_timeout=0.1, rtt=0.1), MIN_RELIABLE_SILENCE)

    def test_a_server_that_goes_on_sending(self) -> None:
        """
        A path by which a stream comes is not silent, though no answer does, until it stops.
        """
        self.watch.on_sent(is_answer_owed=True, now=1.0)
        for hundredth in range(100, 1000):
            now = hundredth / 100
            self.watch.on_received(UDP, 1, now=now)
            self.advance(now)
            self.watch.on_sent(is_answer_owed=True, now=now)
        self.assertNotIn(PathSilent(UDP), self.watch.events)
        self.advance(now + MIN_SILENCE - 0.01)
        self.assertNotIn(PathSilent(UDP), self.watch.events)
        self.advance(now + MIN_SILENCE)
        self.assertIn(PathSilent(UDP), self.watch.events)

    def test_the_probes_of_a_server_that_does_not_hear_us(self) -> None:
        """
        What a server sends that waits for answers itself is no stream.
        """
        self.watch.on_received(UDP, STREAM_PACKETS, now=1.0)
        self.watch.on_sent(is_answer_owed=True, now=1.0)
        for hundredth in range(100, 100 + round(100 * MIN_SILENCE) + 1):
            now = hundredth / 100
            if hundredth % 20 == 10:
                self.watch.on_received(UDP, 2, now=now)
            self.advance(now)
        self.assertIn(PathSilent(UDP), self.watch.events)

    def test_a_stream_by_another_path(self) -> None:
        """
        What comes by a path that is left says nothing of the one in use.
        """
        self.watch.on_sent(is_answer_owed=True, now=1.0)
        self.watch.on_received(TCP, STREAM_PACKETS, now=1.1)
        self.advance(1.0 + MIN_SILENCE)
        self.assertIn(PathSilent(UDP), self.watch.events)

    def test_a_stream_that_stops(self) -> None:
        """
        It is asked after, once, unless that was done just now by what is to be answered anyway.
        """
        self.watch.on_received(UDP, STREAM_PACKETS, now=1.0)
        self.assertFalse(self.advance(1.0 + STREAM_PAUSE / 2))
        self.assertTrue(self.advance(1.0 + STREAM_PAUSE))
        self.assertFalse(self.advance(10.0))
        self.watch.on_received(UDP, STREAM_PACKETS, now=20.0)
        self.watch.on_sent(is_answer_owed=True, now=20.0 + 0.7 * STREAM_PAUSE)
        self.assertFalse(self.advance(20.0 + STREAM_PAUSE))

    def test_an_answer_owed_before_the_stream_stopped(self) -> None:
        """
        It does not replace the question: what it answers was sent from the client's old address.
        """
        self.watch.on_received(UDP, STREAM_PACKETS, now=1.0)
        self.watch.on_sent(is_answer_owed=True, now=1.0)
        self.assertTrue(self.advance(1.0 + STREAM_PAUSE))

    def test_a_dense_stream_that_stops(self) -> None:
        """
        It is asked after sooner.
        """
        self.watch.on_received(UDP, DENSE_STREAM_PACKETS, now=1.0)
        self.assertFalse(self.advance(1.0 + DENSE_STREAM_PAUSE / 2))
        self.assertTrue(self.advance(1.0 + DENSE_STREAM_PAUSE))

    def test_a_stream_may_stop_at_any_packet(self) -> None:
        """
        Also at the first ones of a second: what came in the one before counts as well.
        """
        interval = STREAM_PAUSE / 2
        now = 10.0
        self.watch.on_received(UDP, STREAM_PACKETS, now=now)
        for _ in range(int(3 * STREAM_TIME / interval)):
            now += interval
            self.watch.on_received(UDP, 1, now=now)
            self.assertEqual(self.watch.get_timer(probe_timeout=0.1, rtt=0.1), now + STREAM_PAUSE)

    def test_a_thin_stream_that_stops(self) -> None:
        """
        It is asked after, later and once; so is one that went on for a moment after a question.
        """
        for start in (1.0, 2.0):
            self.watch.on_received(UDP, THIN_STREAM_PACKETS, now=start)
            self.assertFalse(self.advance(start + STREAM_PAUSE))
            self.assertTrue(self.advance(start + THIN_STREAM_PAUSE))
            self.watch.on_received(UDP, 1, now=start + THIN_STREAM_PAUSE + 0.1)  # the answer
            self.assertFalse(self.advance(start + 0.99))

    def test_few_packets_are_no_stream(self) -> None:
        """
        What comes now and then may stop without a question.
        """
        for second in range(STREAM_PACKETS):
            self.watch.on_received(UDP, 1, now=float(second))
        self.assertIsNone(self.watch.get_timer(probe_timeout=0.1, rtt=0.1))

    def test_without_a_path(self) -> None:
        """
        Nobody is called silent.
        """
        self.watch.on_path_changed(None, next_number=20)
        self.watch.on_sent(is_answer_owed=True, now=1.0)
        self.advance(100.0)
        self.assertEqual(self.watch.events, [PathAnswered(UDP)])
