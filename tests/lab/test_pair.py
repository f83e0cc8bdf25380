"""
Tests of :mod:`resip.lab.pair`, with a toy session.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.events import (
    ChannelOpened,
    ChannelRequested,
    PathChanged,
)
from resip.lab.applications import (
    EchoClient,
    EchoServer,
)
from resip.lab.link import LinkConditions
from tests.support.pair import (
    BAD,
    PLAIN,
    TCP_TARGET,
    UDP_TARGET,
    get_events,
    make_pair,
    run_until_true,
)
from tests.support.toy_session import ToySession, make_toy_pair


class RestlessSession(ToySession):
    """
    A session with the worst bug: its timer is always due.
    """

    def get_timer(self) -> float | None:
        """
        The beginning of time.
        """
        return 0.0


class ImpatientSession(ToySession):
    """
    A session whose deadline moves nearer with every packet, from an hour to a second.
    """

    def __init__(self) -> None:
        super().__init__(is_client=True)
        self.deadline = 3600.0
        self.readings = 0

    def get_timer(self) -> float | None:
        """
        The deadline; counts how often it was asked for.
        """
        self.readings += 1
        return self.deadline

    def handle_timer(self, *, now: float) -> None:
        """
        The next deadline is in an hour again.
        """
        self.deadline = now + 3600.0


class PairTests(SynchronousTestCase):
    """
    The network between two sessions, and what a driver does.
    """

    def test_packets_arrive_at_the_modelled_time(self) -> None:
        """
        A request takes the delay of the way up, its answer that of the way down.
        """
        client, server = ToySession(is_client=True), ToySession(is_client=False)
        pair = make_pair(client, server, LinkConditions(delay=0.25), down=LinkConditions(delay=1))
        start = pair.now
        client.open_channel(TCP_TARGET, now=pair.now)
        pair.run_until(start + 0.24)
        self.assertEqual(pair.server.events, [])
        pair.run_until(start + 0.26)
        self.assertEqual(
            get_events(pair.server, ChannelRequested), [ChannelRequested(0, TCP_TARGET)]
        )
        server.accept_channel(0, now=pair.now)
        pair.run_until(start + 1.25)
        self.assertEqual(pair.client.events, [])
        pair.run_until(start + 1.27)
        self.assertEqual(get_events(pair.client, ChannelOpened), [ChannelOpened(0)])

    def test_timers_are_served(self) -> None:
        """
        What a cut link swallowed is sent again when the session's timer says so.
        """
        pair = make_toy_pair(LinkConditions(is_down=True))
        pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.run_for(1.2)
        self.assertEqual(pair.up.counters.lost, 3)
        pair.up.conditions = pair.down.conditions = PLAIN
        pair.run_for(0.4)
        self.assertEqual(len(get_events(pair.server, ChannelRequested)), 1)

    def test_deadlines_that_move_cost_nothing_later(self) -> None:
        """
        A deadline that came nearer a hundred times still wakes the session once an hour.
        """
        client = ImpatientSession()
        pair = make_pair(client, ToySession(is_client=False))
        client.deadline = pair.now + 3600.0
        for _ in range(100):
            client.deadline -= 1.0
            pair.flush()
        pair.run_for(3700.0)
        before = client.readings
        pair.run_for(100 * 3600.0)
        self.assertLess(client.readings - before, 500)

    def test_server_sees_the_new_address(self) -> None:
        """
        After a change of address the server's next packet from the client has another source,
        and the answers go there.
        """
        pair = make_toy_pair()
        old_path = pair.client_path
        pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.run_for(1.0)
        address = pair.change_address()
        self.assertNotEqual(address, old_path.address)
        pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.run_for(1.0)
        changes = [event.path for event in get_events(pair.server, PathChanged)]
        self.assertEqual(changes, [old_path, pair.client_path])
        self.assertEqual(pair.client_path.address, address)

    def test_packets_to_the_old_address_are_lost(self) -> None:
        """
        What was on its way down when the address changed arrives nowhere.
        """
        pair = make_toy_pair()
        pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        pair.run_for(0.07)
        pair.change_address()
        pair.run_for(0.1)
        self.assertEqual(pair.misaddressed, 1)
        self.assertEqual(pair.client.session.last_received_time, 0.0)

    def test_livelock_is_an_error(self) -> None:
        """
        Sides that never come to rest stop the run with the seeds that repeat it.
        """
        pair = make_pair(RestlessSession(is_client=True), ToySession(is_client=False), seed=77)
        error = self.assertRaises(AssertionError, pair.run_for, 1.0)
        self.assertIn("never come to rest (up seed 77", str(error))

    def test_limit_is_an_error_with_the_seed(self) -> None:
        """
        A condition that never comes true is reported with the seeds.
        """
        pair = make_toy_pair(seed=5)
        error = self.assertRaises(AssertionError, run_until_true, pair, lambda: False, limit=9.0)
        self.assertIn("within 9.0 virtual seconds (up seed 5", str(error))

    def test_events_need_not_be_kept(self) -> None:
        """
        A pair for long runs records nothing, its programs hear everything.
        """
        pair = make_pair(
            ToySession(is_client=True), ToySession(is_client=False), keeps_events=False
        )
        EchoServer(TCP_TARGET).serve(pair.server)
        client = EchoClient(TCP_TARGET, interval=1.0, count=3)
        client.start(pair.client)
        run_until_true(pair, lambda: client.is_finished, limit=10.0)
        self.assertEqual(pair.client.events + pair.server.events, [])

    def test_same_seed_same_run(self) -> None:
        """
        A run over bad links is repeated exactly by its seeds.
        """

        def run(seed: int) -> list[float]:
            pair = make_toy_pair(BAD, seed=seed)
            EchoServer(TCP_TARGET).serve(pair.server)
            client = EchoClient(TCP_TARGET, interval=0.5, count=20)
            client.start(pair.client)
            run_until_true(pair, lambda: client.is_finished, limit=300.0)
            return client.round_trip_times

        runs = [run(seed) for seed in (3, 3, 4)]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_an_hour_costs_little(self) -> None:
        """
        An hour with one message a second takes a few packets for each message.
        """
        pair = make_toy_pair()
        EchoServer(UDP_TARGET).serve(pair.server)
        client = EchoClient(UDP_TARGET, interval=1.0)
        client.start(pair.client)
        pair.run_for(3600.0)
        self.assertLess(pair.up.counters.sent + pair.down.counters.sent, 10 * 3600)
        self.assertEqual(client.sent, 3601)
