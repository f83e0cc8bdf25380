"""
Tests of :mod:`resip.core.modern.recovery`: acknowledgements, losses, changes of path.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.rate import AckReport
from resip.core.errors import ProtocolError
from resip.core.modern.recovery import LossRecovery
from resip.core.modern.sent import SentRun
from tests.core.modern.test_sent import RecordingControl, RecordingStream

RTT = 0.1
START = 1000.0


class FixedWindow:
    """
    A congestion controller that never changes its mind, and remembers what it was told.
    """

    def __init__(self, *, window: int = 1_000_000, pacing_rate: float = 1e9) -> None:
        self.congestion_window = window
        self.pacing_rate = pacing_rate
        self.datagram_size = 1200
        self.stats: dict[str, float | str] = {}
        self.reports: list[AckReport] = []
        self.timer_losses: list[SentRun] = []
        self.timeouts: list[int] = []
        self.path_changes: list[bool] = []
        self.recalled: list[object] = []

    def on_sent(self, run: SentRun, *, bytes_in_flight: int, now: float) -> None:
        """
        Mark the run.
        """
        run.snapshot = now

    def on_app_limited(self, *, bytes_in_flight: int, now: float) -> None:
        """
        Ignore it.
        """

    def on_ack(self, report: AckReport, *, now: float) -> None:
        """
        Remember.
        """
        self.reports.append(report)

    def on_losses(self, lost: Sequence[SentRun], *, bytes_in_flight: int, now: float) -> None:
        """
        Remember.
        """
        self.timer_losses += lost

    def on_probe_timeout(self, *, count: int, now: float) -> None:
        """
        Remember.
        """
        self.timeouts.append(count)

    def on_path_changed(self, *, is_known: bool, now: float) -> None:
        """
        Remember.
        """
        self.path_changes.append(is_known)

    def remember(self) -> object:
        """
        How many changes there were.
        """
        return len(self.path_changes)

    def recall(self, memory: object, *, now: float) -> None:
        """
        Remember.
        """
        self.recalled.append(memory)


def numbers_of(runs: Sequence[SentRun]) -> list[int]:
    """
    The numbers of all packets of the runs.
    """
    return [number for run in runs for number in range(run.first, run.end)]


class RecoveryTestCase(SynchronousTestCase):
    """
    A recovery with a clock, one stream and short ways to send and acknowledge.
    """

    def setUp(self) -> None:
        """
        Nothing was sent yet.
        """
        self.controller = FixedWindow()
        self.recovery = LossRecovery(self.controller)
        self.stream = RecordingStream()
        self.now = START

    def send(
        self, count: int = 1, *, asks: bool = True, is_probe: bool = False, control: bool = False
    ) -> SentRun:
        """
        Send a burst; each packet carries ten bytes of the stream, at ten times its number.
        """
        first = self.recovery.next_number
        run = SentRun(
            first=first,
            end=first + count,
            time=self.now,
            size=50,
            last_size=50,
            stream=self.stream if asks and not is_probe else None,
            offset=10 * first,
            step=10,
            length=10 * count,
            controls=[RecordingControl()] if control else [],
            asks=asks,
            is_probe=is_probe,
        )
        self.recovery.on_sent(run, now=self.now)
        return run

    def ack(
        self, *ranges: tuple[int, int], delay: float = 0.0, arrived_at: float | None = None
    ) -> AckReport:
        """
        An acknowledgement of ranges, highest first, arrives.
        """
        largest = ranges[0][1]
        return self.recovery.on_ack(largest, delay, ranges, arrived_at=arrived_at, now=self.now)

    def measure(self, count: int = 20) -> None:
        """
        Make the round trip known as exactly :data:`RTT`.
        """
        for _ in range(count):
            run = self.send()
            self.now += RTT
            self.ack((run.first, run.first))

    def fire(self) -> int:
        """
        Go to the next deadline and act on it.
        """
        deadline = self.recovery.get_timer()
        assert deadline is not None
        self.now = max(self.now, deadline)
        return self.recovery.handle_timer(now=self.now)


class AcknowledgementTests(RecoveryTestCase):
    """
    What an acknowledgement resolves, and what it must not do.
    """

    def test_resolves_what_it_names(self) -> None:
        """
        The owners, the report and the controller hear of it, and nothing is in flight.
        """
        run = self.send(4, control=True)
        self.now += RTT
        report = self.ack((0, 3))
        self.assertEqual(numbers_of(report.acked), [0, 1, 2, 3])
        self.assertEqual(self.stream.acked, [(0, 40)])
        control = run.controls[0]
        assert isinstance(control, RecordingControl)
        self.assertEqual(control.acked, 1)
        self.assertEqual(self.controller.reports, [report])
        self.assertEqual((report.bytes_in_flight, self.recovery.in_flight.packets), (0, 0))
        self.assertIsNone(self.recovery.get_timer())

    def test_reports_the_oldest_first(self) -> None:
        """
        However the ranges cut the runs, the report is in the order of sending.
        """
        self.send(10)
        self.send(10)
        report = self.ack((15, 19), (8, 12), (2, 3))
        self.assertEqual(numbers_of(report.acked), [2, 3, *range(8, 13), *range(15, 20)])
        self.assertEqual(report.bytes_in_flight, 50 * 8)

    def test_again_or_late_it_brings_nothing(self) -> None:
        """
        Repeated and overtaken acknowledgements change nothing, and are not told to anybody.
        """
        self.send(6)
        self.ack((0, 5))
        for ranges in ([(0, 5)], [(0, 2)], [(5, 5), (0, 3)]):
            report = self.ack(*ranges)
            self.assertEqual((report.acked, report.lost, report.rtt), ((), (), None))
        self.assertEqual(self.stream.acked, [(0, 60)])
        self.assertEqual(len(self.controller.reports), 1)

    def test_of_a_number_never_sent_is_an_error(self) -> None:
        """
        M-23: the highest number is below the next one to send, and nothing changes.
        """
        self.send(5)
        for ranges in (((5, 5),), ((0, 1 << 62),), ((5, 6), (0, 3))):
            self.assertRaises(ProtocolError, self.ack, *ranges)
        self.assertEqual(self.recovery.in_flight.packets, 5)

    def test_refuses_ranges_that_make_no_sense(self) -> None:
        """
        Ranges that are missing, negative or do not begin with the largest are an error each.
        """
        self.send(9)
        on_ack = self.recovery.on_ack
        for largest, ranges in (
            (8, []),
            (8, [(3, 7)]),
            (8, [(6, 8), (-3, 1)]),
            (8, [(-1, 8)]),
        ):
            self.assertRaises(ProtocolError, on_ack, largest, 0.0, ranges, now=self.now)
        self.assertEqual(self.recovery.in_flight.packets, 9)

    def test_packets_that_do_not_ask_are_not_in_flight(self) -> None:
        """
        They use numbers up, may be acknowledged, and are never waited for.
        """
        self.send(asks=False)
        self.assertEqual(self.recovery.next_number, 1)
        self.assertIsNone(self.recovery.get_timer())
        self.assertEqual(self.ack((0, 0)).acked, ())

    def test_numbers_are_used_once(self) -> None:
        """
        M-8: a run that does not begin with the next number is refused.
        """
        self.send(3)
        for first, end in ((2, 4), (4, 5), (3, 3)):
            run = SentRun(first=first, end=end, time=self.now, size=1, last_size=1)
            self.assertRaises(ValueError, self.recovery.on_sent, run, now=self.now)
        self.assertEqual(self.recovery.next_number, 3)


class LossTests(RecoveryTestCase):
    """
    When a packet counts as lost (M-34).
    """

    def test_overtaken_by_a_window_it_is_lost(self) -> None:
        """
        A packet is lost at once when one sent an eighth of a round trip later was acknowledged.
        """
        self.measure()
        lost = self.send()
        self.now += RTT / 8
        later = self.send()
        self.now += RTT
        report = self.ack((later.first, later.first))
        self.assertEqual(numbers_of(report.lost), [lost.first])
        self.assertEqual(self.stream.lost, [(10 * lost.first, 10 * lost.first + 10)])
        self.assertEqual(self.recovery.stats.packets_lost, 1)

    def test_overtaken_by_less_it_has_time(self) -> None:
        """
        Nothing is lost before the window is over; then the timer says so, and the controller
        hears it.
        """
        self.measure()
        run = self.send(3)
        self.now += RTT
        self.assertEqual(self.ack((run.first + 2, run.first + 2)).lost, [])
        loss_time = self.recovery.loss_time
        assert loss_time is not None
        self.assertGreaterEqual(loss_time, run.time + 9 / 8 * RTT - 1e-6)
        self.assertLess(loss_time, run.time + 1.5 * RTT)
        self.assertEqual(self.recovery.handle_timer(now=loss_time - 0.001), 0)
        self.assertEqual(self.controller.timer_losses, [])
        self.assertEqual(self.fire(), 0)
        self.assertEqual(numbers_of(self.controller.timer_losses), [run.first, run.first + 1])
        self.assertIsNone(self.recovery.get_timer())

    def test_the_number_of_later_packets_does_not_matter(self) -> None:
        """
        A burst that overtakes a packet by less than the window loses nothing.
        """
        self.measure()
        run = self.send(50)
        self.now += RTT
        self.assertEqual(self.ack((run.first + 1, run.end - 1)).lost, [])

    def test_a_path_mtu_probe_is_lost_in_silence(self) -> None:
        """
        M-39: its owner hears of it, the controller and the measured loss do not.
        """
        self.measure()
        probe = self.send(is_probe=True, control=True)
        control = probe.controls[0]
        assert isinstance(control, RecordingControl)
        self.now += RTT
        later = self.send()
        self.now += RTT
        self.assertEqual(self.ack((later.first, later.first)).lost, [])
        self.assertEqual(control.lost, 1)
        self.assertEqual((self.recovery.stats.packets_lost, self.recovery.loss.rate), (0, 0.0))

    def test_a_late_acknowledgement_undoes_the_loss(self) -> None:
        """
        The report counts it, its owner hears that it arrived, and the measured loss falls back.
        """
        self.measure()
        late = self.send()
        self.now += RTT / 2
        self.send()
        self.now += RTT
        self.ack((late.first + 1, late.first + 1))
        self.assertGreater(self.recovery.loss.rate, 0)
        report = self.ack((late.first, late.first + 1))
        self.assertEqual((numbers_of(report.acked), report.spurious_packets), ([late.first], 1))
        self.assertEqual(self.stream.acked[-1], (10 * late.first, 10 * late.first + 10))
        self.assertEqual((self.recovery.loss.rate, self.recovery.stats.spurious_losses), (0.0, 1))
        self.assertEqual(self.ack((late.first, late.first + 1)).acked, ())

    def test_the_window_grows_with_the_reordering(self) -> None:
        """
        After a packet came 60 ms late, one that is 70 ms late is not taken for lost.
        """
        self.measure()
        for lateness, expected in ((0.06, 1), (0.07, 0)):
            late = self.send()
            self.now += lateness
            self.send()
            self.now += RTT
            report = self.ack((late.first + 1, late.first + 1))
            self.assertEqual(len(report.lost), expected)
            self.ack((late.first, late.first + 1))
        self.assertAlmostEqual(self.recovery.reordering_window(now=self.now), 1.25 * 0.07)


class PathChangeTests(RecoveryTestCase):
    """
    What a new path takes over from the old one.
    """

    def test_everything_is_sent_again_at_once(self) -> None:
        """
        What was in flight is gone with the path; its owners hear it, the loss does not count.
        """
        self.measure()
        run = self.send(5)
        self.recovery.on_path_changed(is_known=True, now=self.now)
        self.assertEqual(self.stream.lost, [(10 * run.first, 10 * run.end)])
        self.assertEqual((self.recovery.in_flight.packets, self.recovery.get_timer()), (0, None))
        self.assertEqual((self.controller.path_changes, self.recovery.loss.rate), ([True], 0.0))
        self.assertAlmostEqual(self.recovery.rtt.smoothed, RTT)

    def test_another_network_starts_from_nothing(self) -> None:
        """
        The round trip is unknown, or what the validation of the path measured.
        """
        self.measure()
        self.recovery.on_path_changed(is_known=False, initial_rtt=0.25, now=self.now)
        self.assertEqual(self.recovery.rtt.smoothed, 0.25)
        self.assertFalse(self.recovery.rtt.has_sample)

    def test_late_answers_say_nothing_about_the_new_path(self) -> None:
        """
        The owners of old packets hear that they arrived; no sample is taken, no report made.
        """
        self.measure()
        old = self.send(2)
        self.recovery.on_path_changed(is_known=False, now=self.now)
        reports = len(self.controller.reports)
        self.now += RTT
        report = self.ack((old.first, old.end - 1))
        self.assertEqual((report.acked, report.rtt), ([], None))
        self.assertEqual(self.stream.acked[-1], (10 * old.first, 10 * old.end))
        self.assertEqual(len(self.controller.reports), reports)

    def test_a_reliable_carrier_needs_no_timer(self) -> None:
        """
        It repeats by itself what gets lost, so nothing is probed or given up by time.
        """
        self.recovery.on_path_changed(is_known=False, is_reliable=True, now=self.now)
        self.send(3)
        self.assertIsNone(self.recovery.get_timer())
        self.assertEqual(self.recovery.handle_timer(now=self.now + 1000.0), 0)
        self.assertEqual(self.recovery.probe_now(now=self.now + 1000.0), 0)
        self.recovery.on_path_changed(is_known=False, now=self.now)
        self.assertEqual(self.stream.lost, [(0, 30)])
