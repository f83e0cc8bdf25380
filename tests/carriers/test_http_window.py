"""
Tests of the parts of the HTTP carrier that know no network.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.http import MAX_POST_SIZE, MAX_POSTS, BodySequence, numbered
from resip.carriers.http_window import MAX_DELAY, MIN_WINDOW, UploadWindow
from resip.core.errors import ProtocolError


class BodySequenceTests(SynchronousTestCase):
    """
    Bodies that overtake each other.
    """

    def test_any_order(self) -> None:
        """
        In whatever order they come, they leave in theirs.
        """
        random = Random(4)
        for _ in range(50):
            bodies = BodySequence()
            taken: list[bytes] = []
            waiting = list(range(40))
            while waiting:
                ready = [each for each in waiting if each < waiting[0] + MAX_POSTS]
                number = random.choice(ready)
                waiting.remove(number)
                taken += bodies.add(numbered(number, bytes([number])))
            self.assertEqual(taken, [bytes([number]) for number in range(40)])
            self.assertEqual(bodies.add(numbered(random.randrange(40), b"again")), [])
            self.assertEqual(bodies.kept, 0)

    def test_what_is_kept_is_bounded(self) -> None:
        """
        One that is too far ahead is an error.
        """
        bodies = BodySequence()
        for number in range(1, MAX_POSTS):
            self.assertEqual(bodies.add(numbered(number)), [])
        self.assertEqual(bodies.kept, MAX_POSTS - 1)
        self.assertRaises(ProtocolError, bodies.add, numbered(MAX_POSTS))


class UploadWindowTests(SynchronousTestCase):
    """
    How much is under way.
    """

    def test_one_until_the_first_is_answered(self) -> None:
        """
        Nothing is known of the link before.
        """
        window = UploadWindow()
        self.assertTrue(window.allows(10**6, posts=0))
        window.on_sent(1000)
        self.assertFalse(window.allows(10**6, posts=1))
        window.on_taken(1000, seconds=0.1)
        self.assertTrue(window.allows(10**6, posts=1))

    def test_it_follows_the_path(self) -> None:
        """
        It grows while answers are quick, and shrinks to the least while they are slow.
        """
        window = UploadWindow()
        for _ in range(100):
            window.on_sent(window.post_size)
            window.on_taken(window.post_size, seconds=0.1)
        self.assertEqual(window.post_size, MAX_POST_SIZE)
        for _ in range(100):
            window.on_sent(window.post_size)
            window.on_taken(window.post_size, seconds=0.2 + 2 * MAX_DELAY)
        self.assertEqual(window.post_size, MIN_WINDOW // 4)

    def test_small_ones_leave_room(self) -> None:
        """
        Half of the places are for large POSTs.
        """
        window = UploadWindow()
        window.on_sent(10)
        window.on_taken(10, seconds=0.1)
        self.assertTrue(window.allows(100, posts=MAX_POSTS // 2 - 1))
        self.assertFalse(window.allows(100, posts=MAX_POSTS // 2))
        self.assertTrue(window.allows(100_000, posts=MAX_POSTS - 1))
        self.assertFalse(window.allows(100_000, posts=MAX_POSTS))
        self.assertFalse(window.allows(0, posts=0))
