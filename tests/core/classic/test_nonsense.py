"""
A peer that has the keys of a classic session and does not keep to the format.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.commands import KeepAlive, Response, Start, Stop, Terminate
from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.packet import Flag
from resip.core.errors import ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    ChannelOpened,
    ChannelRequested,
    ChannelReset,
    DataReceived,
)
from tests.support.classic import (
    CLIENT_PATH,
    ELSEWHERE,
    NOW,
    START,
    TCP_TARGET,
    Victim,
    drain,
)


class AuthenticNonsenseTests(SynchronousTestCase):
    """
    A peer that has the keys and does not keep to the format.
    """

    def test_dropped_packets_are_not_acknowledged(self) -> None:
        """
        Fragments and compression on channel 0, compression that was not agreed on, number 0 on
        a channel, what comes after the last: all are dropped in silence.
        """
        victim = Victim()
        victim.open()
        victim.receive(victim.forger.command(Stop(1, 2).encode()))
        victim.sent()
        victim.sent(now=NOW + 2)
        forger = victim.forger
        for packet in (
            forger.seal(0, 9, b"\x04", Flag.MORE),
            forger.seal(0, 9, b"\x04", Flag.COMPRESSED),
            forger.seal(0, 0, b"\x04", Flag.MORE),
            forger.seal(1, 1, b"x", Flag.COMPRESSED),
            forger.seal(1, 0, b"x"),
            forger.seal(1, 3, b"x"),
            forger.seal(1, 2**63, b"x"),
            forger.seal(0, 2**63, b"\x04"),
        ):
            self.assertTrue(victim.receive(packet, ELSEWHERE))
        self.assertEqual(victim.session.path, CLIENT_PATH)
        self.assertEqual(drain(victim.session), [])
        due = [data for _, number, data in victim.sent(now=NOW + 2.1) if not number]
        self.assertEqual(due, [])

    def test_unknown_and_malformed_commands_are_acknowledged_and_ignored(self) -> None:
        """
        What follows them is not held up.
        """
        victim = Victim()
        for data in (b"", b"\x1f", b"\x01", b"\x02\x00", b"\x05", b"\x01\x41\x05", b"\x03\x00"):
            victim.receive(victim.forger.command(data))
        victim.receive(victim.forger.command(START))
        self.assertIn(ChannelRequested, map(type, drain(victim.session)))
        self.assertEqual(victim.sent()[0][2].hex(), "030000c00108")

    def test_targets_that_cannot_be_reached(self) -> None:
        """
        Other protocols and port 0 are answered with stop; channel 0 is no channel.
        """
        victim = Victim()
        for start in (Start(7, 1, "127.0.0.1", 80), Start(8, 6, "::1", 0), Start(0, 6, "::1", 80)):
            victim.receive(victim.forger.command(start.encode()))
        ordered = [data for _, number, data in victim.sent() if number]
        self.assertEqual(ordered, [Stop(7, 0).encode(), Stop(8, 0).encode()])
        self.assertEqual(victim.server.channel_count, 0)

    def test_a_start_for_an_existing_channel(self) -> None:
        """
        It is acknowledged and ignored.
        """
        victim = Victim()
        victim.open()
        victim.receive(victim.forger.command(Start(1, 17, "::1", 9).encode()))
        self.assertEqual(drain(victim.session), [])

    def test_ids_may_be_used_again(self) -> None:
        """
        A start for a channel that is gone opens a new one, which numbers from 1.
        """
        victim = Victim()
        victim.open()
        for number in (1, 2, 3):
            victim.receive(victim.forger.seal(1, number, b"old"))
        victim.receive(victim.forger.command(Terminate(1).encode()))
        victim.open()
        victim.receive(victim.forger.seal(1, 1, b"new"))
        self.assertEqual(drain(victim.session), [DataReceived(1, b"new")])
        self.assertNotIn(bytes.fromhex("00 01 c0 01 03"), victim.sent()[0][2])

    def test_the_first_stop_counts(self) -> None:
        """
        Nothing follows an end, whatever a second stop says.
        """
        victim = Victim()
        victim.open()
        victim.receive(victim.forger.command(Stop(1, 0).encode()))
        self.assertEqual(drain(victim.session), [ChannelEnded(1)])
        victim.receive(victim.forger.command(Stop(1, 5).encode()))
        victim.receive(victim.forger.seal(1, 1, b"after the end"))
        self.assertEqual(drain(victim.session), [])

    def test_commands_for_no_channel(self) -> None:
        """
        Stops, responses and terminates for channels that are not there do nothing.
        """
        for is_server in (True, False):
            victim = Victim(is_server=is_server)
            drain(victim.session)
            for data in (Stop(9, 0), Response(9), Terminate(9), Terminate(None), KeepAlive()):
                victim.receive(victim.forger.command(data.encode()))
            self.assertEqual(victim.session.channel_count, 0)
            self.assertNotIn(ChannelReset, map(type, drain(victim.session)))

    def test_a_second_response(self) -> None:
        """
        A channel opens once.
        """
        victim = Victim(is_server=False)
        channel_id = victim.client.open_channel(TCP_TARGET, now=NOW)
        for _ in range(2):
            victim.receive(victim.forger.command(Response(channel_id).encode()))
        self.assertEqual(drain(victim.client), [ChannelOpened(channel_id)])

    def test_a_stop_overtakes_what_it_ends(self) -> None:
        """
        A stop that announces data is no refusal, although neither response nor data is there.
        """
        victim = Victim(is_server=False)
        channel_id = victim.client.open_channel(TCP_TARGET, now=NOW)
        victim.receive(victim.forger.command(Stop(channel_id, 1).encode()))
        victim.receive(victim.forger.seal(channel_id, 1, b"greeting"))
        self.assertEqual(
            drain(victim.client),
            [
                ChannelOpened(channel_id),
                DataReceived(channel_id, b"greeting"),
                ChannelEnded(channel_id),
            ],
        )

    def test_data_and_then_a_failure_before_the_response(self) -> None:
        """
        A server that sent data was connected, even if it never said so.
        """
        victim = Victim(is_server=False)
        channel_id = victim.client.open_channel(TCP_TARGET, now=NOW)
        victim.receive(victim.forger.seal(channel_id, 1, b"greeting"))
        victim.receive(victim.forger.command(Stop(channel_id, 0).encode()))
        expected = [ChannelReset(channel_id, ResetCode.CANCELLED)]
        self.assertEqual(drain(victim.client), expected)

    def test_a_message_that_does_not_inflate(self) -> None:
        """
        Its channel is reset on both sides, the session lives.
        """
        victim = Victim()
        victim.receive(victim.forger.command(Start(1, 6, "::1", 80, True).encode()))
        victim.session.accept_channel(1, now=NOW)
        drain(victim.session)
        victim.sent()
        victim.receive(victim.forger.seal(1, 1, b"\xff\xff\xff", Flag.COMPRESSED))
        self.assertEqual(drain(victim.session), [ChannelReset(1, ResetCode.PROTOCOL)])
        self.assertIn(Stop(1, 0).encode(), [data for _, _, data in victim.sent(now=NOW + 2)])
        victim.receive(victim.forger.command(Start(2, 6, "::1", 80).encode()))
        self.assertEqual(len(drain(victim.session)), 1)

    def test_terminate_while_data_is_missing(self) -> None:
        """
        A client that ended and then gave up has not delivered everything: that is a reset.
        """
        victim = Victim()
        victim.open()
        victim.session.end(1, now=NOW)
        victim.sent()
        victim.receive(victim.forger.command(Stop(1, 2).encode()))
        victim.receive(victim.forger.seal(1, 2, b"second"))
        victim.receive(victim.forger.acknowledge(1, 1))
        victim.sent()
        victim.receive(victim.forger.command(Terminate(1).encode()))
        self.assertEqual(drain(victim.session), [ChannelReset(1, ResetCode.CANCELLED)])

    def test_terminate_while_the_application_sleeps(self) -> None:
        """
        A client that is done frees the channel; what it sent is still read to the end.
        """
        victim = Victim(configuration=ClassicConfiguration(receive_buffer=4))
        victim.open()
        victim.session.end(1, now=NOW)
        victim.sent()
        for number in (1, 2):
            victim.receive(victim.forger.seal(1, number, b"data"))
        victim.receive(victim.forger.command(Stop(1, 2).encode()))
        victim.receive(victim.forger.command(Terminate(1).encode()))
        self.assertEqual(drain(victim.session), [DataReceived(1, b"data")])
        victim.session.consume(1, 4, now=NOW)
        self.assertEqual(
            drain(victim.session), [DataReceived(1, b"data"), ChannelEnded(1), ChannelClosed(1)]
        )
