"""
What a peer with the keys can make a classic session, or its endpoint, keep.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic import client
from resip.core.classic.commands import KeepAlive, Start, Stop, Terminate
from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.inbox import COMMAND_WINDOW
from resip.core.classic.used_ids import KNOWN_CHANNEL_RANGES
from resip.core.errors import LimitError, ResetCode
from resip.core.events import (
    PathChanged,
)
from tests.support.classic import (
    CLIENT_PATH,
    NOW,
    TCP_TARGET,
    SessionMaker,
    Victim,
    drain,
    make_ciphers,
)


class LimitTests(SynchronousTestCase):
    """
    What a peer with the keys can make a session keep.
    """

    def test_commands_out_of_order(self) -> None:
        """
        A window of them waits, and those beyond are not acknowledged.
        """
        victim = Victim()
        for number in range(2, COMMAND_WINDOW + 50):
            victim.receive(victim.forger.seal(0, number, b"\x04"))
        (acknowledgement,) = [data for _, number, data in victim.sent() if not number]
        self.assertEqual(acknowledgement.hex(), "030000c1020400")

    def test_packets_out_of_order(self) -> None:
        """
        Neither one channel nor all together hold more than their limits.
        """
        victim = Victim(
            configuration=ClassicConfiguration(reorder_window=50, session_reorder_limit=120)
        )
        for channel_id in range(1, 6):
            start = Start(channel_id, 6, "127.0.0.1", 80).encode()
            victim.receive(victim.forger.command(start))
            victim.session.accept_channel(channel_id, now=NOW)
        held = []
        for channel_id in range(1, 6):
            for number in range(2, 200):
                victim.receive(victim.forger.seal(channel_id, number, b"x"))
            held.append(victim.session.packets_held)
        self.assertEqual(held, [49, 98, 120, 120, 120])
        victim.receive(victim.forger.seal(5, 1, b"the next always enters"))
        drain(victim.session)
        self.assertEqual(victim.session.packets_held, 120)
        for channel_id in range(1, 6):
            victim.session.reset(channel_id, ResetCode.CANCELLED, now=NOW)
        self.assertEqual(victim.session.packets_held, 0)

    def test_refused_channels_cost_a_bounded_amount(self) -> None:
        """
        However many ids a client burns, only so many runs of them are remembered as used.
        """
        victim = Victim()
        count = 2 * KNOWN_CHANNEL_RANGES
        for index in range(count):
            victim.receive(victim.forger.command(Start(3 * index + 1, 1, "::1", 80).encode()))
            victim.sent(now=NOW + index)
            victim.receive(victim.forger.acknowledge(0, index + 1))
        acknowledged = 0
        for index in range(count):
            victim.receive(victim.forger.seal(3 * index + 1, 1, b"late"))
            sent = victim.sent(now=NOW + count + index)
            acknowledged += any(not number for _, number, _ in sent)
        self.assertEqual(acknowledged, KNOWN_CHANNEL_RANGES)

    def test_channels(self) -> None:
        """
        A client that starts more than it may is refused, and may again when one is gone.
        """
        victim = Victim(configuration=ClassicConfiguration(max_channels=2))
        for channel_id in (1, 2, 3):
            victim.receive(victim.forger.command(Start(channel_id, 6, "::1", 80).encode()))
        self.assertEqual(victim.server.channel_count, 2)
        self.assertIn(Stop(3, 0).encode(), [data for _, _, data in victim.sent()])
        victim.receive(victim.forger.command(Terminate(1).encode()))
        victim.receive(victim.forger.command(Start(4, 6, "::1", 80).encode()))
        self.assertEqual(victim.server.channel_count, 2)

    def test_channel_ids(self) -> None:
        """
        A client uses each id once, and says so when there are no more.
        """
        self.patch(client, "LAST_CHANNEL", 2)
        session = SessionMaker().make_client()
        for _ in range(2):
            session.open_channel(TCP_TARGET, now=NOW)
        self.assertRaises(LimitError, session.open_channel, TCP_TARGET, now=NOW)

    def test_sessions(self) -> None:
        """
        A server has no more sessions than it may, and one that is removed makes room.
        """
        maker = SessionMaker()
        endpoint = maker.endpoint
        for _ in range(10_000 - 1):
            endpoint.add_session(maker.keys, maker.configuration, now=NOW)
        self.assertEqual(len(endpoint.sessions), 10_000)
        self.assertRaises(
            LimitError, endpoint.add_session, maker.keys, maker.configuration, now=NOW
        )
        endpoint.remove_session(maker.server.session_id)
        endpoint.remove_session(maker.server.session_id)
        endpoint.add_session(maker.keys, maker.configuration, now=NOW)

    def test_wide_acknowledgements_cost_little(self) -> None:
        """
        A range over all numbers acknowledges what is there, and what is not sent is no harm.
        """
        victim = Victim()
        victim.open()
        victim.session.write(1, bytes(20_000), now=NOW)
        victim.sent()
        for _ in range(50):
            victim.receive(victim.forger.acknowledge(1, 0, 2**64 - 1))
            victim.receive(victim.forger.acknowledge(0, 0, 2**64 - 1))
            victim.receive(victim.forger.acknowledge(99, 0, 2**64 - 1))
        victim.sent(now=NOW + 3)
        victim.receive(victim.forger.acknowledge(1, 0, 2**64 - 1))
        self.assertEqual(victim.server.packets_unacknowledged, 0)

    def test_keep_alives_are_answered_once_a_turn(self) -> None:
        """
        A flood of them is not a flood of answers.
        """
        victim = Victim()
        for _ in range(1000):
            victim.receive(victim.forger.seal(0, 0, KeepAlive().encode()))
        self.assertEqual(victim.sent(), [(0, 0, KeepAlive().encode())])


class EndpointTests(SynchronousTestCase):
    """
    Sessions side by side.
    """

    def test_packets_find_their_session(self) -> None:
        """
        The session that a packet belongs to is returned; a removed one has none.
        """
        maker = SessionMaker()
        other = maker.endpoint.add_session(maker.keys, maker.configuration, now=NOW)
        packet = maker.make_forger(is_server=False).seal(0, 0, b"\x04")
        endpoint = maker.endpoint
        self.assertIs(endpoint.receive_datagram(packet, CLIENT_PATH, now=NOW), maker.server)
        self.assertEqual(next(iter(drain(maker.server))), PathChanged(CLIENT_PATH))
        self.assertEqual(drain(other), [])
        endpoint.remove_session(maker.server.session_id)
        self.assertIsNone(endpoint.receive_datagram(packet, CLIENT_PATH, now=NOW))

    def test_ids_are_not_zero_and_not_used(self) -> None:
        """
        Dice that fall the same way are thrown again.
        """
        maker = SessionMaker()
        used = maker.server.session_id.to_bytes(4)
        throws = iter([bytes(4), used, b"\x00\x00\x00\x07"])
        endpoint = type(maker.endpoint)(master=maker.master, random_bytes=lambda size: next(throws))
        endpoint.sessions[maker.server.session_id] = maker.server
        session = endpoint.add_session(maker.keys, maker.configuration, now=NOW)
        self.assertEqual((session.session_id, endpoint.packet_size), (7, 512))

    def test_make_ciphers_differ(self) -> None:
        """
        Two seeds give two sets of keys, so that the tests above test what they say.
        """
        self.assertNotEqual(make_ciphers(Random(1)), make_ciphers(Random(2)))
