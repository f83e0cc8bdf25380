"""
Tests of :mod:`resip.services.selection`: links that are started, paths that are used.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.driver import SessionDriver
from resip.carriers.framing import PrefixFraming
from resip.core.events import PathAnswered, PathSilent
from resip.core.types import Path
from resip.services.choice import ADDRESS_TRIAL, CALM
from resip.services.link_kinds import AUTO, HTTPS, Destination, LinkKind, link_kinds_for
from resip.services.links import Link
from resip.services.selection import CarrierSelection
from tests.carriers.fixture import ScriptedSession
from tests.services.scripted_link import ScriptedLink

UDP = Path("udp", ("192.0.2.1", 1))
OTHER_UDP = Path("udp", ("192.0.2.2", 1))
TCP = Path("tcp", ("192.0.2.1", 1), is_reliable=True)
WEB = Path("web", ("192.0.2.1", 2), is_reliable=True)


class ProbingSession(ScriptedSession):
    """
    One that can ask paths.
    """

    can_probe_paths = True

    def probe_path(self, path: Path, *, now: float) -> None:
        """
        Note it.
        """
        self.calls.append(("probe_path", path))

    def preamble(self, path: Path) -> bytes:
        """
        The name of the carrier.
        """
        return path.carrier.encode()


class SelectionTestCase(SynchronousTestCase):
    """
    Three links, a scripted session, and a driver.
    """

    session_type: type[ScriptedSession] = ProbingSession

    def setUp(self) -> None:
        """
        Start a selection.
        """
        self.clock = Clock()
        self.links: list[ScriptedLink] = []
        self.session = self.session_type()
        self.session.path = None
        kinds = [
            LinkKind(name, head_start, self.make_link)
            for name, head_start in (("udp", 0.0), ("tcp", 0.25), ("web", 1.0))
        ]
        destination = Destination(self.clock, "server.example", 1, PrefixFraming)
        self.selection = CarrierSelection(kinds, destination, now=self.clock.seconds)
        self.driver = SessionDriver(
            self.session,
            self.selection.carriers,
            clock=self.clock,
            now=self.clock.seconds,
            on_path_answer=self.selection.path_answered,
            on_path_silence=self.selection.path_silent,
        )
        self.addCleanup(self.stop)
        self.messages: list[str] = []
        observer = cast(ILogObserver, self.observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.selection.start(self.driver)

    def stop(self) -> None:
        """
        Nothing remains.
        """
        self.driver.stop()
        self.successResultOf(self.selection.stop())
        self.assertTrue(all(link.stops == 1 for link in self.links))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def observe(self, event: LogEvent) -> None:
        """
        Keep what our own code says.
        """
        if str(event.get("log_namespace", "")).startswith("resip."):
            self.messages.append(formatEvent(event))

    def make_link(self, destination: Destination) -> Link:
        """
        The next link.
        """
        self.links.append(ScriptedLink())
        return self.links[-1]

    def tell(self, *events: PathAnswered | PathSilent) -> None:
        """
        The session reports something.
        """
        self.session.events.extend(events)
        self.driver.turn_soon()
        self.clock.advance(0)


class SelectionTests(SelectionTestCase):
    """
    From what links and session report to what they are told.
    """

    def fail_udp(self) -> None:
        """
        UDP works and goes silent; TCP answers.
        """
        self.links[0].open(UDP)
        self.tell(PathAnswered(UDP))
        self.clock.advance(10)
        self.tell(PathSilent(UDP))
        self.links[1].open(TCP)
        self.tell(PathAnswered(TCP))

    def test_one_carrier_is_left_for_another(self) -> None:
        """
        The session is told which to use and which to ask, and the log says why.
        """
        self.fail_udp()
        verbs = [("use_path", UDP), ("probe_path", TCP), ("use_path", TCP)]
        self.assertEqual(self.session.calls, verbs)
        self.assertEqual(self.messages, [f"{UDP} gives no answers; trying {TCP}"])
        self.clock.advance(1)
        self.tell(PathAnswered(UDP))
        self.assertEqual(self.session.calls[3:], [("probe_path", UDP), ("use_path", UDP)])
        self.assertEqual(self.messages[1:], [f"{UDP} answers and is better than {TCP}"])

    def test_packets_go_to_the_carrier_of_the_path(self) -> None:
        """
        Each link sends what takes its path, and what it receives goes to the session.
        """
        self.fail_udp()
        self.session.packets.append(b"packet")
        self.driver.turn_soon()
        self.clock.advance(0)
        self.assertEqual(self.links[1].carrier.sent, [b"packet"])
        user = self.links[0].user
        assert user is not None
        self.assertTrue(user.receive_datagrams([b"good"], UDP))
        self.assertFalse(user.receive_datagrams([b"bad"], UDP))
        self.assertEqual(user.preamble(TCP), b"tcp")

    def test_a_path_that_closes(self) -> None:
        """
        The session hears of it first.
        """
        self.fail_udp()
        user = self.links[1].user
        assert user is not None
        user.path_closed(TCP)
        self.assertEqual(self.session.calls[3], ("path_closed", TCP))

    def test_renew_and_retry(self) -> None:
        """
        A silent server is looked up again by every link; a change outside starts all of them, as
        long as none works.
        """
        self.selection.renew()
        self.assertEqual([link.renewals for link in self.links], [1])
        self.selection.retry()
        self.assertEqual([link.renewals for link in self.links], [2, 0, 0])

    def test_spares_that_are_let_go(self) -> None:
        """
        Their links are stopped and their paths forgotten.
        """
        self.fail_udp()
        self.clock.advance(0.1)
        self.links[2].open(WEB)
        self.tell(PathAnswered(UDP))
        for _ in range(40):
            self.clock.advance(CALM / 20)
        self.assertEqual([link.stops for link in self.links], [0, 0, 1])
        self.assertIn(("path_closed", WEB), self.session.calls)


class WithoutProbesTests(SelectionTestCase):
    """
    A dialect that cannot ask: the first packet that arrives decides.
    """

    session_type = ScriptedSession

    def test_addresses_take_turns(self) -> None:
        """
        Until a packet arrives.
        """
        self.links[0].open(UDP)
        self.links[0].open(OTHER_UDP)
        self.clock.advance(ADDRESS_TRIAL)
        self.assertEqual(self.session.path, OTHER_UDP)
        user = self.links[0].user
        assert user is not None
        user.receive_datagrams([b"good"], OTHER_UDP)
        self.clock.advance(10 * ADDRESS_TRIAL)
        self.assertEqual(self.session.path, OTHER_UDP)


class KindsTests(SynchronousTestCase):
    """
    What ``--carrier`` means.
    """

    def test_automatic(self) -> None:
        """
        All kinds, best first; one of them where nothing tells which works.
        """
        names = [kind.name for kind in link_kinds_for(AUTO, can_probe=True)]
        self.assertEqual(names[:2], ["udp", "tcp"])
        self.assertEqual([k.name for k in link_kinds_for(AUTO, can_probe=False)], ["udp"])

    def test_one(self) -> None:
        """
        Only that one, at once.
        """
        for name, has_http in (("tcp", False), ("http", False), ("plain-http", True)):
            (kind,) = link_kinds_for(name, can_probe=True, has_http=has_http)
            self.assertEqual((kind.name, kind.head_start), (name, 0.0))

    def test_over_https(self) -> None:
        """
        Both kinds that need the HTTPS port, and none that does without TLS.
        """
        kinds = link_kinds_for(HTTPS, can_probe=True, has_http=True)
        self.assertEqual([kind.name for kind in kinds], ["websocket", "http"])

    def test_plain_http(self) -> None:
        """
        The last, and only where the server has a port for it.
        """
        kinds = link_kinds_for(AUTO, can_probe=True, has_http=True)
        self.assertEqual(kinds[-1].name, "plain-http")
        self.assertEqual(kinds[:-1], link_kinds_for(AUTO, can_probe=True))
