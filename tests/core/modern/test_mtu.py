"""
Tests of :mod:`resip.core.modern.mtu`.
"""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.rate import AckReport
from resip.core.modern.mtu import (
    BASE_SIZE,
    CANDIDATES,
    MAX_PROBES,
    MINIMUM_SIZE,
    RAISE_INTERVAL,
    RETRY_INTERVAL,
    TRANSITIONS,
    PathMtuSearch,
    SearchInput,
    SearchState,
)
from resip.core.modern.sent import SentRun

#: IPv4 and UDP headers.
OVERHEAD = 28
PTO = 0.2


class MtuPath:
    """
    A path that takes packets up to a size, and a search on it that is always asked for probes.

    :ivar limit: bytes of the largest UDP payload that arrives.
    :ivar tried: sizes of the probes sent.
    """

    def __init__(self, mtu: int, *, maximum: int = CANDIDATES[-1]) -> None:
        self.limit = mtu - OVERHEAD
        self.search = PathMtuSearch(maximum=maximum)
        self.tried: list[int] = []
        self.now = 1000.0

    def settle(self) -> int:
        """
        Send probes until none is wanted any more; return the size in use.
        """
        quiet_since = self.now
        while self.now - quiet_since < 1.0:
            self.now += 0.05
            if self.exchange_probe():
                quiet_since = self.now
        return self.search.size

    def exchange_probe(self, *, loss: float = 0.0) -> bool:
        """
        Send a probe and tell its fate; returns whether one was wanted.
        """
        probe = self.search.get_probe(loss=loss, now=self.now)
        if probe is None:
            return False
        self.tried.append(probe.size)
        if probe.size <= self.limit:
            probe.on_acked()
        else:
            probe.on_lost()
            self.exchange(MINIMUM_SIZE, pause=0.001)
        return True

    def exchange(self, *sizes: int, pause: float = 0.1) -> None:
        """
        Send packets of these sizes; what the path takes is acknowledged, the rest is lost.
        """
        self.now += pause
        runs = [
            SentRun(first=at, end=at + 1, time=self.now + at / 1000, size=size, last_size=size)
            for at, size in enumerate(sizes)
        ]
        acked = [run for run in runs if run.size <= self.limit]
        lost = [run for run in runs if run.size > self.limit]
        self.search.on_ack(AckReport(acked, lost, None, 0), probe_timeout=PTO)


