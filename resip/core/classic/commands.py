"""
The commands of channel 0.

::

    1 start        01 | b | channel | protocol | address | port
                   b: 0x80 compression, 0x40 fragments (always), 0x30 channel bytes - 1,
                      0x0C IP version (0 four, 1 six), 0x03 port bytes - 1
    1 response     01 | channel bytes - 1 | channel              (from the server)
    2 stop         02 | (channel bytes - 1) << 3 | (number bytes - 1) | channel | last number
    3 acknowledge  03 { channel bytes - 1 | channel { item }+ }+
                   item: 0x80 | 0x40 if range | (n1 bytes - 1) << 3 | (n2 bytes - 1) | n1 [| n2]
    4 keep-alive   04
    5 terminate    05 | channel bytes - 1 | channel              (from the client)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from resip.core.classic.integers import Reader, pack, packed_size
from resip.core.errors import ProtocolError
from resip.core.types import Protocol, Target


class Command(IntEnum):
    """
    The first byte of a command, without its upper three bits.
    """

    START = 0x01
    STOP = 0x02
    ACKNOWLEDGE = 0x03
    KEEP_ALIVE = 0x04
    TERMINATE = 0x05


_COMMAND_MASK = 0x1F
_START_COMPRESSED = 0x80
_START_FRAGMENTS = 0x40
_ACK_ITEM = 0x80
_ACK_RANGE = 0x40


@dataclass(frozen=True, slots=True)
class Start:
    """
    The client asks for a channel.

    :ivar protocol: the IP protocol number; others than TCP and UDP are refused, not malformed.
    """

    channel_id: int
    protocol: int
    host: str
    port: int
    is_compressed: bool = False

    @property
    def target(self) -> Target | None:
        """
        The target, ``None`` when no server can reach it: unknown protocol or port 0.
        """
        if self.protocol not in tuple(Protocol) or not self.port:
            return None
        return Target(Protocol(self.protocol), self.host, self.port)

    def encode(self) -> bytes:
        """
        The command's bytes.
        """
        address = ipaddress.ip_address(self.host)
        b = (
            _START_COMPRESSED * self.is_compressed
            | _START_FRAGMENTS
            | (packed_size(self.channel_id) - 1) << 4
            | (address.version == 6) << 2
            | (packed_size(self.port) - 1)
        )
        head = bytes((Command.START, b)) + pack(self.channel_id) + bytes((self.protocol,))
        return head + address.packed + pack(self.port)


@dataclass(frozen=True, slots=True)
class Response:
    """
    The server accepts a channel.
    """

    channel_id: int

    def encode(self) -> bytes:
        """
        The command's bytes.
        """
        return _with_channel(Command.START, self.channel_id)


@dataclass(frozen=True, slots=True)
class Stop:
    """
    One side sends nothing on a channel after packet ``last``; 0 means it never sent any.
    """

    channel_id: int
    last: int

    def encode(self) -> bytes:
        """
        The command's bytes.
        """
        sizes = (packed_size(self.channel_id) - 1) << 3 | (packed_size(self.last) - 1)
        return bytes((Command.STOP, sizes)) + pack(self.channel_id) + pack(self.last)


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """
    Numbers that arrived: for each channel ranges, both ends included.
    """

    channels: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """
    Are you there; I am here.
    """

    def encode(self) -> bytes:
        """
        The command's bytes.
        """
        return bytes((Command.KEEP_ALIVE,))


@dataclass(frozen=True, slots=True)
class Terminate:
    """
    The client frees a channel.

    :ivar channel_id: ``None`` in the form without channel that the prototype's client sends.
    """

    channel_id: int | None

    def encode(self) -> bytes:
        """
        The command's bytes.
        """
        if self.channel_id is None:
            return bytes((Command.TERMINATE,))
        return _with_channel(Command.TERMINATE, self.channel_id)


AnyCommand = Start | Response | Stop | Acknowledge | KeepAlive | Terminate


def _with_channel(command: Command, channel_id: int) -> bytes:
    return bytes((command, packed_size(channel_id) - 1)) + pack(channel_id)


def parse_command(data: bytes, *, from_server: bool) -> AnyCommand | None:
    """
    Read one command.

    :param from_server: who sent it; command 1 means different things in each direction.
    :return: ``None`` for a command that this dialect does not know.
    :raises ProtocolError: when a known command is cut short or inconsistent.
    """
    reader = Reader(data)
    match reader.integer(1) & _COMMAND_MASK:
        case Command.START:
            return _parse_response(reader) if from_server else _parse_start(data)
        case Command.STOP:
            return _parse_stop(reader)
        case Command.ACKNOWLEDGE:
            return _parse_acknowledge(reader)
        case Command.KEEP_ALIVE:
            return KeepAlive()
        case Command.TERMINATE:
            return _parse_terminate(reader)
        case _:
            return None


def _parse_response(reader: Reader) -> Response:
    return Response(reader.integer((reader.integer(1) & 0x03) + 1))


def _parse_start(data: bytes) -> Start:
    reader = Reader(data)
    reader.take(1)
    b = reader.integer(1)
    channel_size = (b >> 4 & 0x03) + 1
    port_size = (b & 0x03) + 1
    address_size = 16 if b & 0x0C else 4
    if len(data) != 2 + channel_size + 1 + address_size + port_size:
        # The prototype's client marks IPv6 with the low bit of the channel's size instead.
        # Only the length tells; the channel is then as long as the bits say, or one less.
        channel_size = len(data) - (2 + 1 + 16 + port_size)
        if (
            b & 0x0C
            or channel_size not in ((b >> 4 & 0x03), (b >> 4 & 0x03) + 1)
            or not channel_size
        ):
            raise ProtocolError(f"start command of {len(data)} bytes with sizes {b:#04x}")
        address_size = 16
    channel_id = reader.integer(channel_size)
    protocol = reader.integer(1)
    host = str(ipaddress.ip_address(reader.take(address_size)))
    port = reader.integer(port_size)
    if port > 0xFFFF:
        raise ProtocolError(f"start command with port {port}")
    return Start(channel_id, protocol, host, port, bool(b & _START_COMPRESSED))


def _parse_stop(reader: Reader) -> Stop:
    sizes = reader.integer(1)
    channel_id = reader.integer((sizes >> 3 & 0x03) + 1)
    return Stop(channel_id, reader.integer((sizes & 0x07) + 1))


def _parse_terminate(reader: Reader) -> Terminate:
    if not reader.remaining:
        return Terminate(None)
    return Terminate(reader.integer((reader.integer(1) & 0x03) + 1))


def _parse_acknowledge(reader: Reader) -> Acknowledge:
    channels = []
    header = reader.integer(1) if reader.remaining else None
    while header is not None:
        channel_id = reader.integer((header & 0x03) + 1)
        ranges = []
        header = reader.integer(1) if reader.remaining else None
        # A header without items is the prototype's repeated one: the next one counts.
        while header is not None and header & _ACK_ITEM:
            first = reader.integer((header >> 3 & 0x07) + 1)
            last = reader.integer((header & 0x07) + 1) if header & _ACK_RANGE else first
            if last < first:
                raise ProtocolError(f"acknowledged range from {first} to {last}")
            ranges.append((first, last))
            header = reader.integer(1) if reader.remaining else None
        if ranges:
            channels.append((channel_id, tuple(ranges)))
    return Acknowledge(tuple(channels))


def encode_acknowledgements(ranges: Iterator[tuple[int, int, int]], size: int) -> Iterator[bytes]:
    """
    Pack ranges into as few acknowledge commands as hold them.

    :param ranges: channel id, first and last number; those of one channel stand together.
    :param size: how many bytes one command may have.
    """
    command = bytearray((Command.ACKNOWLEDGE,))
    current: int | None = None
    for channel_id, first, last in ranges:
        item = _ack_item(first, last)
        header = b"" if channel_id == current else _ack_header(channel_id)
        if len(command) + len(header) + len(item) > size:
            yield bytes(command)
            command = bytearray((Command.ACKNOWLEDGE,))
            header = _ack_header(channel_id)
        command += header + item
        current = channel_id
    if len(command) > 1:
        yield bytes(command)


def _ack_header(channel_id: int) -> bytes:
    return bytes((packed_size(channel_id) - 1,)) + pack(channel_id)


def _ack_item(first: int, last: int) -> bytes:
    sizes = _ACK_ITEM | (packed_size(first) - 1) << 3
    if first == last:
        return bytes((sizes,)) + pack(first)
    return bytes((sizes | _ACK_RANGE | (packed_size(last) - 1),)) + pack(first) + pack(last)
