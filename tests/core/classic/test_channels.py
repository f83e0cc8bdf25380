"""
Channels of a classic session: asking, answering, data, ends and resets.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.configuration import ClassicConfiguration
from resip.core.errors import ChannelError, LimitError, ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    ChannelOpened,
    ChannelRequested,
    ChannelReset,
    DataReceived,
)
from resip.core.types import Protocol, Target
from resip.lab.link import LinkConditions
from tests.support.classic import (
    TCP6_TARGET,
    TCP_TARGET,
    UDP_TARGET,
    Accepting,
    drain,
    make_classic_pair,
    open_pair,
)
from tests.support.pair import BAD, get_events, get_received, run_until_true


class OpeningTests(SynchronousTestCase):
    """
    A request and its answer.
    """

    def test_an_accepted_channel_opens(self) -> None:
        """
        The server is asked for the target, the client learns of the answer, once each.
        """
        for target in (TCP_TARGET, TCP6_TARGET, UDP_TARGET):
            pair, channel_id = open_pair(target=target)
            self.assertEqual(
                get_events(pair.server, ChannelRequested), [ChannelRequested(channel_id, target)]
            )
            self.assertEqual(get_events(pair.client, ChannelOpened), [ChannelOpened(channel_id)])

    def test_a_refused_channel_is_reset(self) -> None:
        """
        The client is told that it was policy, or that the target did not answer.
        """
        for code in (ResetCode.REFUSED, ResetCode.CONNECT_FAILED):
            pair = make_classic_pair()
            channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
            pair.run_for(1)
            pair.server.session.refuse_channel(channel_id, code, now=pair.now)
            pair.run_for(1)
            self.assertEqual(pair.client.events[-1], ChannelReset(channel_id, code))
            self.assertRaises(ChannelError, pair.server.session.end, channel_id, now=pair.now)

    def test_a_channel_is_answered_once(self) -> None:
        """
        A second answer is an error, as is an answer to a channel that is not there.
        """
        pair, channel_id = open_pair()
        server = pair.server.session
        self.assertRaises(ChannelError, server.accept_channel, channel_id, now=pair.now)
        self.assertRaises(
            ChannelError, server.refuse_channel, channel_id, ResetCode.REFUSED, now=pair.now
        )
        self.assertRaises(ChannelError, server.accept_channel, 77, now=pair.now)

    def test_only_clients_ask(self) -> None:
        """
        A server cannot open channels, and a client is never asked.
        """
        pair = make_classic_pair()
        client, server = pair.client.session, pair.server.session
        self.assertRaises(ChannelError, server.open_channel, TCP_TARGET, now=pair.now)
        self.assertRaises(ChannelError, client.accept_channel, 1, now=pair.now)
        self.assertRaises(ChannelError, client.refuse_channel, 1, ResetCode.REFUSED, now=pair.now)

    def test_names_cannot_be_carried(self) -> None:
        """
        The dialect has only addresses: a name is an error, and no channel.
        """
        pair = make_classic_pair()
        self.assertFalse(pair.client.session.resolves_names)
        target = Target(Protocol.TCP, "server.example", 80)
        self.assertRaises(ValueError, pair.client.session.open_channel, target, now=pair.now)

    def test_data_may_come_before_the_answer(self) -> None:
        """
        What the client writes at once is there when the server accepts, a second later.
        """
        pair = make_classic_pair()
        client, server = pair.client.session, pair.server.session
        channel_id = client.open_channel(TCP_TARGET, now=pair.now)
        client.write(channel_id, b"eager", now=pair.now)
        client.end(channel_id, now=pair.now)
        pair.run_for(1)
        self.assertEqual(get_received(pair.server, channel_id), b"")
        server.accept_channel(channel_id, now=pair.now)
        pair.run_for(1)
        self.assertEqual(get_received(pair.server, channel_id), b"eager")
        self.assertIn(ChannelEnded(channel_id), pair.server.events)

    def test_opening_works_on_a_bad_network(self) -> None:
        """
        Starts and answers are repeated until they arrive.
        """
        pair = make_classic_pair(3, BAD)
        pair.server.attach(Accepting())
        ids = [pair.client.session.open_channel(TCP_TARGET, now=pair.now) for _ in range(20)]
        run_until_true(
            pair, lambda: len(get_events(pair.client, ChannelOpened)) == len(ids), limit=30
        )
        requested = [event.channel_id for event in get_events(pair.server, ChannelRequested)]
        self.assertEqual(requested, ids)

    def test_the_channel_limit(self) -> None:
        """
        The client refuses to ask for more; a server that is asked for more refuses.
        """
        few = ClassicConfiguration(max_channels=3)
        pair = make_classic_pair(server_configuration=few)
        pair.server.attach(Accepting())
        for _ in range(4):
            last = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.run_for(1)
        self.assertEqual(
            get_events(pair.client, ChannelReset), [ChannelReset(last, ResetCode.REFUSED)]
        )
        pair = make_classic_pair(configuration=few)
        for _ in range(3):
            pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        self.assertRaises(LimitError, pair.client.session.open_channel, TCP_TARGET, now=pair.now)

    def test_an_unanswered_client_does_not_queue_for_ever(self) -> None:
        """
        Who opens and resets channels for days without a path is told so in the end.
        """
        session = make_classic_pair(conditions=LinkConditions(is_down=True)).client.session
        opened = 0
        with self.assertRaises(LimitError):
            while opened < 100_000:
                channel_id = session.open_channel(TCP_TARGET, now=1000.0)
                session.reset(channel_id, ResetCode.CANCELLED, now=1000.0)
                opened += 1
        self.assertGreater(opened, 10_000)


class DataTests(SynchronousTestCase):
    """
    What is written arrives.
    """

    def test_both_directions(self) -> None:
        """
        Bytes arrive as they were written, at the same time in both directions.
        """
        pair, channel_id = open_pair()
        question, answer = Random(1).randbytes(50_000), Random(2).randbytes(70_000)
        pair.client.session.write(channel_id, question, now=pair.now)
        pair.server.session.write(channel_id, answer, now=pair.now)
        pair.run_for(5)
        self.assertEqual(get_received(pair.server, channel_id), question)
        self.assertEqual(get_received(pair.client, channel_id), answer)

    def test_datagrams_keep_their_boundaries(self) -> None:
        """
        Each datagram is one event, on a network that loses and reorders too; large ones whole.
        """
        for conditions in (LinkConditions(delay=0.05), BAD):
            pair, channel_id = open_pair(5, conditions, target=UDP_TARGET)
            datagrams = [b"x", b"one", b"y" * 475, b"z" * 9000, b"last"]
            for datagram in datagrams:
                count = pair.client.session.write(channel_id, datagram, now=pair.now)
                self.assertEqual(count, len(datagram))
            pair.run_for(20)
            received = [event.data for event in get_events(pair.server, DataReceived)]
            self.assertEqual(received, datagrams)

    def test_datagrams_that_fit_no_message_are_not_accepted(self) -> None:
        """
        The channel lives on.
        """
        pair, channel_id = open_pair(target=UDP_TARGET)
        client = pair.client.session
        self.assertEqual(client.write(channel_id, bytes(65_000), now=pair.now), 0)
        self.assertEqual(client.write(channel_id, bytes(59_000), now=pair.now), 59_000)
        pair.run_for(5)
        self.assertEqual(get_received(pair.server, channel_id), bytes(59_000))

    def test_compression(self) -> None:
        """
        Compressed channels carry the same bytes, both ways, in fewer packets.
        """
        for target in (TCP_TARGET, UDP_TARGET):
            pair = make_classic_pair()
            pair.client.attach(Accepting())
            pair.server.attach(Accepting())
            client = pair.client.session
            channel_id = client.open_channel(target, now=pair.now, compress=True)
            text, noise = b"many lines of text\n" * 2000, Random(1).randbytes(40_000)
            client.write(channel_id, text, now=pair.now)
            pair.run_for(3)
            self.assertEqual(get_received(pair.server, channel_id), text)
            self.assertLess(pair.up.counters.sent, 30)
            pair.server.session.write(channel_id, noise, now=pair.now)
            pair.run_for(3)
            self.assertEqual(get_received(pair.client, channel_id), noise)

    def test_other_packet_sizes(self) -> None:
        """
        Sessions with the smallest and with larger packets carry the same.
        """
        for packet_size in (64, 80, 1024, 8192):
            pair = make_classic_pair(packet_size=packet_size)
            pair.server.attach(Accepting())
            client = pair.client.session
            channel_id = client.open_channel(TCP_TARGET, now=pair.now, compress=True)
            data = Random(1).randbytes(20_000)
            client.write(channel_id, data, now=pair.now)
            client.end(channel_id, now=pair.now)
            pair.run_for(20)
            self.assertEqual(get_received(pair.server, channel_id), data, packet_size)


class EndTests(SynchronousTestCase):
    """
    Each direction ends by itself.
    """

    def test_a_half_closed_channel_still_carries(self) -> None:
        """
        After either side's end the other may go on, and the channel closes after both.
        """
        for is_client_first in (True, False):
            pair, channel_id = open_pair()
            first, second = pair.client, pair.server
            if not is_client_first:
                first, second = second, first
            first.session.write(channel_id, b"question", now=pair.now)
            first.session.end(channel_id, now=pair.now)
            pair.run_for(10)
            self.assertEqual(second.events[-1], ChannelEnded(channel_id))
            second.session.write(channel_id, b"answer", now=pair.now)
            second.session.end(channel_id, now=pair.now)
            pair.run_for(10)
            self.assertEqual(get_received(second, channel_id), b"question")
            self.assertEqual(get_received(first, channel_id), b"answer")
            for host in (first, second):
                self.assertEqual(host.events[-1], ChannelClosed(channel_id))
                self.assertNotIn(ChannelReset, map(type, host.events))

    def test_an_end_without_data_is_an_end(self) -> None:
        """
        Not a failed target, in either direction and in both.
        """
        pair, channel_id = open_pair()
        for host in (pair.server, pair.client):
            host.session.end(channel_id, now=pair.now)
            pair.run_for(1)
        for host in (pair.client, pair.server):
            self.assertEqual(
                host.events[-2:], [ChannelEnded(channel_id), ChannelClosed(channel_id)]
            )

    def test_an_end_before_the_answer(self) -> None:
        """
        A client that ends at once, and a server whose target ended at once, lose nothing.
        """
        pair = make_classic_pair()
        channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.client.session.end(channel_id, now=pair.now)
        pair.run_for(1)
        pair.server.session.accept_channel(channel_id, now=pair.now)
        pair.server.session.write(channel_id, b"greeting", now=pair.now)
        pair.server.session.end(channel_id, now=pair.now)
        pair.run_for(1)
        self.assertEqual(get_received(pair.client, channel_id), b"greeting")
        for host in (pair.client, pair.server):
            self.assertEqual(host.events[-1], ChannelClosed(channel_id))

    def test_nothing_is_written_after_the_end(self) -> None:
        """
        It is an error; a second end is none, and does nothing.
        """
        pair, channel_id = open_pair()
        client = pair.client.session
        client.end(channel_id, now=pair.now)
        client.end(channel_id, now=pair.now)
        self.assertRaises(ChannelError, client.write, channel_id, b"late", now=pair.now)
        pair.run_for(1)
        self.assertEqual(get_events(pair.server, ChannelEnded), [ChannelEnded(channel_id)])

    def test_the_end_waits_for_the_reader(self) -> None:
        """
        An end is reported after the bytes before it, even if those wait for room.
        """
        pair = make_classic_pair(configuration=ClassicConfiguration(receive_buffer=1000))
        reader = pair.server.attach(Accepting(consumes=False))
        client = pair.client.session
        channel_id = client.open_channel(TCP_TARGET, now=pair.now)
        client.write(channel_id, bytes(10_000), now=pair.now)
        client.end(channel_id, now=pair.now)
        pair.run_for(5)
        self.assertEqual(get_events(pair.server, ChannelEnded), [])
        reader.consumes = True
        pair.server.session.consume(channel_id, 10_000, now=pair.now)
        pair.run_for(5)
        self.assertEqual(get_received(pair.server, channel_id), bytes(10_000))
        self.assertEqual(get_events(pair.server, ChannelEnded), [ChannelEnded(channel_id)])

    def test_nothing_is_left_of_closed_channels(self) -> None:
        """
        After a hundred channels both sides hold no packet and no channel.
        """
        pair = make_classic_pair(4, BAD)
        pair.client.attach(Accepting())
        pair.server.attach(Accepting())
        for _ in range(100):
            channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
            pair.client.session.write(channel_id, bytes(2000), now=pair.now)
            pair.client.session.end(channel_id, now=pair.now)
        pair.run_for(5)
        for event in get_events(pair.server, ChannelRequested):
            pair.server.session.end(event.channel_id, now=pair.now)
        pair.run_for(60)
        self.assertEqual(len(get_events(pair.client, ChannelClosed)), 100)
        self.assertEqual(len(get_events(pair.server, ChannelClosed)), 100)
        for session in (pair.client_session, pair.server_session):
            readings = (session.channel_count, session.packets_held, session.packets_unacknowledged)
            self.assertEqual(readings, (0, 0, 0))


class ResetTests(SynchronousTestCase):
    """
    Abandoned channels.
    """

    def test_the_server_resets(self) -> None:
        """
        A target that was lost after it sent something is told from one that never did.
        """
        for data, code in ((b"", ResetCode.CONNECT_FAILED), (b"x", ResetCode.CANCELLED)):
            pair, channel_id = open_pair()
            pair.server.session.write(channel_id, data, now=pair.now)
            pair.run_for(1)
            pair.server.session.reset(channel_id, ResetCode.CANCELLED, now=pair.now)
            pair.run_for(1)
            self.assertEqual(pair.client.events[-1], ChannelReset(channel_id, code))

    def test_the_client_resets(self) -> None:
        """
        The server is told, whatever the channel's state; nobody hears of it again.
        """
        for ends in ((), ("client",), ("server",), ("client", "server")):
            pair, channel_id = open_pair()
            hosts = {"client": pair.client, "server": pair.server}
            for name in ends:
                hosts[name].session.write(channel_id, bytes(90_000), now=pair.now)
                hosts[name].session.end(channel_id, now=pair.now)
            pair.run_for(0.12)
            pair.client.events.clear()
            pair.client.session.reset(channel_id, ResetCode.CANCELLED, now=pair.now)
            pair.run_for(10)
            self.assertEqual(pair.client.events, [])
            self.assertIn(
                pair.server.events[-1],
                (ChannelReset(channel_id, ResetCode.CANCELLED), ChannelClosed(channel_id)),
            )
            self.assertEqual(pair.server_session.channel_count, 0, ends)

    def test_no_event_follows_a_reset(self) -> None:
        """
        Not even those that were waiting to be fetched.
        """
        pair, channel_id = open_pair(target=UDP_TARGET)
        for _ in range(5):
            pair.client.session.write(channel_id, b"datagram", now=pair.now)
        for _, packets in pair.client.session.datagrams_to_send(now=pair.now):
            for packet in packets:
                pair.server.session.receive_datagrams([packet], pair.client_path, now=pair.now)
        first = pair.server.session.next_event()
        self.assertEqual(first, DataReceived(channel_id, b"datagram"))
        pair.server.session.reset(channel_id, ResetCode.CANCELLED, now=pair.now)
        self.assertEqual(drain(pair.server.session), [])

    def test_the_server_may_reset_before_it_answers(self) -> None:
        """
        For the client that is a refusal.
        """
        pair = make_classic_pair()
        channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.run_for(1)
        pair.server.session.reset(channel_id, ResetCode.CANCELLED, now=pair.now)
        pair.run_for(1)
        expected = [ChannelReset(channel_id, ResetCode.REFUSED)]
        self.assertEqual(get_events(pair.client, ChannelReset), expected)

    def test_a_reset_after_an_end(self) -> None:
        """
        A server that ended properly may still give up what it has not delivered.
        """
        pair, channel_id = open_pair()
        pair.server.session.write(channel_id, bytes(200_000), now=pair.now)
        pair.server.session.end(channel_id, now=pair.now)
        pair.run_for(0.15)
        pair.server.session.reset(channel_id, ResetCode.CANCELLED, now=pair.now)
        pair.run_for(5)
        expected = [ChannelReset(channel_id, ResetCode.CANCELLED)]
        self.assertEqual(get_events(pair.client, ChannelReset), expected)

    def test_verbs_on_a_channel_that_is_gone(self) -> None:
        """
        They are errors, except for consuming, with which applications are always late.
        """
        pair, channel_id = open_pair()
        session = pair.client.session
        session.reset(channel_id, ResetCode.CANCELLED, now=pair.now)
        self.assertRaises(ChannelError, session.write, channel_id, b"x", now=pair.now)
        self.assertRaises(ChannelError, session.end, channel_id, now=pair.now)
        self.assertRaises(
            ChannelError, session.reset, channel_id, ResetCode.CANCELLED, now=pair.now
        )
        session.consume(channel_id, 1, now=pair.now)

    def test_closing_the_session_resets_every_channel(self) -> None:
        """
        The owner hears it from its own side, the peer by the dialect's means.
        """
        for is_client in (True, False):
            pair, channel_id = open_pair()
            closing, other = pair.client, pair.server
            if not is_client:
                closing, other = other, closing
            closing.session.close(now=pair.now)
            pair.run_for(1)
            expected = ChannelReset(channel_id, ResetCode.SESSION_LOST)
            self.assertEqual(closing.events[-1], expected)
            self.assertIsInstance(other.events[-1], ChannelReset)
