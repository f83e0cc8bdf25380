"""
Tests of the plugins: that they are found, what their options refuse and what they make.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.invitation import Invitation
from resip.bootstrap.servers import store_invitation
from resip.bootstrap.state import StateDirectory
from resip.carriers.proxy import Proxy
from resip.core.types import Protocol, Target
from resip.services.client import ClientService
from resip.services.server import DEFAULT_HTTPS_PORT, DEFAULT_PORT, ServerService
from resip.taps import client, server


def make_invitation(host: str = "192.0.2.1") -> Invitation:
    """
    An invitation to nowhere.
    """
    return Invitation(
        host=host, https_port=1, port=2, name="laptop", pin=bytes(32), secret=bytes(32)
    )


class TapTestCase(SynchronousTestCase):
    """
    With a state directory.
    """

    def setUp(self) -> None:
        """
        Keep the reactor's clock what it is, since services change it.
        """
        self.state = StateDirectory(Path(self.mktemp()))
        self.patch(reactor, "seconds", reactor.seconds)

    def refuse(self, options: Any, *arguments: str) -> str:
        """
        Parse what is wrong and return the message, which is one line.
        """
        error = self.assertRaises(UsageError, options.parseOptions, list(arguments))
        self.assertNotIn("\n", str(error))
        return str(error)


class PluginTests(TapTestCase):
    """
    What ``twistd`` finds.
    """

    def test_both_are_found(self) -> None:
        """
        Twisted finds both service makers, and their modules have what it asks of them.
        """
        makers = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
        for name, module in (("resip-server", server), ("resip-client", client)):
            maker = makers[name]
            self.assertTrue(maker.description)
            self.assertIs(maker.options, module.Options)
            self.assertIs(maker.makeService, module.makeService)


class ServerOptionsTests(TapTestCase):
    """
    ``twistd resip-server``.
    """

    def test_defaults(self) -> None:
        """
        Without options: the published ports, all interfaces, loopback targets only.
        """
        options = server.Options()
        options.parseOptions(["--state", str(self.state.path)])
        self.assertEqual(options["https-port"], DEFAULT_HTTPS_PORT)
        self.assertEqual(options["port"], DEFAULT_PORT)
        self.assertEqual(options["listen"], [])
        self.assertEqual(options["allow"], ["127.0.0.0/8", "::1"])

    def test_bad_ports(self) -> None:
        """
        What is no port is refused with the option's name and the range.
        """
        for argument in ("--port=65536", "--https-port=65536", "--port=http", "--port="):
            message = self.refuse(server.Options(), argument)
            self.assertIn(argument.partition("=")[0], message)
        message = self.refuse(server.Options(), "--port=65536")
        self.assertIn("0 to 65535", message)

    def test_one_port_for_both(self) -> None:
        """
        Both need TCP, so one number for both is refused before anything is opened.
        """
        message = self.refuse(server.Options(), "--port=4000", "--https-port=4000")
        self.assertIn("two numbers", message)
        server.Options().parseOptions(
            ["--port=0", "--https-port=0", "--state", str(self.state.path)]
        )

    def test_http_port(self) -> None:
        """
        There is none unless asked for, and it shares its number with no other.
        """
        options = server.Options()
        options.parseOptions(["--state", str(self.state.path)])
        self.assertIsNone(options["http-port"])
        for other in ("--port", "--https-port"):
            message = self.refuse(server.Options(), "--http-port=4000", f"{other}=4000")
            self.assertIn(f"{other} and --http-port are both 4000", message)
        self.assertIn("0 to 65535", self.refuse(server.Options(), "--http-port=65536"))

    def test_bad_allow(self) -> None:
        """
        A bad pattern is quoted, with good ones beside it.
        """
        message = self.refuse(server.Options(), "--allow=10.0.0.1/33")
        for part in ("--allow", "10.0.0.1/33", "10.0.0.0/8"):
            self.assertIn(part, message)

    def test_no_home(self) -> None:
        """
        Where no state directory can be told, the option to name one is.
        """
        self.patch(server, "os", _Nowhere())
        self.assertIn("--state", self.refuse(server.Options()))

    def test_service(self) -> None:
        """
        The service has the options' configuration and opens nothing yet; timers no longer
        follow the wall clock.
        """
        options = server.Options()
        options.parseOptions(["--state", str(self.state.path), "--port=0", "--listen=127.0.0.1"])
        before = reactor.seconds
        service = server.makeService(options)
        self.assertIsInstance(service, ServerService)
        self.assertFalse(self.state.path.exists())
        self.assertIsNot(reactor.seconds, before)


class ClientOptionsTests(TapTestCase):
    """
    ``twistd resip-client``.
    """

    def parse(self, *arguments: str) -> client.Options:
        """
        Parse with the state directory of the test.
        """
        options = client.Options()
        options.parseOptions(["--state", str(self.state.path), *arguments])
        return options

    def test_forwards(self) -> None:
        """
        Each forward is read, on the command line or in a file.
        """
        store_invitation(self.state, "home", make_invitation())
        file = Path(self.mktemp())
        file.write_text('forward = ["4000:db.example.com:5432"]')
        for arguments in (("--forward=4000:db.example.com:5432",), ("--config", str(file))):
            (forward,) = self.parse(*arguments).forwards
            self.assertEqual(forward.port, 4000)
            self.assertEqual(forward.target, Target(Protocol.TCP, "db.example.com", 5432))

    def test_no_forward(self) -> None:
        """
        Without a forward there is nothing to do; the message shows one.
        """
        message = self.refuse(client.Options(), "--state", str(self.state.path))
        self.assertIn("--forward 4000:", message)

    def test_bad_forwards(self) -> None:
        """
        A bad forward is quoted, with the form of a good one.
        """
        for text in ("", "4000", "4000:host", "70000:host:22", "4000:host:http", "1:2:3:4:5"):
            message = self.refuse(client.Options(), "--forward", text)
            self.assertIn("--forward", message)
            self.assertIn(repr(text), message)

    def test_no_server_known(self) -> None:
        """
        Without any joined server the message says how to join one, and where it looked.
        """
        arguments = ("--state", str(self.state.path), "--forward=1:host:2")
        message = self.refuse(client.Options(), *arguments)
        self.assertIn("resip join", message)
        self.assertIn(str(self.state.path), message)

    def test_which_server(self) -> None:
        """
        The only one is taken; of several one must be named, and a wrong name is told.
        """
        store_invitation(self.state, "home", make_invitation("192.0.2.1"))
        self.assertEqual(self.parse("--forward=1:host:2").invitation.host, "192.0.2.1")
        store_invitation(self.state, "work", make_invitation("192.0.2.2"))
        options = self.parse("--forward=1:host:2", "--server=work")
        self.assertEqual(options.invitation.host, "192.0.2.2")
        arguments = ("--state", str(self.state.path), "--forward=1:host:2")
        self.assertIn("--server home|work", self.refuse(client.Options(), *arguments))
        message = self.refuse(client.Options(), *arguments, "--server=elsewhere")
        self.assertIn("home, work", message)

    def test_several_places(self) -> None:
        """
        Further servers say where else the first is, and must be the same.
        """
        first = make_invitation("192.0.2.1")
        other = replace(first, host="192.0.2.2", name="other", secret=b"s" * 32)
        store_invitation(self.state, "home", first)
        store_invitation(self.state, "direct", other)
        store_invitation(self.state, "work", replace(other, pin=b"p" * 32))
        names = ("--server=home", "--server=direct")
        options = self.parse("--forward=1:host:2", *names)
        self.assertEqual(options.invitation, first)
        self.assertEqual(options.others, [replace(first, host="192.0.2.2")])
        arguments = ("--state", str(self.state.path), "--forward=1:host:2", *names)
        message = self.refuse(client.Options(), *arguments, "--server=work")
        self.assertIn("another server", message)

    def test_which_proxy(self) -> None:
        """
        The environment may lead to one address of a server by a proxy, and to another directly;
        the option holds for all.
        """
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        exceptions = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "192.0.2.2"}
        self.patch(os, "environ", kept | exceptions)
        first = make_invitation("192.0.2.1")
        store_invitation(self.state, "home", first)
        store_invitation(self.state, "direct", replace(first, host="192.0.2.2"))
        names = ("--forward=1:host:2", "--server=home", "--server=direct")
        for option, proxies in (
            ((), (Proxy("p", 1), None)),
            (("--proxy=http://q:2",), (Proxy("q", 2), Proxy("q", 2))),
            (("--proxy=none",), (None, None)),
        ):
            found = self.parse(*names, *option).proxies
            self.assertEqual(found, dict(zip(("192.0.2.1", "192.0.2.2"), proxies, strict=True)))

    def test_damaged_invitation(self) -> None:
        """
        A file that is no invitation is named, without its content.
        """
        file = Path(self.mktemp())
        file.write_text("resip://c2VjcmV0@192.0.2.1")
        message = self.refuse(client.Options(), "--forward=1:host:2", "--server", str(file))
        self.assertIn(str(file), message)
        self.assertNotIn("c2VjcmV0", message)

    def test_bad_carrier(self) -> None:
        """
        A carrier that is none is refused with those that are.
        """
        message = self.refuse(client.Options(), "--carrier=pigeon")
        self.assertIn("auto, udp, tcp", message)

    def test_http_port(self) -> None:
        """
        The carrier over plain HTTP needs a port, and the modern dialect.
        """
        store_invitation(self.state, "home", make_invitation())
        forward = "--forward=1:host:2"
        message = self.refuse(client.Options(), forward, "--carrier=plain-http")
        self.assertIn("needs --http-port", message)
        for port in ("0", "65536"):
            message = self.refuse(client.Options(), forward, f"--http-port={port}")
            self.assertIn("1 to 65535", message)
        message = self.refuse(client.Options(), forward, "--http-port=80", "--classic")
        self.assertIn("modern dialect", message)
        self.assertEqual(self.parse(forward, "--http-port=80")["http-port"], 80)

    def test_service(self) -> None:
        """
        The service has one forward for each option and opens nothing yet.
        """
        store_invitation(self.state, "home", make_invitation())
        service = client.makeService(self.parse("--forward=0:host:1", "--forward=udp:0:host:2"))
        assert isinstance(service, ClientService)
        self.assertEqual([forward.ports for forward in service.forwards], [(), ()])


class _Nowhere:
    """
    The ``os`` of a user without a home.
    """

    environ: ClassVar[dict[str, str]] = {}

    @staticmethod
    def getuid() -> int:
        """
        Not root.
        """
        return 1000
