"""
Our sessions against an imitation of the prototype, one of its faults at a time.

Where it can be shown, the same transfer fails when our session does not know its peer.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.configuration import (
    PROTOTYPE,
    PUBLISHED,
    ClassicConfiguration,
    PeerTraits,
)
from resip.core.errors import ResetCode
from resip.core.events import (
    ChannelClosed,
    ChannelEnded,
    ChannelOpened,
    ChannelRequested,
    ChannelReset,
)
from resip.core.session import Session
from resip.core.types import Target
from resip.lab.link import LinkConditions
from resip.lab.pair import Host, SimulatedPair
from tests.support.classic import (
    TCP6_TARGET,
    TCP_TARGET,
    Accepting,
    SessionMaker,
    join,
)
from tests.support.pair import PLAIN, get_events, get_received
from tests.support.prototype import PrototypeClient, PrototypeServer, Quirk

LOSSY = LinkConditions(delay=0.05, loss=0.2)
DOWN = LinkConditions(is_down=True)


def pair_with_client(
    *quirks: Quirk, peer: PeerTraits = PROTOTYPE, seed: int = 1, conditions: LinkConditions = PLAIN
) -> SimulatedPair:
    """
    The prototype's client and our server.
    """
    maker = SessionMaker(seed, ClassicConfiguration(peer=peer))
    return connect(PrototypeClient(maker, quirks), maker.server, seed, conditions)


def pair_with_server(
    *quirks: Quirk, peer: PeerTraits = PROTOTYPE, seed: int = 1, conditions: LinkConditions = PLAIN
) -> SimulatedPair:
    """
    Our client and the prototype's server.
    """
    maker = SessionMaker(seed, ClassicConfiguration(peer=peer))
    return connect(maker.make_client(), PrototypeServer(maker, quirks), seed, conditions)


def connect(
    client: Session, server: Session, seed: int, conditions: LinkConditions
) -> SimulatedPair:
    """
    A pair that accepts every channel and consumes everything.
    """
    pair = join(client, server, seed, conditions)
    pair.client.attach(Accepting())
    pair.server.attach(Accepting())
    return pair


def open_channel(pair: SimulatedPair, target: Target = TCP_TARGET) -> int:
    """
    Open a channel, and give it a minute.
    """
    channel_id = pair.client.session.open_channel(target, now=pair.now)
    pair.run_for(60)
    return channel_id


def write(host: Host, channel_id: int, data: bytes, *, ends: bool = False) -> None:
    """
    Write, and end if told so.
    """
    accepted = host.session.write(channel_id, data, now=host.now)
    assert accepted == len(data), "the buffer is large enough"
    if ends:
        host.session.end(channel_id, now=host.now)
    host.flush()


class OverflowTests(SynchronousTestCase):
    """
    Packets of 528 bytes, and a peer that strips padding from then on.
    """

    UP = Random(1).randbytes(60_000)
    DOWN = Random(2).randbytes(60_000)

    def exchange(self, pair: SimulatedPair) -> bool:
        """
        Send both ways at once; returns whether everything arrived.
        """
        channel_id = open_channel(pair)
        write(pair.client, channel_id, self.UP)
        write(pair.server, channel_id, self.DOWN)
        pair.run_for(900)
        return (
            get_received(pair.server, channel_id) == self.UP
            and get_received(pair.client, channel_id) == self.DOWN
        )

    def test_both_roles(self) -> None:
        """
        Both directions of a long transfer complete, with loss, in either role.
        """
        for make_pair in (pair_with_client, pair_with_server):
            for seed in (1, 2):
                pair = make_pair(Quirk.OVERFLOW, seed=seed, conditions=LOSSY)
                self.assertTrue(self.exchange(pair), pair.seeds)

    def test_without_the_counter_measure(self) -> None:
        """
        What we had on its way when the first overflow arrived can never be read any more.
        """
        peer = replace(PROTOTYPE, strips_padding=False)
        pair = pair_with_client(Quirk.OVERFLOW, peer=peer)
        self.assertFalse(self.exchange(pair))
        session = pair.client.session
        assert isinstance(session, PrototypeClient)
        self.assertGreater(session.unreadable, 100)

    def test_a_peer_that_was_not_known_is_recognised(self) -> None:
        """
        Its first packet of 528 bytes tells; what is sent from then on can be read.
        """
        pair = pair_with_client(Quirk.OVERFLOW, peer=PUBLISHED)
        channel_id = open_channel(pair)
        write(pair.client, channel_id, self.UP)
        pair.run_for(60)
        write(pair.server, channel_id, self.DOWN)
        pair.run_for(60)
        self.assertEqual(get_received(pair.server, channel_id), self.UP)
        self.assertEqual(get_received(pair.client, channel_id), self.DOWN)


class AddressTests(SynchronousTestCase):
    """
    A server that loses what it makes while it knows no address.
    """

    def is_greeted(self, peer: PeerTraits) -> bool:
        """
        Whether what a target says after five quiet minutes arrives.
        """
        pair = pair_with_server(Quirk.LOSES_ADDRESS, peer=peer)
        channel_id = open_channel(pair)
        pair.run_for(300)
        write(pair.server, channel_id, b"good morning")
        pair.run_for(300)
        return get_received(pair.client, channel_id) == b"good morning"

    def test_a_quiet_client_keeps_it_awake(self) -> None:
        """
        Nothing is lost, however long nothing was to say.
        """
        self.assertTrue(self.is_greeted(PROTOTYPE))

    def test_without_the_counter_measure(self) -> None:
        """
        A client that says nothing for minutes is forgotten.
        """
        self.assertFalse(self.is_greeted(replace(PROTOTYPE, keep_alive_interval=3600.0)))

    def test_its_acknowledgements_are_not_stuck(self) -> None:
        """
        While nothing comes back we keep it awake as well, so that it does not pile up what
        would stop its acknowledgements for good.
        """
        pair = pair_with_server(Quirk.LOSES_ADDRESS)
        channel_id = open_channel(pair)
        pair.down.conditions = DOWN
        write(pair.client, channel_id, b"are you there?")
        pair.run_for(1200)
        pair.down.conditions = PLAIN
        write(pair.client, channel_id, b" yes?", ends=True)
        pair.run_for(60)
        self.assertEqual(get_received(pair.server, channel_id), b"are you there? yes?")
        pair.server.session.end(channel_id, now=pair.now)
        pair.run_for(60)
        self.assertEqual(pair.client.events[-1], ChannelClosed(channel_id))


class DeliveryTests(SynchronousTestCase):
    """
    A client that delivers one message for each new packet.
    """

    LINES = tuple(b"line %d\n" % index for index in range(200))

    def are_read(self, peer: PeerTraits, *, seed: int, ends: bool, pause: float) -> bool:
        """
        Whether lines that a target writes are all delivered, on a network that loses some.
        """
        pair = pair_with_client(
            Quirk.ONE_MESSAGE_PER_PACKET, peer=peer, seed=seed, conditions=LOSSY
        )
        channel_id = open_channel(pair)
        for line in self.LINES:
            write(pair.server, channel_id, line)
            pair.run_for(pause)
        if ends:
            pair.server.session.end(channel_id, now=pair.now)
        pair.run_for(300)
        return get_received(pair.client, channel_id) == b"".join(self.LINES)

    def test_pushes_deliver_the_tail(self) -> None:
        """
        Slow lines and fast ones, more of them than a push may have packets.
        """
        for pause in (0.5, 0.05, 0.001):
            for seed in (1, 2):
                for ends in (False, True):
                    self.assertTrue(
                        self.are_read(PROTOTYPE, seed=seed, ends=ends, pause=pause),
                        (pause, seed, ends),
                    )

    def is_read_after_a_loss(self, pair: SimulatedPair, count: int) -> bool:
        """
        Whether quick lines are all delivered of which one is lost, once.
        """
        channel_id = open_channel(pair)
        for line in self.LINES[:count]:
            pair.down.conditions = DOWN if line == self.LINES[4] else PLAIN
            write(pair.server, channel_id, line)
            pair.run_for(0.01)
        pair.run_for(60)
        return get_received(pair.client, channel_id) == b"".join(self.LINES[:count])

    def test_a_single_loss(self) -> None:
        """
        One lost packet, repeated and acknowledged alone, is enough to hold up what followed.
        """
        for peer, is_read in ((PROTOTYPE, True), (PUBLISHED, False)):
            pair = pair_with_client(Quirk.ONE_MESSAGE_PER_PACKET, peer=peer)
            self.assertEqual(self.is_read_after_a_loss(pair, 10), is_read)

    def test_more_than_a_push_may_have_packets(self) -> None:
        """
        One push follows the other until everything is delivered.
        """
        maker = SessionMaker(1, ClassicConfiguration(peer=PROTOTYPE, max_fragments=4))
        client = PrototypeClient(maker, (Quirk.ONE_MESSAGE_PER_PACKET,))
        self.assertTrue(self.is_read_after_a_loss(connect(client, maker.server, 1, PLAIN), 25))


class BatchTests(SynchronousTestCase):
    """
    A server that drops what arrives together with a command.
    """

    def is_heard(self, *quirks: Quirk, peer: PeerTraits, waits: bool) -> bool:
        """
        Whether a short request arrives whose writer ends at once.
        """
        pair = pair_with_server(*quirks, peer=peer)
        channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        if waits:
            pair.run_for(60)
        write(pair.client, channel_id, b"request", ends=True)
        pair.run_for(60)
        return get_received(pair.server, channel_id) == b"request"

    def test_data_with_the_start(self) -> None:
        """
        Data waits for the response.
        """
        quirk = Quirk.DROPS_DATA_WITH_START
        self.assertTrue(self.is_heard(quirk, peer=PROTOTYPE, waits=False))
        self.assertFalse(self.is_heard(quirk, peer=PUBLISHED, waits=False))

    def test_data_with_the_stop(self) -> None:
        """
        The stop waits until all data is acknowledged.
        """
        quirk = Quirk.DROPS_DATA_WITH_STOP
        self.assertTrue(self.is_heard(quirk, peer=PROTOTYPE, waits=True))
        self.assertFalse(self.is_heard(quirk, peer=PUBLISHED, waits=True))


class ResponseTests(SynchronousTestCase):
    """
    A response that is sent once.
    """

    def test_a_lost_response(self) -> None:
        """
        A start that was acknowledged and not refused is an open channel.
        """
        for peer, is_open in (
            (PROTOTYPE, True),
            (replace(PROTOTYPE, lost_response_timeout=None), False),
        ):
            pair = pair_with_server(Quirk.LOST_RESPONSE, peer=peer)
            channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
            write(pair.client, channel_id, b"request", ends=True)
            pair.run_for(60)
            self.assertEqual(ChannelOpened(channel_id) in pair.client.events, is_open)
            self.assertEqual(get_received(pair.server, channel_id) == b"request", is_open)

    def test_a_refusal_is_not_taken_for_a_lost_response(self) -> None:
        """
        The channel is reset, and never was open.
        """
        maker = SessionMaker(1, ClassicConfiguration(peer=PROTOTYPE))
        pair = join(maker.make_client(), PrototypeServer(maker, (Quirk.LOST_RESPONSE,)))
        channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.run_for(0.3)
        (requested,) = get_events(pair.server, ChannelRequested)
        pair.server.session.refuse_channel(requested.channel_id, ResetCode.REFUSED, now=pair.now)
        pair.run_for(60)
        self.assertEqual(get_events(pair.client, ChannelOpened), [])
        self.assertEqual(
            [event.channel_id for event in get_events(pair.client, ChannelReset)], [channel_id]
        )

    def test_the_application_gives_up_while_the_response_is_awaited(self) -> None:
        """
        No event follows.
        """
        pair = pair_with_server(Quirk.LOST_RESPONSE)
        channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.run_for(0.7)
        pair.client.session.close(now=pair.now)
        pair.run_for(60)
        self.assertEqual(get_events(pair.client, ChannelOpened), [])
        self.assertEqual(pair.client.events[-1], ChannelReset(channel_id, ResetCode.SESSION_LOST))


class EndTests(SynchronousTestCase):
    """
    A stop that is answered by a stop at once.
    """

    def test_a_stop_without_data_is_an_end(self) -> None:
        """
        After our own stop, the server's stop 0 says that its target said nothing.
        """
        for peer, is_clean in ((PROTOTYPE, True), (PUBLISHED, False)):
            pair = pair_with_server(Quirk.NO_HALF_CLOSE, peer=peer)
            channel_id = open_channel(pair)
            write(pair.client, channel_id, b"goodbye", ends=True)
            pair.run_for(60)
            self.assertEqual(get_received(pair.server, channel_id), b"goodbye")
            self.assertEqual(ChannelEnded(channel_id) in pair.client.events, is_clean)
            self.assertEqual(bool(get_events(pair.client, ChannelReset)), not is_clean)

    def test_its_client_closes_after_our_end(self) -> None:
        """
        A download ends for both, and the bare terminate that follows is ignored.
        """
        pair = pair_with_client(Quirk.NO_HALF_CLOSE, Quirk.BARE_TERMINATE)
        channel_id = open_channel(pair)
        write(pair.server, channel_id, b"page", ends=True)
        pair.run_for(60)
        self.assertEqual(get_received(pair.client, channel_id), b"page")
        for host in (pair.client, pair.server):
            self.assertEqual(host.events[-1], ChannelClosed(channel_id))
        other = open_channel(pair)
        write(pair.server, other, b"another", ends=True)
        pair.run_for(60)
        self.assertEqual(get_received(pair.client, other), b"another")


class StartTests(SynchronousTestCase):
    """
    A start that says it otherwise.
    """

    def test_the_misplaced_ipv6_bit(self) -> None:
        """
        The target is what was meant.
        """
        pair = pair_with_client(Quirk.MISPLACED_IPV6)
        channel_id = open_channel(pair, TCP6_TARGET)
        self.assertEqual(
            get_events(pair.server, ChannelRequested), [ChannelRequested(channel_id, TCP6_TARGET)]
        )


class EverythingTests(SynchronousTestCase):
    """
    All faults together, and packets that get lost.
    """

    QUIRKS = frozenset(Quirk) - {Quirk.LOST_RESPONSE}

    def test_an_upload_of_its_client(self) -> None:
        """
        Everything arrives, and the channel closes.
        """
        data = Random(3).randbytes(60_000)
        for seed in (1, 2, 3):
            pair = pair_with_client(*self.QUIRKS, seed=seed, conditions=LOSSY)
            channel_id = open_channel(pair)
            write(pair.client, channel_id, data, ends=True)
            pair.run_for(600)
            self.assertEqual(get_received(pair.server, channel_id), data, pair.seeds)
            pair.server.session.end(channel_id, now=pair.now)
            pair.run_for(600)
            self.assertIn(ChannelClosed(channel_id), pair.server.events)

    def test_a_download_of_its_client(self) -> None:
        """
        The same in the other direction.
        """
        data = Random(4).randbytes(60_000)
        for seed in (1, 2, 3):
            pair = pair_with_client(*self.QUIRKS, seed=seed, conditions=LOSSY)
            channel_id = open_channel(pair)
            write(pair.server, channel_id, data, ends=True)
            pair.run_for(600)
            self.assertEqual(get_received(pair.client, channel_id), data, pair.seeds)
            self.assertIn(ChannelClosed(channel_id), pair.server.events)

    def test_both_directions_of_its_server(self) -> None:
        """
        A question and a long answer, and the other way round.
        """
        data = Random(5).randbytes(60_000)
        for seed in (1, 2, 3):
            pair = pair_with_server(*self.QUIRKS, seed=seed, conditions=LOSSY)
            channel_id = open_channel(pair)
            write(pair.client, channel_id, b"question")
            pair.run_for(60)
            write(pair.server, channel_id, data, ends=True)
            pair.run_for(900)
            self.assertEqual(get_received(pair.client, channel_id), data, pair.seeds)
            other = open_channel(pair)
            write(pair.client, other, data, ends=True)
            pair.run_for(900)
            self.assertEqual(get_received(pair.server, other), data, pair.seeds)
