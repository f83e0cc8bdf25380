"""
Tests of :mod:`resip.carriers.udp_socket`: many datagrams with one system call, on loopback.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Sequence
from itertools import groupby
from random import Random
from typing import Any, ClassVar, TypeVar, cast
from unittest import skipUnless

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from resip.carriers.udp import UDPCarrier
from resip.carriers.udp_socket import (
    BUFFER_SIZE,
    MAX_WAITING,
    SO_RCVBUFFORCE,
    SO_SNDBUFFORCE,
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
    BatchPort,
    listen_udp,
)
from resip.core.types import Path
from tests.support.network import DatagramReactor, MemoryPort
from tests.tunnel.programs import eventually, the_reactor

AnyPort = TypeVar("AnyPort", bound=BatchPort)


def has_trains() -> bool:
    """
    Whether the kernel segments and glues.
    """
    if sys.platform != "linux":
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(SOL_UDP, UDP_GRO, 1)
            probe.setsockopt(SOL_UDP, UDP_SEGMENT, 1200)
        except OSError:
            return False
    return True


class StubbornSocket(socket.socket):
    """
    A socket of a system that does not do all it is asked for.

    :ivar refusals: what the next calls that send raise, by the name of the call; 0 lets one pass.
    """

    refusals: dict[str, list[int]]

    def _refuse(self, call: str) -> None:
        number = self.refusals[call].pop(0) if self.refusals[call] else 0
        if number:
            raise OSError(number, "refused")

    def sendto(self, *arguments: Any) -> int:
        """
        Send one datagram.
        """
        self._refuse("sendto")
        return super().sendto(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        """
        Send a train.
        """
        self._refuse("sendmsg")
        return super().sendmsg(*arguments)

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        """
        Only root may ask for more than the cap.
        """
        if level == socket.SOL_SOCKET and option in (SO_RCVBUFFORCE, SO_SNDBUFFORCE):
            raise PermissionError
        super().setsockopt(level, option, *value)

    def getsockopt(self, level: int, option: int, *length: Any) -> Any:
        """
        The cap is what Linux has by default.
        """
        if level == socket.SOL_SOCKET and option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            return 2 * 212_992
        return super().getsockopt(level, option, *length)


class StubbornPort(BatchPort):
    """
    A port with such a socket.
    """

    told: ClassVar[set[str]] = set()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.refusals: dict[str, list[int]] = {"sendto": [], "sendmsg": []}

    def createInternetSocket(self) -> socket.socket:
        """
        Twisted calls this to make the socket.
        """
        opened = StubbornSocket(self.addressFamily, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.refusals = self.refusals
        return opened


class SocketCase(TestCase):
    """
    A carrier that sends and one that receives.
    """

    interface = "127.0.0.1"

    def setUp(self) -> None:
        """
        Open both.
        """
        self.batches: list[list[bytes]] = []
        self.refused: list[int] = []
        self.writable: list[Path] = []
        self.far = self.open(UDPCarrier(self.receive), BatchPort)
        self.carrier = UDPCarrier(
            lambda packets, path: True,
            on_unsendable=lambda path, size: self.refused.append(size),
            on_writable=self.writable.append,
        )
        self.port = self.open(self.carrier, StubbornPort)
        self.refusals = self.port.refusals
        self.path = Path("udp", (self.interface, self.far.getHost().port))

    def open(self, carrier: UDPCarrier, kind: type[AnyPort]) -> AnyPort:
        """
        A socket for a carrier.
        """
        port = kind(0, carrier, self.interface, the_reactor())
        port.startListening()
        self.addCleanup(port.stopListening)
        return port

    def receive(self, packets: Sequence[bytes], path: Path) -> bool:
        """
        Keep them.
        """
        self.batches.append(list(packets))
        return True

    @property
    def received(self) -> list[bytes]:
        """
        All packets that arrived.
        """
        return [packet for batch in self.batches for packet in batch]

    async def arrive(self, packets: list[bytes]) -> None:
        """
        Wait until all came, and see that they are the ones.
        """
        await eventually(lambda: len(self.received) >= len(packets))
        self.assertEqual(self.received, packets)


def some_packets(*sizes: int) -> list[bytes]:
    """
    Packets of these sizes, all different.
    """
    dice = Random(len(sizes))
    return [dice.randbytes(size) for size in sizes]


@skipUnless(has_trains(), "the kernel neither segments nor glues UDP datagrams")
class TrainTests(SocketCase):
    """
    Real trains.
    """

    async def test_a_train_arrives(self) -> None:
        """
        Every packet arrives, in order, and several of them with one call.
        """
        packets = some_packets(*[1200] * 70, 300)
        self.carrier.send(self.path, packets)
        await self.arrive(packets)
        self.assertLess(len(self.batches), len(packets) / 10)

    async def test_mixed_sizes(self) -> None:
        """
        Sizes that change all the time are cut right.
        """
        packets = some_packets(40, 1200, 1200, 1200, 77, 1472, 1472, 1, 1200, 9000, 9000, 100)
        self.carrier.send(self.path, packets)
        await self.arrive(packets)

    async def test_a_socket_that_does_not_glue(self) -> None:
        """
        To any other program a train is single datagrams.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.bind((self.interface, 0))
            plain.settimeout(10)
            packets = some_packets(*[1200] * 20, 300)
            self.carrier.send(Path("udp", plain.getsockname()), packets)
            self.assertEqual([plain.recv(65_535) for _ in packets], packets)

    async def test_the_kernel_refuses_trains(self) -> None:
        """
        Without segmentation the packets leave one by one, those that follow at once.
        """
        for number in (errno.EIO, errno.EINVAL):
            self.batches.clear()
            self.port.has_segmentation = True
            self.refusals["sendmsg"] = [number]
            packets = some_packets(*[1200] * 20)
            self.carrier.send(self.path, packets)
            self.carrier.send(self.path, packets)
            await self.arrive(packets * 2)
            self.assertFalse(self.port.has_segmentation)
            self.assertEqual(self.refused, [])

    async def test_the_way_takes_no_packets_so_long(self) -> None:
        """
        What is too long is told packet by packet, and says nothing about segmentation.
        """
        for number in (errno.EINVAL, errno.EMSGSIZE):
            self.refused.clear()
            self.refusals["sendmsg"] = [number]
            self.refusals["sendto"] = [errno.EMSGSIZE] * 3
            self.carrier.send(self.path, some_packets(9000, 9000, 9000))
            self.assertEqual(self.refused, [9000] * 3)
            self.assertTrue(self.port.has_segmentation)
        packets = some_packets(*[1200] * 5)
        self.carrier.send(self.path, packets)
        await self.arrive(packets)

    async def test_no_route(self) -> None:
        """
        A train that is not sent for another reason is lost and counted.
        """
        self.refusals["sendmsg"] = [errno.ENETUNREACH]
        self.carrier.send(self.path, some_packets(*[1200] * 5))
        self.assertEqual(self.carrier.unsendable, 5)
        self.assertEqual(self.refused, [])


