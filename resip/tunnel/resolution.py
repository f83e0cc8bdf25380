"""
From a host name to addresses, by the reactor's resolver.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from resip.core.errors import ResipError
from resip.tunnel.hosts import IPAddress, parse_address
from resip.tunnel.reactor import ITunnelReactor

#: Seconds that a name server has to answer.
RESOLUTION_TIMEOUT = 30.0

#: Addresses of one name that are looked at; its owner decides how many there are.
MAX_ADDRESSES = 8


class ResolutionError(ResipError):
    """
    A host name has no address, or nobody said which.
    """


async def resolve(reactor: ITunnelReactor, name: str) -> list[IPAddress]:
    """
    The addresses of ``name`` in the system's order of preference, each once, unmapped.

    :raises ResolutionError: when there is none.
    """
    receiver = _AddressCollector()
    # Once it began it cannot be called off: threads wait for the name server.
    reactor.nameResolver.resolveHostName(receiver, name)
    try:
        await receiver.done.addTimeout(RESOLUTION_TIMEOUT, reactor)
    except TimeoutError:
        reason = f"the name servers did not tell the address of {name} in {RESOLUTION_TIMEOUT:g} s"
        raise ResolutionError(reason) from None
    if not receiver.addresses:
        raise ResolutionError(f"no address is known for {name}: check its spelling and the DNS")
    return receiver.addresses


@implementer(IResolutionReceiver)
class _AddressCollector:
    def __init__(self) -> None:
        self.addresses: list[IPAddress] = []
        self.done: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        host = parse_address(getattr(address, "host", ""))
        if host and host not in self.addresses and len(self.addresses) < MAX_ADDRESSES:
            self.addresses.append(host)

    def resolutionComplete(self) -> None:
        self.done.callback(None)
