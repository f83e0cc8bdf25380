"""
Control frames that wait for a packet.
"""

from __future__ import annotations

from collections.abc import Callable

from resip.core.modern.parking import release_room
from resip.core.modern.sent import Control


class RepeatedFrame:
    """
    A frame that is sent again until it has arrived. A :class:`~resip.core.modern.sent.Control`.

    :ivar is_waiting: it is in the outbox.
    """

    __slots__ = ("_is_arrived", "_outbox", "frame", "is_waiting")

    def __init__(self, outbox: Outbox, frame: bytes) -> None:
        self._outbox = outbox
        self._is_arrived = False
        self.frame = frame
        self.is_waiting = True

    def on_acked(self) -> None:
        """
        The packet arrived.
        """
        if not self._is_arrived:
            self._is_arrived = True
            self._outbox.unacked -= 1

    def on_lost(self) -> None:
        """
        The packet is lost; one of several perhaps, and others arrived.
        """
        if not self._is_arrived and not self.is_waiting:
            self._outbox.requeue(self)


class CreditFrame:
    """
    A credit that was said. Only the newest is worth repeating (M-32).
    """

    __slots__ = ("_source", "_value")

    def __init__(self, source: CreditSource, value: int) -> None:
        self._source = source
        self._value = value

    def on_acked(self) -> None:
        """
        The packet arrived.
        """
        self._source.on_arrived(self._value)

    def on_lost(self) -> None:
        """
        The packet is lost.
        """
        if self._value == self._source.newest > self._source.arrived:
            self._source.say()


class CreditSource:
    """
    Says one credit, a channel's or the session's, always its newest state.

    :param build: the frame, and a number that grows with what it says.
    :ivar newest: that number, when the frame was last built. :ivar arrived: the highest acked.
    """

    __slots__ = ("_build", "_is_closed", "_outbox", "arrived", "newest")

    def __init__(self, outbox: Outbox, build: Callable[[], tuple[bytes, int]]) -> None:
        self._outbox = outbox
        self._build = build
        self._is_closed = False
        self.newest = -1
        self.arrived = -1

    @property
    def is_known(self) -> bool:
        """
        Whether the peer knows the newest state, and nothing newer waits to be said.
        """
        return 0 <= self.newest == self.arrived and not self._outbox.has_credit(self)

    def say(self) -> None:
        """
        Let the next packet carry it.
        """
        if not self._is_closed:
            self._outbox.say_credit(self)

    def close(self) -> None:
        """
        Nobody wants this credit any more.
        """
        self._is_closed = True
        self._outbox.forget_credit(self)
        self._build = _build_nothing  # lets go of whoever owns this source

    def build(self) -> tuple[bytes, CreditFrame]:
        """
        The frame and its owner.
        """
        frame, self.newest = self._build()
        return frame, CreditFrame(self, self.newest)

    def on_arrived(self, value: int) -> None:
        """
        The peer knows of a state.
        """
        self.arrived = max(self.arrived, value)


class Outbox:
    """
    Hands out control frames, as many as fit into a packet.

    Bounded by its callers: one frame of a kind for each channel or id.

    :ivar unacked: frames to be repeated that are not known to have arrived, waiting or not.
    """

    __slots__ = ("_credits", "_once", "_repeated", "unacked")

    def __init__(self) -> None:
        self.unacked = 0
        # Lists, since an empty deque takes three quarters of a kilobyte in every idle session.
        self._once: list[bytes] = []
        self._repeated: list[RepeatedFrame] = []
        self._credits: dict[CreditSource, None] = {}

    def __bool__(self) -> bool:
        """
        Whether anything waits.
        """
        return bool(self._once or self._repeated or self._credits)

    def say_once(self, frame: bytes) -> None:
        """
        Send a frame that may get lost, once however often it was asked for meanwhile.
        """
        if frame not in self._once:
            self._once.append(frame)

    def say(self, frame: bytes) -> None:
        """
        Send a frame until it has arrived.
        """
        self.unacked += 1
        self._repeated.append(RepeatedFrame(self, frame))

    def say_credit(self, source: CreditSource) -> None:
        """
        Send the newest credit of a source.
        """
        self._credits[source] = None

    def has_credit(self, source: CreditSource) -> bool:
        """
        Whether a credit of this source waits.
        """
        return source in self._credits

    def rest(self) -> None:
        """
        Nothing was said for long.
        """
        release_room(self._credits)

    def forget_credit(self, source: CreditSource) -> None:
        """
        Nobody wants this credit any more.
        """
        self._credits.pop(source, None)

    def requeue(self, frame: RepeatedFrame) -> None:
        """
        A frame is lost: say it before anything new.
        """
        frame.is_waiting = True
        self._repeated.insert(0, frame)

    def take(self, room: int) -> tuple[list[bytes], list[Control]]:
        """
        Frames of at most ``room`` bytes together, and their owners.
        """
        frames: list[bytes] = []
        owners: list[Control] = []
        while self._once and len(self._once[0]) <= room:
            frames.append(self._once.pop(0))
            room -= len(frames[-1])
        while self._repeated and len(self._repeated[0].frame) <= room:
            owner = self._repeated.pop(0)
            owner.is_waiting = False
            frames.append(owner.frame)
            owners.append(owner)
            room -= len(owner.frame)
        while self._credits and room >= LARGEST_CREDIT:
            source = next(iter(self._credits))
            del self._credits[source]
            frame, credit = source.build()
            frames.append(frame)
            owners.append(credit)
            room -= len(frame)
        return frames, owners


#: A CREDIT frame has 21 bytes, SESSION_CREDIT fewer.
LARGEST_CREDIT = 21


def _build_nothing() -> tuple[bytes, int]:
    raise AssertionError("a closed credit is not said")
