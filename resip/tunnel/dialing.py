"""
The client's end of channels: what the listeners of both protocols do to get one.
"""

from __future__ import annotations

from twisted.logger import Logger

from resip.carriers.channels import Channel, ChannelOpener, ChannelUser
from resip.core.errors import LimitError, ResetCode
from resip.core.types import Target
from resip.tunnel.hosts import parse_address
from resip.tunnel.policy import Policy
from resip.tunnel.reactor import ITunnelReactor
from resip.tunnel.resolution import ResolutionError, resolve
from resip.tunnel.throttle import Throttle


class Dialer:
    """
    Opens channels to the target of one forward, and tells the log why one could not be had.

    :param opener: the session.
    :param target: where all its channels lead.
    :param compress: ask for compressed channels.
    """

    _log = Logger()

    def __init__(
        self, reactor: ITunnelReactor, opener: ChannelOpener, target: Target, *, compress: bool
    ) -> None:
        self._reactor = reactor
        self._opener = opener
        self._target = target
        self._compress = compress
        self._throttles: dict[ResetCode | None, Throttle] = {}

    async def candidates(self) -> list[Target]:
        """
        The targets to try one after the other: the addresses of a name that cannot be sent.

        IPv4 goes first, since a server that cannot take names may not know IPv6 either.
        None when the name has no address; the log tells why.
        """
        target = self._target
        if self._opener.resolves_names or parse_address(target.host) is not None:
            return [target]
        try:
            addresses = await resolve(self._reactor, target.host)
        except ResolutionError as error:
            self._tell(None, str(error))
            return []
        addresses.sort(key=lambda address: address.version)
        return [Target(target.protocol, str(address), target.port) for address in addresses]

    def open(self, target: Target, user: ChannelUser) -> Channel | None:
        """
        A channel to one of the candidates, or ``None`` with a line in the log.
        """
        try:
            return self._opener.open_channel(target, user, compress=self._compress)
        except (ValueError, LimitError) as error:
            self._tell(None, str(error))
            return None

    def report(self, code: ResetCode, tried: Target | None = None) -> None:
        """
        Tell the log, not too often, why the far side gave no channel.

        :param tried: the candidate, where it is known: the server knows no other name of it.
        """
        if code is ResetCode.REFUSED:
            cure = Policy.cure(tried or self._target)
            self._tell(code, f"the server does not allow it; on the server: {cure}")
        elif code is ResetCode.CONNECT_FAILED:
            self._tell(code, "the server cannot connect to it; its log tells why")
        elif code is ResetCode.PROTOCOL:
            self._tell(code, "the channel broke the protocol")
        # A target that aborts is nothing to write home about, and a lost session says so itself.

    def _tell(self, kind: ResetCode | None, reason: str) -> None:
        throttle = self._throttles.setdefault(kind, Throttle(self._reactor))
        withheld = throttle.admit()
        if withheld is not None:
            self._log.warn(
                "no channel to {target}: {reason}{withheld}",
                target=str(self._target),
                reason=reason,
                withheld=f" ({withheld} more since the last line)" if withheld else "",
            )
