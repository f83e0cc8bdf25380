"""
Tests of :mod:`resip.core.modern.inbound`: batches of packets, through a session.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.events import ChannelRequested
from resip.core.modern.frames import PING_FRAME, open_frame, stream_frames
from resip.core.modern.session import ModernSession
from tests.support.modern import Insider, make_modern_pair
from tests.support.pair import PLAIN, TCP_TARGET, get_events, get_received


class BatchTests(SynchronousTestCase):
    """
    Packets that arrive together.
    """

    def setUp(self) -> None:
        """
        A server, and somebody who speaks for its client.
        """
        self.pair = make_modern_pair(PLAIN)
        self.insider = Insider()

    def receive(self, *packets: bytes) -> bool:
        """
        Hand the server a batch.
        """
        session = self.pair.server.session
        assert isinstance(session, ModernSession)
        path = self.pair.client_path
        is_authentic = session.receive_datagrams(packets, path, now=self.pair.now)
        self.pair.server.flush()
        return is_authentic

    def test_a_bad_packet_costs_only_itself(self) -> None:
        """
        Those before and behind it count, and the batch is authentic.
        """
        packets = [self.insider.seal(open_frame(number, TCP_TARGET)) for number in (1, 3, 5)]
        packets[1] = packets[1][:-1] + bytes([packets[1][-1] ^ 1])
        self.assertTrue(self.receive(*packets, b"", bytes(100)))
        requested = get_events(self.pair.server, ChannelRequested)
        self.assertEqual([event.channel_id for event in requested], [1, 5])

    def test_nothing_genuine(self) -> None:
        """
        The caller is told so.
        """
        self.assertFalse(self.receive(b"", bytes(25), bytes(1500)))

    def test_a_packet_twice_in_a_batch(self) -> None:
        """
        It counts once (M-13).
        """
        packet = self.insider.seal(open_frame(1, TCP_TARGET))
        self.receive(packet, packet)
        self.assertEqual(len(get_events(self.pair.server, ChannelRequested)), 1)

    def test_a_copy_gets_no_answer(self) -> None:
        """
        M-33: what brings nothing new is acknowledged with the next packet that does, unless it
        comes so late that somebody may wait for it.
        """
        counters = self.pair.down.counters
        self.receive(self.insider.seal(open_frame(1, TCP_TARGET)))
        self.pair.server.session.accept_channel(1, now=self.pair.now)
        self.pair.server.flush()
        self.pair.run_for(0.1)
        [frame] = stream_frames(1, 0, [b"text"])
        before = counters.sent
        self.receive(self.insider.seal(frame))
        self.pair.run_for(0.01)
        self.assertEqual(counters.sent, before + 1)
        self.receive(self.insider.seal(frame))
        self.pair.run_for(0.02)
        self.assertEqual(counters.sent, before + 1)
        self.receive(self.insider.seal(frame))
        self.pair.run_for(0.01)
        self.assertEqual(counters.sent, before + 2)

    def test_each_size_of_channel_id(self) -> None:
        """
        All STREAM frames are the same but for their length (M-25), alone or behind others.
        """
        for channel_id in (1, 301, 7001):
            self.receive(self.insider.seal(open_frame(channel_id, TCP_TARGET)))
            self.pair.server.session.accept_channel(channel_id, now=self.pair.now)
            self.receive(self.insider.seal(*stream_frames(channel_id, 0, [b"one "])))
            frames = (PING_FRAME, *stream_frames(channel_id, 4, [b"two"]))
            self.receive(self.insider.seal(*frames))
            self.assertEqual(get_received(self.pair.server, channel_id), b"one two")
