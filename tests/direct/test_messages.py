"""
Tests of :mod:`resip.direct.messages` and :mod:`resip.direct.sides`.
"""

from __future__ import annotations

import hashlib
import struct
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.errors import ProtocolError
from resip.direct.messages import (
    MAX_CHECKPOINTS,
    MAX_CONTROL,
    MAX_DATA,
    Checkpoint,
    Data,
    Done,
    End,
    Failed,
    FailureCode,
    Have,
    Message,
    MessageReader,
    Offer,
    Progress,
    Start,
)
from resip.direct.sides import ReceivingSide, SendingSide

DIGEST = bytes(range(32))
OFFER = Offer(b"name", 1000, 0o644)
MESSAGES: tuple[Message, ...] = (
    OFFER,
    Offer(b"", None, 0),
    Have(()),
    Have((Checkpoint(1, DIGEST), Checkpoint(1 << 40, DIGEST))),
    Start(1 << 40),
    Data(b""),
    Data(bytes(MAX_DATA)),
    End(7, DIGEST),
    Progress(9),
    Done(DIGEST),
    Failed(FailureCode.CHANGED, "it was changed"),
)


def header(kind: int, size: int) -> bytes:
    """
    What a message begins with.
    """
    return struct.pack("!BI", kind, size)


class MessageTests(SynchronousTestCase):
    """
    The bytes of messages.
    """

    def test_round_trip(self) -> None:
        """
        However the stream is cut, the same messages come out.
        """
        stream = b"".join(message.encode() for message in MESSAGES)
        dice = Random(3)
        for _ in range(20):
            reader, found, at = MessageReader(), list[Message](), 0
            while at < len(stream):
                step = dice.choice((1, 3, 1000, 100_000))
                found += reader.feed(stream[at : at + step])
                at += step
            self.assertEqual(tuple(found), MESSAGES)

    def test_what_is_none(self) -> None:
        """
        Unknown types, lengths beyond the limits and bodies of a wrong form are errors (T-5).
        """
        for data in (
            header(0x09, 0),
            header(0x04, MAX_DATA + 1),
            header(0x08, MAX_CONTROL + 1),
            header(0x01, 0),
            header(0x01, 11) + b"\x02" + bytes(10),
            header(0x01, 267) + b"\x01" + bytes(266),
            header(0x02, 39) + bytes(39),
            header(0x02, 80) + bytes(80),
            header(0x02, 40 * (MAX_CHECKPOINTS + 1)) + bytes(40 * (MAX_CHECKPOINTS + 1)),
            header(0x03, 7) + bytes(7),
            header(0x05, 39) + bytes(39),
            header(0x07, 31) + bytes(31),
            header(0x08, 0),
        ):
            with self.assertRaises(ProtocolError, msg=data.hex()):
                list(MessageReader().feed(data))

    def test_text_is_harmless(self) -> None:
        """
        What the other end writes cannot play with a terminal (T-10).
        """
        (failed,) = MessageReader().feed(Failed(1, "a\x1b[2J\r\nb\u202e").encode())
        assert isinstance(failed, Failed)
        self.assertEqual(failed.text, "a?[2J??b?")

    @given(st.binary(max_size=200))
    def test_fuzz(self, data: bytes) -> None:
        """
        Garbage raises ProtocolError or nothing, at either end.
        """
        sender = SendingSide(OFFER)
        sender.offer()
        for feed in (MessageReader().feed, sender.receive, ReceivingSide().receive):
            try:
                list(feed(data))
            except ProtocolError:
                continue


class SideTests(SynchronousTestCase):
    """
    What may be said when.
    """

    def setUp(self) -> None:
        """
        Two ends, and the offer made.
        """
        self.sender, self.receiver = SendingSide(OFFER), ReceivingSide()
        self.assertEqual(list(self.receiver.receive(self.sender.offer())), [OFFER])

    def answer(self, *checkpoints: Checkpoint) -> None:
        """
        The receiver says what it has.
        """
        list(self.sender.receive(self.receiver.have(checkpoints)))

    def test_a_transfer(self) -> None:
        """
        From a checkpoint to the end.
        """
        self.assertEqual(list(self.sender.receive(Progress(5).encode())), [Progress(5)])
        self.assertTrue(self.sender.owes_answer)
        self.answer(Checkpoint(400, DIGEST))
        list(self.receiver.receive(self.sender.start(400)))
        self.assertEqual((self.sender.sent, self.receiver.received), (400, 400))
        self.assertFalse(self.sender.owes_answer)
        (data,) = self.receiver.receive(self.sender.data(bytes(600)))
        self.assertEqual((data, self.receiver.received), (Data(bytes(600)), 1000))
        list(self.sender.receive(Progress(900).encode()))
        self.assertEqual(self.sender.confirmed, 900)
        (end,) = self.receiver.receive(self.sender.end(DIGEST))
        self.assertEqual(end, End(1000, DIGEST))
        (done,) = self.sender.receive(self.receiver.done(DIGEST))
        self.assertEqual((done, self.sender.confirmed), (Done(DIGEST), 1000))

    def test_long_data(self) -> None:
        """
        More than fits into a message goes into several.
        """
        sender, receiver = SendingSide(Offer(b"x", None, 0)), ReceivingSide()
        list(receiver.receive(sender.offer()))
        list(sender.receive(receiver.have(())))
        list(receiver.receive(sender.start(0)))
        self.assertEqual(len(list(receiver.receive(sender.data(bytes(2 * MAX_DATA + 1))))), 3)

    def assert_wrong(self, end: SendingSide | ReceivingSide, message: Message) -> None:
        """
        An end does not take a message now.
        """
        with self.assertRaises(ProtocolError, msg=repr(message)):
            list(end.receive(message.encode()))

    def test_out_of_turn(self) -> None:
        """
        Whatever comes at the wrong time is an error (T-5).
        """
        for early in (Start(0), Data(b"x"), End(0, DIGEST), OFFER, Done(DIGEST)):
            self.assert_wrong(self.receiver, early)
        for early in (Done(DIGEST), OFFER, Start(0)):
            self.assert_wrong(self.sender, early)

    def test_wrong_numbers(self) -> None:
        """
        Offsets that nobody named, more data than was offered, another end, progress beyond what
        was sent or backwards, and another hash than the sender's are errors (T-7, T-9).
        """
        self.answer(Checkpoint(400, DIGEST))
        self.assert_wrong(self.receiver, Start(399))
        list(self.receiver.receive(self.sender.start(0)))
        self.assert_wrong(self.receiver, Data(bytes(1001)))
        list(self.receiver.receive(self.sender.data(bytes(500))))
        self.assert_wrong(self.receiver, End(501, DIGEST))
        self.assert_wrong(self.sender, Progress(501))
        list(self.sender.receive(Progress(300).encode()))
        self.assert_wrong(self.sender, Progress(299))
        list(self.receiver.receive(self.sender.end(DIGEST)))
        self.assert_wrong(self.sender, Done(hashlib.sha256().digest()))

    def test_failures(self) -> None:
        """
        Either end may give up at any time, for a reason of a later version, too (T-10).
        """
        failed = Failed(0xEE, "why not")
        self.assertEqual(list(self.sender.receive(failed.encode())), [failed])
        self.assertEqual(list(self.receiver.receive(failed.encode())), [failed])
