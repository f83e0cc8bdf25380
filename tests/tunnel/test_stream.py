"""
Tests for :mod:`resip.tunnel.stream`.
"""

from __future__ import annotations

import gc
import weakref

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ResetCode
from resip.core.types import Protocol, Target
from resip.tunnel.stream import DISCARD_LIMIT, StreamAttachment
from tests.support.channels import ChannelLink, MemoryChannel
from tests.tunnel.programs import MemoryTransport, RecordingUser

TARGET = Target(Protocol.TCP, "server.example", 80)

DONE = Failure(ConnectionDone())
LOST = Failure(ConnectionLost())


class StreamTestCase(SynchronousTestCase):
    """
    One attachment between a socket in memory and a channel in memory.
    """

    window = 100
    portion = 100
    is_immediate = False

    def setUp(self) -> None:
        """
        Connect, open, attach.
        """
        self.clock = Clock()
        self.far = RecordingUser()
        link = ChannelLink(
            self.clock,
            on_request=self._accept,
            window=self.window,
            portion=self.portion,
            is_immediate=self.is_immediate,
        )
        self.over: list[StreamAttachment] = []
        self.attachment = StreamAttachment(self.over.append)
        self.transport = MemoryTransport()
        self.attachment.makeConnection(self.transport)
        self.near_channel = link.open_channel(TARGET, self.attachment)
        self.attachment.attach(self.near_channel)
        self.turn()

    def _accept(self, channel: MemoryChannel) -> None:
        self.far_channel = channel
        self.far.channel = channel
        channel.accept(self.far)

    def turn(self, count: int = 20) -> None:
        """
        Let everything be told that is to be told.
        """
        for _ in range(count):
            self.clock.advance(0)

    def producer(self) -> IPushProducer:
        """
        What the transport pauses and resumes.
        """
        producer: IPushProducer | None = self.transport.producer
        assert producer is not None
        return producer


class AttachTests(SynchronousTestCase):
    """
    The time before there is a channel.
    """

    def test_nothing_is_read_before_there_is_a_channel(self) -> None:
        """
        A new connection is paused until a channel is attached, and its socket is prepared.
        """
        attachment, transport = StreamAttachment(lambda _: None), MemoryTransport()
        attachment.makeConnection(transport)
        self.assertEqual(transport.producerState, "paused")
        self.assertTrue(transport.noDelay and transport.keepAlive)
        attachment.attach(ChannelLink(Clock()).open_channel(TARGET, attachment))
        self.assertEqual(transport.producerState, "producing")

    def test_reading_can_wait_for_the_far_side(self) -> None:
        """
        With ``read_when_opened`` the socket is read once the far side has connected.
        """
        attachment, transport = StreamAttachment(lambda _: None), MemoryTransport()
        attachment.makeConnection(transport)
        channel = ChannelLink(Clock()).open_channel(TARGET, attachment)
        attachment.attach(channel, read_when_opened=True)
        self.assertEqual(transport.producerState, "paused")
        attachment.channel_opened()
        self.assertEqual(transport.producerState, "producing")

    def test_a_connection_lost_before_is_over(self) -> None:
        """
        A channel that comes too late for its connection is reset.
        """
        over: list[StreamAttachment] = []
        attachment = StreamAttachment(over.append)
        attachment.makeConnection(MemoryTransport())
        attachment.connectionLost(LOST)
        self.assertEqual(over, [attachment])
        channel = ChannelLink(Clock()).open_channel(TARGET, attachment)
        attachment.attach(channel)
        self.assertTrue(channel.is_gone)


class ToChannelTests(StreamTestCase):
    """
    From the socket into the channel.
    """

    def test_bytes_pass(self) -> None:
        """
        What the socket receives the far user receives.
        """
        self.attachment.dataReceived(b"hello")
        self.turn()
        self.assertEqual(self.far.received, b"hello")

    def test_a_full_channel_stops_reading(self) -> None:
        """
        While the channel does not accept everything the socket is paused; nothing is lost.
        """
        self.far.consumes = False
        self.attachment.dataReceived(bytes(150))
        self.turn()
        self.assertEqual(self.transport.producerState, "paused")
        self.far_channel.consume(100)
        self.turn()
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(len(self.far.received), 150)

    def test_the_end_follows_the_data(self) -> None:
        """
        After its end of file the socket's last bytes go first, then the channel ends.
        """
        self.far.consumes = False
        self.attachment.dataReceived(bytes(150))
        self.attachment.readConnectionLost()
        self.turn()
        self.assertNotIn("ended", self.far.heard)
        self.far_channel.consume(100)
        self.turn()
        self.assertEqual(len(self.far.received), 150)
        self.assertEqual(self.far.heard[-1], "ended")

    def test_last_words_survive_the_connection(self) -> None:
        """
        What a program sent before its end of file arrives although its socket is lost then.
        """
        self.far.consumes = False
        self.attachment.dataReceived(bytes(150))
        self.attachment.readConnectionLost()
        self.attachment.connectionLost(LOST)
        self.turn()
        self.far_channel.consume(100)
        self.turn()
        self.assertEqual(len(self.far.received), 150)
        self.assertEqual(self.far.heard[-1], "ended")
        self.far_channel.end()
        self.turn()
        self.assertEqual(self.over, [self.attachment])


