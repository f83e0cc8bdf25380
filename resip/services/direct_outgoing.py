"""
The sender's end of one direct transfer: its channel, and where what goes comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.python.failure import Failure

from resip.carriers.channels import Channel
from resip.core.errors import ProtocolError, ResetCode
from resip.direct.errors import TransferError
from resip.direct.messages import MAX_DATA, Done, Failed, FailureCode, Have, Progress
from resip.direct.sides import SendingSide
from resip.direct.sources import Source
from resip.services.direct_channel import ChannelWriter, QuietUser, work_through

#: Seconds that the last words have to be heard.
FAREWELL_TIMEOUT = 3.0


class OutgoingTransfer(QuietUser):
    """
    A source on one channel; :attr:`over` fires with the digest when the receiver has it all.

    It fails with a :class:`~resip.direct.errors.TransferError` when there is no hope, and with
    ``ConnectionError`` when the channel is gone.
    """

    def __init__(
        self,
        reactor: Any,
        source: Source,
        *,
        show: Callable[[int], None],
        on_confirmed: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._on_confirmed = on_confirmed
        self._source = source
        self._show = show
        self._side = SendingSide(source.offer)
        self._channel: Channel | None = None
        self._writer: ChannelWriter | None = None
        self._is_started = False
        self._has_said_end = False
        self._farewell: Deferred[None] = Deferred()
        self.over: Deferred[bytes] = Deferred()

    @property
    def confirmed(self) -> int:
        """
        Bytes that the receiver has written.
        """
        return self._side.confirmed

    @property
    def owes_answer(self) -> bool:
        """
        Whether the receiver has to say something next.
        """
        return self._side.owes_answer

    def begin(self, channel: Channel) -> None:
        """
        Offer the source on a channel whose user this is.
        """
        self._channel = channel
        self._writer = ChannelWriter(channel)
        self._writer.write(self._side.offer())

    async def say_farewell(self) -> None:
        """
        End the channel, and wait a little until both ends have heard everything.
        """
        if self._channel is None or self._writer is None:
            return
        self._writer.end()
        try:
            await self._farewell.addTimeout(FAREWELL_TIMEOUT, self._reactor)
        except TimeoutError:
            return

    def pump(self) -> None:
        """
        Send what there is, as far as the channel takes it.
        """
        writer = self._writer
        if writer is None or not self._is_started or self._has_said_end or self.over.called:
            return
        try:
            while not writer.is_full:
                data = self._source.read(MAX_DATA)
                if data:
                    writer.write(self._side.data(data))
                elif self._source.is_at_end:
                    self._has_said_end = True
                    writer.write(self._side.end(self._source.digest))
                    return
                else:
                    return  # whoever fills the source calls again
        except TransferError as error:
            self._fail(error)

    # What the channel tells.

    def data_received(self, data: bytes) -> None:
        """
        The receiver says something.
        """
        try:
            for message in self._side.receive(data):
                self._hear(message)
        except ProtocolError as error:
            self._fail(TransferError(f"the receiver speaks strangely ({error})", _PROTOCOL))
        if self._channel is not None:
            self._channel.consume(len(data))

    def channel_writable(self) -> None:
        """
        The channel takes more.
        """
        if self._writer is not None:
            self._writer.flush()
            self.pump()

    def channel_reset(self, code: ResetCode) -> None:
        """
        The channel is gone.
        """
        if code is ResetCode.REFUSED and not self._is_started:
            self._end(TransferError("the peer is no 'resip receive': check --to", _PROTOCOL))
        self._gone()

    def channel_closed(self) -> None:
        """
        The channel is done.
        """
        self._gone()

    def _gone(self) -> None:
        self._channel = self._writer = None
        self._end(ConnectionError("the channel is gone"))
        if not self._farewell.called:
            self._farewell.callback(None)

    def _hear(self, message: Have | Progress | Done | Failed) -> None:
        match message:
            case Have():
                preparing = Deferred.fromCoroutine(self._start(message))
                preparing.addErrback(self._broken)
            case Progress(offset):
                if self._is_started:
                    self._source.confirm(offset)
                    self._on_confirmed()
                else:
                    self._show(offset)
            case Done(digest) if not self.over.called:
                self.over.callback(digest)
            case Failed(code, text):
                self._end(TransferError(text, _code(code)))

    async def _start(self, have: Have) -> None:
        pieces = self._source.seek_common(have.checkpoints)
        try:
            offset = await work_through(
                self._reactor, pieces, lambda: self._channel is not None, self._show
            )
        except TransferError as error:
            self._fail(error)
            return
        if self._writer is not None:
            self._is_started = True
            self._writer.write(self._side.start(offset))
            self.pump()

    def _broken(self, failure: Failure) -> None:
        if not self.over.called:
            self.over.errback(failure)

    def _fail(self, error: TransferError) -> None:
        if self._writer is not None and not self.over.called:
            self._writer.write(Failed(error.code, str(error)).encode())
        self._end(error)

    def _end(self, reason: Exception) -> None:
        if not self.over.called:
            self.over.errback(reason)


_PROTOCOL = FailureCode.PROTOCOL


def _code(code: int) -> FailureCode:
    try:
        return FailureCode(code)
    except ValueError:
        return _PROTOCOL
