"""
Tells a reader that sleeps from a path that loses.

The format has no credit: a receiver without room stays silent about a packet, exactly as if
it had been lost. Repeating such packets at full rate would take the window away from every
other channel. So a channel that makes no progress while the session as a whole does is taken
out of the ordinary repetition and asked about once in a while.
"""

from __future__ import annotations

#: Repetitions in vain before a channel counts as stalled. At 60 % loss in both directions a
#: repetition succeeds with probability 0.16, so that 48 in a row are as likely as 1 in 4,000;
#: and a mistake costs some probe intervals, nothing more.
VAIN_REPETITIONS = 48
#: A channel that has sent fewer packets cannot have filled its reader's buffer.
LEAST_PACKETS = 128
#: Seconds between the probes of a stalled channel: the first, and the longest. A reader that
#: wakes up is announced by its side, so the probes only cover the loss of that announcement.
FIRST_PROBE_INTERVAL = 0.1
MAX_PROBE_INTERVAL = 2.0


class StallDetector:
    """
    One per channel.

    :ivar is_stalled: the far reader does not seem to read.
    :ivar probe_time: when to ask again; only while stalled.
    """

    __slots__ = ("_interval", "_progress_time", "_vain", "is_stalled", "probe_time")

    def __init__(self) -> None:
        self.is_stalled = False
        self.probe_time = 0.0
        self._vain = 0
        self._interval = FIRST_PROBE_INTERVAL
        self._progress_time = 0.0

    def on_progress(self, *, now: float) -> None:
        """
        Something of this channel was acknowledged, or its reader announced itself.
        """
        self.is_stalled = False
        self._vain = 0
        self._interval = FIRST_PROBE_INTERVAL
        self._progress_time = now

    def on_repetition(
        self, *, last_number: int, session_progress_time: float, patience: float, now: float
    ) -> None:
        """
        A packet of this channel was sent again.

        :param last_number: how many packets the channel has sent.
        :param session_progress_time: when any channel last made progress.
        :param patience: seconds in which an answer should have come.
        """
        self._vain += 1
        if self.is_stalled:
            self._interval = min(2 * self._interval, MAX_PROBE_INTERVAL)
            self.probe_time = now + self._interval
            return
        self.is_stalled = (
            self._vain >= VAIN_REPETITIONS
            and last_number >= LEAST_PACKETS
            and now - self._progress_time > 2 * patience
            and session_progress_time > self._progress_time + patience
        )
        self.probe_time = now + self._interval

    def postpone(self, *, now: float) -> None:
        """
        It is not the time to ask.
        """
        self.probe_time = now + MAX_PROBE_INTERVAL
