"""
Joins a TCP connection with a channel.

Both directions have back-pressure and end on their own::

    socket -> channel   what the channel does not accept is kept, at most one read of it, and
                        the socket is not read until the channel is writable again
    channel -> socket   what a full socket buffer was given is consumed when the buffer drains,
                        so the far side sends at most one channel window ahead of the reader

    socket                                 channel
    end of file                            end, after all that was read
    reset                                  reset
    end of file, lost later                all that was read still goes out; what comes in is
                                           dropped, and too much of it resets the channel
    end of file, after all that came       ended
    reset                                  reset
    closed, after all that came            closed, or reset after it had ended
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from resip.carriers.channels import Channel
from resip.carriers.tcp_socket import enlarge_calls, write_at_once
from resip.core.errors import ResetCode

#: Bytes that may arrive for a program that is gone before the far side is told so by a reset.
#: Its own last words have that long to arrive: a reset would overtake them.
DISCARD_LIMIT = 1 << 20


class StreamTransport(Protocol):
    """
    What an attachment needs of Twisted's TCP transports.
    """

    def write(self, data: bytes) -> None:
        """
        Queue bytes for the socket.
        """

    def loseConnection(self) -> None:
        """
        Close when all was written.
        """

    def loseWriteConnection(self) -> None:
        """
        Send the end of file when all was written.
        """

    def abortConnection(self) -> None:
        """
        Reset the connection.
        """

    def registerProducer(self, producer: StreamAttachment, streaming: bool) -> None:
        """
        Tell ``producer`` when the socket's buffer is full.
        """

    def unregisterProducer(self) -> None:
        """
        Stop telling it.
        """

    def pauseProducing(self) -> None:
        """
        Do not read the socket.
        """

    def resumeProducing(self) -> None:
        """
        Read the socket again.
        """

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Send small segments at once.
        """

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        Notice that a silent host is gone.
        """


@implementer(IHalfCloseableProtocol, IPushProducer)
class StreamAttachment(TwistedProtocol):
    """
    The protocol of a TCP connection and at the same time the user of a channel.

    Make it, connect it (nothing is read before there is a channel), :meth:`attach` a channel.
    When both the connection and the channel are gone it is over and refers to neither.

    :param on_over: called once, with the attachment, when it is over.
    """

    def __init__(self, on_over: Callable[[StreamAttachment], None]) -> None:
        self._on_over: Callable[[StreamAttachment], None] | None = on_over
        self._transport: StreamTransport | None = None
        self._channel: Channel | None = None
        # socket -> channel
        self._is_reading = True
        self._is_writing = False
        self._became_writable = False
        self._has_local_ended = False
        self._has_sent_end = False
        self._rest: deque[bytes] = deque()
        # channel -> socket
        self._is_socket_full = False
        self._has_far_ended = False
        self._unconsumed = 0
        self._discarded = 0

    @property
    def is_over(self) -> bool:
        """
        Whether it was connected and both the connection and the channel are gone.
        """
        return self._on_over is None

    @property
    def is_reading(self) -> bool:
        """
        Whether the socket is read; it is not while the channel is full.
        """
        return self._is_reading

    @property
    def is_socket_full(self) -> bool:
        """
        Whether the reader of the socket is behind, so that nothing more is consumed.
        """
        return self._is_socket_full

    def attach(self, channel: Channel, *, read_when_opened: bool = False) -> None:
        """
        Join the connection with ``channel``, whose user is this object.

        :param read_when_opened: read the socket only when the far side connected, so that
            another channel can take over when it could not.
        """
        if self._transport is None:
            channel.reset(ResetCode.CANCELLED)
            return
        self._channel = channel
        if not read_when_opened:
            self._resume_reading()

    def abort(self) -> None:
        """
        Reset the connection and the channel.
        """
        self._reset_channel()
        if self._transport is not None:
            self._transport.abortConnection()
        self._check_over()

    # -- What Twisted calls: the connection.

    def connectionMade(self) -> None:
        """
        Prepare the socket. It is not read yet.
        """
        self._transport = transport = cast(StreamTransport, self.transport)
        enlarge_calls(transport)
        transport.setTcpNoDelay(True)
        with suppress(OSError):  # some systems refuse it on a socket that was reset already
            transport.setTcpKeepAlive(True)
        transport.registerProducer(self, True)
        self._pause_reading()

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes from the socket for the channel.
        """
        if self._channel is not None:
            self._rest.append(data)
            self._write_rest()

    def readConnectionLost(self) -> None:
        """
        The end of file from the socket: the channel ends when it has accepted the rest.
        """
        self._has_local_ended = True
        self._is_reading = False
        self._write_rest()

    def writeConnectionLost(self) -> None:
        """
        The end of file went out to the socket.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone. What was read before its end of file still goes to the channel.
        """
        self._transport = None
        self.transport = None
        self._is_reading = False
        if self._channel is not None:
            if self._has_local_ended or isinstance(reason.value, ConnectionDone):
                self._has_local_ended = True
                self._consume_rest()
                self._write_rest()
            else:
                self._reset_channel()
        self._check_over()

    # -- What Twisted calls: room in the socket's buffer.

    def pauseProducing(self) -> None:
        """
        The socket's buffer is full.
        """
        self._is_socket_full = True

    def resumeProducing(self) -> None:
        """
        The socket's buffer is empty again.
        """
        self._consume_rest()

    def stopProducing(self) -> None:
        """
        The connection is lost; ``connectionLost`` follows and does the work.
        """

    # -- What the channel calls.

    def channel_opened(self) -> None:
        """
        The far side connected to the target.
        """
        self._resume_reading()

    def data_received(self, data: bytes) -> None:
        """
        Bytes from the channel for the socket.
        """
        channel = self._channel
        if channel is None:
            return
        if self._transport is None:
            self._discard(channel, len(data))
            return
        write_at_once(self._transport, (data,))
        if self._is_socket_full:
            self._unconsumed += len(data)
        else:
            channel.consume(len(data))

    def channel_ended(self) -> None:
        """
        The far side sends no more: the socket gets an end of file after all that came.
        """
        self._has_far_ended = True
        if self._transport is not None:
            # A transport with a paused producer would wait for it before the end of file.
            self._transport.unregisterProducer()
            self._transport.loseWriteConnection()
        self._consume_rest()

    def channel_writable(self) -> None:
        """
        The channel has room for the rest.
        """
        if self._is_writing:
            self._became_writable = True
        else:
            self._write_rest()

    def channel_reset(self, code: ResetCode) -> None:
        """
        The channel is gone: so is the connection, unless the far side had said all it had to say.
        """
        self._forget_channel()
        if self._transport is not None:
            if self._has_far_ended:
                self._transport.loseConnection()
            else:
                self._transport.abortConnection()
        self._check_over()

    def channel_closed(self) -> None:
        """
        Both directions are done: the connection closes when all that came was written.
        """
        self._forget_channel()
        if self._transport is not None:
            self._transport.loseConnection()
        self._check_over()

    # -- The common steps.

    def _write_rest(self) -> None:
        """
        Offer the rest to the channel; read on when it took all, wait when it did not.
        """
        while self._rest and self._channel is not None:
            self._became_writable = False
            self._is_writing = True
            data = self._rest.popleft()
            accepted = self._channel.write(data)
            self._is_writing = False
            if accepted < len(data):
                self._rest.appendleft(data[accepted:])
                if not self._became_writable:
                    self._pause_reading()
                    return
        if self._has_local_ended:
            self._send_end()
        else:
            self._resume_reading()

    def _send_end(self) -> None:
        if self._channel is not None and not self._has_sent_end:
            self._has_sent_end = True
            self._channel.end()

    def _pause_reading(self) -> None:
        if self._transport is not None and self._is_reading:
            self._is_reading = False
            self._transport.pauseProducing()

    def _resume_reading(self) -> None:
        # After its end of file a resumed socket would report it again and again.
        if self._transport is None or self._channel is None or self._has_local_ended:
            return
        if not self._is_reading:
            self._is_reading = True
            self._transport.resumeProducing()

    def _consume_rest(self) -> None:
        self._is_socket_full = False
        count, self._unconsumed = self._unconsumed, 0
        if count and self._channel is not None:
            self._channel.consume(count)

    def _discard(self, channel: Channel, count: int) -> None:
        self._discarded += count
        if self._discarded <= DISCARD_LIMIT:
            channel.consume(count)
        else:
            self._reset_channel()
            self._check_over()

    def _reset_channel(self) -> None:
        channel = self._channel
        self._forget_channel()
        if channel is not None:
            channel.reset(ResetCode.CANCELLED)

    def _forget_channel(self) -> None:
        self._channel = None
        self._rest.clear()
        self._unconsumed = 0

    def _check_over(self) -> None:
        if self._channel is None and self._transport is None and self._on_over is not None:
            on_over, self._on_over = self._on_over, None
            on_over(self)
