"""
Whole sessions that did something else before they send. Seeds are printed on failure.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from bench.conditions import start_bulk
from resip.core.errors import ResetCode
from resip.core.types import Protocol, Target
from resip.lab.link import LinkConditions
from tests.support.modern import make_modern_pair

LINE = LinkConditions(rate=4e6, delay=0.05, loss=0.5, queue_limit=70, mtu=1500)
SEEDS = (2, 3, 6, 7)
EARLIER = Target(Protocol.TCP, "earlier", 1)
LATER = Target(Protocol.TCP, "later", 2)


def share_after_download(link: LinkConditions, *, seed: int) -> float:
    """
    What an upload reaches of what the link delivers, after a download that the client left.
    """
    pair = make_modern_pair(link, seed=seed, keeps_events=False)
    earlier = start_bulk(pair, is_up=False, target=EARLIER)
    pair.run_for(20.0)
    assert earlier.channel_id is not None
    pair.client.session.reset(earlier.channel_id, ResetCode.CANCELLED, now=pair.now)
    later = start_bulk(pair, is_up=True, target=LATER)
    since = pair.now + 3.0
    pair.run_until(since + 4.0)
    assert link.rate is not None
    return later.progress.get_goodput(since, since + 4.0) / (link.rate * (1 - link.loss))


class TurnaroundTests(SynchronousTestCase):
    """
    What a side learns while it only receives does not hold it back when it sends.
    """

    def test_an_upload_after_a_download_fills_a_lossy_link(self) -> None:
        """
        Half of what the client sent meanwhile, credit and acknowledgements, was lost, and it was
        too little to show what the link carries.
        """
        for seed in SEEDS:
            self.assertGreater(share_after_download(LINE, seed=seed), 0.75, f"seed {seed}")

    def test_an_upload_after_a_download_fills_a_clean_link(self) -> None:
        """
        The same without loss.
        """
        for seed in SEEDS[:1]:
            share = share_after_download(replace(LINE, loss=0.0), seed=seed)
            self.assertGreater(share, 0.85, f"seed {seed}")
