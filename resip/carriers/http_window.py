"""
How many bytes of a link of the HTTP carrier are under way.
"""

from __future__ import annotations

from math import inf

from resip.carriers.http import MAX_POST_SIZE, MAX_POSTS

#: Bytes under way in POSTs: at least, and at most.
MIN_WINDOW = 32 * 1024
MAX_WINDOW = MAX_POSTS * MAX_POST_SIZE
#: Seconds that a POST may take beyond twice the shortest one.
MAX_DELAY = 0.05


class UploadWindow:
    """
    How much of a link's stream may be in POSTs that are not answered.

    A POST cannot be overtaken, so no more is under way than keeps the path busy: the window grows
    while answers come quickly, and shrinks when they take longer than they have to.
    """

    def __init__(self) -> None:
        self._size = MIN_WINDOW
        self._under_way = 0
        self._shortest = inf

    @property
    def post_size(self) -> int:
        """
        Bytes of the next POST, at most.
        """
        return min(self._size // 4, MAX_POST_SIZE)

    def allows(self, waiting: int, *, posts: int) -> bool:
        """
        Whether another POST may be sent while so many are not answered.

        Small ones leave half of the room, and go together when many are under way. Until the
        first was answered there is but one.
        """
        if not waiting or (posts and self._shortest == inf):
            return False
        is_large = waiting >= self.post_size // 2
        return posts < (MAX_POSTS if is_large else MAX_POSTS // 2) and self._under_way < self._size

    def on_sent(self, size: int) -> None:
        """
        A POST of so many bytes left.
        """
        self._under_way += size

    def on_taken(self, size: int, *, seconds: float) -> None:
        """
        It was answered.
        """
        self._under_way -= size
        self._shortest = min(self._shortest, seconds)
        if seconds > 2 * self._shortest + MAX_DELAY:
            self._size = max(MIN_WINDOW, self._size * 7 // 8)
        else:
            self._size = min(MAX_WINDOW, self._size + size)
