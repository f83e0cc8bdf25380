"""
Tests for :mod:`resip.tunnel.datagram` and :mod:`resip.tunnel.datagram_listener`.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ResetCode
from resip.core.types import Protocol, Target
from resip.tunnel.datagram import MAX_PENDING_DATAGRAMS, DatagramAttachment
from resip.tunnel.datagram_listener import (
    MAX_UDP_PEERS,
    REFUSAL_PAUSE,
    UDP_IDLE_TIMEOUT,
    DatagramListener,
)
from resip.tunnel.dialing import Dialer
from resip.tunnel.reactor import ITunnelReactor
from tests.support.channels import ChannelLink, MemoryChannel
from tests.tunnel.programs import RecordingUser

TARGET = Target(Protocol.UDP, "10.0.0.1", 53)


class DatagramAttachmentTests(SynchronousTestCase):
    """
    One UDP peer and its channel.
    """

    def setUp(self) -> None:
        """
        Open and attach.
        """
        self.clock = Clock()
        self.far = RecordingUser()
        self.sent: list[bytes] = []
        self.over: list[ResetCode | None] = []
        self.link = ChannelLink(self.clock, on_request=self._accept, window=100)
        self.attachment = DatagramAttachment(
            self.clock,
            self.sent.append,
            idle_timeout=10,
            on_over=lambda _, code: self.over.append(code),
        )

    def _accept(self, channel: MemoryChannel) -> None:
        self.far_channel = self.far.channel = channel
        channel.accept(self.far)

    def attach(self) -> None:
        """
        Give it its channel.
        """
        self.attachment.attach(self.link.open_channel(TARGET, self.attachment))
        self.turn()

    def turn(self) -> None:
        """
        Let everything be told.
        """
        for _ in range(10):
            self.clock.advance(0)

    def test_boundaries_are_kept(self) -> None:
        """
        Each datagram stays one datagram, in both directions.
        """
        self.attach()
        for data in (b"one", b"two"):
            self.attachment.datagram_received(data)
            self.far_channel.write(data)
        self.turn()
        self.assertEqual(self.far.heard, [b"one", b"two"])
        self.assertEqual(self.sent, [b"one", b"two"])
        self.assertEqual(self.far_channel.outstanding, 0)

    def test_a_full_channel_drops_and_counts(self) -> None:
        """
        A datagram that does not fit is dropped whole; later ones pass again.
        """
        self.attach()
        self.far.consumes = False
        self.attachment.datagram_received(bytes(80))
        self.attachment.datagram_received(bytes(80))
        self.turn()
        self.far_channel.consume(80)
        self.attachment.datagram_received(b"later")
        self.turn()
        self.assertEqual(self.far.received, bytes(80) + b"later")
        self.assertEqual(self.attachment.dropped, 1)

    def test_a_few_datagrams_wait_for_the_channel(self) -> None:
        """
        What comes before the channel goes first through it, up to a limit.
        """
        for number in range(MAX_PENDING_DATAGRAMS + 2):
            self.attachment.datagram_received(bytes([number]))
        self.attach()
        self.assertEqual(self.far.received, bytes(range(MAX_PENDING_DATAGRAMS)))
        self.assertEqual(self.attachment.dropped, 2)

    def test_silence_ends_it(self) -> None:
        """
        Each datagram of either direction restarts the idle timeout; then the channel is reset.
        """
        self.attach()
        self.clock.advance(9)
        self.attachment.datagram_received(b"a")
        self.clock.advance(9)
        self.far_channel.write(b"b")
        self.turn()
        self.clock.advance(9)
        self.assertEqual(self.over, [])
        self.clock.advance(1)
        self.turn()
        self.assertEqual(self.over, [None])
        self.assertEqual(self.far.heard[-1], ResetCode.CANCELLED)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_far_side_can_end_it(self) -> None:
        """
        When the far side ends this side ends too, and nothing more is sent.
        """
        self.attach()
        self.far_channel.end()
        self.turn()
        self.attachment.datagram_received(b"late")
        self.assertEqual(self.over, [None])
        self.assertEqual(self.far.heard, ["ended", "closed"])

    def test_a_reset_tells_its_reason(self) -> None:
        """
        Whoever owns it learns with which code the far side ended it, once.
        """
        self.attach()
        self.far_channel.reset(ResetCode.SESSION_LOST)
        self.turn()
        self.attachment.abort()
        self.assertEqual(self.over, [ResetCode.SESSION_LOST])


class DatagramListenerTests(SynchronousTestCase):
    """
    Many UDP peers.
    """

    def setUp(self) -> None:
        """
        A listener in front of channels that are all accepted.
        """
        self.reactor = MemoryReactorClock()
        self.requests: list[MemoryChannel] = []
        self.refusal: ResetCode | None = None
        self.link = ChannelLink(self.reactor, on_request=self._answer, max_channels=5000)
        dialer = Dialer(cast(ITunnelReactor, self.reactor), self.link, TARGET, compress=False)
        self.listener = DatagramListener(dialer, self.reactor)

    def _answer(self, channel: MemoryChannel) -> None:
        self.requests.append(channel)
        if self.refusal is None:
            user = RecordingUser()
            user.channel = channel
            channel.accept(user)
        else:
            channel.refuse(self.refusal)

    def send(self, source: int, data: bytes = b"x") -> None:
        """
        Receive a datagram from one of many sources.
        """
        host = f"127.0.{source >> 8}.{source & 255}"
        self.listener.datagramReceived(data, (host, 1000))
        for _ in range(3):
            self.reactor.advance(0)

    def test_each_source_has_its_channel(self) -> None:
        """
        The first datagram of a source opens a channel, further ones use it.
        """
        for source in (1, 2, 1):
            self.send(source)
        self.assertEqual(self.listener.peers, 2)
        self.assertEqual([each.peer.total_written for each in self.requests], [2, 1])

    def test_silent_sources_are_forgotten(self) -> None:
        """
        After the idle timeout a source starts again with a new channel.
        """
        self.send(1)
        self.reactor.advance(UDP_IDLE_TIMEOUT)
        self.assertEqual(self.listener.peers, 0)
        self.send(1)
        self.assertEqual(len(self.requests), 2)

    def test_a_full_table_forgets_the_longest_silent(self) -> None:
        """
        One source more than the table holds takes the place of the one silent longest.
        """
        for source in range(MAX_UDP_PEERS):
            self.listener.datagramReceived(b"x", (f"127.0.{source >> 8}.{source & 255}", 1000))
        self.send(0)
        self.send(MAX_UDP_PEERS)
        self.assertEqual(self.listener.peers, MAX_UDP_PEERS)
        self.assertEqual([each.channel_id for each in self.requests if each.is_gone], [2])

    def test_a_refused_target_is_not_asked_for_each_datagram(self) -> None:
        """
        After a refusal datagrams are dropped and counted for a while; the log tells the cure.
        """
        self.refusal = ResetCode.REFUSED
        for _ in range(4):
            self.send(1)
        self.assertEqual(len(self.requests), 1)
        self.assertEqual(self.listener.dropped, 3)
        self.reactor.advance(REFUSAL_PAUSE)
        self.send(1)
        self.assertEqual(len(self.requests), 2)
        self.successResultOf(self.listener.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_too_many_channels_drop_datagrams(self) -> None:
        """
        When the session has no room for another channel the datagram is dropped.
        """
        self.link.max_channels = 1
        self.send(1)
        self.send(2)
        self.assertEqual(self.listener.peers, 1)
        self.assertEqual(self.listener.dropped, 1)
