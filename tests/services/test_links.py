"""
Tests of :mod:`resip.services.links`: which paths a link offers.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.framing import PrefixFraming
from resip.core.types import Path
from resip.services.links import StreamLink, TCPLink, UDPLink
from tests.services.link_user import RecordingLinkUser
from tests.support.network import DatagramReactor, MemoryPort
from tests.tunnel.programs import ScriptedResolver

NAME = "vpn.example.com"
V4, OTHER_V4, V6 = "192.0.2.1", "192.0.2.2", "2001:db8::1"


class Reactor(DatagramReactor):
    """
    With a name server by script.

    :ivar has_ipv6: whether the machine can open sockets of that family.
    """

    def __init__(self, *answers: list[str]) -> None:
        super().__init__()
        self.nameResolver = ScriptedResolver(**{NAME: list(answers)})
        self.has_ipv6 = True

    def listenUDP(
        self, port: int, protocol: object, interface: str = "", maxPacketSize: int = 8192
    ) -> MemoryPort:
        """
        Refuse IPv6 where there is none.
        """
        if ":" in interface and not self.has_ipv6:
            raise CannotListenError(interface, port, OSError(97, "not supported"))
        return super().listenUDP(port, protocol, interface, maxPacketSize)  # type: ignore[arg-type]


class UDPLinkTests(SynchronousTestCase):
    """
    A link and a user that writes down what it is offered.
    """

    def start(self, *answers: list[str], has_ipv6: bool = True) -> None:
        """
        Start a link to a name for which the name server answers so, one answer a question.
        """
        self.reactor = Reactor(*answers)
        self.reactor.has_ipv6 = has_ipv6
        self.messages: list[str] = []
        observer = cast(ILogObserver, self.observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.link = UDPLink(self.reactor, NAME, 31266)
        self.user = RecordingLinkUser()
        self.link.start(self.user)

    def observe(self, event: LogEvent) -> None:
        """
        Keep what our own code says.
        """
        if str(event.get("log_namespace", "")).startswith("resip."):
            self.messages.append(formatEvent(event))

    def test_every_address(self) -> None:
        """
        Each address is a path, in the order of the name server, and each family has a socket.
        """
        self.start([V6, V4, OTHER_V4])
        paths = [Path("udp6", (V6, 31266))]
        paths += [Path("udp", (host, 31266)) for host in (V4, OTHER_V4)]
        self.assertEqual(list(self.user.carriers), paths)
        self.assertEqual(len(self.reactor.ports), 2)

    def test_a_server_that_moved(self) -> None:
        """
        When the name is looked up again, new addresses are offered and old ones taken back.
        """
        self.start([V4], [V4], [OTHER_V4])
        self.link.renew()
        self.assertEqual(self.user.calls, [("open", Path("udp", (V4, 31266)))])
        self.link.renew()
        moved = [("open", Path("udp", (OTHER_V4, 31266))), ("closed", Path("udp", (V4, 31266)))]
        self.assertEqual(self.user.calls[1:], moved)

    def test_a_name_without_address_is_told_once(self) -> None:
        """
        While the name cannot be resolved there is one line of it; when it fails again later,
        another one.
        """
        self.start([], [], [], [V4], [], [])
        for _ in range(5):
            self.link.renew()
        self.assertEqual(len(self.messages), 2)
        self.assertIn(f"no address is known for {NAME}", self.messages[0])

    def test_a_machine_without_ipv6(self) -> None:
        """
        Addresses of a family that the machine has not are passed over.
        """
        self.start([V6, V4], has_ipv6=False)
        self.assertEqual(self.user.calls, [("open", Path("udp", (V4, 31266)))])
        self.assertEqual(self.messages, [])

    def test_no_address_of_this_machines_kind(self) -> None:
        """
        When there is no other, cause and cure are told, once.
        """
        self.start([V6], has_ipv6=False)
        self.link.renew()
        (message,) = self.messages
        self.assertIn(NAME, message)
        self.assertIn("resip invite --host", message)

    def test_packets(self) -> None:
        """
        What arrives goes to the user, until the link is stopped.
        """
        self.start([V4])
        (port,) = self.reactor.ports
        self.reactor.transmit(b"good", (V4, 31266), port.address)
        self.reactor.advance(0)
        self.assertEqual(self.user.received, [(b"good", Path("udp", (V4, 31266)))])

    def test_stop(self) -> None:
        """
        Every socket is closed, nobody is told, and no call is left.
        """
        self.start([V6, V4])
        before = list(self.user.calls)
        self.successResultOf(self.link.stop())
        self.link.renew()
        self.assertEqual(self.reactor.ports, [])
        self.assertEqual(self.user.calls, before)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_while_a_name_is_looked_up(self) -> None:
        """
        A name server that answers too late finds nobody, and nothing is said.
        """
        self.start([V4])
        receivers: list[IResolutionReceiver] = []

        class Slow(ScriptedResolver):
            def resolveHostName(
                self, resolutionReceiver: IResolutionReceiver, *_: object, **__: object
            ) -> IHostResolution:
                receivers.append(resolutionReceiver)
                return cast(IHostResolution, object())

        self.reactor.nameResolver = Slow()
        self.link.renew()
        self.successResultOf(self.link.stop())
        receivers[0].resolutionComplete()
        self.assertEqual(self.messages, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class TCPLinkTests(SynchronousTestCase):
    """
    What can be told without a connection; the rest is tested with real sockets.
    """

    def test_a_dial_that_hangs(self) -> None:
        """
        It is given up for another one when the server is to be looked for anew.
        """
        reactor = MemoryReactorClock()
        endpoint = TCP4ClientEndpoint(reactor, V4, 31266)
        link = StreamLink(reactor, endpoint, make_framing=PrefixFraming)
        link.start(RecordingLinkUser())
        self.assertEqual(len(reactor.tcpClients), 1)
        link.renew()
        self.assertEqual(len(reactor.tcpClients), 2)
        stopping = link.stop()
        self.successResultOf(stopping)

    def test_stop_before_start(self) -> None:
        """
        A link that was never started is stopped at once, and may be renewed without effect.
        """
        link = TCPLink(DatagramReactor(), NAME, 31266, make_framing=PrefixFraming)
        link.renew()
        self.successResultOf(link.stop())
