"""
Tests of :mod:`resip.core.classic.acknowledgements`.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.acknowledgements import MAX_RANGES, REPETITIONS, AckCollector


def make_collector() -> AckCollector:
    """
    A collector that waits a second, or for four numbers.
    """
    return AckCollector(delay=1.0, threshold=4)


class AckCollectorTests(SynchronousTestCase):
    """
    Which numbers, and when.
    """

    def test_nothing_is_due_at_first(self) -> None:
        """
        There is no deadline without a number.
        """
        self.assertIsNone(make_collector().due_time)

    def test_the_first_number_sets_the_deadline(self) -> None:
        """
        Later ones do not move it.
        """
        acks = make_collector()
        acks.add(1, 1, now=10)
        acks.add(1, 2, now=10.5)
        self.assertEqual(acks.due_time, 11)

    def test_many_numbers_are_due_at_once(self) -> None:
        """
        The threshold counts the numbers of all channels together.
        """
        acks = make_collector()
        for channel_id in range(4):
            acks.add(channel_id, 1, now=10)
        self.assertEqual((acks.fresh, acks.due_time), (4, 10))

    def test_taking_them_starts_anew(self) -> None:
        """
        Ranges come out by channel; nothing is due until another number arrives.
        """
        acks = make_collector()
        for number in (1, 2, 3, 7):
            acks.add(1, number, now=10)
        self.assertEqual(list(acks.take()), [(1, 1, 3), (1, 7, 7)])
        self.assertEqual((acks.fresh, acks.due_time), (0, None))
        self.assertEqual(list(acks.take()), [])

    def test_numbers_are_repeated(self) -> None:
        """
        Each number stands in at least as many acknowledgements as promised, not for ever.
        """
        acks = make_collector()
        seen = 0
        acks.add(1, 1, now=10)
        for number in range(100, 100 + 2 * 20, 2):
            seen += (1, 1, 1) in list(acks.take())
            acks.add(1, number, now=10)
        self.assertGreaterEqual(seen, REPETITIONS)
        self.assertLessEqual(seen, 2 * REPETITIONS)

    def test_only_received_numbers_are_acknowledged(self) -> None:
        """
        However generations turn, what comes out was put in.
        """
        random = Random(1)
        acks, added = make_collector(), set()
        for _ in range(500):
            number = random.randrange(1, 3000)
            acks.add(1, number, now=10)
            added.add(number)
            if random.random() < 0.2:
                for _, first, last in acks.take():
                    self.assertLessEqual(set(range(first, last + 1)), added)

    def test_gaps_are_bounded(self) -> None:
        """
        A peer that leaves gaps everywhere makes no acknowledgement grow for ever.
        """
        acks = make_collector()
        for number in range(1, 40_000, 2):
            acks.add(1, number, now=10)
            if acks.fresh >= 16:
                self.assertLessEqual(len(list(acks.take())), 2 * MAX_RANGES + 16)

    def test_a_single_burst_is_acknowledged_whole(self) -> None:
        """
        What came since the last acknowledgement is never left out; later the lowest go.
        """
        acks = make_collector()
        for number in range(1, 1000, 2):
            acks.add(1, number, now=10)
        self.assertEqual(len(list(acks.take())), 500)
        acks.add(1, 5000, now=10)
        ranges = list(acks.take())
        self.assertEqual(len(ranges), MAX_RANGES + 1)
        self.assertIn((1, 999, 999), ranges)

    def test_a_retired_channel_is_acknowledged_once_more(self) -> None:
        """
        Then it is forgotten.
        """
        acks = make_collector()
        acks.add(1, 1, now=10)
        acks.retire(1)
        self.assertEqual(list(acks.take()), [(1, 1, 1)])
        acks.add(1, 5, now=10)
        self.assertEqual(list(acks.take()), [(1, 5, 5)])

    def test_a_retired_channel_without_news_is_forgotten_at_once(self) -> None:
        """
        So is one that never had any.
        """
        acks = make_collector()
        acks.add(1, 1, now=10)
        list(acks.take())
        acks.retire(1)
        acks.retire(2)
        acks.add(1, 5, now=10)
        self.assertEqual(list(acks.take()), [(1, 5, 5)])

    def test_late_numbers_are_not_kept(self) -> None:
        """
        A number of a channel that is done is acknowledged once.
        """
        acks = make_collector()
        acks.add_late(1, 9, now=10)
        self.assertEqual(acks.due_time, 11)
        self.assertEqual(list(acks.take()), [(1, 9, 9)])
        acks.add_late(1, 10, now=10)
        self.assertEqual(list(acks.take()), [(1, 10, 10)])

    def test_a_channel_that_starts_anew(self) -> None:
        """
        Nothing of the channel that had the id before is acknowledged.
        """
        acks = make_collector()
        acks.add(1, 9, now=10)
        acks.discard(1)
        acks.add(1, 1, now=10)
        self.assertEqual(list(acks.take()), [(1, 1, 1)])
