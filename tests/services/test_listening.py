"""
Tests of :mod:`resip.services.listening`.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import cast

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, ServerFactory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from resip.lab.reactor import get_port_number
from resip.services.errors import ServiceError
from resip.services.listening import ISocketReactor, Listeners, default_addresses
from tests.services.fixture import HOST
from tests.tunnel.programs import DatagramProgram, the_reactor


class DefaultAddressTests(SynchronousTestCase):
    """
    Where to listen when nobody says where.
    """

    def test_both_families(self) -> None:
        """
        One IPv6 socket takes IPv4, too, unless the system keeps them apart; a machine without
        IPv6 listens on IPv4 alone.
        """
        switch = Path(self.mktemp())
        self.assertEqual(default_addresses(switch), (("::",), ("0.0.0.0",)))
        switch.write_text("0\n")
        self.assertEqual(default_addresses(switch), (("::",), ("0.0.0.0",)))
        switch.write_text("1\n")
        self.assertEqual(default_addresses(switch), (("::", "0.0.0.0"), ("0.0.0.0",)))


class Factory(ServerFactory):
    """
    Accepts nobody.
    """

    noisy = False

    def buildProtocol(self, addr: object) -> None:
        """
        Nobody.
        """


class ListenersTests(TestCase):
    """
    With real sockets.
    """

    def listeners(self, *addresses: str) -> Listeners:
        """
        Listeners that are closed at the end.
        """
        listeners = Listeners(cast(ISocketReactor, the_reactor()), addresses)
        self.addCleanup(listeners.close)
        return listeners

    def test_one_number_for_both(self) -> None:
        """
        UDP and TCP have the same number on every address, although the system chose it.
        """
        listeners = self.listeners(HOST, "::1")
        port = listeners.listen_both(0, DatagramProgram, Factory(), "--port")
        self.assertEqual([get_port_number(each) for each in listeners.ports], [port] * 4)

    async def test_a_number_that_is_half_taken(self) -> None:
        """
        What could be opened is closed again when the rest could not.
        """
        taken = the_reactor().listenUDP(0, DatagramProtocol(), HOST, 9)
        port = get_port_number(taken)
        listeners = self.listeners(HOST)
        error = self.assertRaises(
            ServiceError, listeners.listen_both, port, DatagramProgram, Factory(), "--port"
        )
        self.assertIn(f"port {port} on {HOST} is taken", str(error))
        self.assertEqual(listeners.ports, [])
        await maybeDeferred(taken.stopListening)
        self.assertEqual(listeners.listen_both(port, DatagramProgram, Factory(), "--port"), port)

    def test_everywhere(self) -> None:
        """
        Without addresses the port is reached by IPv4 on this machine, too.
        """
        port = self.listeners().listen_tcp(0, Factory(), "--https-port")
        with socket.create_connection((HOST, port), timeout=5):
            pass

    def test_an_address_of_another_machine(self) -> None:
        """
        The message names the address, the option, and how to see what there is.
        """
        error = self.assertRaises(
            ServiceError, self.listeners("192.0.2.1").listen_tcp, 0, Factory(), "--https-port"
        )
        for part in ("192.0.2.1", "not an address of this machine", "--listen", "ip addr"):
            self.assertIn(part, str(error))

    def test_no_address_at_all(self) -> None:
        """
        What is no address is told with the options that may be wrong.
        """
        error = self.assertRaises(
            ServiceError, self.listeners("nowhere.invalid").listen_tcp, 0, Factory(), "--https-port"
        )
        for part in ("nowhere.invalid", "--listen", "--https-port"):
            self.assertIn(part, str(error))


class PrivilegeTests(SynchronousTestCase):
    """
    What the system answers to ordinary users.
    """

    def test_a_privileged_port(self) -> None:
        """
        The message says which ports need no privileges.
        """

        class Strict(MemoryReactor):
            def listenTCP(self, port: int, factory: object, **options: object) -> object:  # type: ignore[override]
                raise CannotListenError("::", port, PermissionError(errno.EACCES, "denied"))

        reactor: ISocketReactor = Strict()  # type: ignore[assignment]
        error = self.assertRaises(
            ServiceError, Listeners(reactor).listen_tcp, 443, Factory(), "--https-port"
        )
        for part in ("port 443", "privileges", "--https-port", "1024"):
            self.assertIn(part, str(error))
