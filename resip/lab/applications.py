"""
Programs for a :class:`~resip.lab.pair.SimulatedPair`: bulk transfer and echo, checked to the byte.

Each of them either opens its channel (``start``) or waits for one to its target (``serve``),
so every program runs in both directions, and many share one session.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from resip.core.errors import ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    ChannelRequested,
    ChannelReset,
    ChannelWritable,
    DataReceived,
    Event,
)
from resip.core.types import Protocol, Target
from resip.lab.measurement import Progress
from resip.lab.pair import Host
from resip.lab.payload import SeededBytes

#: How many bytes a bulk sender offers at once.
WRITE_SIZE = 65_536

_SEQUENCE_SIZE = 8


class ChannelApplication:
    """
    A program with one channel, which does nothing with it; the base of the useful ones.

    :ivar target: where its channel leads.
    :ivar channel_id: ``None`` until the channel exists.
    :ivar reset_code: why the channel was reset, ``None`` while it was not.
    :ivar is_closed: the channel ended in both directions and all was acknowledged.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.channel_id: int | None = None
        self.reset_code: ResetCode | None = None
        self.is_closed = False
        self._host: Host | None = None
        self._serves = False

    @property
    def is_gone(self) -> bool:
        """
        The channel was closed or reset.
        """
        return self.is_closed or self.reset_code is not None

    def start(self, host: Host) -> None:
        """
        Open a channel to the target on ``host``, and use it at once.
        """
        self._host = host
        host.attach(self)
        self._begin(host.session.open_channel(self.target, now=host.now))
        host.flush()

    def serve(self, host: Host) -> None:
        """
        Wait on ``host`` for the peer to open a channel to the target, and accept the first.
        """
        self._host = host
        host.attach(self)
        self._serves = True

    def on_event(self, host: Host, event: Event, *, now: float) -> None:
        """
        Pick the events of this program's channel.
        """
        if isinstance(event, ChannelRequested):
            if self._serves and self.channel_id is None and event.target == self.target:
                host.session.accept_channel(event.channel_id, now=now)
                self._begin(event.channel_id)
        elif self.channel_id is not None and getattr(event, "channel_id", -1) == self.channel_id:
            self._take(event, now=now)

    def _take(self, event: Event, *, now: float) -> None:
        match event:
            case DataReceived(_, data):
                self._data_received(data, now=now)
            case ChannelWritable():
                self._writable()
            case ChannelEnded():
                self._ended()
            case ChannelClosed():
                self.is_closed = True
            case ChannelReset(_, code):
                self.reset_code = code

    @property
    def _attached(self) -> Host:
        if self._host is None:
            raise RuntimeError("the program runs on no host: call start() or serve() first")
        return self._host

    def _begin(self, channel_id: int) -> None:
        self.channel_id = channel_id
        self._writable()

    def _write(self, data: bytes) -> int:
        host = self._attached
        assert self.channel_id is not None
        return host.session.write(self.channel_id, data, now=host.now)

    def _consume(self, count: int) -> None:
        host = self._attached
        assert self.channel_id is not None
        host.session.consume(self.channel_id, count, now=host.now)

    def _end(self) -> None:
        host = self._attached
        if self.channel_id is not None and not self.is_gone:
            host.session.end(self.channel_id, now=host.now)

    def _data_received(self, data: bytes, *, now: float) -> None:
        self._consume(len(data))

    def _writable(self) -> None:
        """
        The channel has room: at its beginning, and after a write that was not accepted whole.
        """

    def _ended(self) -> None:
        self._end()


