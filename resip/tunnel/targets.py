"""
The server's end of channels: connects them to their targets, if the policy allows.
"""

from __future__ import annotations

import os
from functools import partial
from socket import AF_INET, AF_INET6, inet_ntop

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectingCancelledError,
    TimeoutError,
)
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.logger import Logger

from resip.carriers.channels import Channel
from resip.core.errors import ResetCode, ResipError
from resip.core.types import Protocol
from resip.tunnel.attachments import Attachments
from resip.tunnel.datagram import MAX_DATAGRAM_SIZE, DatagramAttachment, send_datagram
from resip.tunnel.hosts import IPAddress, parse_address, parse_name
from resip.tunnel.policy import Policy
from resip.tunnel.reactor import ITunnelReactor
from resip.tunnel.resolution import ResolutionError, resolve
from resip.tunnel.stream import StreamAttachment
from resip.tunnel.throttle import Throttle

#: Seconds that each address of a target has to answer.
CONNECT_TIMEOUT = 30.0

#: Addresses of one target that are tried; more would keep the program waiting for minutes.
MAX_ATTEMPTS = 4

#: Seconds without a datagram after which a UDP socket is closed. Longer than the client's
#: patience, since the client decides and a socket here costs little.
UDP_IDLE_TIMEOUT = 600.0

_FAMILY = {4: AF_INET, 6: AF_INET6}
_ANY_INTERFACE = {4: "0.0.0.0", 6: "::"}


class TargetConnector:
    """
    Answers the channels that clients request.

    Owns the connections it made, from the first attempt until they are over.

    :param reactor: connects and resolves.
    :param clock: runs the timeouts of UDP; the reactor when not given.
    """

    _log = Logger()

    def __init__(self, reactor: ITunnelReactor, *, clock: IReactorTime | None = None) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = reactor if clock is None else clock
        self._attachments = Attachments()
        self._connecting: set[Deferred[None]] = set()
        self._closing: set[Deferred[None]] = set()
        self._refusals = Throttle(self._clock)
        self._is_stopped = False

    @property
    def connections(self) -> int:
        """
        How many channels have a socket now.
        """
        return len(self._attachments)

    def channel_requested(self, channel: Channel, policy: Policy, who: str) -> None:
        """
        Connect ``channel`` to its target and accept it, or refuse it with a line in the log.

        :param policy: what this client may reach.
        :param who: the client's name, for the log.
        """
        if self._is_stopped:
            channel.refuse(ResetCode.CONNECT_FAILED)
            return
        connecting = Deferred.fromCoroutine(self._answer(channel, policy, who))
        self._connecting.add(connecting)
        connecting.addErrback(lambda failure: self._log.failure("connecting", failure))
        connecting.addBoth(lambda _: self._connecting.discard(connecting))

    def stop(self) -> Deferred[None]:
        """
        Refuse what is not connected yet and reset what is.

        :return: fires when every socket is closed.
        """
        self._is_stopped = True
        for connecting in tuple(self._connecting):
            connecting.cancel()
        return Deferred.fromCoroutine(self._wait_until_quiet())

    async def _wait_until_quiet(self) -> None:
        await self._attachments.abort_all()
        await gatherResults(tuple(self._closing))

    async def _answer(self, channel: Channel, policy: Policy, who: str) -> None:
        try:
            addresses = await self._permitted_addresses(channel, policy)
            if channel.target.protocol is Protocol.UDP:
                self._open_socket(channel, addresses[0])
            else:
                await self._connect(channel, addresses[:MAX_ATTEMPTS])
            self._log.debug("{who}: {target} connected", who=who, target=str(channel.target))
        except _NotPermitted as refusal:
            channel.refuse(ResetCode.REFUSED)
            self._report_refusal(channel, refusal, who)
        except (ResolutionError, ConnectError, CannotListenError) as error:
            channel.refuse(ResetCode.CONNECT_FAILED)
            self._log.info(
                "{who}: cannot connect to {target}: {reason}",
                who=who,
                target=str(channel.target),
                reason=_reason(error),
            )
        except (CancelledError, ConnectingCancelledError):
            channel.refuse(ResetCode.CONNECT_FAILED)

    def _report_refusal(self, channel: Channel, refusal: _NotPermitted, who: str) -> None:
        withheld = self._refusals.admit()
        if withheld is None:
            return
        self._log.warn(
            "{who}: {target} refused: {reason}{withheld}",
            who=who,
            # The host is the client's text: only what has the form of a host goes to the log.
            target=str(channel.target) if refusal.is_host else "a target",
            reason=str(refusal),
            withheld=f" ({withheld} more refusals since the last line)" if withheld else "",
        )

    async def _permitted_addresses(self, channel: Channel, policy: Policy) -> list[IPAddress]:
        """
        The addresses to connect to: exactly those that were checked.

        A name that is not allowed as such is resolved once, here. To hand the name on to be
        resolved again would let its owner show an allowed address first and another then.
        """
        target = channel.target
        if not 1 <= target.port <= 65535:
            raise _NotPermitted("its port is not a number from 1 to 65535", is_host=False)
        address = parse_address(target.host)
        if address is None:
            return await self._permitted_addresses_of_name(channel, policy)
        if policy.permits_address(address, target.port):
            return [address]
        for name in policy.names(target.port):
            try:
                if address in await resolve(self._reactor, name):
                    return [address]
            except ResolutionError:
                continue
        raise _NotPermitted(f"no pattern covers it; to allow it: {policy.cure(target)}")

    async def _permitted_addresses_of_name(
        self, channel: Channel, policy: Policy
    ) -> list[IPAddress]:
        target = channel.target
        try:
            name = parse_name(target.host)
        except ValueError:
            reason = "its host is neither an address nor a host name"
            raise _NotPermitted(reason, is_host=False) from None
        if policy.permits_name(name, target.port):
            return await resolve(self._reactor, name)
        reason = "neither its name nor an address of it is covered"
        refusal = _NotPermitted(f"{reason}; to allow it: {policy.cure(target)}")
        try:
            addresses = await resolve(self._reactor, name)
        except ResolutionError:
            # Not CONNECT_FAILED: which names exist here is nobody's business.
            raise refusal from None
        permitted = [each for each in addresses if policy.permits_address(each, target.port)]
        if not permitted:
            raise refusal
        return permitted

    async def _connect(self, channel: Channel, addresses: list[IPAddress]) -> None:
        """
        Accept the channel once one of the addresses is connected.

        :raises ConnectError: the reason of the last one when none is.
        """
        for address in addresses:
            endpoint = TCP4ClientEndpoint if address.version == 4 else TCP6ClientEndpoint
            attachment = StreamAttachment(self._attachments.discard)
            try:
                await endpoint(
                    self._reactor, str(address), channel.target.port, timeout=CONNECT_TIMEOUT
                ).connect(_TargetFactory(attachment))
            except ConnectError:
                if address is addresses[-1]:
                    raise
            else:
                self._attachments.add(attachment)
                attachment.attach(channel)
                channel.accept(attachment)
                return

    def _open_socket(self, channel: Channel, address: IPAddress) -> None:
        socket = _TargetSocket(address, channel.target.port)
        interface = _ANY_INTERFACE[address.version]
        port = self._reactor.listenUDP(
            0, socket, interface=interface, maxPacketSize=MAX_DATAGRAM_SIZE
        )
        socket.attachment = attachment = DatagramAttachment(
            self._clock,
            socket.send,
            idle_timeout=UDP_IDLE_TIMEOUT,
            on_over=partial(self._close_socket, port),
        )
        self._attachments.add(attachment)
        attachment.attach(channel)
        channel.accept(attachment)

    def _close_socket(
        self, port: IListeningPort, attachment: DatagramAttachment, code: ResetCode | None
    ) -> None:
        closing: Deferred[None] | None = port.stopListening()
        if closing is not None:
            self._closing.add(closing)
            closing.addCallback(lambda _: self._closing.discard(closing))
        self._attachments.discard(attachment)


