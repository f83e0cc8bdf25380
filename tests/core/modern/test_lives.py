"""
Random lives of modern sessions; ``python -m tests.support.lives`` lives more.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lives import ModernLife


class LifeTests(SynchronousTestCase):
    """
    Whatever programs and networks do, nothing that was promised is broken.
    """

    def test_lives(self) -> None:
        """
        Bytes arrive once and in order, channels end on both sides, and nothing stays behind.
        """
        for seed in range(10):
            ModernLife(seed).live()
