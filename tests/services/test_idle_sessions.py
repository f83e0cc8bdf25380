"""
What a whole server keeps for a session that does nothing, its driver and its ids included.
"""

from __future__ import annotations

import gc
import tracemalloc

from twisted.trial.unittest import SynchronousTestCase

from bench.visitors import Bench

#: Bytes of Python objects for each session: awake without ciphers, and folded up.
MOST_AWAKE = 14 * 1024
MOST_FOLDED = 4 * 1024
#: Clients that come, say a word and are gone.
COUNT = 20
#: Seconds after which a session's ciphers are put away, and after which it is folded up.
SHORT = 20.0
LONG = 120.0


class IdleSessionTests(SynchronousTestCase):
    """
    Sessions that were used, of clients that are gone.
    """

    def test_size(self) -> None:
        """
        Ten thousand take 140 MB while they are awake, and 40 when they are folded up.
        """
        bench = Bench(2 * COUNT, keeps_channel=False)
        bench.visit(COUNT)
        bench.run_for(LONG)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        bench.visit(COUNT)
        for seconds, most in ((SHORT, MOST_AWAKE), (LONG, MOST_FOLDED)):
            bench.run_for(seconds)
            gc.collect()
            size = (tracemalloc.get_traced_memory()[0] - before) / COUNT
            self.assertLess(size, most)
