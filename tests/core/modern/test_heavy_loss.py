"""
Whole sessions where most packets get lost, in both directions. Seeds are printed on failure.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from bench.conditions import start_bulk
from resip.lab.link import LinkConditions
from tests.support.modern import make_modern_pair

LINE = LinkConditions(delay=0.05, queue_limit=70, mtu=1500)
SEED = 11


def measure(loss: float, rate: float, *, is_up: bool, warm_up: float, seconds: float) -> float:
    """
    Goodput of one stream, as a share of what the line delivers.
    """
    pair = make_modern_pair(replace(LINE, loss=loss, rate=rate), seed=SEED, keeps_events=False)
    receiver = start_bulk(pair, is_up=is_up)
    since = pair.now + warm_up
    pair.run_until(since + seconds)
    return receiver.progress.get_goodput(since, since + seconds) / (rate * (1 - loss))


class HeavyLossTests(SynchronousTestCase):
    """
    Bulk transfers. Losses of probes, credit and acknowledgements must not stop the data.
    """

    def check(
        self, loss: float, rate: float, least: float, *, warm_up: float, seconds: float
    ) -> None:
        """
        Both directions get at least this share of what the line delivers.
        """
        for is_up in (True, False):
            share = measure(loss, rate, is_up=is_up, warm_up=warm_up, seconds=seconds)
            self.assertGreater(share, least, f"{is_up=}, seed {SEED}")

    def test_half(self) -> None:
        """
        At 50 % nearly all of what the line delivers is new data.
        """
        self.check(0.5, 8e6, 0.7, warm_up=3.0, seconds=5.0)

    def test_nine_of_ten(self) -> None:
        """
        At 90 % a stream begins, and goes on, if by fits and starts.
        """
        self.check(0.9, 2e6, 0.1, warm_up=15.0, seconds=20.0)
