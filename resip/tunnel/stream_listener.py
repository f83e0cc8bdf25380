"""
Local TCP connections, each of which becomes a channel.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from resip.core.errors import ResetCode
from resip.core.types import Target
from resip.tunnel.attachments import Attachments
from resip.tunnel.dialing import Dialer
from resip.tunnel.stream import StreamAttachment


class StreamListener(ServerFactory):
    """
    The factory behind a listening TCP port. Owns the connections until they are over.
    """

    noisy = False
    _log = Logger()

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._attachments = Attachments()

    @property
    def connections(self) -> int:
        """
        How many local connections, and channels that outlive theirs, there are.
        """
        return len(self._attachments)

    def buildProtocol(self, addr: IAddress | None) -> StreamAttachment:
        """
        A program has connected.
        """
        connection = _LocalConnection(self._dialer, self._connected, self._attachments.discard)
        self._attachments.add(connection)
        return connection

    def stop(self) -> Deferred[None]:
        """
        Reset every connection; fires when the last one is over.
        """
        return self._attachments.abort_all()

    def _connected(self, connection: _LocalConnection) -> None:
        dialing = Deferred.fromCoroutine(connection.dial())
        dialing.addErrback(lambda failure: self._log.failure("opening a channel", failure))


class _LocalConnection(StreamAttachment):
    """
    A program's connection, and the channel that is to carry it.

    While there is another address to try, nothing is read from the program before the target
    is connected: so nothing has to be sent twice.
    """

    def __init__(
        self,
        dialer: Dialer,
        on_connected: Callable[[_LocalConnection], None],
        on_over: Callable[[StreamAttachment], None],
    ) -> None:
        super().__init__(on_over)
        self._dialer = dialer
        self._on_connected = on_connected
        self._candidates: list[Target] = []
        self._target: Target | None = None
        self._is_opened = False

    async def dial(self) -> None:
        """
        Ask for a channel to the first candidate.
        """
        self._candidates = await self._dialer.candidates()
        self._try_next()

    def connectionMade(self) -> None:
        super().connectionMade()
        self._on_connected(self)

    def channel_opened(self) -> None:
        self._is_opened = True
        self._candidates = []
        super().channel_opened()

    def channel_reset(self, code: ResetCode) -> None:
        if code is ResetCode.CONNECT_FAILED and self._candidates and not self._is_opened:
            self._try_next()
            return
        self._dialer.report(code, self._target)
        super().channel_reset(code)

    def _try_next(self) -> None:
        if self.is_over:
            return
        if not self._candidates:
            self.abort()
            return
        self._target = self._candidates.pop(0)
        channel = self._dialer.open(self._target, self)
        if channel is None:
            self.abort()
        else:
            self.attach(channel, read_when_opened=bool(self._candidates))