class SingleTests(SocketCase):
    """
    What holds with trains and without.
    """

    async def test_without_trains(self) -> None:
        """
        Where the system cannot, packets are sent one by one.
        """
        self.port.has_segmentation = False
        packets = some_packets(*[1200] * 30, 40, 65_507)
        self.carrier.send(self.path, packets)
        await self.arrive(packets)

    async def test_empty_datagrams(self) -> None:
        """
        They are handed on like any other.
        """
        packets = [b"", b"one", b"", b"", b"two"]
        self.carrier.send(self.path, packets)
        await self.arrive(packets)

    async def test_a_full_socket(self) -> None:
        """
        What it does not take waits, in order; the path is not writable until all is gone, and
        who asked is told then.
        """
        self.assertTrue(self.carrier.is_writable(self.path))
        self.refusals["sendmsg"] = [errno.EAGAIN, errno.EAGAIN]
        self.refusals["sendto"] = [0, errno.EAGAIN, errno.EAGAIN]
        packets = some_packets(9, 1200, 1200, 1200, 2000, 2000)
        self.port.has_segmentation = has_trains()
        self.carrier.send(self.path, packets)
        self.assertFalse(self.carrier.is_writable(self.path))
        self.carrier.send(self.path, [b"last"])
        await self.arrive([*packets, b"last"])
        await eventually(lambda: self.writable)
        self.assertEqual(self.writable, [self.path])
        self.assertTrue(self.carrier.is_writable(self.path))

    async def test_who_sends_all_the_same(self) -> None:
        """
        A socket that stays full keeps so much and no more.
        """
        self.refusals["sendto"] = [errno.EAGAIN] * 10_000
        for _ in range(MAX_WAITING + 7):
            self.carrier.send(self.path, [b"packet"])
        self.assertEqual(self.port.dropped, 7)

    async def test_a_receiver_that_fails(self) -> None:
        """
        An error in what takes the packets is logged, and the next ones are read.
        """
        calls: list[Sequence[bytes]] = []

        def fail(packets: Sequence[bytes], path: Path) -> bool:
            calls.append(packets)
            raise ZeroDivisionError

        port = self.open(UDPCarrier(fail), BatchPort)
        for count in (1, 2):
            self.carrier.send(Path("udp", (self.interface, port.getHost().port)), [b"packet"])
            await eventually(lambda count=count: len(calls) == count)  # type: ignore[misc]
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    async def test_senders_are_told_apart(self) -> None:
        """
        What comes from several sockets at once has the right path each.
        """
        paths: list[tuple[Path, bytes]] = []

        def keep(packets: Sequence[bytes], path: Path) -> bool:
            paths.extend((path, packet) for packet in packets)
            return True

        port = self.open(UDPCarrier(keep), BatchPort)
        others = [self.open(UDPCarrier(self.receive), BatchPort) for _ in range(3)]
        address = (self.interface, port.getHost().port)
        for number in range(12):
            others[number % 3].send([bytes([number])], address)
        await eventually(lambda: len(paths) == 12)
        for path, group in groupby(sorted(paths, key=lambda each: str(each[0])), lambda p: p[0]):
            senders = {packet[0] % 3 for _, packet in group}
            self.assertEqual(len(senders), 1)
            ports = [other.getHost().port for other in others]
            assert path.address is not None
            self.assertEqual(ports.index(path.address[1]), senders.pop())


