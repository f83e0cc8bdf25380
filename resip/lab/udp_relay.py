"""
A bad UDP link for real programs: a relay that stands between clients and their server.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from ipaddress import ip_address

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IUDPTransport
from twisted.internet.protocol import DatagramProtocol

from resip.lab.link import LinkConditions, LinkModel
from resip.lab.reactor import ILabReactor, get_port_number

#: Clients that a relay remembers; a further one takes the place of the quietest.
MAX_CLIENTS = 64
#: Bytes of packets that wait in a relay for their time; further ones are lost.
MAX_BYTES_IN_AIR = 64 * 1024 * 1024

_MAX_DATAGRAM = 65_536
# What a waiting packet costs beside its bytes, so that empty ones are bounded, too.
_PACKET_COST = 256


class UDPRelay(Service):
    """
    A UDP proxy whose way to the server is as bad as two :class:`LinkModel` say.

    Every client is given one socket towards the server, which so sees as many addresses as
    there are clients. All clients share the two links.

    :ivar up_link: from the clients to the server; its conditions may be replaced.
    :ivar down_link: from the server to the clients; its conditions may be replaced.
    :ivar target: address (not a name) and port of the server.
    :ivar overflowed: packets lost because too many were waiting.
    :ivar unsendable: packets that the operating system refused.

    :param listen: host and port for the clients; port 0 takes a free one, see :attr:`port`.
    :param seed: decides the dice of both links.
    :param monotonic: tells monotonic seconds.

    :raises ValueError: when the target's host is not an IPv4 or IPv6 address.
    """

    def __init__(
        self,
        reactor: ILabReactor,
        listen: tuple[str, int],
        target: tuple[str, int],
        *,
        up_conditions: LinkConditions,
        down_conditions: LinkConditions,
        seed: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.up_link = LinkModel(up_conditions, 2 * seed)
        self.down_link = LinkModel(down_conditions, 2 * seed + 1)
        self.overflowed = 0
        self.unsendable = 0
        self._reactor = reactor
        self._listen = listen
        # In the form in which the socket tells senders.
        self.target = (str(ip_address(target[0])), target[1])
        self._monotonic = monotonic
        self._air = _Air(reactor, monotonic)
        self._near = _NearSide(self)
        self._near_port: IListeningPort | None = None
        self._flows: OrderedDict[tuple[str, int], _FarSide] = OrderedDict()
        self._closing: set[Deferred[object]] = set()

    @property
    def port(self) -> int:
        """
        The port on which the relay listens, while it runs.
        """
        return get_port_number(self._near_port)

    @property
    def client_count(self) -> int:
        """
        How many clients the relay remembers.
        """
        return len(self._flows)

    def startService(self) -> None:
        """
        Listen.
        """
        super().startService()  # type: ignore[no-untyped-call]
        host, port = self._listen
        self._near_port = self._reactor.listenUDP(port, self._near, host, _MAX_DATAGRAM)

    def stopService(self) -> Deferred[object]:
        """
        Close every socket and forget the packets in the air.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._air.clear()
        while self._flows:
            self._close(self._flows.popitem()[1].port)
        if self._near_port is not None:
            self._close(self._near_port)
            self._near_port = None
        closed: Deferred[object] = gatherResults(list(self._closing)).addCallback(lambda _: None)
        return closed

    def change_address(self) -> None:
        """
        Let every client appear under a new port at the server, as a NAT that forgot it does.

        What the server still sends to the old ports is lost.
        """
        for client, flow in list(self._flows.items()):
            # The new socket is there before the old one goes, so the port is another one.
            self._flows[client] = self._open_flow(client)
            self._close(flow.port)

    def down(self) -> None:
        """
        Cut both links. Packets on their way still arrive.
        """
        self._set_down(True)

    def up(self) -> None:
        """
        Mend both links.
        """
        self._set_down(False)

    def _set_down(self, is_down: bool) -> None:
        for link in (self.up_link, self.down_link):
            link.conditions = replace(link.conditions, is_down=is_down)

    def client_datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        """
        A client sent ``data``; called by the listening socket.
        """
        if client in self._flows:
            self._flows.move_to_end(client)
        else:
            if len(self._flows) >= MAX_CLIENTS:
                self._close(self._flows.popitem(last=False)[1].port)
            self._flows[client] = self._open_flow(client)
        self._send(self.up_link, data, partial(self._deliver_up, client))

    def server_datagram_received(self, data: bytes, flow: _FarSide) -> None:
        """
        The server sent ``data`` to a client; called by the client's socket to the server.
        """
        self._send(self.down_link, data, partial(self._deliver_down, flow))

    def _send(self, link: LinkModel, data: bytes, deliver: Callable[[bytes], None]) -> None:
        for deliver_at, packet in link.transmit(data, now=self._monotonic()):
            if not self._air.put(deliver_at, packet, deliver):
                self.overflowed += 1

    def _deliver_up(self, client: tuple[str, int], data: bytes) -> None:
        flow = self._flows.get(client)
        if flow is not None:
            self._write(flow.transport, data, self.target)

    def _deliver_down(self, flow: _FarSide, data: bytes) -> None:
        if self._flows.get(flow.client) is flow:
            self._write(self._near.transport, data, flow.client)

    def _write(self, transport: IUDPTransport, data: bytes, address: tuple[str, int]) -> None:
        try:
            transport.write(data, address)
        except (OSError, MessageLengthError):
            self.unsendable += 1

    def _open_flow(self, client: tuple[str, int]) -> _FarSide:
        flow = _FarSide(self, client)
        interface = "::" if ":" in self.target[0] else ""
        flow.port = self._reactor.listenUDP(0, flow, interface, _MAX_DATAGRAM)
        return flow

    def _close(self, port: IListeningPort) -> None:
        closing: Deferred[object] = maybeDeferred(port.stopListening)
        self._closing.add(closing)
        closing.addBoth(lambda _: self._closing.discard(closing))


