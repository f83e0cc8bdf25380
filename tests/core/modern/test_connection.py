"""
Tests of :mod:`resip.core.modern.connection`: strangers, paths and ids, between real sessions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from resip.core.events import PathChanged
from resip.core.modern.acks import ACK_THRESHOLD, FRAGMENTED_THRESHOLD, PATIENT_THRESHOLD
from resip.core.modern.frames import PING_FRAME, path_challenge_frame
from resip.core.modern.reliable_sizes import UNPACED_SIZE
from resip.core.modern.session import ModernSession
from resip.core.types import Path
from resip.lab.link import LinkModel
from resip.lab.pair import SERVER_ADDRESS, Host
from tests.support.modern import Insider, make_modern_pair, open_accepted
from tests.support.pair import PLAIN, TCP_TARGET, get_events, get_received, run_until_true

ELSEWHERE = Path("simulated", ("203.0.113.9", 666))
NEW_SERVER_PATH = Path("other", SERVER_ADDRESS)


def modern(host: Host) -> ModernSession:
    """
    The session with all its readings.
    """
    assert isinstance(host.session, ModernSession)
    return host.session


class Case(SynchronousTestCase):
    """
    A pair with one channel, and a record of what both links carry.
    """

    def setUp(self) -> None:
        """
        Let both sides settle.
        """
        self.pair = make_modern_pair(PLAIN)
        self.client, self.server = self.pair.client, self.pair.server
        self.sent_up: list[bytes] = []
        self.sent_down: list[bytes] = []
        self.watch(self.pair.up, self.sent_up)
        self.watch(self.pair.down, self.sent_down)
        self.channel_id = open_accepted(self.pair, TCP_TARGET)
        self.pair.run_for(1)

    def watch(self, link: LinkModel, packets: list[bytes]) -> None:
        """
        Record the packets of a link.
        """
        transmit = link.transmit

        def record(data: bytes, *, now: float) -> list[tuple[float, bytes]]:
            packets.append(data)
            return transmit(data, now=now)

        self.patch(link, "transmit", record)

    def receive(self, packet: bytes, path: Path) -> Sequence[tuple[Path, Sequence[bytes]]]:
        """
        Let the server have a packet; returns what it sends at once.
        """
        session, now = self.server.session, self.pair.now
        session.receive_datagrams([packet], path, now=now)
        return session.datagrams_to_send(now=now)


class StrangerTests(Case):
    """
    Packets that are not what they seem.
    """

    def check_silence(self, host: Host, packet: bytes) -> None:
        """
        The packet changes nothing at all.
        """
        session, now = host.session, self.pair.now
        before = (session.path, session.last_received_time, session.get_timer())
        self.assertFalse(session.receive_datagrams([packet], ELSEWHERE, now=now))
        self.assertEqual(session.datagrams_to_send(now=now), [])
        self.assertIsNone(session.next_event())
        self.assertEqual((session.path, session.last_received_time, session.get_timer()), before)

    def test_replayed_packets(self) -> None:
        """
        From another address they move nothing (M-12, M-13).
        """
        for packet in self.sent_up:
            self.check_silence(self.server, packet)
        for packet in self.sent_down:
            self.check_silence(self.client, packet)

    def test_reflected_packets(self) -> None:
        """
        Each direction has keys of its own.
        """
        for packet in self.sent_up:
            self.check_silence(self.client, packet)
        for packet in self.sent_down:
            self.check_silence(self.server, packet)

    def test_forged_and_truncated_packets(self) -> None:
        """
        One bit, or one byte, and a packet is noise (M-14).
        """
        dice = random.Random(1)
        genuine = Insider().seal(PING_FRAME)
        for size in range(len(genuine)):
            self.check_silence(self.server, genuine[:size])
        for at in range(4, len(genuine)):
            bad = bytearray(genuine)
            bad[at] ^= 1 << dice.randrange(8)
            self.check_silence(self.server, bytes(bad))
        for _ in range(200):
            self.check_silence(self.server, dice.randbytes(dice.randrange(1500)))

    def test_packets_of_another_session(self) -> None:
        """
        Its keys are others.
        """
        self.check_silence(self.server, Insider(seed=2).seal(PING_FRAME))


class AmplificationTests(Case):
    """
    M-20: an address that did not prove itself gets three times what came from it, at most.
    """

    def sent_to(self, path: Path, packets: list[bytes], *, seconds: float = 20) -> int:
        """
        Bytes to a path within some time after these packets came from there.
        """
        total = 0
        session, now = self.server.session, self.pair.now
        for packet in packets:
            session.receive_datagrams([packet], path, now=now)
        end = now + seconds
        while now <= end:
            batches = *session.probes_to_send(now=now), *session.datagrams_to_send(now=now)
            for where, batch in batches:
                total += sum(map(len, batch)) if where == path else 0
            timer = session.get_timer()
            now = max(now + 0.001, timer if timer is not None else end + 1)
            session.handle_timer(now=now)
        return total

    def test_a_captured_packet_that_comes_first_from_elsewhere(self) -> None:
        """
        The path stays where it is, and the foreign address gets challenges only.
        """
        self.server.session.write(self.channel_id, bytes(100_000), now=self.pair.now)
        packet = Insider().seal(PING_FRAME)
        total = self.sent_to(ELSEWHERE, [packet])
        self.assertEqual(self.server.session.path, self.pair.client_path)
        self.assertGreater(total, 0)
        self.assertLessEqual(total, 3 * len(packet))

    def test_many_challenges(self) -> None:
        """
        Answers count, too.
        """
        insider = Insider()
        packets = [
            insider.seal(*(path_challenge_frame(bytes([n]) * 8) for n in range(8)))
            for _ in range(3)
        ]
        self.assertLessEqual(self.sent_to(ELSEWHERE, packets), 3 * sum(map(len, packets)))

    def test_the_first_path(self) -> None:
        """
        A server with much to say, to a client of whom it knows one small packet.
        """
        pair = make_modern_pair(PLAIN)
        self.server = pair.server
        for _ in range(5):
            long_name = type(TCP_TARGET)(TCP_TARGET.protocol, "x" * 255, 1)
            number = pair.server.session.open_channel(long_name, now=pair.now)
            pair.server.session.write(number, bytes(100_000), now=pair.now)
        for count in (1, 4, 40):
            packet = Insider(1).seal(PING_FRAME * count)
            self.assertLessEqual(self.sent_to(ELSEWHERE, [packet]), 3 * len(packet))
            pair = make_modern_pair(PLAIN)
            self.server = pair.server


class PathTests(Case):
    """
    A client that moves.
    """

    def test_a_new_address_nobody_knew_of(self) -> None:
        """
        The server follows, after a challenge, with an id that it has not used (M-37, M-38).
        """
        before = {packet[:4] for packet in self.sent_down}
        self.pair.change_address()
        self.client.session.write(self.channel_id, b"moved", now=self.pair.now)
        new_path = self.pair.client_path
        run_until_true(self.pair, lambda: self.server.session.path == new_path, limit=1)
        mark = len(self.sent_down)
        self.pair.run_for(1)
        self.assertEqual(get_received(self.server, self.channel_id), b"moved")
        after = {packet[:4] for packet in self.sent_down[mark:]}
        self.assertTrue(after)
        self.assertFalse(before & after)
        changes = get_events(self.server, PathChanged)
        self.assertEqual(changes[-1], PathChanged(self.pair.client_path))

    def test_a_client_that_moves_knowingly(self) -> None:
        """
        No id of one path is seen on another, however often it happens (M-38).
        """
        seen: set[bytes] = set()
        for number in range(20):
            mark = len(self.sent_up)
            path = Path(f"carrier {number}", SERVER_ADDRESS)
            session, now = self.client.session, self.pair.now
            session.use_path(path, now=now)
            for _, packets in session.datagrams_to_send(now=now):
                self.sent_up += packets
                self.pair.change_address()
                for packet in packets:
                    self.server.receive(packet, self.pair.client_path)
            ids = {packet[:4] for packet in self.sent_up[mark:]}
            self.assertFalse(ids & seen, number)
            seen |= ids
            session.use_path(self.pair.server_path, now=self.pair.now)
            self.pair.run_for(2)
            mark = len(self.sent_up)
            seen |= {packet[:4] for packet in self.sent_up[mark:]}

    def test_the_last_carrier_goes(self) -> None:
        """
        The owner hears of it, and nothing is sent.
        """
        self.client.session.path_closed(self.pair.server_path, now=self.pair.now)
        self.client.flush()
        self.assertEqual(self.client.events[-1], PathChanged(None))
        self.client.session.write(self.channel_id, b"later", now=self.pair.now)
        self.assertEqual(self.client.session.datagrams_to_send(now=self.pair.now), [])
        self.client.session.use_path(self.pair.server_path, now=self.pair.now)
        self.pair.run_for(1)
        self.assertEqual(get_received(self.server, self.channel_id), b"later")


class PatienceTests(Case):
    """
    How many packets are acknowledged together (M-33).
    """

    def threshold(self, size: int, *, is_reliable: bool) -> int:
        """
        How many packets the server acknowledges together, after one of this size.
        """
        packet = Insider().seal(PING_FRAME + bytes(size))
        path = Path("stream", ("203.0.113.9", 666), is_reliable=is_reliable)
        self.assertTrue(self.server.session.receive_datagrams([packet], path, now=self.pair.now))
        return modern(self.server).connection.acks.threshold

    def test_who_sends_large_packets_on_a_connection_does_not_wait(self) -> None:
        """
        Neither pace nor window hold back who sends that fast; others are answered at once.
        """
        self.assertEqual(self.threshold(UNPACED_SIZE, is_reliable=True), PATIENT_THRESHOLD)

    def test_others_wait(self) -> None:
        """
        Who sends smaller packets may be held back by pace and window.
        """
        self.assertEqual(self.threshold(UNPACED_SIZE // 2, is_reliable=True), ACK_THRESHOLD)

    def test_ordinary_datagrams(self) -> None:
        """
        So may who sends packets of a path's size.
        """
        self.assertEqual(self.threshold(1400, is_reliable=False), ACK_THRESHOLD)

    def test_large_packets_in_fragments(self) -> None:
        """
        A window holds back who sends them, so that they are acknowledged sooner.
        """
        size = UNPACED_SIZE
        self.assertEqual(self.threshold(size, is_reliable=False), FRAGMENTED_THRESHOLD)
