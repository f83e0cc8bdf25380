"""
Tests of :mod:`resip.core.modern.flow`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.flow import Flow
from resip.core.modern.flow_control import SendCredit
from resip.core.modern.frames import datagram_frame
from resip.core.modern.send_stream import SendStream

LIFETIME = 0.25
ROOM = 1000


def make_flow(*, credit: int = 10_000, queue: int = 4) -> Flow:
    """
    A flow with nothing to send.
    """
    stream = SendStream(limit=100_000)
    return Flow(1, stream, SendCredit(credit), datagram_lifetime=LIFETIME, datagram_queue=queue)


class SendableTests(SynchronousTestCase):
    """
    What the scheduler asks.
    """

    def test_nothing(self) -> None:
        """
        A new channel has nothing to send.
        """
        self.assertFalse(make_flow().has_sendable(1000))

    def test_data_needs_both_credits(self) -> None:
        """
        The channel's and the session's.
        """
        flow = make_flow()
        flow.stream.write(b"data")
        self.assertTrue(flow.has_sendable(1))
        self.assertFalse(flow.has_sendable(0))
        blocked = make_flow(credit=0)
        blocked.stream.write(b"data")
        self.assertFalse(blocked.has_sendable(1000))

    def test_lost_data_needs_none(self) -> None:
        """
        It was paid for when it was sent first.
        """
        flow = make_flow()
        flow.stream.write(b"data")
        flow.stream.cut(1, 100, credit=100)
        flow.stream.on_lost(0, 4)
        self.assertTrue(flow.has_sendable(0))

    def test_an_end_comes_after_everything(self) -> None:
        """
        After the data that was never sent, and after datagrams that wait.
        """
        flow = make_flow()
        flow.stream.write(b"data")
        flow.stream.end()
        self.assertFalse(flow.end_is_due)
        flow.stream.cut(1, 100, credit=100)
        self.assertTrue(flow.end_is_due)
        flow.queue_datagram(b"late", now=1.0)
        self.assertFalse(flow.end_is_due)


class DatagramTests(SynchronousTestCase):
    """
    Datagrams wait a little, whole, and in order.
    """

    def take(self, flow: Flow, room: int, *, rtt: float = 0.1, now: float = 1.0) -> list[bytes]:
        """
        What goes into a packet with so much room.
        """
        return flow.take_datagrams(room, largest=ROOM, rtt=rtt, now=now)

    def test_several_share_a_packet(self) -> None:
        """
        As many as fit; the others stay.
        """
        flow = make_flow()
        for number in range(3):
            flow.queue_datagram(bytes([number]) * 100, now=1.0)
        frames = self.take(flow, 220)
        self.assertEqual(frames, [datagram_frame(1, bytes([n]) * 100) for n in range(2)])
        self.assertTrue(flow.has_datagrams)

    def test_one_that_fits_into_an_empty_packet_waits_for_one(self) -> None:
        """
        That acknowledgements take some room now is no reason to drop it.
        """
        flow = make_flow()
        flow.queue_datagram(bytes(ROOM - 7), now=1.0)
        self.assertEqual(self.take(flow, ROOM - 1), [])
        self.assertEqual(len(self.take(flow, ROOM)), 1)

    def test_one_that_never_fits_is_dropped_and_counted(self) -> None:
        """
        It does not hold up those behind it.
        """
        flow = make_flow()
        flow.queue_datagram(bytes(ROOM - 6), now=1.0)
        flow.queue_datagram(b"small", now=1.0)
        self.assertEqual(self.take(flow, ROOM), [datagram_frame(1, b"small")])
        self.assertEqual(flow.dropped, 1)

    def test_a_full_queue_loses_the_oldest(self) -> None:
        """
        What is new is worth more.
        """
        flow = make_flow(queue=2)
        for number in range(5):
            flow.queue_datagram(bytes([number]), now=1.0)
        self.assertEqual(flow.dropped, 3)
        self.assertEqual(self.take(flow, ROOM), [datagram_frame(1, bytes([n])) for n in (3, 4)])

    def test_expiry(self) -> None:
        """
        After a quarter of a second, or a round trip if that is longer (M-29).
        """
        for rtt, now, expected in ((0.1, 1.25, 1), (0.1, 1.26, 0), (0.6, 1.5, 1), (0.6, 1.7, 0)):
            flow = make_flow()
            flow.queue_datagram(b"tick", now=1.0)
            self.assertEqual(len(self.take(flow, ROOM, rtt=rtt, now=now)), expected, (rtt, now))
            self.assertFalse(flow.has_datagrams)
