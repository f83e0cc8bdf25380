"""
An imitation of the prototype, in both roles, with its faults as they were observed.

It offers the verbs of a session, so that it runs in a simulated pair against ours. What it
does wrong is listed in :class:`~tests.support.prototype_channel.Quirk`; a test picks what it
is about.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from resip.core.classic.commands import (
    AnyCommand,
    KeepAlive,
    Response,
    Start,
    Stop,
    Terminate,
)
from resip.core.classic.packet import (
    Flag,
)
from resip.core.errors import ResetCode
from resip.core.events import (
    ChannelOpened,
    ChannelRequested,
    ChannelReset,
)
from resip.core.types import Path, Target
from tests.support.classic import SessionMaker
from tests.support.prototype_channel import ImitatedChannel, Quirk
from tests.support.prototype_session import SILENCE, PrototypeSession

__all__ = ["PrototypeClient", "PrototypeServer", "Quirk"]


#: Data in the batch of a stop is dropped when there was none for so many seconds before.
QUIET_TIME = 0.1


class PrototypeClient(PrototypeSession):
    """
    The client's role.
    """

    def __init__(self, maker: SessionMaker, quirks: Iterable[Quirk] = ()) -> None:
        super().__init__(maker, quirks)
        self.delivers_one = Quirk.ONE_MESSAGE_PER_PACKET in self.quirks
        self._last_channel = 0

    def open_channel(self, target: Target, *, now: float, compress: bool = False) -> int:
        """
        Ask; what is written waits for the response.
        """
        self._last_channel += 1
        channel_id = self._last_channel
        self._channels[channel_id] = ImitatedChannel(target)
        command = Start(channel_id, target.protocol, target.host, target.port).encode()
        if ":" in target.host and Quirk.MISPLACED_IPV6 in self.quirks:
            command = bytes((command[0], command[1] & ~0x04 | 0x10)) + command[2:]
            assert ipaddress.ip_address(target.host).packed in command
        self._send_command(command, now=now)
        return channel_id

    def get_timer(self) -> float | None:
        """
        A keep-alive is due, too.
        """
        times = (super().get_timer(), self.last_received_time + SILENCE)
        return min(time for time in times if time is not None)

    def handle_timer(self, *, now: float) -> None:
        """
        As usual, and the keep-alive.
        """
        super().handle_timer(now=now)
        if now >= self.last_received_time + SILENCE:
            self.last_received_time = now
            self._send_unordered(KeepAlive().encode(), now=now)

    def _learn(self, path: Path, *, now: float) -> None:
        if not self._paths:
            super()._learn(path, now=now)

    def _on_command(self, command: AnyCommand, *, now: float) -> None:
        if isinstance(command, Response) and command.channel_id in self._channels:
            channel = self._channels[command.channel_id]
            if not channel.is_open:
                channel.is_open = True
                self._events.append(ChannelOpened(command.channel_id))
                self._send_waiting(command.channel_id, now=now)

    def _on_stop(self, channel: ImitatedChannel, stop: Stop, *, now: float) -> None:
        if stop.last:
            channel.last = stop.last
            return
        code = ResetCode.CANCELLED if channel.is_open else ResetCode.REFUSED
        del self._channels[stop.channel_id]
        self._events.append(ChannelReset(stop.channel_id, code))

    def _on_closed(self, channel_id: int, *, now: float) -> None:
        is_bare = Quirk.BARE_TERMINATE in self.quirks
        self._send_command(Terminate(None if is_bare else channel_id).encode(), now=now)


class PrototypeServer(PrototypeSession):
    """
    The server's role.
    """

    direction = int(Flag.FROM_SERVER)

    def _knows_address(self, *, now: float) -> bool:
        if Quirk.LOSES_ADDRESS in self.quirks:
            self._paths = {p: then for p, then in self._paths.items() if now - then < SILENCE}
        return super()._knows_address(now=now)

    def accept_channel(self, channel_id: int, *, now: float) -> None:
        """
        Say so once, unordered.
        """
        self._channels[channel_id].is_open = True
        if Quirk.LOST_RESPONSE not in self.quirks:
            self._send_unordered(Response(channel_id).encode(), now=now)

    def refuse_channel(self, channel_id: int, code: ResetCode, *, now: float) -> None:
        """
        Stop, after a response when it was tried.
        """
        if code is not ResetCode.REFUSED:
            self._send_unordered(Response(channel_id).encode(), now=now)
        self.reset(channel_id, code, now=now)

    def _on_command(self, command: AnyCommand, *, now: float) -> None:
        if isinstance(command, KeepAlive):
            self._send_unordered(command.encode(), now=now)
        elif isinstance(command, Start) and command.channel_id not in self._channels:
            target = command.target
            assert target is not None
            self._channels[command.channel_id] = ImitatedChannel(target)
            self._events.append(ChannelRequested(command.channel_id, target))
            if Quirk.DROPS_DATA_WITH_START in self.quirks:
                self._dropping.add(command.channel_id)
        elif isinstance(command, Terminate) and command.channel_id is not None:
            self._channels.pop(command.channel_id, None)

    def _on_stop(self, channel: ImitatedChannel, stop: Stop, *, now: float) -> None:
        super()._on_stop(channel, stop, now=now)
        is_quiet = now - channel.data_time > QUIET_TIME
        if is_quiet and Quirk.DROPS_DATA_WITH_STOP in self.quirks:
            self._dropping.add(stop.channel_id)
