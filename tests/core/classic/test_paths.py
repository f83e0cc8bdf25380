"""
Where a classic session sends: new addresses, lost carriers, long silences.
"""

from __future__ import annotations

from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.configuration import ClassicConfiguration
from resip.core.events import ChannelReset, PathChanged, PeerSilent
from resip.core.types import Path
from resip.lab.link import LinkConditions
from tests.support.classic import (
    CLIENT_PATH,
    ELSEWHERE,
    TCP_TARGET,
    Accepting,
    make_classic_pair,
    open_pair,
    run_until_closed,
    start_transfers,
)
from tests.support.pair import PLAIN, get_events, get_received, run_until_true

DOWN = LinkConditions(is_down=True)


class ServerPathTests(SynchronousTestCase):
    """
    The server follows its client.
    """

    def test_it_learns_the_address_from_the_first_packet(self) -> None:
        """
        A client that has nothing to say sends a keep-alive for that.
        """
        pair = make_classic_pair()
        self.assertIsNone(pair.server.session.path)
        pair.run_for(0.2)
        self.assertEqual(pair.server.session.path, CLIENT_PATH)
        self.assertEqual(get_events(pair.server, PathChanged), [PathChanged(CLIENT_PATH)])

    def test_it_follows_a_new_address_at_once(self) -> None:
        """
        What it sends after the first packet from there goes there.
        """
        pair, channel_id = open_pair()
        pair.change_address()
        pair.client.session.write(channel_id, b"I am here", now=pair.now)
        pair.run_for(0.2)
        self.assertEqual(pair.server.session.path, pair.client_path)
        pair.server.session.write(channel_id, b"I see", now=pair.now)
        pair.run_for(0.2)
        self.assertEqual(get_received(pair.client, channel_id), b"I see")

    def test_a_client_that_only_receives_is_found_again(self) -> None:
        """
        A download goes on after an address change that nobody was told of: at the latest when
        the client, after its keep-alive interval, asks for life.
        """
        pair, channel_id = open_pair()
        pair.server.session.write(channel_id, bytes(200_000), now=pair.now)
        pair.run_for(0.2)
        pair.change_address()
        run_until_true(
            pair, lambda: len(get_received(pair.client, channel_id)) == 200_000, limit=25
        )

    def test_it_forgets_the_address_after_a_minute(self) -> None:
        """
        It then knows no way and sends nothing, and takes up where it was when the client returns.
        """
        pair, channel_id = open_pair()
        pair.up.conditions = DOWN
        pair.server.session.write(channel_id, b"kept", now=pair.now)
        pair.run_for(70)
        self.assertIsNone(pair.server.session.path)
        self.assertEqual(pair.server.events[-1], PathChanged(None))
        self.assertIsNone(pair.server.session.get_timer())
        sent = pair.down.counters.sent
        pair.run_for(3600)
        self.assertEqual(pair.down.counters.sent, sent)
        pair.server.session.write(channel_id, b" and sent", now=pair.now)
        pair.up.conditions = PLAIN
        run_until_true(
            pair, lambda: get_received(pair.client, channel_id) == b"kept and sent", limit=15
        )

    def test_a_reliable_path_is_not_forgotten(self) -> None:
        """
        Its carrier says when it is gone.
        """
        pair = make_classic_pair(is_reliable=True)
        pair.run_for(1)
        pair.up.conditions = DOWN
        pair.run_for(600)
        self.assertEqual(pair.server.session.path, pair.client_path)

    def test_it_may_be_told_a_path(self) -> None:
        """
        A server that is told where its client is sends there.
        """
        pair, channel_id = open_pair()
        pair.server.session.use_path(ELSEWHERE, now=pair.now)
        pair.server.session.write(channel_id, b"hello?", now=pair.now)
        batches = pair.server.session.datagrams_to_send(now=pair.now)
        self.assertEqual([path for path, _ in batches], [ELSEWHERE])


