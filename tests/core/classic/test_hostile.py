"""
Packets that are not of the session, and its own that come again or late.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.classic.cipher import DoubleCipher
from resip.core.classic.commands import KeepAlive, Terminate
from resip.core.errors import ResetCode
from resip.core.events import (
    ChannelReset,
)
from resip.lab.link import LinkConditions, LinkModel
from tests.support.classic import (
    CLIENT_PATH,
    ELSEWHERE,
    NOW,
    START,
    TCP_TARGET,
    Accepting,
    ClassicPair,
    SessionMaker,
    Victim,
    drain,
)
from tests.support.pair import PLAIN


class ReplayTests(SynchronousTestCase):
    """
    Packets that were valid once.
    """

    def test_replayed_packets_move_nothing(self) -> None:
        """
        Ordered and unordered packets that come again from elsewhere do not move the path.
        """
        for sign_size in (20, 16):
            victim = Victim(sign_size=sign_size)
            forger = victim.forger
            packets = [
                forger.command(START),
                forger.seal(0, 0, KeepAlive().encode()),
                forger.acknowledge(0, 1),
                forger.seal(1, 1, b"data"),
            ]
            for packet in packets:
                self.assertTrue(victim.receive(packet))
            victim.session.accept_channel(1, now=NOW)
            drain(victim.session)
            last = victim.session.last_received_time
            for packet in packets:
                self.assertTrue(victim.receive(packet, ELSEWHERE, now=NOW + 5))
            self.assertEqual(victim.session.path, CLIENT_PATH)
            self.assertEqual(victim.session.last_received_time, last)
            self.assertEqual(drain(victim.session), [])

    def test_another_filler_does_not_make_a_replay_new(self) -> None:
        """
        Every client of a server knows the master keys and can wrap a packet of another anew.
        """
        for sign_size in (20, 16):
            victim = Victim(sign_size=sign_size)
            codec = victim.forger.codec
            packet = victim.forger.seal(0, 0, KeepAlive().encode())
            victim.receive(packet)
            outer = codec.outer.open(packet)
            filler = bytes(32 - 6 - sign_size + 1)
            signature = codec.signature(outer)
            again = codec.outer.seal(codec.session_id, outer.inner, signature, filler)
            self.assertNotEqual(packet, again)
            self.assertTrue(victim.receive(again, ELSEWHERE))
            self.assertEqual(victim.session.path, CLIENT_PATH)

    def test_a_duplicate_is_acknowledged_again(self) -> None:
        """
        Its sender may not have heard the first time.
        """
        victim = Victim()
        victim.open()
        packet = victim.forger.seal(1, 1, b"data")
        for index in range(10):
            victim.receive(packet, now=NOW + 10 * index)
            acknowledgement = victim.sent(now=NOW + 10 * index + 1)[0][2]
            self.assertIn(bytes.fromhex("00 01 80 01"), acknowledgement)

    def test_late_packets_of_closed_channels_are_acknowledged(self) -> None:
        """
        But deliver nothing, move nothing, and open nothing.
        """
        victim = Victim()
        victim.open()
        victim.receive(victim.forger.command(Terminate(1).encode()))
        self.assertEqual(drain(victim.session), [ChannelReset(1, ResetCode.CANCELLED)])
        victim.sent()
        victim.receive(victim.forger.seal(1, 9, b"late"), ELSEWHERE, now=NOW + 2)
        self.assertEqual((drain(victim.session), victim.session.path), ([], CLIENT_PATH))
        self.assertEqual(victim.sent(now=NOW + 3)[0][2].hex(), "0300018009")

    def test_data_of_a_channel_that_never_was(self) -> None:
        """
        It is not acknowledged: its start is still on its way, and it will come again.
        """
        victim = Victim()
        victim.receive(victim.forger.seal(0, 0, KeepAlive().encode()))
        victim.sent()
        self.assertTrue(victim.receive(victim.forger.seal(1, 1, b"early")))
        self.assertEqual(victim.sent(), [])


class ForgeryTests(SynchronousTestCase):
    """
    Packets that are not of this session.
    """

    def assert_untouched(self, victim: Victim, packets: Iterator[bytes]) -> None:
        """
        None of the packets is taken for authentic, changes anything or costs any state.
        """
        for packet in packets:
            self.assertFalse(victim.receive(packet, ELSEWHERE))
            self.assertIsNone(victim.maker.endpoint.receive_datagram(packet, ELSEWHERE, now=NOW))
        self.assertEqual(victim.session.path, CLIENT_PATH)
        self.assertEqual((drain(victim.session), victim.sent()), ([], []))
        self.assertEqual(victim.session.packets_held, 0)

    def make_victim(self) -> Victim:
        """
        A server with an open channel and nothing to say.
        """
        victim = Victim()
        victim.open()
        victim.sent()
        victim.receive(victim.forger.acknowledge(0, 1))
        drain(victim.session)
        return victim

    def test_random_bytes(self) -> None:
        """
        Of every size.
        """
        random = Random(1)
        packets = [random.randbytes(size) for size in (0, 1, 16, 511, 512, 513, 528, 1500, 65_507)]
        self.assert_untouched(self.make_victim(), iter(packets * 3))

    def test_truncated_and_extended_packets(self) -> None:
        """
        A packet that is not whole, or more than that, is none.
        """
        victim = self.make_victim()
        packet = victim.forger.seal(1, 1, b"data")
        others = [packet[:size] for size in range(0, 512, 16)]
        others += [packet + bytes(16), packet[16:], packet + packet]
        self.assert_untouched(victim, iter(others))

    def test_flipped_bits(self) -> None:
        """
        Wherever a byte is changed, nothing comes of it.
        """
        victim = self.make_victim()
        packet = victim.forger.seal(1, 1, b"data")

        def flip() -> Iterator[bytes]:
            for index in range(0, len(packet), 7):
                yield packet[:index] + bytes((packet[index] ^ 0x40,)) + packet[index + 1 :]

        # The outer wrapper alone is not authenticated, so some of these open; all that do
        # must be the very packet, which is new once.
        accepted = sum(victim.receive(forged) for forged in flip())
        self.assertLessEqual(len(drain(victim.session)), 1)
        self.assertLess(accepted, 10)

    def test_other_keys(self) -> None:
        """
        A session's packets are nothing to another session, nor to the endpoint.
        """
        victim = self.make_victim()
        other = SessionMaker(2).make_forger(is_server=False)
        other.codec.session_id = victim.session.session_id
        same_master = SessionMaker(3)
        same_master.master = victim.maker.master
        insider = same_master.make_forger(is_server=False)
        insider.codec.session_id = victim.session.session_id
        self.assert_untouched(victim, iter([other.seal(1, 1, b"x"), insider.seal(1, 1, b"x")]))

    def test_another_session_id(self) -> None:
        """
        The right keys do not help under a wrong id.
        """
        victim = self.make_victim()
        victim.forger.codec.session_id ^= 1
        packet = victim.forger.seal(1, 1, b"x")
        victim.forger.codec.session_id ^= 1
        self.assert_untouched(victim, iter([packet]))

    def test_reflected_packets(self) -> None:
        """
        What a session sent itself is not for it.
        """
        for is_server in (True, False):
            victim = Victim(is_server=is_server)
            mirror = victim.maker.make_forger(is_server=is_server)
            for packet in (mirror.seal(0, 0, b"\x04"), mirror.seal(0, 1, START)):
                self.assertFalse(victim.receive(packet, ELSEWHERE))
            self.assertEqual(drain(victim.session), [])

    def test_another_packet_type(self) -> None:
        """
        A packet of another dialect is nobody's here.
        """
        victim = self.make_victim()
        cipher = DoubleCipher(victim.maker.master)
        plain = bytearray(cipher.decrypt(victim.forger.seal(1, 1, b"x")))
        plain[1] = 1
        self.assert_untouched(victim, iter([cipher.encrypt(bytes(plain))]))


class RecordingLink(LinkModel):
    """
    A link with an observer.

    :ivar recorded: every packet, in order.
    """

    def __init__(self, conditions: LinkConditions, seed: int) -> None:
        super().__init__(conditions, seed)
        self.recorded: list[bytes] = []

    def transmit(self, data: bytes, *, now: float) -> list[tuple[float, bytes]]:
        """
        Record, and go on.
        """
        self.recorded.append(data)
        return super().transmit(data, now=now)


class ObserverTests(SynchronousTestCase):
    """
    An observer of a running pair.
    """

    def test_recorded_packets_change_nothing(self) -> None:
        """
        Everything that a client ever sent, played back from elsewhere, leaves the server alone.
        """
        maker, link = SessionMaker(), RecordingLink(PLAIN, 1)
        pair = ClassicPair(maker.make_client(), maker.server, link, LinkModel(PLAIN, 2))
        pair.server.attach(Accepting())
        channel_id = pair.client.session.open_channel(TCP_TARGET, now=pair.now)
        for _ in range(20):
            pair.client.session.write(channel_id, bytes(3000), now=pair.now)
            pair.run_for(0.5)
        before = len(pair.server.events)
        for packet in link.recorded:
            pair.server.session.receive_datagrams([packet], ELSEWHERE, now=pair.now)
        pair.run_for(1)
        self.assertGreater(len(link.recorded), 100)
        self.assertEqual(pair.server.session.path, pair.client_path)
        self.assertEqual(len(pair.server.events), before)
        self.assertEqual(pair.misaddressed, 0)
