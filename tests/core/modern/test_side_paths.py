"""
Paths beside the one in use: questions that move nothing, ids that link nothing, and
acknowledgements for a client whose address has just changed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from resip.core.events import PathAnswered, PathChanged
from resip.core.modern.frames import PING_FRAME, path_challenge_frame
from resip.core.modern.session import ModernSession
from resip.core.types import Path
from resip.lab.pair import CLIENT_HOST, Host
from tests.support.carriers import CarrierNetwork
from tests.support.modern import Insider, make_modern_pair, open_accepted
from tests.support.pair import (
    PLAIN,
    TCP_TARGET,
    get_events,
    get_received,
    run_until_true,
)

ELSEWHERE = Path("simulated", ("203.0.113.9", 666))


def modern(host: Host) -> ModernSession:
    """
    The session with all its readings.
    """
    return cast(ModernSession, host.session)


class ProbingTests(SynchronousTestCase):
    """
    A client on UDP that asks by TCP (M-64, M-65).
    """

    def setUp(self) -> None:
        """
        Let both sides settle, and record what each carrier carries.
        """
        self.network = CarrierNetwork({"udp": PLAIN, "tcp": PLAIN}, head_starts=(0.0, 0.0))
        self.sent: dict[str, list[bytes]] = defaultdict(list)
        for name, carrier in self.network.carriers.items():
            for link in (carrier.up, carrier.down):
                self.record(name, link.transmit, link)
        self.client, self.server = self.network.client, self.network.server
        self.paths = {name: each.server_path for name, each in self.network.carriers.items()}
        self.network.run_for(1)

    def record(self, name: str, transmit: object, link: object) -> None:
        """
        Keep the packets of a link.
        """

        def keep(data: bytes, *, now: float) -> object:
            self.sent[name].append(data)
            return transmit(data, now=now)  # type: ignore[operator]

        self.patch(link, "transmit", keep)

    def test_nothing_moves(self) -> None:
        """
        The server answers where it was asked, and goes on sending where it did.
        """
        self.client.events.clear()
        before = self.server.session.path
        self.client.session.probe_path(self.paths["tcp"], now=self.network.now)
        self.network.run_for(1)
        self.assertEqual(self.client.events, [PathAnswered(self.paths["tcp"])])
        self.assertEqual(self.server.session.path, before)

    def test_the_price_of_a_question(self) -> None:
        """
        Two small packets.
        """
        self.sent.clear()
        self.client.session.probe_path(self.paths["tcp"], now=self.network.now)
        self.network.run_for(1)
        self.assertEqual([len(packet) for packet in self.sent["tcp"]], [33, 33])
        self.assertEqual(self.sent["udp"], [])

    def test_no_id_is_shared(self) -> None:
        """
        Whoever watches two carriers cannot tell that they are of one session (M-38), and going
        back and forth does not use ids up.
        """
        for name in ("tcp", "udp") * 5:
            self.client.session.use_path(self.paths[name], now=self.network.now)
            self.network.run_for(1)
        ids = {name: {packet[:4] for packet in packets} for name, packets in self.sent.items()}
        self.assertFalse(ids["udp"] & ids["tcp"])
        self.assertEqual(len(ids["tcp"]), 2, "one in each direction")

    def test_a_connection_begins_with_the_id_of_its_path(self) -> None:
        """
        One that is dialled again begins with another (M-47, M-38).
        """
        session, path = self.client.session, self.paths["tcp"]
        preamble = session.preamble(path)
        self.assertEqual(session.preamble(path), preamble)
        session.probe_path(path, now=self.network.now)
        self.sent.clear()
        self.network.run_for(1)
        self.assertEqual(self.sent["tcp"][0][:4], preamble)
        session.path_closed(path, now=self.network.now)
        self.assertNotEqual(session.preamble(path), preamble)

    def test_retry_takes_another_id(self) -> None:
        """
        A client whose network changed is a stranger there (M-38).
        """
        self.sent.clear()
        self.client.session.write(self.open(), b"before", now=self.network.now)
        self.network.run_for(1)
        before = {packet[:4] for packet in self.sent["udp"]}
        self.sent.clear()
        self.client.session.retry(now=self.network.now)
        self.client.flush()
        after = {packet[:4] for packet in self.sent["udp"]}
        self.assertTrue(after)
        self.assertFalse(before & after)

    def open(self) -> int:
        """
        A channel.
        """
        return self.client.session.open_channel(TCP_TARGET, now=self.network.now)

    def test_a_carrier_that_is_known(self) -> None:
        """
        Who comes back to a carrier goes on with what was measured there.
        """
        self.client.session.retry(now=self.network.now)
        self.network.run_for(1)
        recovery = modern(self.client).connection.recovery
        rtt = recovery.rtt
        self.client.session.use_path(self.paths["tcp"], now=self.network.now)
        self.network.run_for(1)
        self.assertIsNot(recovery.rtt, rtt)
        self.client.session.use_path(self.paths["udp"], now=self.network.now)
        self.assertIs(recovery.rtt, rtt)


class NewAddressTests(SynchronousTestCase):
    """
    A server, and packets from an address that it does not know.
    """

    def setUp(self) -> None:
        """
        Let both sides settle, with a channel.
        """
        self.pair = make_modern_pair(PLAIN)
        self.server = self.pair.server
        self.channel_id = open_accepted(self.pair, TCP_TARGET)
        self.pair.run_for(1)

    def sent_to(self, path: Path, *, seconds: float) -> list[bytes]:
        """
        What the server sends there within some time, alone in the world.
        """
        session, now = self.server.session, self.pair.now
        packets: list[bytes] = []
        end = now + seconds
        while now <= end:
            batches = *session.probes_to_send(now=now), *session.datagrams_to_send(now=now)
            for where, batch in batches:
                packets += batch if where == path else []
            timer = session.get_timer()
            now = max(now + 0.001, end + 1 if timer is None else timer)
            session.handle_timer(now=now)
        return packets

    def test_acknowledgements_go_to_the_newest_address(self) -> None:
        """
        Within its budget (M-20), and the path in use gets them, too: nothing has moved (M-66).
        """
        packet = Insider().seal(PING_FRAME + bytes(1000))
        self.server.session.receive_datagrams([packet], ELSEWHERE, now=self.pair.now)
        before = self.server.session.path
        sent = self.sent_to(ELSEWHERE, seconds=0.04)
        self.assertEqual(len(sent), 2, "a challenge and an acknowledgement")
        sent += self.sent_to(ELSEWHERE, seconds=20)
        self.assertLessEqual(sum(map(len, sent)), 3 * len(packet))
        self.assertEqual(self.server.session.path, before)

    def test_another_port_of_the_same_host(self) -> None:
        """
        A NAT forgot the client: it is followed at once, and asked afterwards (M-67).
        """
        self.pair.change_address()
        self.pair.client.session.write(self.channel_id, b"moved", now=self.pair.now)
        new_path = self.pair.client_path
        took = run_until_true(self.pair, lambda: self.server.session.path == new_path, limit=1)
        self.assertLess(took, PLAIN.delay + 0.001)
        self.pair.run_for(1)
        self.assertEqual(get_received(self.server, self.channel_id), b"moved")
        self.pair.run_for(10)
        self.assertEqual(self.server.session.path, new_path)

    def test_a_false_port_of_the_same_host(self) -> None:
        """
        A captured packet leads there until the client says something, or the challenge was not
        answered for three seconds (M-67).
        """
        false_path = Path("simulated", (CLIENT_HOST, 666))
        true_path, insider = self.pair.client_path, Insider()
        for waits in (True, False):
            captured = insider.seal(PING_FRAME)
            self.server.session.receive_datagrams([captured], false_path, now=self.pair.now)
            self.assertEqual(self.server.session.path, false_path)
            self.server.flush()
            if waits:
                self.pair.run_for(3.5)
            else:
                genuine = insider.seal(PING_FRAME)
                self.server.session.receive_datagrams([genuine], true_path, now=self.pair.now)
                self.server.flush()
            self.assertEqual(self.server.session.path, true_path)
            self.assertEqual(get_events(self.server, PathChanged)[-1], PathChanged(true_path))

    def test_a_probe_from_elsewhere(self) -> None:
        """
        Captured and sent first from a foreign address, it draws less than three times its bytes
        there, and the next ordinary packet finds the server where it was (M-65, M-20).
        """
        packet = Insider().seal(path_challenge_frame(b"12345678"))
        before = self.server.session.path
        self.server.session.receive_datagrams([packet], ELSEWHERE, now=self.pair.now)
        sent = self.sent_to(ELSEWHERE, seconds=20)
        self.assertTrue(sent)
        self.assertLessEqual(sum(map(len, sent)), 3 * len(packet))
        self.assertEqual(self.server.session.path, before)

    def test_a_packet_full_of_challenges(self) -> None:
        """
        Its answers stay within the limit (M-20).
        """
        packet = Insider().seal(*(path_challenge_frame(bytes([n]) * 8) for n in range(8)))
        self.server.session.receive_datagrams([packet], ELSEWHERE, now=self.pair.now)
        sent = self.sent_to(ELSEWHERE, seconds=20)
        self.assertGreater(len(sent), 5)
        self.assertLessEqual(sum(map(len, sent)), 3 * len(packet))

    def test_who_asked_before_moves_at_once(self) -> None:
        """
        The question validates the new address, so that the first ordinary packet moves the session.
        """
        client, path = self.pair.client.session, self.pair.server_path
        old = self.pair.client_path
        self.pair.change_address()
        client.path_closed(path, now=self.pair.now)
        client.probe_path(path, now=self.pair.now)
        self.pair.run_for(0.5)
        self.assertEqual(self.server.session.path, old)
        client.use_path(path, now=self.pair.now)
        took = run_until_true(
            self.pair, lambda: self.server.session.path == self.pair.client_path, limit=1
        )
        self.assertLess(took, PLAIN.delay + 0.001)
        client.write(self.channel_id, b"moved", now=self.pair.now)
        self.pair.run_for(1)
        self.assertEqual(get_received(self.server, self.channel_id), b"moved")
        self.assertEqual(len(get_events(self.server, PathChanged)), 2)