class ClientPathTests(SynchronousTestCase):
    """
    The client uses what it is given.
    """

    def test_without_a_path_nothing_is_sent(self) -> None:
        """
        Packets wait until there is one.
        """
        pair, channel_id = open_pair()
        client = pair.client.session
        path = client.path
        assert path is not None
        client.path_closed(path, now=pair.now)
        client.write(channel_id, b"later", now=pair.now)
        self.assertEqual(client.datagrams_to_send(now=pair.now), [])
        pair.run_for(30)
        client.use_path(path, now=pair.now)
        run_until_true(pair, lambda: get_received(pair.server, channel_id) == b"later", limit=2)

    def test_a_strangers_carrier_closes(self) -> None:
        """
        Only the path in use matters.
        """
        pair, _ = open_pair()
        before = pair.client.session.path
        pair.client.session.path_closed(ELSEWHERE, now=pair.now)
        self.assertEqual(pair.client.session.path, before)

    def test_a_lost_carrier_takes_its_packets_with_it(self) -> None:
        """
        Everything that was on its way is sent again on the next one, and arrives once.
        """
        for host_name in ("client", "server"):
            pair = make_classic_pair(is_reliable=True)
            pair.client.attach(Accepting())
            pair.server.attach(Accepting())
            channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
            pair.run_for(1)
            near, far = pair.client, pair.server
            if host_name == "server":
                near, far = far, near
            near.session.write(channel_id, bytes(100_000), now=pair.now)
            near.flush()
            pair.up.conditions = pair.down.conditions = DOWN
            pair.run_for(0.04)
            path = pair.client.session.path
            assert path is not None
            pair.client.session.path_closed(path, now=pair.now)
            pair.server.session.path_closed(pair.client_path, now=pair.now)
            pair.up.conditions = pair.down.conditions = PLAIN
            pair.change_address()
            pair.client.session.use_path(path, now=pair.now)
            pair.run_for(3)
            self.assertEqual(get_received(far, channel_id), bytes(100_000), host_name)

    def test_moving_from_a_reliable_carrier(self) -> None:
        """
        What the old carrier still held is lost with it, on both sides.
        """
        pair = make_classic_pair(is_reliable=True)
        pair.client.attach(Accepting())
        pair.server.attach(Accepting())
        channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.run_for(1)
        pair.client.session.write(channel_id, bytes(50_000), now=pair.now)
        pair.server.session.write(channel_id, bytes(50_000), now=pair.now)
        pair.flush()
        pair.change_address()
        pair.client.session.use_path(Path("other"), now=pair.now)
        pair.client.session.use_path(pair.server_path, now=pair.now)
        pair.run_for(3)
        self.assertEqual(get_received(pair.server, channel_id), bytes(50_000))
        self.assertEqual(get_received(pair.client, channel_id), bytes(50_000))

    def test_a_reliable_path_is_not_paced(self) -> None:
        """
        As much as the kernel is likely to take goes out at once, and nothing is repeated.
        """
        pair = make_classic_pair(is_reliable=True)
        pair.server.attach(Accepting())
        channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.run_for(1)
        pair.client.session.write(channel_id, bytes(200_000), now=pair.now)
        took = run_until_true(
            pair, lambda: len(get_received(pair.server, channel_id)) == 200_000, limit=5
        )
        self.assertLess(took, 0.06)
        self.assertEqual(pair.client_session.retransmissions, 0)

    def test_retry_does_not_wait_out_the_backoff(self) -> None:
        """
        After a long outage, data arrives a trip after somebody said that the path is back.
        """
        pair, channel_id = open_pair()
        pair.up.conditions = DOWN
        pair.client.session.write(channel_id, b"at last", now=pair.now)
        pair.run_for(2 * 3600 + 0.3)
        pair.up.conditions = PLAIN
        pair.client.session.retry(now=pair.now)
        took = run_until_true(
            pair, lambda: get_received(pair.server, channel_id) == b"at last", limit=15
        )
        self.assertLess(took, 0.06)

    def test_retry_starts_over(self) -> None:
        """
        Who says so a little too early waits as little as at an outage's beginning.
        """
        pair, channel_id = open_pair()
        pair.up.conditions = DOWN
        pair.client.session.write(channel_id, b"at last", now=pair.now)
        pair.run_for(2 * 3600)
        pair.client.session.retry(now=pair.now)
        pair.run_for(0.1)
        pair.up.conditions = PLAIN
        took = run_until_true(
            pair, lambda: get_received(pair.server, channel_id) == b"at last", limit=15
        )
        self.assertLess(took, 0.5)

    def test_a_server_retries_too(self) -> None:
        """
        It probes what is on its way.
        """
        pair, channel_id = open_pair()
        pair.down.conditions = DOWN
        pair.server.session.write(channel_id, b"again", now=pair.now)
        pair.run_for(0.01)
        pair.down.conditions = PLAIN
        pair.server.session.retry(now=pair.now)
        took = run_until_true(
            pair, lambda: get_received(pair.client, channel_id) == b"again", limit=5
        )
        self.assertLess(took, 0.06)


