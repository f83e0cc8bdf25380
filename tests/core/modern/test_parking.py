"""
Sessions that are folded up: they take little, wake by themselves, and have forgotten nothing.
"""

from __future__ import annotations

import gc
import random
import tracemalloc

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.events import ChannelReset, DataReceived
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.connection import Connection
from resip.core.modern.endpoint import PARK_AFTER, REST_AFTER, ModernEndpoint
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.frames import CloseCode
from resip.core.modern.handshake import ClientHandshake, Hello
from resip.core.modern.parking import MAX_DICTIONARIES, Folder
from resip.lab.applications import BulkReceiver, BulkSender
from tests.support.modern import ModernCase, modern
from tests.support.pair import TCP_TARGET, get_events

#: Bytes of Python objects for each of some hundred sessions, with room for other Pythons.
MOST_AWAKE = 12 * 1024
MOST_PARKED = 3_600


class ParkingTests(ModernCase):
    """
    The server's side of one session.
    """

    def park(self) -> None:
        """
        Let the server fold its session up.
        """
        self.pair.run_for(2)
        self.assertTrue(modern(self.server).park(now=self.pair.now))

    def echo(self, channel_id: int, data: bytes = b"word") -> None:
        """
        Something arrives at the server and is taken there.
        """
        self.server.events.clear()
        self.write(self.client, channel_id, data)
        received = [event.data for event in get_events(self.server, DataReceived)]
        self.assertEqual(b"".join(received), data)
        self.server.session.consume(channel_id, len(data), now=self.pair.now)
        self.pair.run_for(1)

    def test_it_wakes_by_a_packet(self) -> None:
        """
        A channel that was open goes on where it was.
        """
        channel_id = self.open()
        self.echo(channel_id)
        for word in (b"one", b"two"):
            self.park()
            self.echo(channel_id, word)
            self.assertFalse(modern(self.server).is_parked)

    def test_it_wakes_by_a_verb(self) -> None:
        """
        Its owner writes, and the peer hears it.
        """
        channel_id = self.open()
        self.park()
        self.client.events.clear()
        self.write(self.server, channel_id, b"news")
        self.assertEqual([e.data for e in get_events(self.client, DataReceived)], [b"news"])

    def test_it_wakes_by_a_deadline(self) -> None:
        """
        A client folded up shows on time that it is there, and not before.
        """
        self.pair.run_for(2)
        session = modern(self.client)
        self.assertTrue(session.park(now=self.pair.now))
        deadline = session.get_timer()
        assert deadline is not None
        session.handle_timer(now=deadline - 1)
        self.assertTrue(session.is_parked)
        heard = self.server.session.last_received_time
        self.pair.run_until(deadline + 1)
        self.assertGreater(self.server.session.last_received_time, heard)

    def test_readings_do_not_wake_it(self) -> None:
        """
        What others look at now and then is known without unfolding.
        """
        self.open()
        session = modern(self.server)
        before = (session.path, session.last_received_time, session.channel_count)
        self.park()
        self.assertEqual(session.path, before[0])
        self.assertGreaterEqual(session.last_received_time, before[1])
        self.assertEqual((session.channel_count, session.get_timer()), (before[2], None))
        self.assertIsNone(session.next_event())
        self.assertEqual(session.datagrams_to_send(now=self.pair.now), [])
        self.assertTrue(session.is_parked)

    def test_old_packets_stay_old(self) -> None:
        """
        What was accepted before is not accepted again (M-13).
        """
        self.open()
        self.client.session.retry(now=self.pair.now)
        ((_, packets),) = self.client.session.datagrams_to_send(now=self.pair.now)
        path = self.pair.client_path
        self.assertTrue(self.server.session.receive_datagrams(packets, path, now=self.pair.now))
        self.server.flush()
        self.park()
        self.assertFalse(self.server.session.receive_datagrams(packets, path, now=self.pair.now))

    def test_nothing_that_arrives_keeps_it_awake(self) -> None:
        """
        Not what came before, nor what somebody made up, in either phase of the key.
        """
        self.open()
        self.client.session.retry(now=self.pair.now)
        ((_, packets),) = self.client.session.datagrams_to_send(now=self.pair.now)
        for packet in packets:
            self.server.receive(packet, self.pair.client_path)
        self.park()
        forged = [packets[0][:4] + bytes([byte]) * 30 for byte in range(8)]
        for packet in (*packets, *forged):
            self.server.receive(packet, self.pair.client_path)
            self.park()

    def test_keys_stay_updated(self) -> None:
        """
        Keys are those of before, and can be updated again (M-15, M-16).
        """
        channel_id = self.open()
        for generation in range(1, 4):
            for host in (self.client, self.server):
                modern(host).request_key_update(now=self.pair.now)
            self.echo(channel_id)
            self.park()
            self.echo(channel_id)
            self.assertGreaterEqual(modern(self.server).connection.key_generation, generation)

    def test_what_was_learnt_stays(self) -> None:
        """
        The model of the path, its packet size and its round trip survive.
        """
        receiver = BulkReceiver(TCP_TARGET, size=500_000)
        BulkSender(TCP_TARGET, size=500_000).serve(self.server)
        receiver.start(self.client)
        self.pair.run_for(10)
        self.assertEqual(receiver.progress.total, 500_000)

        def read() -> tuple[object, ...]:
            connection = modern(self.server).connection
            return (
                connection.recovery.rtt.smoothed,
                connection.recovery.loss.rate,
                connection.outbound.datagram_size,
                connection.recovery.next_number,
            )

        before = read()
        self.park()
        self.assertEqual(read(), before)

    def test_who_has_something_to_do_stays_awake(self) -> None:
        """
        Bytes that wait for anybody, and deadlines that are near, keep it from folding up.
        """
        channel_id = self.open()
        self.client.session.write(channel_id, b"word", now=self.pair.now)
        self.pair.run_for(0.2)
        self.assertFalse(modern(self.server).park(now=self.pair.now), "unread")
        self.server.session.consume(channel_id, 4, now=self.pair.now)
        self.pair.run_for(2)
        self.server.session.write(channel_id, b"word", now=self.pair.now)
        self.assertFalse(modern(self.server).park(now=self.pair.now), "unsent")

    def test_a_compressed_channel_keeps_it_awake(self) -> None:
        """
        The compressor's memory is no part of what is folded.
        """
        self.open(compress=True)
        self.pair.run_for(2)
        self.assertFalse(modern(self.server).park(now=self.pair.now))

    def test_it_can_be_closed(self) -> None:
        """
        The peer hears of it, with the code.
        """
        self.open()
        self.park()
        modern(self.server).close(now=self.pair.now, code=CloseCode.REVOKED)
        self.pair.run_for(1)
        self.assertEqual(len(get_events(self.client, ChannelReset)), 1)

    def test_nothing_is_left_of_the_objects(self) -> None:
        """
        They are freed at once, not when the collector finds a circle.
        """
        self.open()
        self.park()
        modern(self.server).connection.get_timer()  # wakes it
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = sum(isinstance(each, Connection) for each in gc.get_objects())
        self.park()
        after = sum(isinstance(each, Connection) for each in gc.get_objects())
        self.assertEqual(after, before - 1)


