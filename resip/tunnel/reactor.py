"""
What this package needs of a reactor.
"""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
)


class ITunnelReactor(IReactorTCP, IReactorUDP, IReactorTime, IReactorPluggableNameResolver):
    """
    TCP, UDP, time and names: every reactor of Twisted on POSIX has them all.
    """
