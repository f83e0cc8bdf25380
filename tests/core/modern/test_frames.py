"""
Frames: every one survives the wire, and nothing else raises anything but ProtocolError.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ProtocolError, ResetCode
from resip.core.modern import frames
from resip.core.modern.frame_parser import expand, parse_frames
from resip.core.modern.frames import CloseCode, FrameType, stream_frames
from resip.core.types import Protocol, Target

U8 = st.integers(0, 0xFF)
U32 = st.integers(0, 0xFFFFFFFF)
U64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
HOSTS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
TARGETS = st.builds(Target, st.sampled_from(Protocol), HOSTS, st.integers(1, 65535))


class RecordingSink:
    """
    Writes down every call as (method, arguments).
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        """
        A method that writes itself down.
        """
        return lambda *arguments: self.calls.append((name, *arguments))


def parsed(plaintext: bytes) -> list[tuple[Any, ...]]:
    """
    What a sink is told of a packet.
    """
    sink = RecordingSink()
    parse_frames(plaintext, sink)
    return sink.calls


class RoundTripTests(SynchronousTestCase):
    """
    What an encoder writes, the parser reads.
    """

    @given(U32, TARGETS, st.booleans())
    def test_open(self, channel_id: int, target: Target, is_compressed: bool) -> None:
        """
        OPEN carries the channel, the target and the compression flag.
        """
        frame = frames.open_frame(channel_id, target, is_compressed=is_compressed)
        self.assertEqual(parsed(frame), [("on_open", channel_id, target, is_compressed)])

    @given(U32, U64, U64, st.sampled_from(ResetCode))
    def test_channel_frames(self, channel: int, first: int, second: int, code: ResetCode) -> None:
        """
        OPENED, END, CREDIT and RESET may share a packet and are told in order.
        """
        packet = (
            frames.opened_frame(channel)
            + frames.end_frame(channel, first)
            + frames.credit_frame(channel, first, second)
            + frames.reset_frame(channel, code, 77)
        )
        expected = [
            ("on_opened", channel),
            ("on_end", channel, first),
            ("on_credit", channel, first, second),
            ("on_reset", channel, code, 77),
        ]
        self.assertEqual(parsed(packet), expected)

    @given(U32, U64, st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16))
    def test_session_frames(self, number: int, limit: int, data: bytes, token: bytes) -> None:
        """
        SESSION_CREDIT, the path frames and the id frames survive the wire.
        """
        packet = (
            frames.session_credit_frame(limit)
            + frames.path_challenge_frame(data)
            + frames.path_response_frame(data)
            + frames.new_id_frame(number, number ^ 1, token)
            + frames.retire_id_frame(number)
        )
        expected = [
            ("on_session_credit", limit),
            ("on_path_challenge", data),
            ("on_path_response", data),
            ("on_new_id", number, number ^ 1, token),
            ("on_retire_id", number),
        ]
        self.assertEqual(parsed(packet), expected)

    @given(U32, U64, st.binary(max_size=300))
    def test_data_frames(self, channel_id: int, offset: int, data: bytes) -> None:
        """
        PIECE and DATAGRAM say how long they are, and STREAM goes to the end of the packet.
        """
        low = offset & 0xFFFFFFFF
        packet = (
            frames.piece_frame(channel_id, offset, data)
            + frames.datagram_frame(channel_id, data)
            + stream_frames(channel_id, offset, [data])[0]
        )
        expected = [
            ("on_stream", channel_id, low, data),
            ("on_datagram", channel_id, data),
            ("on_stream", channel_id, low, data),
        ]
        self.assertEqual(parsed(packet), expected)

    @given(st.sampled_from(CloseCode), st.text(max_size=400))
    def test_close(self, code: CloseCode, reason: str) -> None:
        """
        CLOSE carries the code, and of the reason what fits, harmless to print.
        """
        [(method, told, text)] = parsed(frames.close_frame(code, reason))
        self.assertEqual((method, told), ("on_close", code))
        self.assertTrue(text.isprintable())

    def test_close_keeps_the_reason(self) -> None:
        """
        A short printable reason arrives as it was given.
        """
        frame = frames.close_frame(CloseCode.SHUTDOWN, "maintenance")
        self.assertEqual(parsed(frame), [("on_close", CloseCode.SHUTDOWN, "maintenance")])


class StreamFramesTests(SynchronousTestCase):
    """
    The encoder of bursts.
    """

    def test_the_shortest_form_is_used(self) -> None:
        """
        M-25: channel ids below 256 and below 65,536 use the shorter frames.
        """
        heads = [stream_frames(channel, 7, [b""])[0] for channel in (255, 256, 65535, 65536)]
        self.assertEqual([len(head) for head in heads], [6, 7, 7, 9])
        self.assertEqual([head[0] for head in heads], [0x08, 0x09, 0x09, 0x0A])

    def test_offsets_follow_the_pieces(self) -> None:
        """
        Each piece carries its own offset, the last one too if it is shorter.
        """
        packets = stream_frames(1, 1000, [b"aaa", b"bbb", b"c"])
        told = [call for packet in packets for call in parsed(packet)]
        self.assertEqual(
            [call[2:] for call in told], [(1000, b"aaa"), (1003, b"bbb"), (1006, b"c")]
        )

    def test_offsets_wrap(self) -> None:
        """
        M-27: a burst that passes 2^32 continues at low offsets.
        """
        packets = stream_frames(1, 2**32 - 2, [b"ab", b"cd"])
        self.assertEqual([parsed(packet)[0][2] for packet in packets], [2**32 - 2, 0])

    def test_no_pieces_make_no_frames(self) -> None:
        """
        An empty burst is an empty list.
        """
        self.assertEqual(stream_frames(1, 0, []), [])


