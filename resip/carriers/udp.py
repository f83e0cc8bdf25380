"""
The UDP carrier: one socket, any number of peers.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol

from resip.carriers.interfaces import ReceivePacket
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

    :param name: the carrier's name in its paths; another one for each further socket.
    :param on_unsendable: told of the path and size of each packet that is larger than the system
        sends that way. None of it left the machine.
    :ivar unsendable: packets that the system refused to send: no route, too big, not permitted.
        They are lost like any other; the session finds out.
    """

    noisy = False
    transport: IUDPTransport | None

    def __init__(
        self,
        receive: ReceivePacket,
        name: str = CARRIER_NAME,
        *,
        on_unsendable: Callable[[Path, int], None] | None = None,
    ) -> None:
        self.name = name
        self._receive = receive
        self._on_unsendable = on_unsendable
        self._paths: dict[tuple[str, int], Path] = {}
        self.unsendable = 0

    def startProtocol(self) -> None:
        """
        The socket is open; Twisted calls this.
        """
        get_handle = getattr(self.transport, "getHandle", None)
        if get_handle is not None:
            forbid_fragments(get_handle())

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
            except (OSError, MessageLengthError) as error:
                self.unsendable += 1
                if self._on_unsendable is not None and _is_too_long(error):
                    self._on_unsendable(path, len(packet))


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
