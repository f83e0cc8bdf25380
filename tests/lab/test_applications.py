"""
Tests of :mod:`resip.lab.applications`, with a toy session.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ResetCode
from resip.core.events import (
    ChannelEnded,
    DataReceived,
)
from resip.core.types import Target
from resip.lab.applications import (
    BulkReceiver,
    BulkSender,
    ChannelApplication,
    EchoClient,
    EchoServer,
)
from resip.lab.link import LinkConditions
from resip.lab.measurement import percentile
from resip.lab.pair import SimulatedPair
from resip.lab.payload import SeededBytes
from tests.support.pair import (
    BAD,
    PLAIN,
    TCP_TARGET,
    UDP_TARGET,
    get_events,
    get_received,
    run_until_true,
)
from tests.support.toy_session import WINDOW, make_toy_pair


class BulkTests(SynchronousTestCase):
    """
    A bulk transfer that is checked to the byte.
    """

    def start_transfer(
        self, pair: SimulatedPair, size: int, *, seeds: tuple[int, int] = (8, 8)
    ) -> tuple[BulkSender, BulkReceiver]:
        """
        Let the client send ``size`` bytes to the server.
        """
        receiver = BulkReceiver(TCP_TARGET, size=size, seed=seeds[1])
        receiver.serve(pair.server)
        sender = BulkSender(TCP_TARGET, size=size, seed=seeds[0])
        sender.start(pair.client)
        return sender, receiver

    def test_arrives_over_bad_links(self) -> None:
        """
        Every byte arrives in order through loss, copies and reordering.
        """
        pair = make_toy_pair(BAD, seed=11)
        sender, receiver = self.start_transfer(pair, 50_000)
        run_until_true(pair, lambda: sender.is_closed and receiver.is_closed, limit=600.0)
        self.assertEqual(receiver.progress.total, 50_000)
        self.assertTrue(receiver.is_finished)

    def test_server_sends(self) -> None:
        """
        The side that accepts the channel may be the one that sends.
        """
        pair = make_toy_pair()
        BulkSender(TCP_TARGET, size=10_000, seed=2).serve(pair.server)
        receiver = BulkReceiver(TCP_TARGET, size=10_000, seed=2)
        receiver.start(pair.client)
        run_until_true(pair, lambda: receiver.is_finished, limit=60.0)
        self.assertEqual(len(get_received(pair.client, 0)), 10_000)

    def test_wrong_byte_is_an_error(self) -> None:
        """
        A byte that is not the one sent stops the run and is named.
        """
        pair = make_toy_pair()
        self.start_transfer(pair, 5000, seeds=(1, 2))
        error = self.assertRaises(AssertionError, pair.run_for, 10.0)
        self.assertEqual(str(error), "byte 0 of 5000 is wrong")

    def test_missing_and_surplus_bytes_are_errors(self) -> None:
        """
        An end that comes too early, or data behind the end, stops the run.
        """
        for sent, message in ((10, "after 10 of 20"), (30, "more than the 20 bytes")):
            pair = make_toy_pair()
            BulkReceiver(TCP_TARGET, size=20).serve(pair.server)
            BulkSender(TCP_TARGET, size=sent).start(pair.client)
            error = self.assertRaises(AssertionError, pair.run_for, 10.0)
            self.assertIn(message, str(error))

    def test_sleeping_reader_stops_the_sender(self) -> None:
        """
        A reader that sleeps gives no credit; when it wakes up everything arrives.
        """
        pair = make_toy_pair()
        sender, receiver = self.start_transfer(pair, 20_000)
        receiver.pause()
        pair.run_for(600.0)
        self.assertEqual((sender.accepted, receiver.unread), (WINDOW, WINDOW))
        receiver.resume()
        run_until_true(pair, lambda: receiver.is_finished, limit=60.0)
        self.assertEqual(receiver.unread, 0)

    def test_goodput(self) -> None:
        """
        Stop and wait moves one frame per round trip, and the goodput says so.
        """
        pair = make_toy_pair(LinkConditions(delay=0.5))
        _, receiver = self.start_transfer(pair, 1_000_000)
        start = pair.now
        pair.run_for(101.0)
        goodput = receiver.progress.get_goodput(start + 1.0, start + 101.0)
        # Five data frames make a window of 4096 bytes.
        self.assertApproximates(goodput, 8 * WINDOW / 5, 200)

    def test_reset_is_noticed(self) -> None:
        """
        A program whose channel is refused is told the code, and is over.
        """
        pair = make_toy_pair()
        sender = BulkSender(TCP_TARGET, size=10)
        sender.start(pair.client)
        pair.run_for(0.06)
        pair.server.session.refuse_channel(0, ResetCode.REFUSED, now=pair.now)
        pair.run_for(1.0)
        self.assertEqual(sender.reset_code, ResetCode.REFUSED)
        self.assertTrue(sender.is_gone)


class EchoTests(SynchronousTestCase):
    """
    Messages there and back.
    """

    def test_round_trip_times(self) -> None:
        """
        The round-trip time is measured from the sending to the echo.
        """
        pair = make_toy_pair()
        EchoServer(UDP_TARGET).serve(pair.server)
        client = EchoClient(UDP_TARGET, interval=5.0, count=10)
        client.start(pair.client)
        run_until_true(pair, lambda: client.is_closed, limit=60.0)
        self.assertTrue(client.is_finished)
        self.assertEqual(dict(client.unanswered), {})
        self.assertApproximates(percentile(client.round_trip_times[1:], 50), 0.1, 0.001)

    def test_stream_messages_survive_their_cuts(self) -> None:
        """
        Messages longer than a packet, or than the window, come back whole.
        """
        pair = make_toy_pair(BAD, seed=6)
        EchoServer(TCP_TARGET).serve(pair.server)
        client = EchoClient(TCP_TARGET, interval=30.0, size=2 * WINDOW + 5, count=4)
        client.start(pair.client)
        run_until_true(pair, lambda: client.is_closed, limit=600.0)
        self.assertEqual(len(client.round_trip_times), 4)

    def test_many_programs_share_a_session(self) -> None:
        """
        Each program hears its own channel only.
        """
        pair = make_toy_pair()
        server = EchoServer(TCP_TARGET)
        server.serve(pair.server)
        clients = [EchoClient(TCP_TARGET, interval=1.0, count=5) for _ in range(3)]
        for client in clients:
            client.start(pair.client)
        run_until_true(pair, lambda: all(client.is_closed for client in clients), limit=60.0)
        self.assertEqual(server.accepted, 3)
        self.assertEqual(len({client.channel_id for client in clients}), 3)

    def test_outage_shows_in_the_times(self) -> None:
        """
        A message sent while the link is down is answered after it, and its time tells.
        """
        pair = make_toy_pair()
        EchoServer(TCP_TARGET).serve(pair.server)
        client = EchoClient(TCP_TARGET, interval=1.0, count=30)
        client.start(pair.client)
        pair.run_for(5.5)
        pair.up.conditions = replace(PLAIN, is_down=True)
        pair.run_for(10.0)
        self.assertTrue(client.unanswered)
        pair.up.conditions = PLAIN
        run_until_true(pair, lambda: client.is_finished, limit=60.0)
        self.assertApproximates(max(client.round_trip_times), 10.0, 1.0)

    def test_server_reads_no_more_than_it_writes(self) -> None:
        """
        While the client does not read, the server does not, and nothing is lost by it.
        """
        pair = make_toy_pair()
        EchoServer(TCP_TARGET).serve(pair.server)
        client = pair.client.session
        channel_id = client.open_channel(TCP_TARGET, now=pair.now)
        data = SeededBytes(1).read(2 * WINDOW)
        accepted = 0
        for _ in range(3):
            accepted += client.write(channel_id, data[accepted:], now=pair.now)
            pair.run_for(30.0)
        self.assertEqual(accepted, 2 * WINDOW)
        self.assertEqual(client.write(channel_id, b"more", now=pair.now), 0)
        self.assertEqual(get_received(pair.client, channel_id), data[:WINDOW])
        client.consume(channel_id, WINDOW, now=pair.now)
        pair.run_for(30.0)
        self.assertEqual(get_received(pair.client, channel_id), data)

    def test_stop(self) -> None:
        """
        A client that is stopped sends no more, gets its last answers and ends the channel.
        """
        pair = make_toy_pair()
        EchoServer(TCP_TARGET).serve(pair.server)
        client = EchoClient(TCP_TARGET, interval=1.0)
        client.start(pair.client)
        pair.run_for(10.5)
        client.stop()
        client.stop()
        run_until_true(pair, lambda: client.is_closed, limit=60.0)
        self.assertEqual((client.sent, len(client.round_trip_times)), (11, 11))

    def test_answers_nobody_waits_for(self) -> None:
        """
        A second copy of a datagram is ignored, on a stream it is an error.
        """
        for target in (UDP_TARGET, TCP_TARGET):
            pair = make_toy_pair()
            ChannelApplication(target).serve(pair.server)
            client = EchoClient(target, interval=60.0)
            client.start(pair.client)
            pair.run_for(1.0)
            for _ in range(2):
                pair.server.session.write(0, bytes(64), now=pair.now)
            if target is UDP_TARGET:
                pair.run_for(1.0)
                self.assertEqual(len(client.round_trip_times), 1)
            else:
                error = self.assertRaises(AssertionError, pair.run_for, 1.0)
                self.assertEqual(str(error), "the echo of message 0 was not expected")

    def test_interval_and_size_are_checked(self) -> None:
        """
        No interval, or no room for the number of a message, is an error.
        """
        self.assertRaises(ValueError, EchoClient, TCP_TARGET, interval=0)
        self.assertRaises(ValueError, EchoClient, TCP_TARGET, interval=1, size=7)


class ChannelApplicationTests(SynchronousTestCase):
    """
    What all programs share.
    """

    def test_foreign_targets_are_left_alone(self) -> None:
        """
        A program that serves accepts its own target only.
        """
        pair = make_toy_pair()
        program = ChannelApplication(TCP_TARGET)
        program.serve(pair.server)
        other = Target(TCP_TARGET.protocol, TCP_TARGET.host, 1)
        pair.client.session.open_channel(other, now=pair.now)
        pair.run_for(1.0)
        self.assertIsNone(program.channel_id)

    def test_the_base_reads_and_ends(self) -> None:
        """
        The plain program throws away what it reads, and ends when its peer does.
        """
        pair = make_toy_pair()
        program = ChannelApplication(TCP_TARGET)
        program.serve(pair.server)
        sender = BulkSender(TCP_TARGET, size=3 * WINDOW)
        sender.start(pair.client)
        run_until_true(pair, lambda: sender.is_closed and program.is_closed, limit=60.0)
        self.assertEqual(len(get_events(pair.server, ChannelEnded)), 1)
        self.assertTrue(get_events(pair.server, DataReceived))
