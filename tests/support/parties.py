"""
The programs of one side in a random life (:mod:`tests.support.lives`), and what they may expect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from resip.core import events
from resip.core.errors import ResetCode
from resip.core.types import Protocol as IpProtocol
from resip.core.types import Target
from resip.lab.pair import Host

#: Largest datagram of a program, without the number that makes each another one.
MAX_DATAGRAM = 900


@dataclass
class End:
    """
    One side's knowledge of a channel, as far as its program can have any.

    :ivar written: bytes of a stream. :ivar datagrams: the others.
    :ivar received: how many bytes of the peer's. :ivar got: which datagrams.
    :ivar unconsumed: bytes that were not taken yet.
    :ivar short_writes: those that were not accepted whole, less how often room was told.
    :ivar awaits_room: nothing was told since the last of them.
    """

    target: Target
    is_opener: bool
    is_accepted: bool = False
    written: bytearray = field(default_factory=bytearray)
    datagrams: list[bytes] = field(default_factory=list)
    received: int = 0
    got: set[bytes] = field(default_factory=set)
    unconsumed: int = 0
    short_writes: int = 0
    awaits_room: bool = False
    has_ended: bool = False
    peer_has_ended: bool = False
    was_reset: bool = False
    is_gone: bool = False

    @property
    def is_datagram(self) -> bool:
        """
        Whether it carries datagrams.
        """
        return self.target.protocol is IpProtocol.UDP

    @property
    def is_usable(self) -> bool:
        """
        Whether its program may use it.
        """
        return not self.is_gone and (self.is_opener or self.is_accepted)


class World(Protocol):
    """
    Where parties live; its text says what repeats it.
    """

    def note(self, line: str) -> None:
        """
        Something happened.
        """

    def decide_later(self, party: Party, channel_id: int) -> None:
        """
        Call :meth:`Party.decide` some time.
        """


class Party:
    """
    The programs of one side. Hears its events and checks them.

    :ivar name: of the side. :ivar ends: the channels that it has heard of, by number.
    :ivar reads_late: what is received is not taken at once. :ivar peer: the other side.
    :ivar host: the session.
    """

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self._world = world
        self.ends: dict[int, End] = {}
        self.reads_late = False
        self.peer: Party
        self.host: Host

    def on_event(self, host: Host, event: events.Event, *, now: float) -> None:
        """
        An event of the session.
        """
        self._world.note(f"{self.name} {str(event)[:90]}")
        match event:
            case events.SessionLost(reason):
                self.check(False, f"the session is lost: {reason}")
            case events.ChannelRequested(channel_id, target):
                self._requested(channel_id, target)
            case events.ChannelOpened(channel_id):
                end = self._live(channel_id)
                self.check(end.is_opener and not end.is_accepted, "opened once")
                end.is_accepted = True
            case events.DataReceived(channel_id, data):
                self._received(channel_id, data)
            case events.ChannelWritable(channel_id):
                end = self._live(channel_id)
                self.check(end.short_writes > 0, "room was awaited")
                end.short_writes -= 1
                end.awaits_room = False
            case events.ChannelEnded(channel_id):
                self._ended(channel_id)
            case events.ChannelReset(channel_id, _):
                end = self._live(channel_id)
                self.check(self.peer.ends[channel_id].was_reset, "the peer has reset it")
                end.is_gone = True
            case events.ChannelClosed(channel_id):
                end = self._live(channel_id)
                self.check(end.has_ended and end.peer_has_ended, "both have ended")
                end.is_gone = True

    def check(self, is_right: bool, what: str) -> None:
        """
        :raises AssertionError: with what repeats the life.
        """
        assert is_right, f"{self.name}: not true that {what} ({self._world})"

    def _live(self, channel_id: int) -> End:
        end = self.ends[channel_id]
        self.check(not end.is_gone, f"channel {channel_id} is there")
        return end

    def _requested(self, channel_id: int, target: Target) -> None:
        self.check(channel_id not in self.ends, "the channel is new")
        self.check(self.peer.ends[channel_id].target == target, "the target is the peer's")
        self.ends[channel_id] = End(target, is_opener=False)
        self._world.decide_later(self, channel_id)

    def _received(self, channel_id: int, data: bytes) -> None:
        end, other = self._live(channel_id), self.peer.ends[channel_id]
        self.check(end.is_usable and not end.peer_has_ended, "data may come")
        if end.is_datagram:
            self.check(data in other.datagrams and data not in end.got, "it was sent, and once")
            end.got.add(data)
        else:
            expected = other.written[end.received : end.received + len(data)]
            self.check(expected == data, f"bytes {end.received} and on are those that were written")
            end.received += len(data)
        end.unconsumed += len(data)
        if not self.reads_late:
            self.consume(channel_id)

    def _ended(self, channel_id: int) -> None:
        end, other = self._live(channel_id), self.peer.ends[channel_id]
        self.check(other.has_ended and not end.peer_has_ended, "the peer has ended, once")
        self.check(end.is_datagram or end.received == len(other.written), "all has come")
        end.peer_has_ended = True

    # Deeds. They change the session, and what is known of it.

    def decide(self, channel_id: int, is_welcome: bool) -> None:
        """
        Say whether a channel may be.
        """
        end = self.ends[channel_id]
        if end.is_gone:
            return
        if is_welcome:
            end.is_accepted = True
            self.host.session.accept_channel(channel_id, now=self.host.now)
        else:
            end.was_reset = end.is_gone = True
            self.host.session.refuse_channel(channel_id, ResetCode.REFUSED, now=self.host.now)

    def open(self, target: Target, *, compress: bool) -> None:
        """
        Ask for a channel.
        """
        session, now = self.host.session, self.host.now
        channel_id = session.open_channel(target, now=now, compress=compress)
        self.ends[channel_id] = End(target, is_opener=True)

    def write(self, channel_id: int, data: bytes) -> None:
        """
        Write data.
        """
        end = self.ends[channel_id]
        if end.is_datagram:
            data = len(end.datagrams).to_bytes(4) + data[:MAX_DATAGRAM]
            end.datagrams.append(data)
            self.host.session.write(channel_id, data, now=self.host.now)
            return
        accepted = self.host.session.write(channel_id, data, now=self.host.now)
        end.written += data[:accepted]
        if accepted < len(data):
            end.short_writes += 1
            end.awaits_room = True

    def end(self, channel_id: int) -> None:
        """
        Write no more.
        """
        self.ends[channel_id].has_ended = True
        self.host.session.end(channel_id, now=self.host.now)

    def reset(self, channel_id: int) -> None:
        """
        Abandon a channel.
        """
        end = self.ends[channel_id]
        end.was_reset = end.is_gone = True
        self.host.session.reset(channel_id, ResetCode.CANCELLED, now=self.host.now)

    def consume(self, channel_id: int) -> None:
        """
        Take what was received.
        """
        end = self.ends[channel_id]
        count, end.unconsumed = end.unconsumed, 0
        self.host.session.consume(channel_id, count, now=self.host.now)

    def usable(self, *, writable: bool = False) -> list[int]:
        """
        The channels that a program may use, or write to.
        """
        return [
            channel_id
            for channel_id, end in self.ends.items()
            if end.is_usable and not (writable and end.has_ended)
        ]
