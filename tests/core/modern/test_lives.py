"""
Random lives of two sessions; ``python -m tests.support.lives`` lives any number of others.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lives import Life


class LifeTests(SynchronousTestCase):
    """
    Whatever programs and networks do, nothing that was promised is broken.
    """

    def test_lives(self) -> None:
        """
        Bytes arrive once and in order, channels end on both sides, and nothing stays behind.
        """
        for seed in range(10):
            Life(seed).live()
