"""
Tests of :mod:`resip.lab.link`.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from twisted.trial.unittest import SynchronousTestCase

from resip.lab.link import LinkConditions, LinkModel

#: With 28 bytes of overhead this packet takes 1 ms at 1 Mbit/s.
PACKET = bytes(97)
RATE = 1_000_000.0


def arrival_times(model: LinkModel, count: int, *, interval: float = 0.0) -> list[float | None]:
    """
    When each of ``count`` packets arrives, ``None`` for those that do not.
    """
    times: list[float | None] = []
    for index in range(count):
        arrivals = model.transmit(PACKET, now=index * interval)
        times.append(arrivals[0][0] if arrivals else None)
    return times


class LinkConditionsTests(SynchronousTestCase):
    """
    Conditions are checked where they are made.
    """

    def test_names_the_field_and_its_range(self) -> None:
        """
        A value out of range raises a ValueError with the field, the value and what it must be.
        """
        message = "loss is 1.5, but must be a probability from 0 to 1"
        error = self.assertRaises(ValueError, LinkConditions, loss=1.5)
        self.assertEqual(str(error), message)

    def test_refuses_values_without_meaning(self) -> None:
        """
        Every field has a range, and not-a-number is in none.
        """
        nan = float("nan")
        wrong: list[tuple[str, float]] = [
            ("rate", 0),
            ("rate", nan),
            ("queue_limit", -1),
            ("burst", 0),
            ("delay", -1),
            ("delay", float("inf")),
            ("jitter", nan),
            ("loss", nan),
            ("loss_burst", 0.5),
            ("duplicate", -0.1),
            ("reorder", 2),
            ("reorder_delay", -1),
            ("mtu", 0),
            ("overhead", -1),
        ]
        for name, value in wrong:
            self.assertRaises(ValueError, LinkConditions, **{name: value})

    def test_refuses_bursts_too_short_for_the_loss(self) -> None:
        """
        A link that loses 3 of 4 packets cannot lose less than 3 in a row in the mean.
        """
        self.assertRaises(ValueError, LinkConditions, loss=0.75, loss_burst=2.9)
        self.assertEqual(LinkConditions(loss=0.75, loss_burst=3).loss_burst, 3)


class BottleneckTests(SynchronousTestCase):
    """
    Rate, queue, policer, MTU and cut.
    """

    def test_perfect_link(self) -> None:
        """
        Without conditions a packet arrives once, at once.
        """
        model = LinkModel(LinkConditions(), 1)
        self.assertEqual(model.transmit(PACKET, now=5.0), [(5.0, PACKET)])

    def test_packets_are_spaced_by_the_rate(self) -> None:
        """
        Packets offered together leave one after the other, each after its size over the rate.
        """
        model = LinkModel(LinkConditions(rate=RATE, delay=0.25), 1)
        times = arrival_times(model, 4)
        for time, expected in zip(times, [0.251, 0.252, 0.253, 0.254], strict=True):
            assert time is not None
            self.assertAlmostEqual(time, expected, places=12)

    def test_rate_is_exact_over_a_long_run(self) -> None:
        """
        An overloaded link passes its rate, to the packet, and drops the rest.
        """
        model = LinkModel(LinkConditions(rate=RATE, queue_limit=20), 1)
        times = arrival_times(model, 20_000, interval=0.0005)
        arrived = [time for time in times if time is not None and time <= 10.0]
        self.assertTrue(9_998 <= len(arrived) <= 10_000, len(arrived))
        self.assertEqual(model.counters.dropped, 20_000 - model.counters.delivered)

    def test_full_queue_drops_the_newcomer(self) -> None:
        """
        One packet is being sent, ``queue_limit`` wait, the next one is dropped; the delay of
        the last that waits is exactly the queue.
        """
        model = LinkModel(LinkConditions(rate=RATE, queue_limit=3), 1)
        times = arrival_times(model, 6)
        self.assertEqual([time is None for time in times], [False] * 4 + [True] * 2)
        self.assertAlmostEqual(model.get_queue_delay(now=0.0), 0.004, places=12)
        self.assertEqual(model.counters.dropped, 2)

    def test_queue_drains_with_time(self) -> None:
        """
        As soon as a packet has left, there is room for another one.
        """
        model = LinkModel(LinkConditions(rate=RATE, queue_limit=1), 1)
        arrival_times(model, 3)
        self.assertEqual(len(model.transmit(PACKET, now=0.0011)), 1)
        self.assertEqual(model.transmit(PACKET, now=0.0012), [])
        self.assertEqual(model.get_queue_delay(now=60.0), 0.0)

    def test_policer_delays_nothing(self) -> None:
        """
        Without a queue the burst passes at once, what exceeds it is dropped, and the bucket
        fills at the rate.
        """
        model = LinkModel(LinkConditions(rate=RATE, queue_limit=0, burst=250), 1)
        fates = [model.transmit(PACKET, now=now) for now in (0.0, 0.0, 0.0, 0.0009, 0.0011)]
        self.assertEqual([len(fate) for fate in fates], [1, 1, 0, 0, 1])
        self.assertEqual(fates[4], [(0.0011, PACKET)])

    def test_policer_passes_its_rate(self) -> None:
        """
        In the long run a policer passes the burst and then the rate.
        """
        model = LinkModel(LinkConditions(rate=RATE, queue_limit=0, burst=1250), 1)
        arrival_times(model, 40_000, interval=0.00025)
        self.assertApproximates(model.counters.delivered, 10_010, 1)

    def test_mtu_counts_the_overhead(self) -> None:
        """
        A packet that fills the MTU with its headers passes, one byte more vanishes.
        """
        model = LinkModel(LinkConditions(mtu=1280), 1)
        self.assertEqual(len(model.transmit(bytes(1252), now=0.0)), 1)
        self.assertEqual(model.transmit(bytes(1253), now=0.0), [])
        self.assertEqual(model.counters.too_big, 1)

    def test_cut_link_delivers_what_is_on_its_way(self) -> None:
        """
        A link that is down takes nothing; when it is up again it works as before.
        """
        model = LinkModel(LinkConditions(delay=1.0), 1)
        before = model.transmit(PACKET, now=0.0)
        model.conditions = replace(model.conditions, is_down=True)
        during = model.transmit(PACKET, now=0.5)
        model.conditions = replace(model.conditions, is_down=False)
        after = model.transmit(PACKET, now=0.6)
        self.assertEqual((before, during, after), ([(1.0, PACKET)], [], [(1.6, PACKET)]))
        self.assertEqual(model.counters.lost, 1)

    def test_new_rate_holds_for_packets_behind_the_queue(self) -> None:
        """
        A packet that comes after a change of the rate waits for those before it, and then
        takes the time of the new rate.
        """
        model = LinkModel(LinkConditions(rate=RATE), 1)
        arrival_times(model, 3)
        model.conditions = replace(model.conditions, rate=RATE * 10)
        self.assertAlmostEqual(model.transmit(PACKET, now=0.0)[0][0], 0.0031, places=12)


class DiceTests(SynchronousTestCase):
    """
    Loss, copies, jitter and order, compared with theory.
    """

    def test_independent_loss(self) -> None:
        """
        The share of lost packets is ``loss``, and runs have the geometric mean length.
        """
        count, loss = 200_000, 0.1
        lost = [
            time is None for time in arrival_times(LinkModel(LinkConditions(loss=loss), 3), count)
        ]
        runs = [len(list(run)) for is_lost, run in groupby(lost) if is_lost]
        # Three standard deviations of the binomial distribution are 0.0020.
        self.assertApproximates(sum(lost) / count, loss, 0.002)
        self.assertApproximates(sum(runs) / len(runs), 1 / (1 - loss), 0.02)

    def test_loss_in_bursts(self) -> None:
        """
        Gilbert's model has the same share of lost packets, in runs of the mean length asked for.
        """
        count = 200_000
        for loss, length in ((0.02, 4.0), (0.3, 10.0), (0.5, 1.0)):
            model = LinkModel(LinkConditions(loss=loss, loss_burst=length), 5)
            lost = [time is None for time in arrival_times(model, count)]
            runs = [len(list(run)) for is_lost, run in groupby(lost) if is_lost]
            self.assertApproximates(sum(lost) / count, loss, 0.06 * loss)
            self.assertApproximates(sum(runs) / len(runs), length, 0.05 * length)

    def test_total_loss(self) -> None:
        """
        A loss of 1 loses everything, in bursts or not.
        """
        for length in (None, 8.0):
            model = LinkModel(LinkConditions(loss=1.0, loss_burst=length), 1)
            self.assertEqual(arrival_times(model, 100), [None] * 100)

    def test_duplicates(self) -> None:
        """
        A duplicated packet arrives twice with the same bytes.
        """
        model = LinkModel(LinkConditions(duplicate=0.25), 1)
        copies = [len(model.transmit(PACKET, now=0.0)) for _ in range(10_000)]
        self.assertEqual(set(copies), {1, 2})
        self.assertApproximates(copies.count(2), 2500, 150)
        self.assertEqual(model.counters.duplicated, copies.count(2))

    def test_jitter_that_keeps_the_order(self) -> None:
        """
        With jitter packets arrive within the interval, in the order they were sent.
        """
        model = LinkModel(LinkConditions(delay=1.0, jitter=0.1), 1)
        times = [time for time in arrival_times(model, 1000, interval=0.001) if time is not None]
        self.assertEqual(times, sorted(times))
        delays = [time - index * 0.001 for index, time in enumerate(times)]
        self.assertGreaterEqual(min(delays), 1.0)
        self.assertLessEqual(max(delays), 1.1 + 1e-9)
        self.assertEqual(model.counters.reordered, 0)

    def test_jitter_that_does_not(self) -> None:
        """
        Without ``keeps_order`` the delays are even over the interval, and packets overtake.
        """
        model = LinkModel(LinkConditions(delay=1.0, jitter=0.1, keeps_order=False), 1)
        times = [time for time in arrival_times(model, 20_000, interval=0.001) if time is not None]
        delays = [time - index * 0.001 for index, time in enumerate(times)]
        self.assertApproximates(sum(delays) / len(delays), 1.05, 0.001)
        self.assertNotEqual(times, sorted(times))
        self.assertGreater(model.counters.reordered, 1000)

    def test_reorder(self) -> None:
        """
        A packet that is held back arrives later by its delay, and is overtaken.
        """
        model = LinkModel(LinkConditions(reorder=0.1, reorder_delay=0.0025), 1)
        times = arrival_times(model, 10_000, interval=0.001)
        held = [index for index, time in enumerate(times) if time != index * 0.001]
        self.assertApproximates(len(held), 1000, 100)
        self.assertEqual(model.counters.reordered, len(held))
        self.assertEqual(times[held[0]], held[0] * 0.001 + 0.0025)

    def test_same_seed_same_fate(self) -> None:
        """
        The seed alone decides what happens.
        """
        conditions = LinkConditions(loss=0.2, jitter=0.1, duplicate=0.1, reorder=0.1)
        runs = [arrival_times(LinkModel(conditions, seed), 500) for seed in (1, 1, 2)]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_counters_add_up(self) -> None:
        """
        Every packet sent is accounted for once.
        """
        conditions = LinkConditions(
            rate=RATE, queue_limit=5, loss=0.2, duplicate=0.1, mtu=125, jitter=0.1
        )
        model = LinkModel(conditions, 9)
        for index in range(5000):
            model.transmit(bytes(96 + index % 3), now=index * 0.0005)
        counters = model.counters
        fates = counters.delivered + counters.lost + counters.dropped + counters.too_big
        self.assertEqual(counters.sent, 5000)
        self.assertEqual(counters.sent + counters.duplicated, fates)
        self.assertTrue(all((counters.lost, counters.dropped, counters.too_big)))
