"""
Tests of :mod:`resip.services.direct_sender` and :mod:`resip.services.direct_receiver`: both in one
process, with real sockets on loopback.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from random import Random
from typing import cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from resip.core.modern.noise import public_key_of
from resip.core.types import Protocol, Target
from resip.direct.destinations import StreamDestination
from resip.direct.errors import KeyFileError, TransferError
from resip.direct.messages import FailureCode
from resip.direct.sources import FileSource, Source, StreamSource
from resip.lab.link import LinkConditions
from resip.lab.reactor import ILabReactor
from resip.lab.relay import UDPRelay
from resip.services import direct_line, direct_sender
from resip.services.direct_line import Address, Peer
from resip.services.direct_receiver import (
    DirectReceiver,
    ListenAddress,
    ReceiverConfiguration,
)
from resip.services.direct_sender import DirectSender
from tests.tunnel.programs import eventually, the_reactor

HOST = "127.0.0.1"
SENDER_KEY, RECEIVER_KEY = (
    X25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2)
)
CONTENT = Random(1).randbytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).digest()


class Notes:
    """
    A reporter that remembers.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.shown: list[str] = []

    def say(self, text: str) -> None:
        """
        See :class:`~resip.services.direct_channel.Reporter`.
        """
        self.said.append(text)

    def show(self, text: str) -> None:
        """
        See :class:`~resip.services.direct_channel.Reporter`.
        """
        self.shown.append(text)


class DirectTestCase(TestCase):
    """
    A directory for what comes.
    """

    def setUp(self) -> None:
        """
        Make it, and be impatient.
        """
        self.reactor = the_reactor()
        self.inbox = Path(self.mktemp())
        self.inbox.mkdir()
        self.receiver_notes = Notes()
        self.sender_notes = Notes()
        self.patch(direct_sender, "SHOW_INTERVAL", 0.05)
        self.patch(direct_sender, "HINT_AFTER", 0.3)

    def receive(
        self,
        *,
        carrier: str = "udp",
        port: int = 0,
        stream: StreamDestination | None = None,
        is_once: bool = False,
    ) -> DirectReceiver:
        """
        A receiver, until the test ends.
        """
        configuration = ReceiverConfiguration(
            listen=[ListenAddress(carrier, HOST, port)],
            static_key=RECEIVER_KEY,
            peers=[public_key_of(SENDER_KEY)],
            output=self.inbox if stream is None else None,
            is_once=is_once,
        )
        receiver = DirectReceiver(
            self.reactor,
            configuration,
            reporter=self.receiver_notes,
            stream=stream,
            random_bytes=os.urandom,
        )
        receiver.startService()
        self.addCleanup(receiver.stopService)
        return receiver

    def file(self, content: bytes = CONTENT, name: bytes = b"name") -> FileSource:
        """
        A file to be sent.
        """
        self.path = Path(self.mktemp())
        self.path.write_bytes(content)
        source = FileSource(os.open(self.path, os.O_RDONLY), name)
        self.addCleanup(source.close)
        return source

    def sender(
        self,
        source: Source,
        port: int,
        *,
        carrier: str = "udp",
        peer: X25519PrivateKey = RECEIVER_KEY,
    ) -> DirectSender:
        """
        A sender.
        """
        return DirectSender(
            self.reactor,
            Peer(Address(carrier, HOST, port), SENDER_KEY, public_key_of(peer)),
            source,
            reporter=self.sender_notes,
            hint="look here",
            random_bytes=os.urandom,
        )

    def send(self, source: Source, port: int, *, carrier: str = "udp") -> Deferred[bytes]:
        """
        Send something; fires with its hash.
        """
        return Deferred.fromCoroutine(self.sender(source, port, carrier=carrier).run())

    async def fails(self, sending: Deferred[bytes], code: FailureCode) -> str:
        """
        A transfer fails for a reason; returns what is told.
        """
        try:
            await sending
        except TransferError as error:
            self.assertIs(error.code, code)
            return str(error)
        raise AssertionError("it was sent")