class LossTests(StreamTestCase):
    """
    Sockets that end in the middle of things.
    """

    def test_a_socket_at_its_end_is_not_read_again(self) -> None:
        """
        Neither a writable nor an opened channel resumes a socket that has ended.
        """
        self.far.consumes = False
        self.attachment.dataReceived(bytes(150))
        self.attachment.readConnectionLost()
        self.far_channel.consume(100)
        self.turn()
        self.attachment.channel_opened()
        self.assertFalse(self.attachment.is_reading)
        self.assertEqual(self.transport.producerState, "paused")

    def test_a_reset_socket_resets_the_channel(self) -> None:
        """
        A connection lost before its end of file takes its data with it.
        """
        self.attachment.dataReceived(bytes(150))
        self.attachment.connectionLost(LOST)
        self.turn()
        self.assertEqual(self.far.heard, [ResetCode.CANCELLED])
        self.assertEqual(self.over, [self.attachment])

    def test_a_gone_program_is_not_written_to_for_ever(self) -> None:
        """
        What arrives for a program that is gone is dropped, and too much of it resets the channel.
        """
        self.attachment.readConnectionLost()
        self.attachment.connectionLost(LOST)
        self.turn()
        for _ in range(DISCARD_LIMIT // 100):
            self.assertEqual(self.far_channel.write(bytes(100)), 100)
            self.turn(1)
        self.assertEqual(self.over, [])
        self.far_channel.write(bytes(100))
        self.turn()
        self.assertEqual(self.far.heard[-1], ResetCode.CANCELLED)
        self.assertEqual(self.over, [self.attachment])


class SmallPortionTests(ToChannelTests):
    """
    The same through a channel that accepts seven bytes at a time.
    """

    portion = 7

    def turn(self, count: int = 60) -> None:
        """
        As many more turns.
        """
        super().turn(count)


class ReentrantTests(ToChannelTests):
    """
    The same with a channel that calls back while it is being called.
    """

    portion = 7
    is_immediate = True


class FromChannelTests(StreamTestCase):
    """
    From the channel into the socket.
    """

    def test_bytes_pass_and_are_consumed(self) -> None:
        """
        The socket gets what the far user writes, and the window opens again.
        """
        for _ in range(3):
            self.assertEqual(self.far_channel.write(bytes(100)), 100)
            self.turn()
        self.assertEqual(len(self.transport.value()), 300)

    def test_a_slow_reader_is_not_consumed_for(self) -> None:
        """
        While the socket's buffer is full the window stays closed, and opens when it drains.
        """
        self.producer().pauseProducing()
        self.assertEqual(self.far_channel.write(bytes(150)), 100)
        self.turn()
        self.assertTrue(self.attachment.is_socket_full)
        self.assertEqual(self.far_channel.outstanding, 100)
        self.producer().resumeProducing()
        self.assertEqual(self.far_channel.outstanding, 0)
        self.turn()
        self.assertIn("writable", self.far.heard)

    def test_the_end_follows_the_data(self) -> None:
        """
        The end of the channel becomes an end of file after what is buffered.
        """
        self.producer().pauseProducing()
        self.far_channel.write(b"last words")
        self.far_channel.end()
        self.turn()
        self.assertEqual(self.transport.value(), b"last words")
        self.assertEqual(self.transport.ends, ["end"])
        self.assertIsNone(self.transport.producer)
        self.attachment.dataReceived(b"still heard")
        self.turn()
        self.assertEqual(self.far.received, b"still heard")

    def test_a_reset_channel_resets_the_socket(self) -> None:
        """
        The program sees a reset, not an end of file that would look like success.
        """
        self.far_channel.reset(ResetCode.SESSION_LOST)
        self.turn()
        self.assertEqual(self.transport.ends, ["abort"])

    def test_a_reset_after_the_end_spares_the_data(self) -> None:
        """
        When the far side had said all it had to say a reset closes behind it.
        """
        self.far_channel.end()
        self.turn()
        self.far_channel.reset(ResetCode.SESSION_LOST)
        self.turn()
        self.assertEqual(self.transport.ends, ["end", "close"])

    def test_both_ends_at_once_close(self) -> None:
        """
        When both sides end in the same turn the connection closes and the attachment is over.
        """
        self.attachment.readConnectionLost()
        self.far_channel.end()
        self.turn()
        self.assertEqual(self.transport.ends, ["end", "close"])
        self.assertEqual(self.far.heard[-1], "closed")
        self.attachment.connectionLost(DONE)
        self.assertEqual(self.over, [self.attachment])

    def test_abort_resets_both(self) -> None:
        """
        ``abort`` gives up the connection and the channel, once.
        """
        self.attachment.abort()
        self.attachment.connectionLost(LOST)
        self.attachment.abort()
        self.turn()
        self.assertEqual(self.transport.ends, ["abort"])
        self.assertEqual(self.far.heard, [ResetCode.CANCELLED])
        self.assertEqual(self.over, [self.attachment])

    def test_nothing_refers_to_what_is_over(self) -> None:
        """
        Without the garbage collector's help the attachment is freed when it is over.
        """
        freed = weakref.ref(self.attachment)
        self.far_channel.reset()
        self.turn()
        self.transport.unregisterProducer()
        self.attachment.connectionLost(LOST)
        self.over.clear()
        gc.disable()
        self.addCleanup(gc.enable)
        del self.attachment
        self.assertIsNone(freed())
