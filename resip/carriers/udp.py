"""
The UDP carrier: one socket, any number of peers.
"""

from __future__ import annotations

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol

from resip.carriers.interfaces import ReceivePacket
from resip.core.types import Path

CARRIER_NAME = "udp"
#: Paths remembered so that a packet does not cost a new object; strangers may fill it.
MAX_CACHED_PATHS = 4096


class UDPCarrier(DatagramProtocol):
    """
    One socket: hands every datagram to ``receive``, and sends without looking back.

    :param name: the carrier's name in its paths; another one for each further socket.
    :ivar unsendable: packets that the system refused to send: no route, too big, not permitted.
        They are lost like any other; the session finds out.
    """

    noisy = False
    transport: IUDPTransport | None

    def __init__(self, receive: ReceivePacket, name: str = CARRIER_NAME) -> None:
        self.name = name
        self._receive = receive
        self._paths: dict[tuple[str, int], Path] = {}
        self.unsendable = 0

    def datagramReceived(self, data: bytes, address: tuple[str, int]) -> None:
        """
        A datagram arrived; Twisted calls this.
        """
        path = self._paths.get(address)
        if path is None:
            if len(self._paths) >= MAX_CACHED_PATHS:
                self._paths.clear()
            path = self._paths[address] = Path(self.name, (address[0], address[1]))
        self._receive(data, path)

    def is_writable(self, path: Path) -> bool:
        """
        Always: what does not fit the socket's buffer is lost.
        """
        return True

    def send(self, path: Path, packets: list[bytes]) -> None:
        """
        Send packets to the path's address.
        """
        transport = self.transport
        if transport is None:
            return
        for packet in packets:
            try:
                transport.write(packet, path.address)
            except OSError:
                self.unsendable += 1
