"""
Credit (docs/protocol.md, section 4): how much the peer may send, and how much this side may.

The window follows the bandwidth-delay product without knowing it. A window that is used up in
less than two round trips holds its sender back, or soon will, so it is doubled, up to a cap that
bounds memory.
"""

from __future__ import annotations

from resip.core.errors import ProtocolError

#: What each side grants at first, for each channel and for all together; named in the handshake.
INITIAL_CHANNEL_WINDOW = 2 * 1024 * 1024
INITIAL_SESSION_WINDOW = 8 * 1024 * 1024
#: What the windows grow to: memory that the peer can fill. 8 MiB are 670 Mbit/s at a round trip
#: of 100 ms. Far below 2^31, so that 32 bits of an offset are enough (M-27).
MAX_CHANNEL_WINDOW = 8 * 1024 * 1024
MAX_SESSION_WINDOW = 32 * 1024 * 1024
#: Seconds after which a delivery is announced although the credit would last: the sender can
#: forget its copy then. Below so many bytes it is not worth a packet while more comes.
DELIVERED_DELAY = 0.25
SMALL_DELIVERY = 16 * 1024
SMALL_DELIVERY_DELAY = 4.0
#: From so many bytes on it is announced at once: the sender keeps few times as much.
LARGE_DELIVERY = 1024 * 1024


class FlowControlError(ProtocolError):
    """
    The peer sent beyond its credit (M-31); the session ends with CLOSE code FLOW_CONTROL.
    """


class CreditWindow:
    """
    The credit that this side grants, for one channel or for the whole session.

    Of a channel everything counts in offsets; of the session, in their sums over all channels.

    :param initial: bytes granted in the handshake. :param maximum: bytes that the window grows to.
    :ivar received: the highest offset received.
    :ivar delivered: every byte below was taken by the application.
    :ivar limit: the peer may send up to here; what was announced last, or at first.
    :ivar window: bytes beyond ``delivered`` that the next announcement grants.
    :ivar due_time: when a delivery has to be announced at the latest; ``None`` when none waits.
    """

    __slots__ = (
        "_maximum",
        "_round_start",
        "_round_time",
        "_widened_at",
        "delivered",
        "due_time",
        "limit",
        "received",
        "window",
    )

    def __init__(self, *, initial: int, maximum: int) -> None:
        self.window = initial
        self.limit = initial
        self.received = 0
        self.delivered = 0
        self.due_time: float | None = None
        self._maximum = max(initial, maximum)
        #: Since when, and from which offset on, the use of one window is measured.
        self._round_time: float | None = None
        self._round_start = 0
        self._widened_at: float | None = None

    def on_received(self, count: int) -> None:
        """
        The highest offset rose by ``count``.

        :raises FlowControlError: when that is beyond the limit.
        """
        self.received += count
        if self.received > self.limit:
            raise FlowControlError(f"{self.received} bytes came; {self.limit} were allowed")

    def consumed(self, count: int, *, now: float, rtt: float) -> None:
        """
        The application took ``count`` bytes more, or they were given up with their channel.

        :param rtt: the smoothed round trip, seconds.
        """
        self.delivered += count
        if self.delivered + self.window - self.limit < SMALL_DELIVERY:
            self.due_time = now + SMALL_DELIVERY_DELAY
        elif self.due_time is None or self.due_time > now + DELIVERED_DELAY:
            self.due_time = now + DELIVERED_DELAY
        if self._round_time is not None:
            if self.delivered - self._round_start < self.window:
                return
            if now - self._round_time < 2 * rtt:
                self.window = min(2 * self.window, self._maximum)
        self._round_time = now
        self._round_start = self.delivered

    def widen(self, *, now: float, rtt: float) -> bool:
        """
        Double the window if it holds the sender back although the reader keeps up.

        Where much is lost, most of a window stands behind a hole for several round trips: the
        window has to be that many times larger, and its use does not show it.

        :return: whether there is a larger limit to announce.
        """
        # Half, since the announcement takes its time and the sender is half a round trip ahead.
        is_tight = 2 * (self.limit - self.received) <= self.window
        is_recent = self._widened_at is not None and now - self._widened_at < rtt
        if not is_tight or is_recent or self.window >= self._maximum:
            return False
        self._widened_at = now
        self.window = min(2 * self.window, self._maximum)
        return True

    def is_due(self, *, now: float) -> bool:
        """
        Whether to announce now: half a window can be granted, or much was delivered, or the sender
        is about to run dry, or a delivery has waited long enough.
        """
        if self.due_time is None:
            return False
        grant = self.delivered + self.window - self.limit
        if grant >= min(self.window / 2, LARGE_DELIVERY) or now >= self.due_time:
            return True
        return 8 * grant >= self.window and 4 * (self.limit - self.received) <= self.window

    def announce(self) -> int:
        """
        The new limit, to be sent together with :attr:`delivered`. It never shrinks (M-32).
        """
        self.due_time = None
        self.limit = max(self.limit, self.delivered + self.window)
        return self.limit


class SendCredit:
    """
    The credit that the peer granted, for one channel or for the whole session.

    :ivar limit: bytes that may be sent in all. :ivar used: bytes that were sent; repeated ones
        count once.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def available(self) -> int:
        """
        Bytes that may still be sent.
        """
        return self.limit - self.used

    @property
    def is_blocked(self) -> bool:
        """
        Whether nothing new may be sent.
        """
        return self.used >= self.limit

    def use(self, count: int) -> None:
        """
        ``count`` new bytes are sent.

        :raises ValueError: when that is more than :attr:`available`.
        """
        if count > self.limit - self.used:
            raise ValueError(f"{count} bytes are more than the {self.available} available")
        self.used += count

    def on_limit(self, limit: int) -> bool:
        """
        The peer announced a limit; an older, lower one changes nothing.

        :return: whether it was blocked and is no more.
        """
        was_blocked = self.is_blocked
        self.limit = max(self.limit, limit)
        return was_blocked and not self.is_blocked
