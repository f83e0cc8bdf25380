"""
Joins UDP with a channel of datagrams. UDP has no end, so silence ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IUDPTransport

from resip.carriers.channels import Channel
from resip.core.errors import ResetCode

#: The largest datagram that UDP can carry, and what sockets are read with.
MAX_DATAGRAM_SIZE = 65535

#: Datagrams that wait for a channel while the name of its target is resolved.
MAX_PENDING_DATAGRAMS = 8


class DatagramAttachment:
    """
    The user of a channel of datagrams, and one UDP peer on the other side.

    A datagram that the channel has no room for is dropped and counted, as a router would.

    :param clock: runs the idle timeout.
    :param send: sends one datagram to the UDP peer.
    :param idle_timeout: seconds without a datagram in either direction after which it ends.
    :param on_over: called once, with the attachment and, when the far side or the session
        ended it, the reason.
    """

    def __init__(
        self,
        clock: IReactorTime,
        send: Callable[[bytes], None],
        *,
        idle_timeout: float,
        on_over: Callable[[DatagramAttachment, ResetCode | None], None],
    ) -> None:
        self._send: Callable[[bytes], None] | None = send
        self._idle_timeout = idle_timeout
        self._on_over: Callable[[DatagramAttachment, ResetCode | None], None] | None = on_over
        self._channel: Channel | None = None
        self._pending: list[bytes] = []
        self._dropped = 0
        self._idle: IDelayedCall = clock.callLater(idle_timeout, self.abort)

    @property
    def is_over(self) -> bool:
        """
        Whether it has ended.
        """
        return self._on_over is None

    @property
    def dropped(self) -> int:
        """
        How many datagrams the channel had no room for.
        """
        return self._dropped

    def attach(self, channel: Channel) -> None:
        """
        Join with ``channel``, whose user is this object; what waited for it goes first.
        """
        if self.is_over:
            channel.reset(ResetCode.CANCELLED)
            return
        self._channel = channel
        pending, self._pending = self._pending, []
        for data in pending:
            self._write(data)

    def abort(self) -> None:
        """
        End at once and reset the channel.
        """
        channel = self._channel
        self._finish(None)
        if channel is not None:
            channel.reset(ResetCode.CANCELLED)

    def datagram_received(self, data: bytes) -> None:
        """
        One datagram from the UDP peer for the channel.
        """
        if self.is_over:
            return
        self._idle.reset(self._idle_timeout)
        if self._channel is not None:
            self._write(data)
        elif len(self._pending) < MAX_PENDING_DATAGRAMS:
            self._pending.append(data)
        else:
            self._dropped += 1

    def channel_opened(self) -> None:
        """
        The far side has a socket for it.
        """

    def data_received(self, data: bytes) -> None:
        """
        One datagram from the channel for the UDP peer.
        """
        if self._send is not None and self._channel is not None:
            self._idle.reset(self._idle_timeout)
            self._send(data)
            if self._channel is not None:
                self._channel.consume(len(data))

    def channel_ended(self) -> None:
        """
        The far side sends no more, and so does this one.
        """
        channel = self._channel
        self._finish(None)
        if channel is not None:
            channel.end()

    def channel_writable(self) -> None:
        """
        There is room again for the datagrams to come.
        """

    def channel_reset(self, code: ResetCode) -> None:
        """
        The channel is gone.
        """
        self._finish(code)

    def channel_closed(self) -> None:
        """
        The channel is done.
        """
        self._finish(None)

    def _write(self, data: bytes) -> None:
        if self._channel is not None and self._channel.write(data) < len(data):
            self._dropped += 1

    def _finish(self, code: ResetCode | None) -> None:
        if self._idle.active():
            self._idle.cancel()
        self._channel = None
        self._send = None
        self._dropped += len(self._pending)
        self._pending = []
        if self._on_over is not None:
            on_over, self._on_over = self._on_over, None
            on_over(self, code)


def send_datagram(transport: IUDPTransport, data: bytes, address: tuple[str, int]) -> None:
    """
    Send one datagram; what the system does not take is lost, as on any network.
    """
    # Full buffers, no route, too long, forbidden by a firewall: programs that use UDP
    # live with all of them, and none is a reason to end the others' traffic.
    with suppress(OSError, MessageLengthError):
        transport.write(data, address)
