"""
A UDP socket that moves many datagrams with each system call, where the system can.

Linux segments a buffer that is sent into datagrams of one size (GSO), and glues datagrams of
one sender and size together that arrive in a row (GRO): a call for 44 packets costs little
more than a call for one. Source: udp(7), options ``UDP_SEGMENT`` and ``UDP_GRO``. Elsewhere,
and where kernel or network card refuse, the same class sends and receives one by one.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from struct import Struct
from typing import Any, ClassVar, Protocol

from twisted.internet.interfaces import IListeningPort, IReactorFDSet
from twisted.internet.udp import Port
from twisted.logger import Logger

from resip.core.trains import Train, Trains

#: No UDP datagram is larger; what is read at once when several are glued together.
MAX_DATAGRAM = 65_535
#: Bytes and datagrams of one train: what IPv4 and the kernel's ``UDP_MAX_SEGMENTS`` allow.
MAX_TRAIN_BYTES = 65_507
MAX_TRAIN = 64
#: Calls that read before the rest of the process gets its turn.
MAX_READS = 16
#: Trains kept while the socket's buffer is full. Who sends asks first, so a few are enough.
MAX_WAITING = 256
#: Bytes wanted for each of the socket's buffers: 20 ms of 1.6 Gbit/s.
BUFFER_SIZE = 4 * 1024 * 1024

# Linux's numbers, which Python's socket module does not name: udp(7), socket(7).
SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

_SEGMENT = Struct("=H")
_GRO_SIZE = 4
_IS_LINUX = sys.platform == "linux"
_ANCILLARY_SIZE = socket.CMSG_SPACE(_GRO_SIZE) if _IS_LINUX else 0
_AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)
#: What a system without segmentation, and a card without checksums, answer.
_NO_SEGMENTS = (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT)

Address = tuple[str, int]


class DatagramUser(Protocol):
    """
    Whose packets a socket moves.
    """

    def datagrams_received(self, packets: Sequence[bytes], address: Address) -> None:
        """
        Datagrams arrived from one address.
        """

    def datagram_refused(self, packet: bytes, address: Address, error: OSError) -> None:
        """
        The system does not send this packet; it is lost.
        """

    def socket_writable(self) -> None:
        """
        A socket that was full takes more.
        """


class BatchPort(Port):
    """
    A UDP socket for one :class:`DatagramUser`, which is a ``DatagramProtocol`` besides.

    :cvar told: the sysctls that the log has named; once is enough.
    :ivar has_segmentation: datagrams are sent in trains.
    :ivar dropped: packets that were sent although the socket was full, and found no room.
    """

    _log = Logger()
    told: ClassVar[set[str]] = set()

    def __init__(self, port: int, user: Any, interface: str, reactor: Any) -> None:
        super().__init__(port, user, interface, MAX_DATAGRAM, reactor)  # type: ignore[no-untyped-call]
        self._user: DatagramUser = user
        self._waiting: deque[tuple[Train, Address]] = deque()
        self.has_segmentation = _IS_LINUX
        self.dropped = 0

    @property
    def is_full(self) -> bool:
        """
        Whether the socket takes nothing now; its user is told when it does.
        """
        return bool(self._waiting)

    def startListening(self) -> None:
        """
        Open the socket.

        :raises twisted.internet.error.CannotListenError: when that is not possible.
        """
        super().startListening()  # type: ignore[no-untyped-call]
        if _IS_LINUX:
            with suppress(OSError):  # before Linux 5.0 each datagram comes by itself
                self.socket.setsockopt(SOL_UDP, UDP_GRO, 1)
        self._size_buffer(socket.SO_RCVBUF, SO_RCVBUFFORCE, "receive", "net.core.rmem_max")
        self._size_buffer(socket.SO_SNDBUF, SO_SNDBUFFORCE, "send", "net.core.wmem_max")

    # Receiving.

    def doRead(self) -> None:
        """
        Read what is there, in bounds; what came from one address in a row is handed on together.
        """
        trains: list[Train] = []
        source: Address | None = None
        for _ in range(MAX_READS):
            received = self._read()
            if received is None:
                break
            arrived, address = received
            if address != source:
                self._hand_on(trains, source)
                trains, source = [], address
            trains.append(arrived)
        self._hand_on(trains, source)

    def _read(self) -> tuple[Train, Address] | None:
        try:
            if not _IS_LINUX:
                data, address = self.socket.recvfrom(MAX_DATAGRAM)
                return Train(data, MAX_DATAGRAM), address[:2]
            data, ancillary, _, address = self.socket.recvmsg(MAX_DATAGRAM, _ANCILLARY_SIZE)
        except OSError as error:
            if error.errno in (*_AGAIN, errno.ECONNREFUSED):
                return None
            raise
        return Train(data, read_size(ancillary)), address[:2]

    def _hand_on(self, trains: list[Train], source: Address | None) -> None:
        if source is None:
            return
        try:
            is_glued = any(len(train) > 1 for train in trains)
            packets = Trains(trains) if is_glued else [train.data for train in trains]
            self._user.datagrams_received(packets, source)
        except Exception:
            self._log.failure("receiving datagrams failed")

    # Sending.

    def send(self, packets: Sequence[bytes], address: Address) -> None:
        """
        Send packets to one address, as many as possible with each call.
        """
        trains = packets.trains if isinstance(packets, Trains) else make_trains(packets)
        for train in trains:
            if self._waiting:
                self._wait(train, address)
            else:
                self._send_train(train, address)

    def doWrite(self) -> None:
        """
        The socket takes more; the reactor calls this.
        """
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            train, address = waiting.popleft()
            self._send_train(train, address)
            if self._waiting:
                self._waiting += waiting
                return
        self.stopWriting()  # type: ignore[no-untyped-call]
        self._user.socket_writable()

    def _send_train(self, train: Train, address: Address) -> None:
        if len(train) == 1 or not self.has_segmentation:
            self._send_singly(train, address)
            return
        option = (SOL_UDP, UDP_SEGMENT, _SEGMENT.pack(train.size))
        try:
            self.socket.sendmsg((train.data,), (option,), 0, address)
        except OSError as error:
            if error.errno in _AGAIN:
                self._wait(train, address)
            elif error.errno in _NO_SEGMENTS:
                # Some kernels say so of packets that are too long for the way, too.
                self.has_segmentation = not self._send_singly(train, address)
            elif error.errno == errno.EMSGSIZE:
                self._send_singly(train, address)
            else:
                for packet in train.datagrams():
                    self._user.datagram_refused(packet, address, error)

    def _send_singly(self, train: Train, address: Address) -> bool:
        """
        Send packets one by one; returns whether the system took them all.
        """
        are_sent = True
        for at, packet in enumerate(train.datagrams()):
            try:
                self.socket.sendto(packet, address)
            except OSError as error:
                if error.errno in _AGAIN:
                    self._wait(Train(train.data[at * train.size :], train.size), address)
                    break
                are_sent = False
                self._user.datagram_refused(packet, address, error)
        return are_sent

    def _wait(self, train: Train, address: Address) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += len(train)
            return
        if not self._waiting:
            self.startWriting()  # type: ignore[no-untyped-call]
        self._waiting.append((train, address))

    def connectionLost(self, reason: Any = None) -> None:
        """
        The socket closes; what waits is lost.
        """
        self._waiting.clear()
        self.stopWriting()  # type: ignore[no-untyped-call]
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    # Buffers.

    def _size_buffer(self, option: int, force: int, name: str, sysctl: str) -> None:
        handle = self.socket
        try:
            if not _IS_LINUX:
                raise OSError
            handle.setsockopt(socket.SOL_SOCKET, force, BUFFER_SIZE)  # beyond the cap, as root
        except OSError:
            try:
                handle.setsockopt(socket.SOL_SOCKET, option, BUFFER_SIZE)
            except OSError:
                return  # some systems refuse what is too much; theirs is kept
        if not _IS_LINUX or sysctl in self.told:
            return
        # Linux counts its own bookkeeping, too, and reports twice what was asked for.
        size = handle.getsockopt(socket.SOL_SOCKET, option) // 2
        if size < BUFFER_SIZE:
            self.told.add(sysctl)
            self._log.info(
                "the UDP {name} buffer has {size} KiB: beyond some hundred Mbit/s packets get "
                "lost; 'sysctl -w {sysctl}={wanted}' allows more, from the next start on",
                name=name,
                size=size // 1024,
                sysctl=sysctl,
                wanted=BUFFER_SIZE,
            )


def listen_udp(reactor: Any, port: int, user: Any, interface: str) -> IListeningPort:
    """
    Open a UDP socket: one that works in batches, if the reactor watches file descriptors.

    :param user: a ``DatagramProtocol`` that is a :class:`DatagramUser` besides.
    :raises twisted.internet.error.CannotListenError: when that is not possible.
    """
    if not IReactorFDSet.providedBy(reactor):
        opened: IListeningPort = reactor.listenUDP(port, user, interface, MAX_DATAGRAM)
        return opened
    batch_port = BatchPort(port, user, interface, reactor)
    batch_port.startListening()
    return batch_port


def make_trains(packets: Sequence[bytes]) -> Iterator[Train]:
    """
    What may leave together: packets of one size, of which the last may be shorter.
    """
    sizes = list(map(len, packets))
    count = len(packets)
    start = 0
    while start < count:
        size = sizes[start]
        most = min(MAX_TRAIN, MAX_TRAIN_BYTES // size) if size else 1
        limit = min(count, start + max(1, most))
        end = start + 1
        while end < limit and sizes[end] == size:
            end += 1
        if end < limit and 0 < sizes[end] < size:
            end += 1
        yield Train(b"".join(packets[start:end]), size or 1)
        start = end


def read_size(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    """
    The size of the datagrams that the system glued together, which it tells beside the data.

    :return: where it does not, that of the largest one.
    """
    for level, kind, value in ancillary:
        if level == SOL_UDP and kind == UDP_GRO and len(value) >= _GRO_SIZE:
            size = int.from_bytes(value[:_GRO_SIZE], sys.byteorder)
            if 0 < size < MAX_DATAGRAM:
                return size
    return MAX_DATAGRAM