class _NearSide(DatagramProtocol):
    """
    The socket that the clients see.
    """

    transport: IUDPTransport
    noisy = False

    def __init__(self, relay: UDPRelay) -> None:
        self._relay = relay

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self._relay.client_datagram_received(datagram, addr[:2])


class _FarSide(DatagramProtocol):
    """
    The socket under which the server sees one client.

    It is not connected, since Twisted's epoll reactor closes a connected UDP port when the
    system reports that nobody listens at the far end.
    """

    transport: IUDPTransport
    port: IListeningPort
    noisy = False

    def __init__(self, relay: UDPRelay, client: tuple[str, int]) -> None:
        self.client = client
        self._relay = relay

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if addr[:2] == self._relay.target:
            self._relay.server_datagram_received(datagram, self)


class _Air:
    """
    The packets on their way, in the order of their arrival, and one timer for the first.

    A ``callLater`` for each packet would not keep the order of packets that are due together.
    """

    def __init__(self, reactor: ILabReactor, monotonic: Callable[[], float]) -> None:
        self._reactor = reactor
        self._monotonic = monotonic
        self._packets: list[tuple[float, int, bytes, Callable[[bytes], None]]] = []
        self._count = 0
        self._size = 0
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def put(self, deliver_at: float, data: bytes, deliver: Callable[[bytes], None]) -> bool:
        """
        Call ``deliver(data)`` when it is time, at once if it is.

        :return: False when there is no room; the packet is then lost.
        """
        if self._size + len(data) + _PACKET_COST > MAX_BYTES_IN_AIR:
            return False
        self._count += 1
        self._size += len(data) + _PACKET_COST
        heappush(self._packets, (deliver_at, self._count, data, deliver))
        self._deliver_due()
        return True

    def clear(self) -> None:
        """
        Forget every packet.
        """
        self._packets.clear()
        self._size = 0
        self._arm()

    def _deliver_due(self) -> None:
        now = self._monotonic()
        while self._packets and self._packets[0][0] <= now:
            _, _, data, deliver = heappop(self._packets)
            self._size -= len(data) + _PACKET_COST
            deliver(data)
        self._arm()

    def _arm(self) -> None:
        first = self._packets[0][0] if self._packets else None
        if self._timer is not None:
            if first == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        if first is not None:
            self._timer_at = first
            delay = max(0.0, first - self._monotonic())
            self._timer = self._reactor.callLater(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._deliver_due()