class OpeningTests(TestCase):
    """
    How sockets come to be.
    """

    def test_a_reactor_without_descriptors(self) -> None:
        """
        It opens its own kind of socket.
        """
        opened = listen_udp(DatagramReactor(), 0, UDPCarrier(lambda packets, path: True), "")
        self.assertIsInstance(opened, MemoryPort)

    def test_a_real_reactor(self) -> None:
        """
        The socket works in batches and closes like any other.
        """
        carrier = UDPCarrier(lambda packets, path: True)
        opened = listen_udp(the_reactor(), 0, carrier, "127.0.0.1")
        self.assertIsInstance(opened, BatchPort)
        closing = opened.stopListening()
        assert isinstance(closing, Deferred)
        return cast(None, closing)

    @skipUnless(sys.platform == "linux", "only Linux has the caps")
    async def test_small_buffers(self) -> None:
        """
        The log names the setting that allows more, once, and not the one for each socket.
        """
        messages: list[str] = []

        def observe(event: LogEvent) -> None:
            messages.append(formatEvent(event))

        observer = cast(ILogObserver, observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        StubbornPort.told.clear()
        for _ in range(2):
            carrier = UDPCarrier(lambda packets, path: True)
            port = StubbornPort(0, carrier, "127.0.0.1", the_reactor())
            port.startListening()
            self.addCleanup(port.stopListening)
        for sysctl in ("rmem_max", "wmem_max"):
            wanted = f"'sysctl -w net.core.{sysctl}={BUFFER_SIZE}'"
            self.assertEqual(len([line for line in messages if wanted in line]), 1)