class TransferTests(DirectTestCase):
    """
    From one to the other.
    """

    async def test_files(self) -> None:
        """
        Several in a row, by either carrier, and the same once more.
        """
        for carrier in ("udp", "tcp"):
            receiver = self.receive(carrier=carrier)
            for name in (b"one", b"two", b"two"):
                name += carrier.encode()
                sending = self.send(self.file(name=name), receiver.ports[0], carrier=carrier)
                self.assertEqual(await sending, DIGEST)
                self.assertEqual((self.inbox / name.decode()).read_bytes(), CONTENT)
        self.assertEqual(len(list(self.inbox.iterdir())), 4)

    async def test_empty(self) -> None:
        """
        A file of no bytes is a file.
        """
        receiver = self.receive()
        await self.send(self.file(b""), receiver.ports[0])
        self.assertEqual((self.inbox / "name").read_bytes(), b"")

    async def test_loss_outage_and_new_addresses(self) -> None:
        """
        Over a link that loses a fifth, goes down in the middle and comes back with another
        address, it arrives in the same session.
        """
        receiver = self.receive(is_once=True)
        conditions = LinkConditions(delay=0.005, loss=0.2)
        relay = UDPRelay(
            cast(ILabReactor, self.reactor),
            (HOST, 0),
            (HOST, receiver.ports[0]),
            up_conditions=conditions,
            down_conditions=conditions,
            seed=4,
        )
        relay.startService()
        self.addCleanup(relay.stopService)
        sending = self.send(self.file(), relay.port)
        part = self.inbox / "name.resip-part"
        await eventually(lambda: part.exists() and part.stat().st_size > 300_000, seconds=30)
        relay.down()
        await deferLater(self.reactor, 0.5, lambda: None)
        relay.change_address()
        relay.up()
        self.assertEqual(await sending, DIGEST)
        await receiver.done
        self.assertEqual((self.inbox / "name").read_bytes(), CONTENT)
        self.assertEqual(len(self.receiver_notes.said), 1)

    async def test_a_stream_into_a_stream(self) -> None:
        """
        What is put in at one end comes out at the other, before the end is known.
        """
        written: list[bytes] = []
        receiver = self.receive(stream=StreamDestination(written.append))
        source = StreamSource()
        sender = self.sender(source, receiver.ports[0])
        sending = Deferred.fromCoroutine(sender.run())
        for at in range(0, len(CONTENT), 500_000):
            source.put(CONTENT[at : at + 500_000])
            sender.source_ready()
            await eventually(lambda at=at: sum(map(len, written)) == at + 500_000)  # type: ignore[misc]
        source.put(b"")
        sender.source_ready()
        self.assertEqual(await sending, DIGEST)
        self.assertEqual(b"".join(written), CONTENT)

    async def test_a_reader_that_is_behind(self) -> None:
        """
        A stream that is full holds the sender up, until it is not.
        """
        written: list[bytes] = []
        is_full = True
        stream = StreamDestination(written.append, lambda: is_full)
        receiver = self.receive(stream=stream)
        sending = self.send(self.file(CONTENT * 4), receiver.ports[0])
        await eventually(lambda: written)
        await deferLater(self.reactor, 0.5, lambda: None)
        self.assertLess(sum(map(len, written)), 9_000_000)
        is_full = False
        receiver.stream_drained()
        await sending
        self.assertEqual(b"".join(written), CONTENT * 4)


