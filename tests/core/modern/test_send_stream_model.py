"""
The sending half of a stream, compared with a naive one that lives the same random life.
"""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.send_stream import SendStream

MANY = 1 << 40


class NaiveStream:
    """
    What a SendStream should know, one byte at a time.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.state: list[str] = []
        self.delivered = 0

    def mark(self, start: int, end: int, state: str, *, unless: str = "") -> None:
        """
        Give bytes that are not delivered a state, except those that are in another one.
        """
        for at in range(max(start, self.delivered), end):
            if self.state[at] != unless:
                self.state[at] = state

    def first_lost(self, limit: int) -> tuple[int, int]:
        """
        The oldest lost range, cut to ``limit`` bytes; an empty one if there is none.
        """
        lost = [at for at in range(self.delivered, len(self.state)) if self.state[at] == "lost"]
        end = start = lost[0] if lost else 0
        while end in lost and end < start + limit:
            end += 1
        return start, end


class ModelTests(SynchronousTestCase):
    """
    A SendStream agrees with the naive one, whatever happens to it.
    """

    def check(self, stream: SendStream, naive: NaiveStream) -> None:
        """
        Compare all readings.
        """
        live = naive.state[naive.delivered :]
        self.assertEqual(stream.outstanding, sum(state != "acked" for state in live))
        self.assertEqual(stream.has_lost, "lost" in live)
        self.assertEqual(stream.next_offset, len(naive.state))
        self.assertEqual(stream.unsent, len(naive.data) - len(naive.state))
        unacked = {at for start, end in stream.unacked_ranges(MANY) for at in range(start, end)}
        self.assertEqual(
            unacked, {at + naive.delivered for at, state in enumerate(live) if state != "acked"}
        )

    def do(self, stream: SendStream, naive: NaiveStream, dice: random.Random) -> None:
        """
        Let one thing happen to both.
        """
        size = len(naive.state)
        start = dice.randrange(size + 1)
        end = min(size, start + dice.randrange(200))
        match dice.choice(["write", "cut", "cut", "lost", "lost", "acked", "delivered", "again"]):
            case "write":
                data = dice.randbytes(dice.choice([1, 10, 300]))
                naive.data += data[: stream.write(data)]
            case "cut":
                offset, pieces = stream.cut(dice.randrange(1, 5), 40, credit=dice.randrange(300))
                sent = b"".join(pieces)
                self.assertEqual(sent, naive.data[offset : offset + len(sent)])
                naive.state += ["flying"] * len(sent)
            case "lost":
                stream.on_lost(start, end)
                naive.mark(start, end, "lost", unless="acked")
            case "acked":
                stream.on_acked(start, end)
                naive.mark(start, end, "acked")
            case "delivered":
                below = min(start, naive.delivered + 50)
                stream.on_delivered(below)
                naive.delivered = max(naive.delivered, below)
            case "again":
                first, stop = naive.first_lost(3 * 40)
                offset, pieces = stream.cut_lost(3, 40)
                self.assertEqual(b"".join(pieces), naive.data[first:stop])
                if pieces:
                    self.assertEqual(offset, first)
                naive.mark(first, stop, "flying")

    @given(st.integers(0, 2**32))
    def test_random_lives(self, seed: int) -> None:
        """
        Under random writes, losses, acknowledgements and deliveries, every reading and every
        byte agree.
        """
        stream, naive = SendStream(limit=3000), NaiveStream()
        dice = random.Random(seed)
        for _ in range(60):
            self.do(stream, naive, dice)
            self.check(stream, naive)
