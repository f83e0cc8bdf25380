"""
Tests of :mod:`resip.lab.measurement` and :mod:`resip.lab.payload`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.lab.measurement import Progress, percentile
from resip.lab.payload import SeededBytes


class ProgressTests(SynchronousTestCase):
    """
    What arrived when.
    """

    def test_goodput_over_a_window(self) -> None:
        """
        The goodput counts what arrived after the start and up to the end of the window.
        """
        progress = Progress()
        for when in range(10):
            progress.add(1000, now=float(when))
        self.assertEqual(progress.get_goodput(2.0, 7.0), 8000.0)
        self.assertEqual(progress.get_goodput(-5.0, -1.0), 0.0)
        self.assertEqual(progress.get_total_at(100.0), progress.total)

    def test_longest_pause(self) -> None:
        """
        The longest pause is between the arrivals farthest apart.
        """
        progress = Progress()
        self.assertEqual(progress.get_longest_pause(), 0.0)
        for when in (1.0, 1.0, 2.0, 7.5, 8.0):
            progress.add(1, now=when)
        self.assertEqual(progress.get_longest_pause(), 5.5)
        self.assertEqual((progress.first_time, progress.last_time), (1.0, 8.0))


class PercentileTests(SynchronousTestCase):
    """
    Nearest-rank percentiles.
    """

    def test_nearest_rank(self) -> None:
        """
        The percentile is one of the values.
        """
        values = [50.0, 15.0, 40.0, 20.0, 35.0]
        found = [percentile(values, percent) for percent in (0, 5, 30, 40, 50, 100)]
        self.assertEqual(found, [15.0, 15.0, 20.0, 20.0, 35.0, 50.0])

    def test_misuse(self) -> None:
        """
        No values and impossible percentages are errors.
        """
        self.assertRaises(ValueError, percentile, [], 50)
        self.assertRaises(ValueError, percentile, [1.0], 101)


class SeededBytesTests(SynchronousTestCase):
    """
    Payload from a seed.
    """

    def test_cuts_do_not_matter(self) -> None:
        """
        However the stream is read, it is the same stream.
        """
        whole = SeededBytes(4).read(200_000)
        source = SeededBytes(4)
        pieces = [source.read(count) for count in (0, 1, 65_535, 7, 100_000, 34_457)]
        self.assertEqual(b"".join(pieces), whole)
        self.assertNotEqual(SeededBytes(5).read(16), whole[:16])
