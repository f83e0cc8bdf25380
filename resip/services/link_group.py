"""
Links of one kind to several places of one server, in the guise of a single link.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall

from resip.carriers.interfaces import Carrier
from resip.core.types import Path
from resip.services.choice import ADDRESS_HEAD_START
from resip.services.links import Link, LinkUser


class LinkGroup:
    """
    A :class:`~resip.services.links.Link` that offers the paths of all its members.

    :param members: the preferred first; each has a head start before the next.
    """

    def __init__(self, reactor: Any, members: Sequence[Link]) -> None:
        self._reactor = reactor
        self._members = members
        self._paths = _SharedPaths()
        self._starts: list[IDelayedCall] = []

    def start(self, user: LinkUser) -> None:
        """
        See :class:`~resip.services.links.Link`.
        """
        for number, link in enumerate(self._members):
            member = _Member(user, self._paths)
            if number:
                delay = number * ADDRESS_HEAD_START
                self._starts.append(self._reactor.callLater(delay, link.start, member))
            else:
                link.start(member)

    def renew(self) -> None:
        """
        See :class:`~resip.services.links.Link`.
        """
        for link in self._members:
            link.renew()

    def stop(self) -> Deferred[None]:
        """
        See :class:`~resip.services.links.Link`.
        """
        for call in self._starts:
            if call.active():
                call.cancel()
        stopping = [link.stop() for link in self._members]
        return gatherResults(stopping).addCallback(lambda _: None)


class _SharedPaths:
    """
    The carriers of each path, and a carrier that leads to them.

    Two members have the same path where two names are of one address. The path is that of the
    member that opened it first, and when that one loses it, of the next.
    """

    def __init__(self) -> None:
        self._carriers: dict[Path, list[Carrier]] = {}

    def add(self, path: Path, carrier: Carrier) -> bool:
        """
        A member opened a path; returns whether it is the only one.
        """
        carriers = self._carriers.setdefault(path, [])
        carriers.append(carrier)
        return len(carriers) == 1

    def remove(self, path: Path, carrier: Carrier) -> bool:
        """
        A member lost a path; returns whether packets went by its carrier.
        """
        carriers = self._carriers[path]
        was_first = carriers[0] is carrier
        carriers.remove(carrier)
        if not carriers:
            del self._carriers[path]
        return was_first

    def has(self, path: Path) -> bool:
        """
        Whether any member has a path.
        """
        return path in self._carriers

    def send(self, path: Path, packets: Sequence[bytes]) -> None:
        """
        See :class:`~resip.carriers.interfaces.Carrier`.
        """
        if carriers := self._carriers.get(path):
            carriers[0].send(path, packets)

    def is_writable(self, path: Path) -> bool:
        """
        See :class:`~resip.carriers.interfaces.Carrier`.
        """
        carriers = self._carriers.get(path)
        return carriers is not None and carriers[0].is_writable(path)


class _Member:
    """
    The user of one member; hands on what it hears.
    """

    def __init__(self, user: LinkUser, paths: _SharedPaths) -> None:
        self._user = user
        self._paths = paths
        self._carriers: dict[Path, Carrier] = {}
        self.path_writable = user.path_writable
        self.preamble = user.preamble
        self.receive_datagrams = user.receive_datagrams

    def path_open(self, path: Path, carrier: Carrier) -> None:
        self._carriers[path] = carrier
        if self._paths.add(path, carrier):
            self._user.path_open(path, self._paths)

    def path_closed(self, path: Path) -> None:
        if self._paths.remove(path, self._carriers.pop(path)):
            self._user.path_closed(path)
            if self._paths.has(path):
                self._user.path_open(path, self._paths)
