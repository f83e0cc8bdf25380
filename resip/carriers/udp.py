"""
The UDP carrier: one socket, any number of peers.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol

from resip.carriers.interfaces import ReceivePackets
from resip.carriers.udp_socket import Address, BatchPort
from resip.core.types import Path

CARRIER_NAME = "udp"
#: Paths remembered so that a packet does not cost a new object; strangers may fill it.
MAX_CACHED_PATHS = 4096

# Linux's numbers, which Python's socket module does not name: ip(7), ipv6(7).
IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
#: Never fragment, and do not heed what the system believes the path's MTU to be.
PMTUDISC_PROBE = 3


class UDPCarrier(DatagramProtocol):
    """
    One socket: hands every datagram to ``receive``, and sends without looking back.

    Its socket is best opened by :func:`~resip.carriers.udp_socket.listen_udp`.

    :param name: the carrier's name in its paths; another one for each further socket.
    :param on_unsendable: told of the path and size of each packet that is larger than the system
        sends that way. None of it left the machine.
    :param on_writable: told of each path that was not writable and is again.
    :ivar unsendable: packets that the system refused to send: no route, too big, not permitted.
        They are lost like any other; the session finds out.
    """

    noisy = False
    transport: IUDPTransport | BatchPort | None

    def __init__(
        self,
        receive: ReceivePackets,
        name: str = CARRIER_NAME,
        *,
        on_unsendable: Callable[[Path, int], None] | None = None,
        on_writable: Callable[[Path], None] | None = None,
    ) -> None:
        self.name = name
        self._receive = receive
        self._on_unsendable = on_unsendable
        self._on_writable = on_writable
        self._paths: dict[Address, Path] = {}
        self._blocked: dict[Path, None] = {}
        self.unsendable = 0

    def startProtocol(self) -> None:
        """
        The socket is open; Twisted calls this.
        """
        get_handle = getattr(self.transport, "getHandle", None)
        if get_handle is not None:
            forbid_fragments(get_handle())

    def datagramReceived(self, data: bytes, address: Address) -> None:
        """
        A datagram arrived; Twisted calls this.
        """
        self.datagrams_received([data], address)

    def is_writable(self, path: Path) -> bool:
        """
        Whether the socket's buffer has room.
        """
        if isinstance(self.transport, BatchPort) and self.transport.is_full:
            self._blocked[path] = None
            return False
        return True

    def send(self, path: Path, packets: Sequence[bytes]) -> None:
        """
        Send packets to the path's address.
        """
        transport, address = self.transport, path.address
        if transport is None or address is None:
            return
        if isinstance(transport, BatchPort):
            transport.send(packets, address)
            return
        for packet in packets:
            try:
                transport.write(packet, address)
            except (OSError, MessageLengthError) as error:
                self.datagram_refused(packet, address, error)

    # A DatagramUser.

    def datagrams_received(self, packets: Sequence[bytes], address: Address) -> None:
        """
        Datagrams arrived from one address.
        """
        self._receive(packets, self._path(address))

    def datagram_refused(self, packet: bytes, address: Address, error: Exception) -> None:
        """
        The system does not send this packet.
        """
        self.unsendable += 1
        if self._on_unsendable is not None and _is_too_long(error):
            self._on_unsendable(self._path(address), len(packet))

    def socket_writable(self) -> None:
        """
        The socket's buffer has room again.
        """
        blocked, self._blocked = self._blocked, {}
        if self._on_writable is not None:
            for path in blocked:
                self._on_writable(path)

    def _path(self, address: Address) -> Path:
        path = self._paths.get(address)
        if path is None:
            if len(self._paths) >= MAX_CACHED_PATHS:
                self._paths.clear()
            path = self._paths[address] = Path(self.name, (address[0], address[1]))
        return path


def forbid_fragments(handle: socket.socket) -> None:
    """
    Have the system send datagrams whole or not at all, so that probes of a path's MTU tell the
    truth (RFC 8899 section 3). Nothing happens where the system cannot do that.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError):
        handle.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
    if handle.family == socket.AF_INET6:  # which may take IPv4 as well, so it is set for both
        with suppress(OSError):
            handle.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)


def _is_too_long(error: Exception) -> bool:
    # Twisted has an exception of its own for this one errno.
    return isinstance(error, MessageLengthError) or (
        isinstance(error, OSError) and error.errno == errno.EMSGSIZE
    )
