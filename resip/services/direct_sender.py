"""
``resip send``: one source to one receiver, whatever happens to the network or the receiver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from resip.core.errors import ResetCode
from resip.core.types import RandomBytes
from resip.direct.names import printable
from resip.direct.progress import ProgressLine
from resip.direct.sources import Source
from resip.services.clock import Clocks
from resip.services.direct_channel import Reporter
from resip.services.direct_line import DirectLine, Peer, make_handshake
from resip.services.direct_outgoing import OutgoingTransfer
from resip.services.hello import Agreed, PacketHandshake

#: Seconds without any answer after which the user is told what may be wrong.
HINT_AFTER = 5.0
#: Seconds for which a session may go on when the receiver answers a handshake although it does
#: not answer the session.
GRACE = 5.0
#: Seconds between two looks at how far it is.
SHOW_INTERVAL = 0.5


class DirectSender:
    """
    Sends one source.

    :param reporter: told how far it is.
    :param hint: what may be wrong when the receiver does not answer at all.
    :param on_read: told when the source has room for more, if it is a stream.
    """

    def __init__(
        self,
        reactor: Any,
        peer: Peer,
        source: Source,
        *,
        reporter: Reporter,
        hint: str,
        on_read: Callable[[], None] = lambda: None,
        clocks: Clocks | None = None,
        random_bytes: RandomBytes,
    ) -> None:
        self._reactor = reactor
        self._peer = peer
        self._source = source
        self._reporter = reporter
        self._hint = hint
        self._on_read = on_read
        self._clocks = clocks or Clocks()
        self._random_bytes = random_bytes
        self._label = printable(source.offer.name)
        self._progress = ProgressLine(self._label, source.offer.size)
        self._ticker = LoopingCall(self._tick)
        self._ticker.clock = reactor
        self._waiting_since = self._clocks.monotonic()
        self._has_hinted = False
        self._line: DirectLine | None = None
        self._transfer: OutgoingTransfer | None = None
        self._checking: Deferred[None] | None = None
        self._next: Agreed | None = None
        self._closing: set[Deferred[None]] = set()

    async def run(self) -> bytes:
        """
        Send it all.

        :return: its SHA-256.
        :raises TransferError: when there is no hope.
        :raises KeyFileError: when the peer's public key cannot be one.
        """
        self._ticker.start(SHOW_INTERVAL, now=False)
        try:
            while True:
                agreed, self._next = self._next, None
                if agreed is None:
                    agreed = await self._shake_hands()
                try:
                    return await self._send_on(agreed)
                except ConnectionError:
                    self._waiting_since = self._clocks.monotonic()
        finally:
            self._ticker.stop()
            self._stop_checking()
            await gatherResults(list(self._closing))

    def source_ready(self) -> None:
        """
        The source has more to read.
        """
        if self._transfer is not None:
            self._transfer.pump()

    async def _shake_hands(self) -> Agreed:
        handshake = self._make_handshake()
        try:
            return await handshake.start()
        finally:
            self._let_close(handshake.stop())

    def _make_handshake(self) -> PacketHandshake:
        return make_handshake(
            self._reactor, self._peer, clocks=self._clocks, random_bytes=self._random_bytes
        )

    async def _send_on(self, agreed: Agreed) -> bytes:
        transfer = self._transfer = OutgoingTransfer(
            self._reactor, self._source, show=self._show_looking, on_confirmed=self._on_read
        )
        line = self._line = DirectLine(
            self._reactor,
            self._peer,
            agreed,
            clocks=self._clocks,
            random_bytes=self._random_bytes,
            on_lost=lambda reason: None,  # the channel is reset, too
            on_doubt=self._check,
        )
        transfer.begin(line.start(transfer))
        self._progress.restart()
        try:
            return await transfer.over
        finally:
            self._stop_checking()
            self._transfer = self._line = None
            await transfer.say_farewell()
            self._let_close(line.stop())

    # A receiver that does not answer may have been started anew, knowing nothing of the session.

    def _check(self) -> None:
        if self._checking is None and self._line is not None:
            self._checking = Deferred.fromCoroutine(self._ask_for_another(self._line))
            self._checking.addErrback(_ignore_cancellation)

    async def _ask_for_another(self, line: DirectLine) -> None:
        handshake = self._make_handshake()
        try:
            agreed = await handshake.start()
        finally:
            self._let_close(handshake.stop())
        _, welcome = agreed
        if welcome.server_run == line.receiver_run:
            before = line.last_received_time
            await deferLater(self._reactor, GRACE)
            if line.last_received_time > before:
                self._checking = None
                return
        self._checking = None
        self._next = agreed
        if self._transfer is not None:
            self._transfer.channel_reset(ResetCode.SESSION_LOST)

    def _let_close(self, closing: Deferred[None]) -> None:
        self._closing.add(closing)
        closing.addBoth(lambda _: self._closing.discard(closing))

    def _stop_checking(self) -> None:
        checking, self._checking = self._checking, None
        if checking is not None:
            checking.cancel()

    # What the user sees.

    def _tick(self) -> None:
        now = self._clocks.monotonic()
        line, transfer = self._line, self._transfer
        if line is None or transfer is None:
            silence = now - self._waiting_since
            self._reporter.show(self._progress.text(0, now=now, silence=silence))
            if silence > HINT_AFTER and not self._has_hinted:
                self._has_hinted = True
                self._reporter.say(self._hint)
            return
        silence = now - line.last_received_time if transfer.owes_answer else 0.0
        self._reporter.show(self._progress.text(transfer.confirmed, now=now, silence=silence))

    def _show_looking(self, offset: int) -> None:
        now = self._clocks.monotonic()
        self._progress.restart()
        self._reporter.show(f"{self._progress.text(offset, now=now)}  comparing what is there")


def _ignore_cancellation(failure: Failure) -> None:
    failure.trap(CancelledError)
