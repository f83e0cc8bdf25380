"""
The receiver's end of one direct transfer: its channel, and where what comes goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from resip.carriers.channels import Channel
from resip.core.errors import ProtocolError, ResetCode
from resip.direct.destinations import Destination
from resip.direct.errors import TransferError
from resip.direct.messages import Data, End, Failed, FailureCode, Offer, Progress, Start
from resip.direct.sides import ReceivingSide
from resip.services.direct_channel import ChannelWriter, QuietUser, work_through

#: Seconds between two words to the sender about what was written.
PROGRESS_INTERVAL = 0.25


class IncomingTransfer(QuietUser):
    """
    What comes on one channel.

    :param choose: the destination of an offer.
    :param on_over: told once, when nothing more comes, with the SHA-256 if all has.
    """

    def __init__(
        self,
        reactor: Any,
        channel: Channel,
        *,
        choose: Callable[[Offer, IncomingTransfer], Destination],
        now: Callable[[], float],
        on_over: Callable[[IncomingTransfer, bytes | None, str], None],
    ) -> None:
        self._reactor = reactor
        self._channel: Channel | None = channel
        self._writer = ChannelWriter(channel)
        self._choose = choose
        self._now = now
        self._on_over: Callable[[IncomingTransfer, bytes | None, str], None] | None = on_over
        self._side = ReceivingSide()
        self._destination: Destination | None = None
        #: Bytes that were there already.
        self.kept = 0
        self._told_time = 0.0
        self._told_offset = 0
        self._unconsumed = 0
        self.last_received_time = now()
        #: Whether the destination has room; if not, nothing is consumed.
        self.has_room: Callable[[], bool] = lambda: True

    @property
    def label(self) -> str:
        """
        What it is; safe to print.
        """
        if self._destination is None:
            return "a transfer"
        return self._destination.label

    @property
    def offer(self) -> Offer | None:
        """
        What is to come.
        """
        return self._side.offer

    @property
    def received(self) -> int:
        """
        Bytes that have come, those of earlier times included.
        """
        return self._side.received

    def give_up(self, error: TransferError) -> None:
        """
        Tell the sender why, and end.
        """
        self._writer.write(Failed(error.code, str(error)).encode())
        self._writer.end()
        self._end(None, str(error))

    def drained(self) -> None:
        """
        The destination has room again.
        """
        count, self._unconsumed = self._unconsumed, 0
        if self._channel is not None and count:
            self._channel.consume(count)

    def tell_progress(self) -> None:
        """
        Let the sender know what has been written, if it does not and was not told just now.
        """
        if self._is_going_on() and self._side.is_receiving and not self._writer.is_full:
            self._tell(self.received)

    # What the channel tells.

    def data_received(self, data: bytes) -> None:
        """
        The sender says something.
        """
        self.last_received_time = self._now()
        self._unconsumed += len(data)
        if self._on_over is not None:
            try:
                for message in self._side.receive(data):
                    self._hear(message)
                self.tell_progress()
            except ProtocolError as error:
                text = f"the sender speaks strangely ({error})"
                self.give_up(TransferError(text, FailureCode.PROTOCOL))
            except TransferError as error:
                self.give_up(error)
        if self.has_room():
            self.drained()

    def channel_writable(self) -> None:
        """
        The channel takes more.
        """
        self._writer.flush()

    def channel_ended(self) -> None:
        """
        The sender says no more.
        """
        self._writer.end()

    def channel_reset(self, code: ResetCode) -> None:
        """
        The channel is gone.
        """
        self._channel = None
        self._end(None, "the sender is gone")

    def channel_closed(self) -> None:
        """
        The channel is done.
        """
        self.channel_reset(ResetCode.CANCELLED)

    def _hear(self, message: Offer | Start | Data | End | Failed) -> None:
        match message:
            case Offer():
                self._destination = self._choose(message, self)
                looking = Deferred.fromCoroutine(self._look(self._destination))
                looking.addErrback(lambda failure: failure.trap(CancelledError))
            case Start(offset) if self._destination is not None:
                self._destination.start(offset)
                self.kept = offset
            case Data(data) if self._destination is not None:
                self._destination.write(data)
            case End(_, digest) if self._destination is not None:
                self._destination.finish(digest)
                self._writer.write(self._side.done(digest))
                self._end(digest, "")
            case Failed(_, text):
                self._writer.end()
                self._end(None, text)

    async def _look(self, destination: Destination) -> None:
        try:
            await work_through(self._reactor, destination.look(), self._is_going_on, self._tell)
        except TransferError as error:
            self.give_up(error)
            return
        if self._is_going_on():
            self._writer.write(self._side.have(destination.checkpoints))

    def _is_going_on(self) -> bool:
        return self._on_over is not None

    def _tell(self, offset: int) -> None:
        if offset != self._told_offset and self._now() - self._told_time >= PROGRESS_INTERVAL:
            self._told_time, self._told_offset = self._now(), offset
            self._writer.write(Progress(offset).encode())

    def _end(self, digest: bytes | None, problem: str) -> None:
        on_over, self._on_over = self._on_over, None
        if self._destination is not None:
            self._destination.close()
        if on_over is not None:
            on_over(self, digest, problem)
