"""
Tests for :mod:`resip.tunnel.listener` and what it dials with.
"""

from __future__ import annotations

import errno
import socket
from typing import cast

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from resip.tunnel.listener import ForwardService, ListenError
from resip.tunnel.reactor import ITunnelReactor
from resip.tunnel.specification import parse_forward
from tests.support.channels import ChannelLink
from tests.tunnel.fixture import TunnelTestCase
from tests.tunnel.programs import Program, eventually


class RefusingReactor(MemoryReactorClock):
    """
    A system that lets nobody listen.
    """

    def __init__(self, code: int) -> None:
        super().__init__()
        self._code = code

    def listenTCP(
        self, port: int, factory: Factory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """
        Fail.
        """
        raise CannotListenError(interface, port, OSError(self._code, "no"))


class Ipv4Reactor(MemoryReactorClock):
    """
    A system without IPv6.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interfaces: list[str] = []

    def listenTCP(
        self, port: int, factory: Factory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """
        Fail for IPv6.
        """
        self.interfaces.append(interface)
        if ":" in interface:
            raise CannotListenError(interface, port, OSError(errno.EAFNOSUPPORT, "no"))
        return cast(IListeningPort, super().listenTCP(port, factory, backlog, interface))


class ListenTests(SynchronousTestCase):
    """
    Starting to listen.
    """

    def message(self, code: int, text: str = "80:host:80") -> str:
        """
        What the user is told when the system answers ``code``.
        """
        reactor = RefusingReactor(code)
        service = ForwardService(
            cast(ITunnelReactor, reactor), parse_forward(text), ChannelLink(reactor)
        )
        return str(self.assertRaises(ListenError, service.startService))

    def test_errors_name_cause_and_cure(self) -> None:
        """
        Each usual reason not to listen comes with what to do about it.
        """
        taken = self.message(errno.EADDRINUSE)
        self.assertIn("127.0.0.1:80", taken)
        self.assertIn("port 80 is taken; stop the program that has it", taken)
        self.assertIn("choose one from 1024 up", self.message(errno.EACCES))
        self.assertIn(
            "no address 192.0.2.1", self.message(errno.EADDRNOTAVAIL, "192.0.2.1:1:host:2")
        )

    def test_all_interfaces_need_not_include_ipv6(self) -> None:
        """
        On a machine without IPv6 ``*`` means all IPv4 interfaces.
        """
        reactor = Ipv4Reactor()
        service = ForwardService(
            cast(ITunnelReactor, reactor), parse_forward("*:4000:host:80"), ChannelLink(reactor)
        )
        service.privilegedStartService()
        service.startService()
        self.assertEqual(reactor.interfaces, ["::", "0.0.0.0"])


class ForwardServiceTests(TunnelTestCase):
    """
    A forward with real sockets.
    """

    async def test_a_taken_port(self) -> None:
        """
        A port that another program has is an error that names it, for both protocols.
        """
        for kind, protocol in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
            with socket.socket(socket.AF_INET, kind) as taken:
                taken.bind(("127.0.0.1", 0))
                if protocol == "tcp":
                    taken.listen()
                port = taken.getsockname()[1]
                forward = parse_forward(f"{protocol}:{port}:127.0.0.1:9")
                service = ForwardService(self.reactor, forward, self.link)
                error = self.assertRaises(ListenError, service.startService)
                self.assertIn(f"port {port} is taken", str(error))

    async def test_all_interfaces(self) -> None:
        """
        ``*`` listens where both families of loopback reach it.
        """
        _, port = self.serve(echoes=True)
        service = ForwardService(
            self.reactor, parse_forward(f"*:0:127.0.0.1:{port}"), self.link, clock=self.clock
        )
        service.startService()
        self.services.append(service)
        for host in ("127.0.0.1", "::1"):
            self.host = host
            client = await self.connect(service.ports[0][1])
            await self.check_echo(client)

    async def check_echo(self, client: Program) -> None:
        """
        Say hello and hear it.
        """
        client.tcp.write(b"hello")
        await eventually(lambda: client.received == b"hello")

    async def test_the_log_tells_the_real_port(self) -> None:
        """
        One line per listener says where it listens and where it leads.
        """
        port = self.forward(9, host="server.example")
        self.assertEqual(self.messages, [f"127.0.0.1:{port} -> tcp:server.example:9"])

    async def test_names_are_resolved_here_when_they_cannot_be_sent(self) -> None:
        """
        The addresses of a name are tried one after the other, IPv4 first.
        """
        self.use_names(server_example=[["::1", "127.0.0.1"]])
        self.link.resolves_names = False
        self.host = "::1"
        _, port = self.serve(echoes=True)
        client = await self.connect(self.forward(port, host="server.example"))
        await self.check_echo(client)
        self.assertEqual(
            [channel.target.host for channel in self.link.opened], ["127.0.0.1", "::1"]
        )

    async def test_an_unknown_name(self) -> None:
        """
        A name without address resets the connection and is told to the log.
        """
        self.use_names()
        self.link.resolves_names = False
        client = await self.connect(self.forward(9, host="nowhere.example"))
        await eventually(lambda: client.was_reset)
        self.assertIn("no address is known for nowhere.example", self.messages[-1])

    async def test_no_room_for_another_channel(self) -> None:
        """
        When the session has no channel left the connection is reset, with a line in the log.
        """
        self.link.max_channels = 0
        client = await self.connect(self.forward(9))
        await eventually(lambda: client.was_reset)
        self.assertIn("0 channels are open already", self.messages[-1])
