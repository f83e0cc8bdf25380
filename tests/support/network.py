"""
UDP in memory: the reactor of the tests for datagrams, since Twisted's own has only streams.

What is written arrives on a later turn of the clock, unless the test drops it::

    reactor = DatagramReactor()
    port = reactor.listenUDP(0, protocol)
    reactor.advance(0)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock

FIRST_PORT = 40_000
_ANY_HOST = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class DatagramReactor(Clock):
    """
    A clock with the UDP sockets of one machine.

    :ivar latency: seconds that a datagram takes.
    :ivar drops: says of a datagram whether it is lost.
    :ivar refusal: what every write raises, as a system without a route does.
    :ivar sent: every datagram that was written and not refused, with source and destination.
    """

    def __init__(self, *, latency: float = 0.0) -> None:
        super().__init__()
        self.latency = latency
        self.drops: Callable[[bytes], bool] = lambda data: False
        self.refusal: OSError | None = None
        self.sent: list[tuple[bytes, tuple[str, int], tuple[str, int]]] = []
        self._next_port = FIRST_PORT
        self._ports: dict[tuple[str, int], MemoryPort] = {}

    @property
    def ports(self) -> list[MemoryPort]:
        """
        The sockets that are open.
        """
        return list(self._ports.values())

    def listenUDP(
        self,
        port: int,
        protocol: DatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,
    ) -> MemoryPort:
        """
        Open a socket. One on all interfaces is reached by its family's loopback address.
        """
        if not port:
            port = self._next_port
            self._next_port += 1
        address = (_ANY_HOST.get(interface, interface), port)
        assert address not in self._ports, f"{address} is taken"
        opened = self._ports[address] = MemoryPort(self, address, protocol, maxPacketSize)
        protocol.makeConnection(cast(IUDPTransport, opened))
        return opened

    def transmit(self, data: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
        """
        Send a datagram, from a socket or from an address that nobody has.
        """
        self.sent.append((data, source, destination))
        if not self.drops(data):
            self.callLater(self.latency, self._arrive, data, source, destination)

    def close(self, address: tuple[str, int]) -> None:
        """
        A socket is gone; called by it.
        """
        self._ports.pop(address, None)

    def _arrive(self, data: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
        port = self._ports.get(destination)
        if port is not None:
            port.receive(data, source)


class MemoryPort:
    """
    A socket: the part of ``IListeningPort`` and ``IUDPTransport`` that is used.
    """

    def __init__(
        self,
        reactor: DatagramReactor,
        address: tuple[str, int],
        protocol: DatagramProtocol,
        max_size: int,
    ) -> None:
        self.address = address
        self._reactor = reactor
        self._protocol = protocol
        self._max_size = max_size

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        """
        Send a datagram.
        """
        if self._reactor.refusal is not None:
            raise self._reactor.refusal
        self._reactor.transmit(bytes(data), self.address, address)

    def receive(self, data: bytes, source: tuple[str, int]) -> None:
        """
        A datagram arrives; what is too long for the buffer is cut off, as by ``recvfrom``.
        """
        self._protocol.datagramReceived(data[: self._max_size], source)

    def getHost(self) -> IPv4Address | IPv6Address:
        """
        Host and port.
        """
        kind = IPv6Address if ":" in self.address[0] else IPv4Address
        return kind("UDP", *self.address)

    def stopListening(self) -> Deferred[None]:
        """
        Close the socket.
        """
        self._reactor.close(self.address)
        self._protocol.doStop()
        return succeed(None)
