"""
Notices that the network may have changed: addresses, routes, links, a machine that slept.

A session finds out by itself that its path is dead, but only by waiting. Whoever listens here
can try again at once.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

#: Seconds between two reports: one change makes a burst of messages.
REPORT_INTERVAL = 0.2
#: Seconds between looks at the clocks, and at the own address where the system does not tell.
SLEEP_CHECK_INTERVAL = 1.0
ADDRESS_CHECK_INTERVAL = 2.0
#: Seconds by which the clocks must part before the machine counts as having slept.
LEAST_SLEEP = 2.0

# rtnetlink(7), linux/rtnetlink.h. Python's socket module has only the family.
NETLINK_ROUTE = 0
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links, IPv4 and IPv6 addresses and routes
RTM_NEWLINK = 16
RTM_NEWROUTE = 24
CHANGES = {
    RTM_NEWLINK: "a link changed",
    17: "a link went away",
    20: "an address appeared",
    21: "an address went away",
    RTM_NEWROUTE: "a route appeared",
    25: "a route went away",
}
#: nlmsghdr: length, type, flags, sequence, port.
MESSAGE_HEADER = struct.Struct("=IHHII")
#: ifinfomsg: family, type, index, flags, change.
LINK_MESSAGE = struct.Struct("=BxHiII")
#: rtmsg: lengths and kinds, then the flags, of which one marks a mere cache entry.
ROUTE_MESSAGE = struct.Struct("=8xI")
RTM_F_CLONED = 0x200
#: IFF_UP, IFF_RUNNING and IFF_LOWER_UP: whether packets can pass.
LINK_STATE = 0x1 | 0x40 | 0x10000
READ_SIZE = 65_536

#: Where nobody is (RFC 5737, RFC 3849): only the route there is asked for, nothing is sent.
NOWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))

#: Called with what happened, in words.
OnChange = Callable[[str], None]


class NetworkWatcher(MultiService):
    """
    Calls ``on_change`` at once when something changed, and at most every
    :data:`REPORT_INTERVAL` while things go on changing, the last time after the last change.
    """

    _log = Logger()

    def __init__(self, reactor: Any, on_change: OnChange) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._clock: IReactorTime = reactor
        self._on_change = on_change
        self._reported_at = -REPORT_INTERVAL
        self._waiting: IDelayedCall | None = None
        SleepDetector(reactor, self.changed).setServiceParent(self)  # type: ignore[no-untyped-call]
        source: Service
        if sys.platform == "linux":
            source = RouteListener(reactor, self.changed)
        else:
            source = AddressPoll(reactor, self.changed)
        source.setServiceParent(self)  # type: ignore[no-untyped-call]

    def changed(self, what: str) -> None:
        """
        Something changed: report it, soon if the last report was just now.
        """
        if self._waiting is not None:
            return
        wait = self._reported_at + REPORT_INTERVAL - self._clock.seconds()
        if wait > 0:
            self._waiting = self._clock.callLater(wait, self._report, what)
        else:
            self._report(what)

    def stopService(self) -> Deferred[None] | None:
        """
        Report nothing any more.
        """
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        stopping: Deferred[None] | None = super().stopService()  # type: ignore[no-untyped-call]
        return stopping

    def _report(self, what: str) -> None:
        self._waiting = None
        self._reported_at = self._clock.seconds()
        self._log.debug("{what}: trying now", what=what)
        self._on_change(what)


class RouteListener(Service):
    """
    Linux tells of every change (rtnetlink).
    """

    _log = Logger()

    def __init__(self, reactor: Any, on_change: OnChange) -> None:
        self._reactor = reactor
        self._on_change = on_change
        self._reader: _RouteReader | None = None

    def startService(self) -> None:
        """
        Begin to listen.
        """
        super().startService()  # type: ignore[no-untyped-call]
        try:
            listening = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_ROUTE
            )
            listening.bind((0, GROUPS))
        except OSError as error:  # forbidden in some containers
            self._log.info(
                "the system does not tell of network changes ({error}); silence will",
                error=error.strerror,
            )
            return
        self._reader = _RouteReader(self._reactor, listening, self._on_change)
        self._reader.startReading()  # type: ignore[no-untyped-call]

    def stopService(self) -> None:
        """
        Close the socket.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class _RouteReader(FileDescriptor):
    """
    Reads the socket and picks what matters.
    """

    def __init__(self, reactor: Any, listening: socket.socket, on_change: OnChange) -> None:
        super().__init__(reactor)
        self._socket = listening
        self._on_change = on_change
        self._messages = RouteMessages()

    def fileno(self) -> int:
        """
        For the reactor.
        """
        return self._socket.fileno()

    def doRead(self) -> None:
        """
        Messages have arrived; the reactor calls this.
        """
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                self.close()
                return
            self._on_change("much changed")  # so much that some of it was dropped
            return
        what = self._messages.what_changed(data)
        if what is not None:
            self._on_change(what)

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor stops, or gives up the socket.
        """
        self.close()

    def close(self) -> None:
        """
        Read no more.
        """
        self.stopReading()  # type: ignore[no-untyped-call]
        self._socket.close()


class RouteMessages:
    """
    Sorts rtnetlink messages: which of them say that packets may pass now, or no longer?

    Links report all sorts of things, and the kernel its cached routes; both would have us try
    again for nothing.
    """

    def __init__(self) -> None:
        self._links: dict[int, int] = {}

    def what_changed(self, data: bytes) -> str | None:
        """
        The first change among the messages of one read, in words; ``None`` when there is none.
        """
        changed = None
        start = 0
        while start + MESSAGE_HEADER.size <= len(data):
            length, kind = MESSAGE_HEADER.unpack_from(data, start)[:2]
            if length < MESSAGE_HEADER.size:
                break
            body = data[start + MESSAGE_HEADER.size : start + length]
            if kind in CHANGES and self._is_change(kind, body) and changed is None:
                changed = CHANGES[kind]
            start += (length + 3) & ~3
        return changed

    def _is_change(self, kind: int, body: bytes) -> bool:
        if kind == RTM_NEWLINK and len(body) >= LINK_MESSAGE.size:
            _, _, index, flags, _ = LINK_MESSAGE.unpack_from(body)
            state = flags & LINK_STATE
            if self._links.get(index) == state:
                return False
            self._links[index] = state
        elif kind == RTM_NEWROUTE and len(body) >= ROUTE_MESSAGE.size:
            (flags,) = ROUTE_MESSAGE.unpack_from(body)
            return not flags & RTM_F_CLONED
        return True


class AddressPoll(Service):
    """
    Looks now and then from which address packets would leave, where no system call tells.

    :param own_addresses: returns something that is equal as long as nothing changed.
    """

    def __init__(
        self,
        reactor: Any,
        on_change: OnChange,
        *,
        own_addresses: Callable[[], object] | None = None,
    ) -> None:
        self._on_change = on_change
        self._own_addresses = own_addresses or addresses_in_use
        self._last: object = None
        self._poll = LoopingCall(self._look)
        self._poll.clock = reactor

    def startService(self) -> None:
        """
        Begin to look.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._last = self._own_addresses()
        self._poll.start(ADDRESS_CHECK_INTERVAL, now=False)

    def stopService(self) -> None:
        """
        Look no more.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._poll.running:
            self._poll.stop()

    def _look(self) -> None:
        found = self._own_addresses()
        if found != self._last:
            self._last = found
            self._on_change("the own address changed")


def addresses_in_use() -> tuple[str | None, ...]:
    """
    The addresses from which IPv4 and IPv6 packets to the outside would leave; ``None`` where
    there is no way out. Sends nothing.
    """
    found: list[str | None] = []
    for family, address in NOWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            found.append(None)
    return tuple(found)


def time_awake_and_asleep() -> tuple[float, float]:
    """
    Seconds on a clock that stands still while the machine sleeps, and on one that goes on.
    """
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    going_on = time.time() if boot_time is None else time.clock_gettime(boot_time)
    return time.monotonic(), going_on


class SleepDetector(Service):
    """
    Compares two clocks of which one stood still while the machine slept.
    """

    def __init__(
        self,
        reactor: Any,
        on_change: OnChange,
        *,
        clocks: Callable[[], tuple[float, float]] = time_awake_and_asleep,
    ) -> None:
        self._on_change = on_change
        self._clocks = clocks
        self._difference = 0.0
        self._poll = LoopingCall(self._look)
        self._poll.clock = reactor

    def startService(self) -> None:
        """
        Begin to look.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._difference = self._measure()
        self._poll.start(SLEEP_CHECK_INTERVAL, now=False)

    def stopService(self) -> None:
        """
        Look no more.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._poll.running:
            self._poll.stop()

    def _measure(self) -> float:
        awake, going_on = self._clocks()
        return going_on - awake

    def _look(self) -> None:
        difference = self._measure()
        asleep = difference - self._difference
        self._difference = difference
        if asleep >= LEAST_SLEEP:
            self._on_change(f"the machine slept for {asleep:.0f} s")