class ParseTests(SynchronousTestCase):
    """
    What the parser refuses, and what it reports about the packet.
    """

    @given(st.binary(max_size=200))
    def test_any_bytes_raise_only_protocol_errors(self, plaintext: bytes) -> None:
        """
        M-21: whatever an authentic packet holds, the parser raises ProtocolError or nothing.
        """
        with contextlib.suppress(ProtocolError):
            parsed(plaintext)

    @given(st.sampled_from(FrameType), st.binary(max_size=40))
    def test_any_frame_raises_only_protocol_errors(self, kind: FrameType, rest: bytes) -> None:
        """
        M-21: the same for bytes that begin like a frame.
        """
        with contextlib.suppress(ProtocolError):
            parsed(bytes([kind]) + rest)

    def test_every_cut_is_noticed(self) -> None:
        """
        M-21: a frame that lacks its last byte is an error, whichever it is.
        """
        target = Target(Protocol.TCP, "example.org", 80)
        whole = [
            bytes.fromhex("02 00000005 0001 01 0000 0001 0002"),
            frames.open_frame(1, target),
            frames.opened_frame(1),
            frames.end_frame(1, 2),
            frames.reset_frame(1, ResetCode.CANCELLED, 5),
            frames.credit_frame(1, 2, 3),
            *[stream_frames(channel, 0, [b""])[0] for channel in (1, 257, 65537)],
            frames.piece_frame(1, 2, b"three"),
            frames.datagram_frame(1, b"two"),
            frames.session_credit_frame(1),
            frames.path_challenge_frame(b"12345678"),
            frames.path_response_frame(b"12345678"),
            frames.new_id_frame(1, 2, bytes(16)),
            frames.retire_id_frame(1),
            frames.close_frame(CloseCode.LIMIT, "many"),
        ]
        self.assertEqual(len({frame[0] for frame in whole}), len(FrameType) - 2)
        for frame in whole:
            self.assertEqual(len(parsed(frame)), 1)
            for size in range(1, len(frame)):
                self.assertRaises(ProtocolError, parsed, frame[:size])

    def test_unknown_types_and_values_are_refused(self) -> None:
        """
        M-21: types, protocols, flags, codes and hosts that the page does not know are errors.
        """
        for bad in (
            "13",
            "03 00000001 01 00 0050 01 61",  # protocol 1
            "03 00000001 06 02 0050 01 61",  # flag 2
            "03 00000001 06 00 0000 01 61",  # port 0
            "03 00000001 06 00 0050 00",  # no host
            "03 00000001 06 00 0050 01 0a",  # a host that would break a log
            "03 00000001 06 00 0050 01 c3",  # not ASCII
            "06 00000001 fe 0000000000000000",  # reset code
            "02 00000005 0001 41 0000" + "0000 0001" * 65,  # 65 pairs
            "02 00000005 0001 80 0000 000000",  # half a time
        ):
            self.assertRaises(ProtocolError, parsed, bytes.fromhex(bad))

    def test_padding_ends_the_packet(self) -> None:
        """
        Nothing after PADDING is looked at.
        """
        self.assertEqual(parsed(frames.opened_frame(1) + b"\x00\xff\xff"), [("on_opened", 1)])

    def test_what_asks_for_an_acknowledgement(self) -> None:
        """
        M-22: every frame but PADDING, ACK, CLOSE and those about paths makes its packet ask.
        """
        ack = bytes.fromhex("02 00000005 0001 00 0000")
        about_paths = frames.path_challenge_frame(b"12345678")
        about_paths += frames.path_response_frame(b"12345678")
        quiet = ack + about_paths + frames.close_frame(CloseCode.NONE)
        self.assertFalse(parse_frames(quiet + b"\x00", RecordingSink()))
        self.assertFalse(parse_frames(b"", RecordingSink()))
        self.assertTrue(parse_frames(frames.PING_FRAME, RecordingSink()))
        self.assertTrue(parse_frames(ack + frames.opened_frame(1) + b"\x00", RecordingSink()))

    def test_overlong_hosts_cannot_be_asked_for(self) -> None:
        """
        The encoder refuses a host that the length byte cannot hold.
        """
        target = Target(Protocol.TCP, "a" * 256, 80)
        self.assertRaises(ValueError, frames.open_frame, 1, target)


class ExpandTests(SynchronousTestCase):
    """
    Numbers of which only the low bits travel.
    """

    @given(st.integers(0, 2**62), st.integers(-(2**31) + 1, 2**31 - 1))
    def test_the_closest_number_is_taken(self, near: int, distance: int) -> None:
        """
        M-11, M-27: any number within half the span of what is expected is found again.
        """
        number = max(near + distance, 0)
        self.assertEqual(expand(number & 0xFFFFFFFF, 32, near), number)

    def test_the_example_of_the_rfc(self) -> None:
        """
        RFC 9000 appendix A.3: 0x9b32 after 0xa82f30ea is 0xa82f9b32.
        """
        self.assertEqual(expand(0x9B32, 16, 0xA82F30EB), 0xA82F9B32)

    def test_both_sides_of_a_multiple(self) -> None:
        """
        The closest number may lie beyond the next multiple of the span, or before the last.
        """
        self.assertEqual(expand(0x0001, 16, 0x1FFFF), 0x20001)
        self.assertEqual(expand(0xFFFF, 16, 0x20001), 0x1FFFF)

    @given(st.integers(0, 2**31 - 1), st.integers(0, 100))
    def test_it_is_never_negative(self, low: int, near: int) -> None:
        """
        At the beginning there is nothing below 0 to be close to.
        """
        self.assertGreaterEqual(expand(low, 31, near), 0)
