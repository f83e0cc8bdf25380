"""
A local UDP socket, each of whose peers gets a channel.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from resip.core.errors import ResetCode
from resip.core.types import Target
from resip.tunnel.datagram import DatagramAttachment, send_datagram
from resip.tunnel.dialing import Dialer

#: Seconds of silence after which a peer and its channel are forgotten: what RFC 4787 REQ-5
#: asks of every NAT at least.
UDP_IDLE_TIMEOUT = 120.0

#: Peers at one time; beyond, the one that was silent longest goes. Source addresses can be
#: forged, so anyone who reaches the socket can fill the table.
MAX_UDP_PEERS = 1024

#: Seconds without new channels after the far side refused one. Programs repeat their
#: datagrams, and each would ask again.
REFUSAL_PAUSE = 5.0

_PAUSING = (ResetCode.REFUSED, ResetCode.CONNECT_FAILED)


class DatagramListener(DatagramProtocol):
    """
    The protocol behind a listening UDP socket. Owns the channels of its peers.

    :param clock: runs the timeouts.
    """

    noisy = False
    _log = Logger()

    def __init__(self, dialer: Dialer, clock: IReactorTime) -> None:
        self._dialer = dialer
        self._clock = clock
        # The peer that was silent longest is the first.
        self._peers: OrderedDict[tuple[str, int], DatagramAttachment] = OrderedDict()
        self._pause: IDelayedCall | None = None
        self._dropped = 0
        self._tried: Target | None = None

    @property
    def peers(self) -> int:
        """
        How many peers have a channel.
        """
        return len(self._peers)

    @property
    def dropped(self) -> int:
        """
        How many datagrams found no room in their channel, or no channel.
        """
        return self._dropped + sum(peer.dropped for peer in self._peers.values())

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        A datagram from a program.
        """
        peer = self._peers.get(addr)
        if peer is None:
            if self._pause is not None:
                self._dropped += 1
                return
            peer = self._add_peer(addr)
        if peer.is_over:
            self._dropped += 1
            return
        self._peers.move_to_end(addr)
        peer.datagram_received(datagram)

    def stop(self) -> Deferred[None]:
        """
        Reset every channel.
        """
        for peer in tuple(self._peers.values()):
            peer.abort()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        return succeed(None)

    def _add_peer(self, addr: tuple[str, int]) -> DatagramAttachment:
        if len(self._peers) == MAX_UDP_PEERS:
            next(iter(self._peers.values())).abort()
        peer = DatagramAttachment(
            self._clock,
            partial(self._send, addr),
            idle_timeout=UDP_IDLE_TIMEOUT,
            on_over=partial(self._forget, addr),
        )
        self._peers[addr] = peer
        dialing = Deferred.fromCoroutine(self._dial(peer))
        dialing.addErrback(lambda failure: self._log.failure("opening a channel", failure))
        return peer

    async def _dial(self, peer: DatagramAttachment) -> None:
        candidates = await self._dialer.candidates()
        if peer.is_over:
            return
        # Nothing tells whether an address of a UDP target works, so the first has to do.
        self._tried = candidates[0] if candidates else None
        channel = self._dialer.open(self._tried, peer) if self._tried else None
        if channel is None:
            self._pause_opening()
            peer.abort()
        else:
            peer.attach(channel)

    def _send(self, addr: tuple[str, int], data: bytes) -> None:
        self._peers.move_to_end(addr)
        transport: IUDPTransport | None = self.transport
        if transport is not None:
            send_datagram(transport, data, addr)

    def _forget(
        self, addr: tuple[str, int], peer: DatagramAttachment, code: ResetCode | None
    ) -> None:
        del self._peers[addr]
        self._dropped += peer.dropped
        if code is not None:
            self._dialer.report(code, self._tried)
        if code in _PAUSING:
            self._pause_opening()

    def _pause_opening(self) -> None:
        if self._pause is None:
            self._pause = self._clock.callLater(REFUSAL_PAUSE, self._end_pause)

    def _end_pause(self) -> None:
        self._pause = None