class RefusalTests(DirectTestCase):
    """
    What does not work, and what is told.
    """

    async def test_no_answer(self) -> None:
        """
        Whoever hears nothing is told what may be wrong, once, and goes on trying.
        """
        receiver = self.receive()
        stranger = X25519PrivateKey.from_private_bytes(b"\x09" * 32)
        sending = Deferred.fromCoroutine(
            self.sender(self.file(), receiver.ports[0], peer=stranger).run()
        )
        await deferLater(self.reactor, 0.8, lambda: None)
        self.assertEqual(self.sender_notes.said, ["look here"])
        sending.cancel()
        await self.assertFailure(sending, CancelledError)
        self.assertEqual(self.receiver_notes.said, [])

    async def test_a_key_that_cannot_be_one(self) -> None:
        """
        A point of low order is told as such.
        """
        peer = Peer(Address("udp", HOST, 1), SENDER_KEY, bytes(32))
        sender = DirectSender(
            self.reactor,
            peer,
            self.file(),
            reporter=self.sender_notes,
            hint="",
            random_bytes=os.urandom,
        )
        await self.assertFailure(Deferred.fromCoroutine(sender.run()), KeyFileError)

    async def test_other_targets(self) -> None:
        """
        A receiver leads nowhere else, whoever asks (T-4).
        """
        self.patch(direct_line, "TARGET", Target(Protocol.TCP, HOST, 22))
        receiver = self.receive()
        sending = self.send(self.file(), receiver.ports[0])
        self.assertIn("check --to", await self.fails(sending, FailureCode.PROTOCOL))

    async def test_names(self) -> None:
        """
        A name that leads elsewhere is refused, at both ends.
        """
        receiver = self.receive()
        sending = self.send(self.file(name=b"../name"), receiver.ports[0])
        told = await self.fails(sending, FailureCode.BAD_NAME)
        self.assertIn("is no plain file name", told)
        self.assertIn(told, self.receiver_notes.said[0])
        self.assertEqual(list(self.inbox.iterdir()), [])

    async def test_a_file_that_changes(self) -> None:
        """
        It is not complete at the other end.
        """
        receiver = self.receive()
        source = self.file()
        os.utime(self.path, ns=(1, 1))
        sending = self.send(source, receiver.ports[0])
        await self.fails(sending, FailureCode.CHANGED)
        await eventually(lambda: self.receiver_notes.said)
        self.assertIn("was changed while it was sent", self.receiver_notes.said[0])
        self.assertEqual([path.name for path in self.inbox.iterdir()], ["name.resip-part"])

    async def test_another_sender_of_the_same_name(self) -> None:
        """
        The last one wins; the first is told and gives up.
        """
        receiver = self.receive()
        source = StreamSource(b"name")
        source.put(CONTENT[:1000])
        first = self.send(source, receiver.ports[0])
        part = self.inbox / "name.resip-part"
        await eventually(lambda: part.exists() and part.stat().st_size == 1000)
        second = self.send(self.file(), receiver.ports[0])
        self.assertIn("another sender", await self.fails(first, FailureCode.REPLACED))
        self.assertEqual(await second, DIGEST)
        self.assertEqual((self.inbox / "name").read_bytes(), CONTENT)

    async def test_a_receiver_that_stops(self) -> None:
        """
        Its sender waits for it, and goes on where it was when it is there again.
        """
        receiver = self.receive()
        source = StreamSource(b"name")
        source.put(CONTENT[:2_000_000])
        sender = self.sender(source, receiver.ports[0])
        sending = Deferred.fromCoroutine(sender.run())
        part = self.inbox / "name.resip-part"
        await eventually(lambda: part.exists() and part.stat().st_size == 2_000_000)
        port = receiver.ports[0]
        await receiver.stopService()
        self.assertEqual(part.stat().st_size, 2_000_000)
        source.put(CONTENT[2_000_000:])
        source.put(b"")
        self.receive(port=port)
        self.assertEqual(await sending, DIGEST)
        self.assertIn("of them of before", self.receiver_notes.said[-1])


class AddressTests(TestCase):
    """
    Where to listen and where to send.
    """

    def test_addresses(self) -> None:
        """
        They are read, and written the same way.
        """
        for text in ("udp:host.example:7000", "tcp:192.0.2.1:1", "udp:[2001:db8::1]:65535"):
            self.assertEqual(str(Address.parse(text)), text)
        for text in ("", "host:1", "udp:1", "sctp:h:1", "udp:h:0", "udp:h:65536", "udp:a b:1"):
            self.assertRaises(ValueError, Address.parse, text)

    def test_listening(self) -> None:
        """
        A port alone means every address of the machine.
        """
        self.assertEqual(ListenAddress.parse("udp:7000"), ListenAddress("udp", "", 7000))
        self.assertEqual(ListenAddress.parse("tcp:[::1]:0"), ListenAddress("tcp", "::1", 0))
        for text in ("7000", "udp:", "udp:host:1", "tcp:65536"):
            self.assertRaises(ValueError, ListenAddress.parse, text)