class BulkSender(ChannelApplication):
    """
    Writes ``size`` seeded bytes as fast as the channel takes them, then ends its direction.

    :ivar accepted: bytes that the session took so far.
    """

    def __init__(self, target: Target, *, size: int, seed: int = 0) -> None:
        super().__init__(target)
        self.size = size
        self.accepted = 0
        self._source = SeededBytes(seed)
        self._unwritten = b""
        self._has_ended = False

    @property
    def is_finished(self) -> bool:
        """
        Everything was accepted by the session; :attr:`is_closed` tells that it arrived.
        """
        return self.accepted == self.size

    def _writable(self) -> None:
        while not self.is_finished:
            if not self._unwritten:
                self._unwritten = self._source.read(min(WRITE_SIZE, self.size - self.accepted))
            count = self._write(self._unwritten)
            self.accepted += count
            self._unwritten = self._unwritten[count:]
            if self._unwritten:
                return
        if not self._has_ended:
            self._has_ended = True
            self._end()

    def _ended(self) -> None:
        """
        The receiver's end changes nothing for what is still to be sent.
        """


class BulkReceiver(ChannelApplication):
    """
    Reads ``size`` seeded bytes and compares every one of them as it arrives.

    A wrong, missing or surplus byte raises an :class:`AssertionError` that gives its offset.

    :ivar progress: what arrived when.
    :ivar is_paused: the program sleeps: it reads nothing, so the session gets no credit.
    :ivar unread: bytes that arrived during the sleep.
    """

    def __init__(self, target: Target, *, size: int, seed: int = 0) -> None:
        super().__init__(target)
        self.size = size
        self.progress = Progress()
        self.is_paused = False
        self.unread = 0
        self._source = SeededBytes(seed)
        self._has_ended = False

    @property
    def is_finished(self) -> bool:
        """
        Every byte arrived, and the end of the stream after them.
        """
        return self._has_ended

    def pause(self) -> None:
        """
        Stop reading.
        """
        self.is_paused = True

    def resume(self) -> None:
        """
        Read what has arrived, and go on reading.
        """
        self.is_paused = False
        unread, self.unread = self.unread, 0
        if unread:
            self._consume(unread)
            self._attached.flush()

    def _data_received(self, data: bytes, *, now: float) -> None:
        expected = self._source.read(len(data))
        start = self.progress.total
        if start + len(data) > self.size:
            raise AssertionError(f"more than the {self.size} bytes sent have arrived")
        if data != expected:
            pairs = zip(data, expected, strict=True)
            wrong = next(index for index, (got, want) in enumerate(pairs) if got != want)
            raise AssertionError(f"byte {start + wrong} of {self.size} is wrong")
        self.progress.add(len(data), now=now)
        if self.is_paused:
            self.unread += len(data)
        else:
            self._consume(len(data))

    def _ended(self) -> None:
        if self.progress.total != self.size:
            raise AssertionError(f"the stream ends after {self.progress.total} of {self.size}")
        self._has_ended = True
        self._end()