class SilenceTests(SynchronousTestCase):
    """
    Staying in touch, and doubting.
    """

    def test_a_quiet_session_stays_in_touch(self) -> None:
        """
        Its server never forgets the address; a session without channels is left alone longer.
        """
        pair, _ = open_pair()
        sent = pair.up.counters.sent
        pair.run_for(600)
        self.assertEqual(pair.server.session.path, pair.client_path)
        self.assertNotIn(PathChanged(None), pair.server.events)
        self.assertLess(pair.up.counters.sent - sent, 40)
        self.assertEqual(get_events(pair.client, PeerSilent), [])

    def test_a_silent_peer_is_reported(self) -> None:
        """
        Soon after an answer is owed, repeatedly, never more often than every ten seconds.
        """
        pair, channel_id = open_pair()
        pair.down.conditions = DOWN
        pair.client.session.write(channel_id, b"hello?", now=pair.now)
        pair.run_for(61)
        seconds = [event.seconds for event in get_events(pair.client, PeerSilent)]
        self.assertGreaterEqual(len(seconds), 5)
        self.assertLess(seconds[0], 15)
        pauses = [b - a for a, b in pairwise(seconds)]
        self.assertGreaterEqual(min(pauses), 10 - 1e-6)

    def test_a_session_without_a_path_doubts_too(self) -> None:
        """
        A client whose carrier does not come back asks its owner to look.
        """
        pair, _ = open_pair()
        pair.client.session.path_closed(pair.server_path, now=pair.now)
        pair.run_for(60)
        self.assertNotEqual(get_events(pair.client, PeerSilent), [])

    def test_signs_of_life_are_readable(self) -> None:
        """
        Both sides know when they last heard of the other.
        """
        pair, channel_id = open_pair()
        pair.run_for(5)
        then = pair.now
        pair.client.session.write(channel_id, b"x", now=then)
        pair.run_for(0.2)
        self.assertAlmostEqual(pair.server.session.last_received_time, then + 0.05)
        self.assertGreater(pair.client.session.last_received_time, then)

    def test_a_clock_that_jumps_does_no_harm(self) -> None:
        """
        A machine that slept an hour goes on with its transfers, whichever side it was.
        """
        for jumps in ("client", "server", "both"):
            pair = make_classic_pair(7, LinkConditions(delay=0.05, loss=0.1))
            programs = start_transfers(pair, 2, 200_000)
            pair.run_for(0.5)
            for name, host in (("client", pair.client), ("server", pair.server)):
                if jumps in (name, "both"):
                    host.session.handle_timer(now=pair.now + 3600)
            pair.simulator.now += 3600
            run_until_closed(pair, programs, limit=60)
            self.assertEqual(get_events(pair.client, ChannelReset), [])


class LimitTests(SynchronousTestCase):
    """
    Configured lifetimes.
    """

    def test_the_address_lifetime_is_configured(self) -> None:
        """
        A server with a shorter lifetime forgets sooner.
        """
        pair = make_classic_pair(server_configuration=ClassicConfiguration(address_lifetime=5))
        pair.run_for(1)
        pair.up.conditions = DOWN
        pair.run_for(4.5)
        self.assertIsNone(pair.server.session.path)