class FolderTests(SynchronousTestCase):
    """
    What stays behind.
    """

    def test_secrets_do_not_outlive_their_session(self) -> None:
        """
        The dictionary for later objects has no bytes of earlier ones.
        """
        folder = Folder()
        secret = random.Random(1).randbytes(32)
        objects = [{"name": number} for number in range(200)]
        folder.fold([*objects, secret], None)
        later = folder.fold([*objects, b"other"], None)
        self.assertEqual(later.unfold(), [*objects, b"other"])
        held = [each for each in gc.get_referents(folder, later) if isinstance(each, bytes)]
        held += [
            each
            for part in gc.get_referents(folder)
            for each in gc.get_referents(part)
            if isinstance(each, bytes)
        ]
        self.assertTrue(any(len(each) > 500 for each in held), "the dictionary")
        self.assertFalse(any(secret in each or secret[:8] in each for each in held))

    def test_dictionaries_are_few(self) -> None:
        """
        However different objects are, so many of them are kept as examples.
        """
        dice = random.Random(2)
        folder = Folder()
        folded = [folder.fold(dice.randbytes(1000).hex(), None) for _ in range(50)]
        dictionaries = {
            id(each)
            for one in folded
            for each in gc.get_referents(one)
            if isinstance(each, bytes) and len(each) > 1800
        }
        self.assertLessEqual(len(dictionaries), MAX_DICTIONARIES)


class EndpointParkingTests(SynchronousTestCase):
    """
    Some hundred sessions that nobody uses.
    """

    def setUp(self) -> None:
        """
        An endpoint without sessions.
        """
        self.dice = random.Random(1)
        self.client_key = X25519PrivateKey.from_private_bytes(self.dice.randbytes(32))

        def dice() -> float:
            return self.dice.random()

        self.endpoint: ModernEndpoint[str] = ModernEndpoint(
            X25519PrivateKey.from_private_bytes(self.dice.randbytes(32)),
            server_run=1,
            random_bytes=self.dice.randbytes,
            make_controller=lambda: ErasureAwareController(datagram_size=1200, random=dice),
        )

    def accept(self, count: int, *, now: float) -> list[bytes]:
        """
        Shake hands; returns what packets of the sessions begin with.
        """
        ids = []
        for _ in range(count):
            hello = Hello(7, 1, INITIAL_SESSION_WINDOW, INITIAL_CHANNEL_WINDOW)
            public_key = self.endpoint.public_key
            handshake = ClientHandshake(self.client_key, public_key, hello, self.dice.randbytes)
            accepted = self.endpoint.accept(handshake.message1, lambda key, hello: "alice", now=now)
            accepted.session.datagrams_to_send(now=now)
            ids.append(accepted.session.session_id.to_bytes(4))
        return ids

    def parked(self, ids: list[bytes]) -> int:
        """
        How many of them are folded up.
        """
        sessions = [self.endpoint.find(first + bytes(40)) for first in ids]
        return sum(session is not None and session.is_parked for session in sessions)

    def test_sizes(self) -> None:
        """
        Awake and folded up, a session takes no more than a server can afford ten thousand of.
        """
        self.accept(10, now=0.0)
        self.endpoint.park_idle(now=PARK_AFTER)
        gc.collect()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        ids = self.accept(200, now=200.0)
        self.endpoint.park_idle(now=200.0 + REST_AFTER)
        gc.collect()
        awake = (tracemalloc.get_traced_memory()[0] - before) / 200
        self.assertLess(awake, MOST_AWAKE)
        self.endpoint.park_idle(now=200.0 + PARK_AFTER)
        self.assertEqual(self.parked(ids), 200)
        gc.collect()
        self.assertLess((tracemalloc.get_traced_memory()[0] - before) / 200, MOST_PARKED)

    def test_patience(self) -> None:
        """
        However many there are, a session waits for its client's next sign of life.
        """
        ids = self.accept(2, now=0.0)
        self.endpoint.park_idle(now=ModernConfiguration().idle_keep_alive_interval + 10)
        self.assertEqual(self.parked(ids), 0)
        self.endpoint.park_idle(now=PARK_AFTER)
        self.assertEqual(self.parked(ids), 2)
