"""
The stream of a connection in the bodies of HTTP requests and responses, for networks that let
nothing else through: what both sides have in common.

Down go the bodies of long GET responses, up those of many POSTs, several at a time and each on a
connection of its own. Each body begins with its number, counted from 0 for each direction; strung
together in that order they are the stream. All requests of one such *link* carry its token.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from resip.carriers.tcp import TCPConnection
from resip.core.errors import ProtocolError

CARRIER_NAME = "http"
#: What a client calls it where it goes without TLS.
PLAIN_CARRIER_NAME = "plain-http"
CONTENT_TYPE = b"application/octet-stream"
#: Bytes of the number that each body begins with.
NUMBER_SIZE = 4
#: Bytes of the longest POST, its number included; a proxy may hand it on only when it is whole.
MAX_POST_SIZE = 64 * 1024
#: POSTs that may be unanswered at once; one until the first is answered.
MAX_POSTS = 8
#: GETs that wait or are being answered: the second takes over at once when the first ends.
MAX_GETS = 4

_LOST = Failure(ConnectionLost())


class BodySequence:
    """
    Puts bodies that overtook each other back in order.
    """

    def __init__(self) -> None:
        self._next = 0
        self._early: dict[int, bytes] = {}

    @property
    def kept(self) -> int:
        """
        How many bodies wait for an earlier one; less than :data:`MAX_POSTS`.
        """
        return len(self._early)

    def add(self, body: bytes) -> list[bytes]:
        """
        Take a body with its number; return what can be handed on, in order.

        One that came before, because a proxy repeated it, is dropped.

        :raises ProtocolError: when there is no number, or one too far ahead.
        """
        if len(body) < NUMBER_SIZE:
            raise ProtocolError(f"a body of {len(body)} bytes")
        number = int.from_bytes(body[:NUMBER_SIZE])
        if number >= self._next + MAX_POSTS:
            raise ProtocolError(f"body {number}, but {self._next} is next")
        if number >= self._next:
            self._early[number] = body[NUMBER_SIZE:]
        ready = []
        while (piece := self._early.pop(self._next, None)) is not None:
            ready.append(piece)
            self._next += 1
        return ready


def numbered(number: int, data: bytes = b"") -> bytes:
    """
    A body, or its beginning.
    """
    return number.to_bytes(NUMBER_SIZE) + data


@implementer(IConsumer)
class HTTPTransport:
    """
    What a stream carrier's connection takes for its transport: one side of a link.

    Subclasses say how bytes leave, in :meth:`_flush`, and what is to be given up,
    in :meth:`_give_up`.

    :param peer: whom the connection shows as its peer.
    """

    def __init__(self, clock: IReactorTime, peer: tuple[str, int]) -> None:
        self._clock = clock
        self._peer = peer
        self._stream: TCPConnection | None = None
        self._producer: IPushProducer | None = None
        self._is_full = False
        self._is_ending = False
        self._is_over = False
        self._reason = connectionDone
        self._unsent = bytearray()

    @property
    def is_over(self) -> bool:
        """
        Whether the link was ended or given up.
        """
        return self._is_over

    def start(self, stream: Any) -> None:
        """
        Connect the protocol that the stream is for.
        """
        self._stream = stream
        stream.makeConnection(self)

    # What the protocol above calls.

    def getPeer(self) -> IPv4Address:
        """
        Where the requests come from or go to.
        """
        return IPv4Address("TCP", *self._peer)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Nothing is delayed here.
        """

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Tell ``producer`` when there is room.
        """
        self._producer = producer

    def unregisterProducer(self) -> None:
        """
        Tell nobody.
        """
        self._producer = None

    def write(self, data: bytes) -> None:
        """
        Send bytes of the stream.
        """
        if not self._is_over and not self._is_ending:
            self._unsent += data
            self._flush()

    def loseWriteConnection(self) -> None:
        """
        End the link behind what was written.
        """
        self._is_ending = True
        self._flush()

    def loseConnection(self) -> None:
        """
        The same.
        """
        self.loseWriteConnection()

    def abortConnection(self) -> None:
        """
        Give the link up, with what was on its way.
        """
        self._end(_LOST)

    # For subclasses.

    def _flush(self) -> None:
        raise NotImplementedError

    def _give_up(self) -> None:
        raise NotImplementedError

    def _deliver(self, data: bytes) -> None:
        if self._stream is not None and not self._is_over:
            self._stream.dataReceived(data)

    def _set_full(self, is_full: bool) -> None:
        if is_full == self._is_full or self._is_over:
            return
        self._is_full = is_full
        if self._producer is None:
            return
        if is_full:
            self._producer.pauseProducing()
        else:
            self._producer.resumeProducing()

    def _end(self, reason: Failure = connectionDone) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._reason = reason
        self._unsent.clear()
        self._give_up()
        # The stream hears of it in a later turn, as it would from a socket.
        self._clock.callLater(0, self._tell_loss)

    def _tell_loss(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.connectionLost(self._reason)
