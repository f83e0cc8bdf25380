"""
Sessions that send packets in fragments (docs/protocol.md, section 2.7), and those that do not.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from bench.conditions import session_of, start_bulk
from resip.core.modern.fragments import (
    CALM_PAUSES,
    FIRST_FRAGMENTS,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    MAX_FRAGMENTS,
    FragmentTrial,
)
from resip.core.modern.frames import PING_FRAME, path_response_frame
from resip.core.modern.protection import OVERHEAD, Opener
from resip.core.trace import Trace
from resip.core.types import Path
from resip.lab.link import LinkConditions, LinkModel
from tests.support.modern import Insider, agree, make_modern_pair
from tests.support.pair import run_until_true

#: Two hosts on one switch.
LAN = LinkConditions(rate=400e6, delay=0.0002, queue_limit=2000, mtu=1500)
SIZE = 10_000_000
#: A datagram that fits into the LAN's packets.
LARGEST = 1472
#: Packets of more bytes are neither that nor a probe.
LARGE = 10_000
ELSEWHERE = Path("simulated", ("203.0.113.9", 666))


class Sizes(Trace):
    """
    Remembers how large packets were.

    :ivar large: bytes sent in bursts of large packets. :ivar total: bytes sent.
    """

    def __init__(self) -> None:
        self.large = self.total = 0

    def packets_sent(self, path: Path, *, count: int, size: int, first: int, now: float) -> None:
        """
        See :class:`~resip.core.trace.Trace`.
        """
        self.total += size
        if size > count * LARGE:
            self.large += size

    @property
    def share(self) -> float:
        """
        Of what was sent, how much went in fragments.
        """
        return self.large / self.total


class CountingLink(LinkModel):
    """
    A link that counts the datagrams that are too large for it.
    """

    too_large = 0

    def transmit(self, packet: bytes, *, now: float) -> list[tuple[float, bytes]]:
        """
        See :class:`~resip.lab.link.LinkModel`.
        """
        self.too_large += len(packet) > LARGEST
        return super().transmit(packet, now=now)


class FragmentedTransferTests(SynchronousTestCase):
    """
    One transfer of 10 MB, every byte compared.
    """

    def transfer(self, line: LinkConditions, *, limit: float = 10.0, is_up: bool = False) -> Sizes:
        """
        Run it to its end, within ``limit`` seconds.
        """
        sizes = Sizes()
        traces = (sizes, Trace()) if is_up else (Trace(), sizes)
        pair = make_modern_pair(line, seed=5, keeps_events=False, traces=traces)
        receiver = start_bulk(pair, is_up=is_up, size=SIZE)
        run_until_true(pair, lambda: receiver.is_finished, limit=limit)
        return sizes

    def test_a_quick_network(self) -> None:
        """
        Where answers come at once and nothing is lost, most goes in fragments, either way.
        """
        for is_up in (True, False):
            self.assertGreater(self.transfer(LAN, limit=2.0, is_up=is_up).share, 0.8)

    def test_other_networks(self) -> None:
        """
        With a round trip of 5 ms nothing is fragmented; at 100 Mbit/s hardly anything, while
        start-up takes the line for a faster one.
        """
        self.assertEqual(self.transfer(replace(LAN, delay=0.0025)).large, 0)
        self.assertLess(self.transfer(replace(LAN, rate=100e6)).share, 0.1)

    def test_loss(self) -> None:
        """
        Where one datagram in 1,000 is lost, hardly more than a window is: until the first loss.
        """
        self.assertLess(self.transfer(replace(LAN, loss=0.001)).share, 0.15)

    def test_heavy_loss(self) -> None:
        """
        Where three in ten are lost, nothing is even tried: of a packet in fragments all would be.
        """
        self.assertEqual(self.transfer(replace(LAN, loss=0.3)).large, 0)

    def test_a_short_queue(self) -> None:
        """
        A queue that is shorter than the bursts ends it as well, and the transfer is no slower.
        """
        self.assertLess(self.transfer(replace(LAN, queue_limit=100), limit=1.0).share, 0.1)

    def test_no_datagram_is_larger_than_the_path_takes(self) -> None:
        """
        Fragments have the size that was found for packets; only a few probes are larger.
        """
        link = CountingLink(LAN, 5)
        pair = make_modern_pair(LAN, down=link, seed=5, keeps_events=False)
        receiver = start_bulk(pair, is_up=False, size=SIZE)
        run_until_true(pair, lambda: receiver.is_finished, limit=2.0)
        self.assertLess(link.too_large, 10)

    def test_the_path_takes_less_from_now_on(self) -> None:
        """
        Large datagrams begin to vanish in the middle: fragments end, and the transfer goes on.
        """
        pair = make_modern_pair(LAN, seed=5, keeps_events=False)
        receiver = start_bulk(pair, is_up=False, size=4 * SIZE)
        pair.run_for(0.4)
        pair.down.conditions = replace(LAN, mtu=1300)
        run_until_true(pair, lambda: receiver.is_finished, limit=3.0)

    def test_silence(self) -> None:
        """
        The second probe timeout in a row asks with what every path takes, even where so much is
        lost that it says nothing of the size.
        """
        pair = make_modern_pair(replace(LAN, loss=0.3), seed=5, keeps_events=False)
        start_bulk(pair, is_up=False)
        pair.run_for(0.5)
        connection = session_of(pair.server).connection
        self.assertEqual(connection.outbound.datagram_size, LARGEST)
        pair.down.conditions = replace(LAN, is_down=True)
        run_until_true(pair, lambda: connection.recovery.pto_count == 2, limit=2.0)
        self.assertEqual(connection.outbound.datagram_size, 1200)


class NewAddressTests(SynchronousTestCase):
    """
    A download in fragments, of a client that turns up elsewhere, as another host.
    """

    def setUp(self) -> None:
        """
        Let the transfer reach its speed.
        """
        sizes = Sizes()
        self.pair = make_modern_pair(LAN, seed=5, keeps_events=False, traces=(Trace(), sizes))
        start_bulk(self.pair, is_up=False)
        self.pair.run_for(0.4)
        self.assertGreater(sizes.share, 0.8)
        self.session, self.now = self.pair.server.session, self.pair.now
        self.insider = Insider(5)
        client, _ = agree(5)
        self.opener = Opener(client.secrets.cipher, client.secrets.receive)

    def receive(self, frame: bytes) -> int:
        """
        Let the server have a packet from there; returns its bytes.
        """
        packet = self.insider.seal(frame)
        self.session.receive_datagrams([packet], ELSEWHERE, now=self.now)
        return len(packet)

    def sent(self, *, seconds: float) -> list[bytes]:
        """
        What the server sends there within some time, alone in the world.
        """
        datagrams: list[bytes] = []
        session, end = self.session, self.now + seconds
        while self.now < end:
            now = self.now
            batches = *session.probes_to_send(now=now), *session.datagrams_to_send(now=now)
            datagrams += [each for path, batch in batches if path == ELSEWHERE for each in batch]
            timer = session.get_timer()
            self.now = min(end, max(now + 0.0001, end if timer is None else timer))
            session.handle_timer(now=self.now)
        return datagrams

    def check(self, datagrams: list[bytes], received: int) -> list[bytes]:
        """
        Each is a whole packet that the path takes (M-71), and all are three times as much as came
        from there at most (M-20); returns what is in them.
        """
        opened = [self.opener.open([each])[0] for each in datagrams]
        plaintexts = [each[1] for each in opened if each is not None]
        self.assertEqual(len(plaintexts), len(datagrams))
        self.assertLessEqual(max(map(len, datagrams)), LARGEST)
        self.assertLessEqual(sum(map(len, datagrams)), 3 * received)
        return plaintexts

    def test_the_old_address_is_gone(self) -> None:
        """
        The new one is used at once, in fragments from when it is validated (M-37, M-71).
        """
        self.session.path_closed(self.pair.client_path, now=self.now)
        received = self.receive(PING_FRAME + bytes(LARGEST - OVERHEAD - 1))
        self.assertEqual(self.session.path, ELSEWHERE)
        datagrams = self.sent(seconds=0.002)
        self.assertGreater(sum(map(len, datagrams)), 2 * LARGEST)
        challenge = self.check(datagrams, received)[0]
        self.receive(path_response_frame(challenge[1:]))
        opened = self.opener.open(self.sent(seconds=0.001))
        self.assertGreater(max(len(each[1]) for each in opened if each is not None), LARGEST)

    def test_the_old_address_may_still_work(self) -> None:
        """
        The new one gets challenges and acknowledgements (M-66), as long as it does not answer.
        """
        received = self.receive(PING_FRAME + bytes(LARGEST - OVERHEAD - 1))
        self.assertEqual(self.session.path, self.pair.client_path)
        self.assertGreater(len(self.check(self.sent(seconds=1), received)), 2)


class TrialTests(SynchronousTestCase):
    """
    When fragments are tried again.
    """

    def test_pauses_grow(self) -> None:
        """
        Each loss soon after a pause doubles it, up to a minute.
        """
        trial, now, pauses = FragmentTrial(), 100.0, []
        for _ in range(8):
            self.assertTrue(trial.is_on(now=now))
            trial.on_lost(now=now)
            began = now
            while not trial.is_on(now=now):
                now += 0.25
            pauses.append(now - began)
            now += 1
        self.assertEqual(pauses, [1, 2, 4, 8, 16, 32, 60, 60])
        self.assertEqual((pauses[0], pauses[-1]), (FIRST_PAUSE, LONGEST_PAUSE))

    def test_packets_grow(self) -> None:
        """
        They begin with few fragments, have more when those arrive, and begin anew after a loss.
        """
        trial, counts = FragmentTrial(), []
        for _ in range(5):
            counts.append(trial.count)
            trial.on_acked()
        self.assertEqual(counts, [FIRST_FRAGMENTS, 16, 32, 64, MAX_FRAGMENTS])
        trial.on_lost(now=10.0)
        self.assertEqual(trial.count, FIRST_FRAGMENTS)

    def test_losses_in_a_pause_do_not_count(self) -> None:
        """
        What is lost with the first packet left before.
        """
        trial = FragmentTrial()
        for now in (10.0, 10.1, 10.9):
            trial.on_lost(now=now)
        self.assertTrue(trial.is_on(now=11.0))

    def test_calm(self) -> None:
        """
        After ten pauses without a loss it begins anew.
        """
        trial = FragmentTrial()
        trial.on_lost(now=10.0)
        trial.on_lost(now=11.0)
        later = 13.0 + CALM_PAUSES * 2.0
        trial.on_lost(now=later)
        self.assertTrue(trial.is_on(now=later + FIRST_PAUSE))