class PathMtuSearchTests(SynchronousTestCase):
    """
    The search finds what a path takes, and notices when it takes less.
    """

    def test_usual_paths_are_found_exactly(self) -> None:
        """
        Over MTUs of 1280, 1420, 1500, 9000 and on loopback nothing is left unused.
        """
        for mtu in (1280, 1420, 1500, 9000, 65535):
            path = MtuPath(mtu)
            self.assertEqual(path.settle(), mtu - OVERHEAD)
            self.assertIs(path.search.state, SearchState.COMPLETE)

    def test_other_paths_are_found_nearly(self) -> None:
        """
        On any other path less than a sixteenth of the size stays unused.
        """
        for mtu in (1300, 1350, 1440, 1492, 2000, 4352, 16_000, 40_000):
            path = MtuPath(mtu)
            size = path.settle()
            self.assertLessEqual(size, path.limit)
            self.assertGreater(size * (1 + 1 / 16) + 2, path.limit)

    def test_small_paths_work(self) -> None:
        """
        M-18: where 1,200 bytes do not arrive, 484 are sent, and what fits is found from there.
        """
        for mtu in (512, 576, 1000):
            path = MtuPath(mtu)
            self.assertEqual(path.settle(), MINIMUM_SIZE)
            self.assertIs(path.search.state, SearchState.ERROR)
            path.exchange(MINIMUM_SIZE)
            size = path.settle()
            self.assertLessEqual(size, path.limit)
            self.assertGreater(size * (1 + 1 / 16) + 2, path.limit)

    def test_the_carrier_has_a_limit_too(self) -> None:
        """
        Nothing above the carrier's largest packet is tried, and that itself is.
        """
        for maximum in (600, 1200, 1400, 2000):
            path = MtuPath(9000, maximum=maximum)
            self.assertEqual(path.settle(), maximum)
            self.assertLessEqual(max(path.tried), maximum)

    def test_starts_with_the_base_size(self) -> None:
        """
        M-18: data uses 1,200 bytes until a probe was answered, and the sizes rise from there.
        """
        path = MtuPath(1500)
        self.assertEqual(path.search.size, BASE_SIZE)
        path.settle()
        self.assertEqual(path.tried[:6], [BASE_SIZE, 1252, 1392, 1452, 1472, 8972])

    def test_where_much_is_lost_a_size_is_tried_more_often(self) -> None:
        """
        At 90 % loss three lost probes mean nothing; thirty do, and forty at any loss.
        """
        for loss, tries in ((0.9, 30), (0.999, 40)):
            path = MtuPath(1300)
            for _ in range(60):
                path.now += 0.3
                path.exchange_probe(loss=loss)
            self.assertEqual(path.tried.count(1392), tries)

    def test_a_size_fails_after_three_lost_probes(self) -> None:
        """
        RFC 8899: one or two losses are bad luck; probes are a quarter of a second apart then.
        """
        path = MtuPath(1300)
        path.settle()
        self.assertEqual(
            path.tried[:6], [BASE_SIZE, 1252, *[1392] * MAX_PROBES, (1252 + 1392) // 2]
        )
        search = PathMtuSearch()
        probe = search.get_probe(now=5.0)
        assert probe is not None
        self.assertIsNone(search.get_probe(now=6.0))
        probe.on_lost()
        self.assertIsNone(search.get_probe(now=5.0 + RETRY_INTERVAL / 2))
        self.assertIsNotNone(search.get_probe(now=5.0 + RETRY_INTERVAL))

    def test_a_late_answer_counts(self) -> None:
        """
        A probe that was given up and arrives after all proves its size.
        """
        search = PathMtuSearch()
        base = search.get_probe(now=0.0)
        assert base is not None
        base.on_acked()
        late = search.get_probe(now=1.0)
        assert late is not None
        late.on_lost()
        late.on_acked()
        self.assertEqual(search.size, late.size)

    def test_an_outage_says_nothing_of_the_size(self) -> None:
        """
        Where ordinary packets are lost as well, a size is tried until one of them arrives.
        """
        path = MtuPath(1500)
        for _ in range(20):
            probe = path.search.get_probe(now=path.now)
            assert probe is not None
            probe.on_lost()
            path.now += 2 * RETRY_INTERVAL
        path.exchange(MINIMUM_SIZE)
        self.assertEqual(path.settle(), 1500 - OVERHEAD)

    def test_a_loss_may_be_known_before_or_after_what_arrived_beside_it(self) -> None:
        """
        An attempt has failed in either order.
        """
        for is_loss_first in (True, False):
            path = MtuPath(1280)
            while path.search.size < path.limit:
                path.exchange_probe()
            for _ in range(MAX_PROBES):
                path.now += RETRY_INTERVAL
                probe = path.search.get_probe(now=path.now)
                assert probe is not None
                self.assertEqual(probe.size, 1392)
                if is_loss_first:
                    probe.on_lost()
                path.exchange(MINIMUM_SIZE)
                if not is_loss_first:
                    probe.on_lost()
            path.now += RETRY_INTERVAL
            probe = path.search.get_probe(now=path.now)
            self.assertTrue(probe is None or probe.size < 1392)

    def test_looks_again_after_ten_minutes(self) -> None:
        """
        A path that became wider is found, not before the timer and not after it.
        """
        path = MtuPath(1300)
        path.settle()
        path.limit = 1472
        before = len(path.tried)
        path.now += RAISE_INTERVAL - 10
        self.assertFalse(path.exchange_probe())
        path.now += 10
        self.assertEqual(path.settle(), 1472)
        self.assertGreater(len(path.tried), before)

    def test_a_refusal_by_the_system_ends_the_step(self) -> None:
        """
        When the socket refuses a size no further probe of it is sent.
        """
        search = PathMtuSearch()
        for _ in range(2):
            probe = search.get_probe(now=0.0)
            assert probe is not None
            probe.on_acked()
        refused = search.get_probe(now=0.0)
        assert refused is not None
        search.on_refused(refused.size)
        following = search.get_probe(now=0.0)
        assert following is not None
        self.assertLess(following.size, refused.size)
        self.assertEqual(search.size, 1252)
        search.on_refused(1252)
        self.assertEqual(search.size, BASE_SIZE)

    def test_every_pair_of_state_and_input_is_decided(self) -> None:
        """
        The table leads from each state to states only, and out of each state.
        """
        for state, why in product(SearchState, SearchInput):
            self.assertIsInstance(TRANSITIONS.get((state, why), state), SearchState)
        self.assertEqual({state for state, _ in TRANSITIONS}, set(SearchState))
        self.assertEqual(set(TRANSITIONS.values()), set(SearchState))


class BlackHoleTests(SynchronousTestCase):
    """
    A path that stops taking what it took (M-40).
    """

    def test_silence_makes_packets_smaller(self) -> None:
        """
        The third probe after two timeouts is small enough for a path of 1,280.
        """
        path = MtuPath(1500)
        path.settle()
        path.search.on_probe_timeout(1)
        self.assertEqual(path.search.size, 1472)
        path.search.on_probe_timeout(2)
        self.assertEqual(path.search.size, BASE_SIZE)
        path.limit = 1280 - OVERHEAD
        self.assertEqual(path.settle(), 1252)

    def test_an_outage_costs_one_probe(self) -> None:
        """
        After a long silence the size that worked is tried first, and nothing else.
        """
        path = MtuPath(1500)
        path.settle()
        for count in range(1, 30):
            path.search.on_probe_timeout(count)
        self.assertEqual(path.search.size, MINIMUM_SIZE)
        path.tried.clear()
        path.exchange(MINIMUM_SIZE)
        self.assertEqual((path.settle(), path.tried), (1472, [1472]))

    def test_only_large_packets_vanish(self) -> None:
        """
        When small packets are acknowledged and large ones are not, for two probe timeouts, the
        size falls back; three exchanges of 100 ms are that.
        """
        path = MtuPath(1500)
        path.settle()
        path.limit = 1300
        sizes = []
        for _ in range(7):
            path.exchange(1472, 100)
            sizes.append(path.search.size)
        self.assertEqual(sizes, [1472] * 4 + [BASE_SIZE] * 3)
        self.assertEqual(path.settle(), 1252)

    def test_the_base_size_can_vanish_as_well(self) -> None:
        """
        On a path that came to take less than 1,200 bytes, 484 are used, and what fits is found.
        """
        path = MtuPath(1280)
        path.settle()
        path.limit = 900
        for _ in range(5):
            path.exchange(1252, 100)
        self.assertEqual(path.search.size, BASE_SIZE)
        for _ in range(5):
            path.exchange(BASE_SIZE, 100)
        self.assertEqual(path.search.size, MINIMUM_SIZE)
        path.exchange(100)
        self.assertGreater(path.settle(), 840)

    def test_random_loss_is_not_a_black_hole(self) -> None:
        """
        As long as any large packet arrives the size stays.
        """
        path = MtuPath(1500)
        path.settle()
        for turn in range(60):
            path.limit = 1472 if turn % 4 == 3 else 1300
            path.exchange(1472, 100)
        self.assertEqual(path.search.size, 1472)

    def test_losses_without_small_packets_prove_nothing(self) -> None:
        """
        When nothing at all arrives that is an outage, which the timeouts tell.
        """
        path = MtuPath(1500)
        path.settle()
        path.limit = 0
        for _ in range(20):
            path.exchange(1472, 100)
        self.assertEqual(path.search.size, 1472)