class EchoClient(ChannelApplication):
    """
    Sends a numbered message every ``interval`` and times its echo.

    On a stream the time runs from the moment the program wants to write, so it includes
    waiting for room. Lost datagrams stay :attr:`unanswered`.

    :ivar round_trip_times: seconds, in the order of arrival.
    :ivar sent: messages so far.

    :param interval: seconds between two messages, > 0.
    :param size: bytes of a message, at least 8.
    :param count: how many messages to send before ending; ``None`` goes on until :meth:`stop`.
    """

    def __init__(
        self, target: Target, *, interval: float, size: int = 64, count: int | None = None
    ) -> None:
        if interval <= 0 or size < _SEQUENCE_SIZE:
            raise ValueError(f"interval {interval} must be > 0, size {size} at least 8")
        super().__init__(target)
        self.interval = interval
        self.size = size
        self.count = count
        self.sent = 0
        self.round_trip_times: list[float] = []
        self._is_datagram = target.protocol is Protocol.UDP
        self._sent_times: dict[int, float] = {}
        self._unwritten = b""
        self._received = bytearray()
        self._is_stopped = False

    @property
    def unanswered(self) -> Mapping[int, float]:
        """
        When the messages were sent whose echo has not arrived, by their number.
        """
        return MappingProxyType(self._sent_times)

    @property
    def is_finished(self) -> bool:
        """
        All ``count`` messages were sent and answered.
        """
        return len(self.round_trip_times) == self.count

    def stop(self) -> None:
        """
        Send no more, and end this direction of the channel.
        """
        if self._is_stopped:
            return
        self._is_stopped = True
        if not self._unwritten:
            self._end()
            self._attached.flush()

    def _begin(self, channel_id: int) -> None:
        self.channel_id = channel_id
        self._send()

    def _send(self) -> None:
        if self._is_stopped or self.is_gone:
            return
        if self.sent == self.count:
            self.stop()
            return
        number = self.sent.to_bytes(_SEQUENCE_SIZE, "big")
        self._sent_times[self.sent] = self._attached.now
        self.sent += 1
        message = number.ljust(self.size, b".")
        if self._is_datagram:
            self._write(message)
        else:
            self._unwritten += message
            self._writable()
        self._attached.call_later(self.interval, self._send)

    def _writable(self) -> None:
        if self._unwritten:
            self._unwritten = self._unwritten[self._write(self._unwritten) :]
            if self._is_stopped and not self._unwritten:
                self._end()

    def _data_received(self, data: bytes, *, now: float) -> None:
        self._consume(len(data))
        if self._is_datagram:
            self._answered(data, now=now)
            return
        self._received += data
        while len(self._received) >= self.size:
            self._answered(bytes(self._received[: self.size]), now=now)
            del self._received[: self.size]

    def _answered(self, message: bytes, *, now: float) -> None:
        number = int.from_bytes(message[:_SEQUENCE_SIZE], "big")
        sent_time = self._sent_times.pop(number, None)
        if sent_time is None:
            if self._is_datagram:
                return  # The network may deliver a datagram twice.
            raise AssertionError(f"the echo of message {number} was not expected")
        self.round_trip_times.append(now - sent_time)

    def _ended(self) -> None:
        """
        The server ends after this side did.
        """


class EchoServer:
    """
    Sends back what it reads, on any number of channels to its target.

    It reads no more than it could write, so a reader that sleeps stops the writer, too.

    :ivar target: channels to it are accepted.
    :ivar accepted: how many there have been.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.accepted = 0
        self._unwritten: dict[int, bytes] = {}
        self._has_ended: set[int] = set()

    def serve(self, host: Host) -> None:
        """
        Accept channels to the target on ``host`` from now on.
        """
        host.attach(self)

    def on_event(self, host: Host, event: Event, *, now: float) -> None:
        """
        Pick the events of channels to the target.
        """
        match event:
            case ChannelRequested(channel_id, target) if target == self.target:
                host.session.accept_channel(channel_id, now=now)
                self._unwritten[channel_id] = b""
                self.accepted += 1
            case DataReceived(channel_id, data) if channel_id in self._unwritten:
                self._echo(host, channel_id, data)
            case ChannelWritable(channel_id) if channel_id in self._unwritten:
                self._echo(host, channel_id, b"")
            case ChannelEnded(channel_id) if channel_id in self._unwritten:
                self._has_ended.add(channel_id)
                self._echo(host, channel_id, b"")
            case ChannelClosed(channel_id) | ChannelReset(channel_id, _):
                self._unwritten.pop(channel_id, None)
                self._has_ended.discard(channel_id)

    def _echo(self, host: Host, channel_id: int, data: bytes) -> None:
        unwritten = self._unwritten[channel_id] + data
        if unwritten:
            count = host.session.write(channel_id, unwritten, now=host.now)
            if self.target.protocol is Protocol.UDP:
                count = len(unwritten)  # A datagram that finds no room is lost.
            host.session.consume(channel_id, count, now=host.now)
            unwritten = unwritten[count:]
        self._unwritten[channel_id] = unwritten
        if channel_id in self._has_ended and not unwritten:
            self._has_ended.discard(channel_id)
            host.session.end(channel_id, now=host.now)
