"""
Tests of noticing that the network changed.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from resip.services.network import (
    ADDRESS_CHECK_INTERVAL,
    CHANGES,
    REPORT_INTERVAL,
    RTM_F_CLONED,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    SLEEP_CHECK_INTERVAL,
    AddressPoll,
    NetworkWatcher,
    RouteListener,
    RouteMessages,
    SleepDetector,
)

UP, RUNNING = 0x1, 0x40
NEW_ADDRESS = 20


def message(kind: int, body: bytes) -> bytes:
    """
    One rtnetlink message, padded to four bytes.
    """
    whole = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    return whole + bytes(-len(whole) % 4)


def link(index: int, flags: int) -> bytes:
    """
    A link that reports itself.
    """
    return message(RTM_NEWLINK, struct.pack("=BxHiII", 0, 1, index, flags, 0))


def route(flags: int) -> bytes:
    """
    A new route.
    """
    return message(RTM_NEWROUTE, struct.pack("=8xI", flags))


class RouteMessageTests(SynchronousTestCase):
    """
    Which messages of the kernel mean that packets may pass now.
    """

    def test_an_address_is_a_change(self) -> None:
        """
        A new address is reported in words.
        """
        found = RouteMessages().what_changed(message(NEW_ADDRESS, bytes(8)))
        self.assertEqual(found, "an address appeared")

    def test_a_link_counts_only_when_its_state_changes(self) -> None:
        """
        Links report statistics and scans, too: the same state again says nothing.
        """
        messages = RouteMessages()
        heard = [messages.what_changed(link(2, flags)) for flags in (UP, UP, UP | RUNNING, UP)]
        self.assertEqual([what is not None for what in heard], [True, False, True, True])

    def test_cached_routes_are_no_change(self) -> None:
        """
        The kernel's own route cache is not news, a route is.
        """
        messages = RouteMessages()
        self.assertIsNone(messages.what_changed(route(RTM_F_CLONED)))
        self.assertIsNotNone(messages.what_changed(route(0)))

    def test_all_messages_of_a_read_are_looked_at(self) -> None:
        """
        A change behind messages that mean nothing is found.
        """
        other = message(99, b"abc")
        found = RouteMessages().what_changed(other + route(RTM_F_CLONED) + route(0))
        self.assertEqual(found, CHANGES[RTM_NEWROUTE])

    def test_damaged_messages_are_harmless(self) -> None:
        """
        Cut at any byte, or with a length of nothing, a read ends quietly.
        """
        whole = link(2, UP) + route(0)
        for end in range(len(whole)):
            RouteMessages().what_changed(whole[:end])
        self.assertIsNone(RouteMessages().what_changed(bytes(64)))


class NetworkWatcherTests(SynchronousTestCase):
    """
    How often changes are reported.
    """

    def setUp(self) -> None:
        """
        A watcher, not started, on a clock of our own.
        """
        self.clock = Clock()
        self.heard: list[str] = []
        self.watcher = NetworkWatcher(self.clock, self.heard.append)

    def test_a_burst_is_reported_at_its_start_and_end(self) -> None:
        """
        The first change is reported at once, those that follow closely together.
        """
        for what in ("one", "two", "three"):
            self.watcher.changed(what)
        self.assertEqual(self.heard, ["one"])
        self.clock.advance(REPORT_INTERVAL)
        self.assertEqual(self.heard, ["one", "two"])
        self.clock.advance(10)
        self.assertEqual(self.heard, ["one", "two"])

    def test_changes_without_end_are_bounded(self) -> None:
        """
        A flapping link causes a report per interval and no more.
        """
        for _ in range(1000):
            self.watcher.changed("flap")
            self.clock.advance(0.01)
        self.assertLessEqual(len(self.heard), 10 / REPORT_INTERVAL + 1)

    def test_nothing_is_reported_after_the_stop(self) -> None:
        """
        A report that waits is dropped.
        """
        self.watcher.changed("one")
        self.watcher.changed("two")
        self.watcher.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SleepDetectorTests(SynchronousTestCase):
    """
    Noticing that the machine slept.
    """

    def start(self, readings: Iterable[tuple[float, float]]) -> tuple[Clock, list[str]]:
        """
        A detector whose clocks show ``readings``, one at each look.
        """
        clock, heard, left = Clock(), list[str](), iter(readings)
        detector = SleepDetector(clock, heard.append, clocks=lambda: next(left))
        detector.startService()
        self.addCleanup(detector.stopService)
        return clock, heard

    def test_sleep_is_noticed(self) -> None:
        """
        One clock went on by an hour while the other stood still.
        """
        clock, heard = self.start([(0, 100), (1, 101), (2, 3702), (3, 3703)])
        clock.pump([SLEEP_CHECK_INTERVAL] * 3)
        self.assertEqual(heard, ["the machine slept for 3600 s"])

    def test_being_awake_is_not_sleep(self) -> None:
        """
        Clocks that go together say nothing, however late somebody looks.
        """
        clock, heard = self.start([(0, 100), (50, 150), (51, 151.5)])
        clock.pump([SLEEP_CHECK_INTERVAL] * 2)
        self.assertEqual(heard, [])


class AddressPollTests(SynchronousTestCase):
    """
    Noticing another address where the system does not tell.
    """

    def test_another_address_is_noticed_once(self) -> None:
        """
        A change is reported at the next look, and not again.
        """
        clock, heard, address = Clock(), list[str](), ["192.0.2.7"]
        poll = AddressPoll(clock, heard.append, own_addresses=lambda: address[0])
        poll.startService()
        self.addCleanup(poll.stopService)
        clock.advance(ADDRESS_CHECK_INTERVAL)
        address[0] = "192.0.2.8"
        clock.pump([ADDRESS_CHECK_INTERVAL] * 3)
        self.assertEqual(heard, ["the own address changed"])


class RouteListenerTests(TestCase):
    """
    The real thing: a link that comes and goes.
    """

    def test_a_new_address_is_heard(self) -> Deferred[None]:
        """
        An address put on the loopback interface of a namespace is heard of in it.
        """
        if sys.platform != "linux" or os.geteuid() != 0:
            raise SkipTest("changing addresses needs Linux and root")
        heard: Deferred[str] = Deferred()

        def on_change(what: str) -> None:
            if not heard.called:
                heard.callback(what)

        listener = RouteListener(reactor, on_change)
        listener.startService()
        self.addCleanup(listener.stopService)
        address = ["127.9.9.9/32", "dev", "lo"]
        change = subprocess.run(["ip", "address", "add", *address], capture_output=True)
        if change.returncode:
            raise SkipTest("this machine does not let us add an address")
        self.addCleanup(subprocess.run, ["ip", "address", "del", *address], check=True)
        heard.addTimeout(10, reactor)
        return heard.addCallback(lambda what: self.assertIn(what, CHANGES.values()))

    def test_a_forbidden_socket_is_no_failure(self) -> Deferred[None]:
        """
        Where the system does not tell, the service starts all the same.
        """

        def forbidden(*arguments: object) -> socket.socket:
            raise PermissionError(1, "Operation not permitted")

        self.patch(socket, "socket", forbidden)
        listener = RouteListener(reactor, self.fail)
        listener.startService()
        listener.stopService()
        return deferLater(reactor, 0, lambda: None)
