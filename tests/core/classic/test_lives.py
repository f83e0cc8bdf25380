"""
Random lives of classic sessions; ``python -m tests.support.lives --classic`` lives more.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lives import ClassicLife


class LifeTests(SynchronousTestCase):
    """
    Whatever programs and networks do, nothing that was promised is broken.
    """

    def test_lives(self) -> None:
        """
        Bytes arrive once and in order, and channels end on both sides.
        """
        for seed in range(30):
            ClassicLife(seed).live()
