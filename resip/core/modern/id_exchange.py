"""
How a session's two sides provide each other with ids: NEW_ID and RETIRE_ID, said and heard.
"""

from __future__ import annotations

from resip.core.modern.frames import new_id_frame, retire_id_frame
from resip.core.modern.ids import IdPool, IssuedId, PeerIds
from resip.core.modern.outbox import Outbox
from resip.core.modern.reset import is_reset


class IdExchange:
    """
    Owns the ids of both sides, and keeps the peer in stock.

    :ivar peer: those under which the peer receives.
    :param own: those under which we do.
    """

    __slots__ = ("_is_client", "_outbox", "_own", "peer")

    def __init__(self, own: IdPool, peer: PeerIds, outbox: Outbox, *, is_client: bool) -> None:
        self._own = own
        self.peer = peer
        self._outbox = outbox
        self._is_client = is_client
        self._provide()

    def on_new_id(self, sequence: int, session_id: int, token: bytes) -> None:
        """
        A NEW_ID frame.

        :raises ProtocolError: see :meth:`~resip.core.modern.ids.PeerIds.add`.
        """
        # A client sends no resets, so what it would end them with is not worth its server's memory.
        self.peer.add(IssuedId(sequence, session_id, token if self._is_client else b""))

    def on_retire_id(self, sequence: int) -> None:
        """
        A RETIRE_ID frame.

        :raises ProtocolError: for a sequence number that was never issued.
        """
        self._own.on_retired(sequence)
        self._provide()

    def say_retired(self) -> None:
        """
        Give back what no path uses any more.
        """
        for sequence in self.peer.take_retired():
            self._outbox.say(retire_id_frame(sequence))

    def is_reset(self, packet: bytes) -> bool:
        """
        Whether a packet that did not open says that the peer has lost the session (M-42).
        """
        return is_reset(packet, self.peer.tokens)

    def close(self) -> tuple[int, ...]:
        """
        The session is over: release our ids; returns them.
        """
        ids = self._own.active
        self._own.close()
        return ids

    def _provide(self) -> None:
        for issued in self._own.replenish():
            self._outbox.say(new_id_frame(issued.sequence, issued.session_id, issued.token))