class _NotPermitted(ResipError):
    """
    The policy does not allow a target.
    """

    def __init__(self, reason: str, *, is_host: bool = True) -> None:
        super().__init__(reason)
        self.is_host = is_host


class _TargetFactory(Factory):
    noisy = False

    def __init__(self, attachment: StreamAttachment) -> None:
        self._attachment = attachment

    def buildProtocol(self, addr: IAddress | None) -> StreamAttachment:
        return self._attachment


class _TargetSocket(DatagramProtocol):
    """
    Talks to one address only.

    The socket is not connected: on a connected one a firewall's answer becomes an error that
    ends Twisted's port. Instead datagrams from elsewhere are dropped here.
    """

    noisy = False
    attachment: DatagramAttachment | None = None

    def __init__(self, address: IPAddress, port: int) -> None:
        # In the spelling that the socket uses for where datagrams come from.
        self._address = (inet_ntop(_FAMILY[address.version], address.packed), port)

    def send(self, data: bytes) -> None:
        transport: IUDPTransport | None = self.transport
        if transport is not None:
            send_datagram(transport, data, self._address)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if addr[:2] == self._address and self.attachment is not None:
            self.attachment.datagram_received(datagram)

    def stopProtocol(self) -> None:
        attachment, self.attachment = self.attachment, None
        if attachment is not None:
            attachment.abort()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    if isinstance(error, ConnectError) and isinstance(error.osError, int):
        return os.strerror(error.osError)
    return str(error)
