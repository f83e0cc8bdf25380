"""
A client's introduction: until its server has proof of its address, every packet pays for the
answer (docs/protocol.md, section 6.1).
"""

from __future__ import annotations

#: Packets of full size among the first ones on a path: so many let the server answer with more,
#: and one of them should arrive.
FIRST_INTRODUCTIONS = 3


class Introduction:
    """
    Owns the first acknowledgements on a path, as a :class:`~resip.core.modern.sent.Control`.

    The server has the proof once it hears that one of its packets arrived. If that got lost
    unnoticed, both would wait, the server for more bytes to answer to, the client for the answer.

    :ivar is_over: it has; a connection is proof by itself.
    """

    __slots__ = ("is_over",)

    def __init__(self, *, is_over: bool) -> None:
        self.is_over = is_over

    def on_acked(self) -> None:
        """
        A packet with an acknowledgement arrived.
        """
        self.is_over = True

    def on_lost(self) -> None:
        """
        It is lost; the next probes try again.
        """
