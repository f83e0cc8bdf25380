"""
Tests of :mod:`resip.core.classic.commands`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.commands import (
    Acknowledge,
    AnyCommand,
    KeepAlive,
    Response,
    Start,
    Stop,
    Terminate,
    encode_acknowledgements,
    parse_command,
)
from resip.core.errors import ProtocolError
from resip.core.types import Protocol, Target

CHANNEL_IDS = st.integers(0, 2**32 - 1)
NUMBERS = st.integers(0, 2**64 - 1)
HOSTS = st.ip_addresses().map(str)
RANGES = st.tuples(NUMBERS, NUMBERS).map(lambda pair: (min(pair), max(pair)))


def from_client(data: str) -> AnyCommand | None:
    """
    A command of a client, from hex with spaces.
    """
    return parse_command(bytes.fromhex(data), from_server=False)


def from_server(data: str) -> AnyCommand | None:
    """
    A command of a server, from hex with spaces.
    """
    return parse_command(bytes.fromhex(data), from_server=True)


class StartTests(SynchronousTestCase):
    """
    Command 1 of a client.
    """

    @given(CHANNEL_IDS, st.sampled_from([6, 17, 1]), HOSTS, st.integers(0, 65_535), st.booleans())
    def test_round_trip(
        self, channel_id: int, protocol: int, host: str, port: int, is_compressed: bool
    ) -> None:
        """
        Any channel to any address survives.
        """
        start = Start(channel_id, protocol, host, port, is_compressed)
        self.assertEqual(parse_command(start.encode(), from_server=False), start)

    def test_the_bytes(self) -> None:
        """
        The bytes are those of the description.
        """
        start = Start(1, 6, "127.0.0.1", 80, is_compressed=True)
        self.assertEqual(start.encode().hex(" "), "01 c0 01 06 7f 00 00 01 50")
        start = Start(0x102, 17, "::1", 10_000)
        self.assertEqual(start.encode().hex(" "), "01 55 01 02 11 " + "00 " * 15 + "01 27 10")

    def test_the_prototypes_ipv6(self) -> None:
        """
        It sets the channel's size bit instead of the version's; the length tells, both for a
        channel of one byte and for a channel as long as the bits say.
        """
        address = ipaddress.ip_address("2001:db8::7").packed.hex()
        expected = Start(5, 6, "2001:db8::7", 443)
        self.assertEqual(from_client(f"01 51 05 06 {address} 01bb"), expected)
        self.assertEqual(from_client(f"01 51 0005 06 {address} 01bb"), expected)

    def test_neither_length_fits(self) -> None:
        """
        A start that is too short or too long for every reading is refused.
        """
        address = "00" * 16
        for data in (
            "01 41 05 06 7f0000 01bb",
            "01 41 05 06 7f000001 01bb 00",
            f"01 51 0005 06 {address} 01bb 00",
            f"01 45 05 06 {address} bb",
            f"01 41 06 {address} 01bb",
            "01",
        ):
            self.assertRaises(ProtocolError, from_client, data)

    def test_a_port_beyond_the_last_is_refused(self) -> None:
        """
        A port of three bytes is accepted as long as it is a port.
        """
        self.assertEqual(from_client("01 42 05 06 7f000001 000050"), Start(5, 6, "127.0.0.1", 80))
        self.assertRaises(ProtocolError, from_client, "01 42 05 06 7f000001 010050")

    def test_targets(self) -> None:
        """
        Only TCP and UDP to a port above 0 lead anywhere.
        """
        self.assertEqual(Start(1, 17, "::1", 53).target, Target(Protocol.UDP, "::1", 53))
        self.assertIsNone(Start(1, 1, "127.0.0.1", 53).target)
        self.assertIsNone(Start(1, 6, "127.0.0.1", 0).target)


class SmallCommandTests(SynchronousTestCase):
    """
    Response, stop, keep-alive, terminate, and whatever else.
    """

    @given(CHANNEL_IDS, NUMBERS)
    def test_round_trips(self, channel_id: int, number: int) -> None:
        """
        Every command of either side reads back.
        """
        response = Response(channel_id)
        self.assertEqual(parse_command(response.encode(), from_server=True), response)
        for command in (Stop(channel_id, number), Terminate(channel_id), KeepAlive()):
            for is_server in (False, True):
                parsed = parse_command(command.encode(), from_server=is_server)
                self.assertEqual(parsed, command)

    def test_the_bytes(self) -> None:
        """
        The bytes are those of the description.
        """
        self.assertEqual(Response(0x102).encode().hex(" "), "01 01 01 02")
        self.assertEqual(Stop(0x102, 3).encode().hex(" "), "02 08 01 02 03")
        self.assertEqual(Stop(1, 0x10000).encode().hex(" "), "02 02 01 01 00 00")
        self.assertEqual(Stop(1, 0).encode().hex(" "), "02 00 01 00")
        self.assertEqual(KeepAlive().encode().hex(" "), "04")
        self.assertEqual(Terminate(7).encode().hex(" "), "05 00 07")

    def test_the_prototypes_bare_terminate(self) -> None:
        """
        A terminate without channel is one, of no channel.
        """
        self.assertEqual(from_client("05"), Terminate(None))
        self.assertEqual(Terminate(None).encode().hex(), "05")

    def test_the_upper_bits_of_the_command_are_ignored(self) -> None:
        """
        Only the low five bits tell the command.
        """
        self.assertEqual(from_client("e4"), KeepAlive())
        self.assertEqual(from_server("a1 00 07"), Response(7))

    def test_unknown_commands_are_nothing(self) -> None:
        """
        A command that is not known is not an error.
        """
        for first in (0x00, 0x06, 0x1F, 0xE0):
            self.assertIsNone(parse_command(bytes((first,)) + b"...", from_server=False))

    def test_cut_commands_are_refused(self) -> None:
        """
        A command that ends before its end is an error, and so is none at all.
        """
        for data in ("", "02", "02 00", "02 00 01", "05 00", "05 01 01"):
            self.assertRaises(ProtocolError, from_client, data)
        for data in ("01", "01 00", "01 03 000001"):
            self.assertRaises(ProtocolError, from_server, data)

    @given(st.binary(max_size=474), st.booleans())
    def test_any_bytes_parse_or_raise_protocol_errors(self, data: bytes, is_server: bool) -> None:
        """
        There is no other exception.
        """
        try:
            parse_command(data, from_server=is_server)
        except ProtocolError:
            return

    @given(st.sampled_from([1, 2, 3, 5]), st.binary(max_size=40), st.booleans())
    def test_known_commands_of_any_bytes_too(
        self, first: int, data: bytes, is_server: bool
    ) -> None:
        """
        The same, where every example is a command that has a parser.
        """
        try:
            parse_command(bytes((first,)) + data, from_server=is_server)
        except ProtocolError:
            return


class AcknowledgeTests(SynchronousTestCase):
    """
    Command 3.
    """

    def test_the_bytes(self) -> None:
        """
        Single numbers and ranges, of several channels.
        """
        ranges = iter([(1, 2, 2), (1, 4, 0x100), (0x102, 7, 7)])
        (command,) = encode_acknowledgements(ranges, 474)
        self.assertEqual(command.hex(" "), "03 00 01 80 02 c1 04 01 00 01 01 02 80 07")
        self.assertEqual(
            parse_command(command, from_server=False),
            Acknowledge(((1, ((2, 2), (4, 0x100))), (0x102, ((7, 7),)))),
        )

    def test_a_repeated_header(self) -> None:
        """
        The prototype repeats a channel's header, with items or without.
        """
        self.assertEqual(
            from_client("03 00 01 80 02 00 01 80 03"),
            Acknowledge(((1, ((2, 2),)), (1, ((3, 3),)))),
        )
        self.assertEqual(from_client("03 00 01 00 01 80 02"), Acknowledge(((1, ((2, 2),)),)))

    def test_nothing_is_acknowledged(self) -> None:
        """
        An acknowledgement of nothing is one.
        """
        self.assertEqual(from_client("03"), Acknowledge(()))
        self.assertEqual(from_client("03 00 01"), Acknowledge(()))

    def test_a_range_that_ends_before_it_begins(self) -> None:
        """
        It is refused.
        """
        self.assertRaises(ProtocolError, from_client, "03 00 01 c0 05 04")

    def test_cut_items_are_refused(self) -> None:
        """
        Items and headers must be there whole.
        """
        for data in ("03 00", "03 01 01", "03 00 01 80", "03 00 01 c0 05", "03 00 01 8f 05"):
            self.assertRaises(ProtocolError, from_client, data)

    @given(
        st.lists(st.tuples(CHANNEL_IDS, st.lists(RANGES, min_size=1, max_size=40)), max_size=8),
        st.sampled_from([26, 60, 474]),
    )
    def test_round_trip(self, channels: list[tuple[int, list[tuple[int, int]]]], size: int) -> None:
        """
        Any ranges of any channels survive, in commands that are no longer than allowed.
        """
        expected = [(cid, first, last) for cid, ranges in channels for first, last in ranges]
        commands = list(encode_acknowledgements(iter(expected), size))
        self.assertLessEqual(max(map(len, commands), default=0), size)
        self.assertEqual([item for command in commands for item in flatten(command)], expected)

    def test_no_ranges_make_no_command(self) -> None:
        """
        There is nothing to say.
        """
        self.assertEqual(list(encode_acknowledgements(iter(()), 474)), [])


def flatten(command: bytes) -> Iterator[tuple[int, int, int]]:
    """
    Channel, first and last of each range of an acknowledgement.
    """
    parsed = parse_command(command, from_server=True)
    assert isinstance(parsed, Acknowledge)
    for channel_id, ranges in parsed.channels:
        for first, last in ranges:
            yield channel_id, first, last
