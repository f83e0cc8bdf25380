"""
The two ends of one transfer on one channel: what may be said when. No I/O here.

    sender                        receiver
    OFFER        ---------------->
                 <----------------  PROGRESS ...    while it looks
                 <----------------  HAVE      what is there already, with hashes
    START        ---------------->            from the furthest that is the same
    DATA ...     ---------------->
                 <----------------  PROGRESS ...
    END          ---------------->
                 <----------------  DONE
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from resip.core.errors import ProtocolError
from resip.direct.messages import (
    MAX_DATA,
    Checkpoint,
    Data,
    Done,
    End,
    Failed,
    Have,
    Message,
    MessageReader,
    Offer,
    Progress,
    Start,
)


class _Phase(Enum):
    OFFER = auto()
    HAVE = auto()
    START = auto()
    DATA = auto()
    END = auto()
    OVER = auto()


class SendingSide:
    """
    The sender's end.

    :ivar sent: up to this offset everything was said. :ivar confirmed: and written there.
    """

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._reader = MessageReader()
        self._phase = _Phase.OFFER
        self.sent = 0
        self.confirmed = 0
        self._digest = b""

    @property
    def owes_answer(self) -> bool:
        """
        Whether the receiver has to say something next.
        """
        return self._phase in (_Phase.HAVE, _Phase.END) or self.confirmed < self.sent

    def offer(self) -> bytes:
        """
        The first message.
        """
        self._phase = _Phase.HAVE
        return self._offer.encode()

    def start(self, offset: int) -> bytes:
        """
        Go on from an offset that both have in common.
        """
        assert self._phase is _Phase.START, "the receiver has said what it has"
        self._phase = _Phase.DATA
        self.sent = self.confirmed = offset
        return Start(offset).encode()

    def data(self, data: bytes) -> bytes:
        """
        The next bytes, in messages of at most :data:`~resip.direct.messages.MAX_DATA`.
        """
        assert self._phase is _Phase.DATA, "only between start and end"
        self.sent += len(data)
        pieces = (data[at : at + MAX_DATA] for at in range(0, len(data), MAX_DATA))
        return b"".join(Data(piece).encode() for piece in pieces)

    def end(self, digest: bytes) -> bytes:
        """
        That was all; its SHA-256.
        """
        assert self._phase is _Phase.DATA, "once, after start"
        self._phase = _Phase.END
        self._digest = digest
        return End(self.sent, digest).encode()

    def receive(self, data: bytes) -> Iterator[Have | Progress | Done | Failed]:
        """
        Take bytes of the channel; gives what the receiver says, in an order that makes sense.

        :raises ProtocolError: when it says anything else.
        """
        for message in self._reader.feed(data):
            match message:
                case Failed():
                    self._phase = _Phase.OVER
                case Have() if self._phase is _Phase.HAVE:
                    self._phase = _Phase.START
                case Progress() if self._phase is _Phase.HAVE:
                    pass  # it looks through what it has
                case Progress(offset) if self.confirmed <= offset <= self.sent:
                    self.confirmed = offset
                case Done(digest) if self._phase is _Phase.END and digest == self._digest:
                    self._phase = _Phase.OVER
                    self.confirmed = self.sent
                case _:
                    raise _unexpected(message)
            yield message


class ReceivingSide:
    """
    The receiver's end.

    :ivar offer: what is to come, once it is known.
    :ivar received: up to this offset everything has come.
    """

    def __init__(self) -> None:
        self._reader = MessageReader()
        self._phase = _Phase.OFFER
        self._offsets: set[int] = set()
        self.offer: Offer | None = None
        self.received = 0

    @property
    def is_receiving(self) -> bool:
        """
        Whether bytes come.
        """
        return self._phase is _Phase.DATA

    def have(self, checkpoints: tuple[Checkpoint, ...]) -> bytes:
        """
        Answer the offer.
        """
        assert self._phase is _Phase.HAVE, "once, after the offer"
        self._phase = _Phase.START
        self._offsets = {0, *(each.offset for each in checkpoints)}
        return Have(checkpoints).encode()

    def done(self, digest: bytes) -> bytes:
        """
        All of it is there.
        """
        self._phase = _Phase.OVER
        return Done(digest).encode()

    def receive(self, data: bytes) -> Iterator[Offer | Start | Data | End | Failed]:
        """
        Take bytes of the channel; gives what the sender says, in an order that makes sense.

        :raises ProtocolError: when it says anything else.
        """
        for message in self._reader.feed(data):
            match message:
                case Failed():
                    self._phase = _Phase.OVER
                case Offer() if self._phase is _Phase.OFFER:
                    self._phase = _Phase.HAVE
                    self.offer = message
                case Start(offset) if self._phase is _Phase.START and offset in self._offsets:
                    self._phase = _Phase.DATA
                    self.received = offset
                case Data(data) if self._phase is _Phase.DATA and self._has_room(len(data)):
                    self.received += len(data)
                case End(size, _) if self._phase is _Phase.DATA and size == self.received:
                    self._phase = _Phase.END
                case _:
                    raise _unexpected(message)
            yield message

    def _has_room(self, count: int) -> bool:
        assert self.offer is not None
        return self.offer.size is None or self.received + count <= self.offer.size


def _unexpected(message: Message) -> ProtocolError:
    return ProtocolError(f"a message out of turn: {type(message).__name__.upper()}")
