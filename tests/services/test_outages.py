"""
Servers that are restarted, unreachable, wrong or hostile to this client: what the client says,
how often, and how it recovers.
"""

from __future__ import annotations

from twisted.internet import ssl
from twisted.internet.defer import maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from resip.bootstrap.certificates import spki_hash
from resip.bootstrap.invitation import Invitation
from resip.bootstrap.keystore import KeyStore
from resip.lab.reactor import get_port_number
from resip.lab.relay import TCPRelay
from resip.services import client as client_module
from resip.services.clock import Clocks
from resip.services.server import KEY_CHECK_INTERVAL as ORDINARY_INTERVAL
from tests.bootstrap.authority import make_key, make_leaf, make_root, presenting
from tests.services.fixture import HOST, PATIENCE, ServiceTestCase
from tests.tunnel.programs import eventually


class RestartTests(ServiceTestCase):
    """
    Over UDP.
    """

    carrier = "udp"
    is_classic = True

    async def test_restarted_server(self) -> None:
        """
        A client notices by the server's new start that its session is lost, starts another, and
        new connections work; programs of before are told.
        """
        server = self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier=self.carrier)
        old = await self.echo(client)
        session_id = client.session_id
        await self.restart(server)
        await eventually(lambda: old.lost_reason)
        # A connection that is made before the client has noticed shares the session's fate.
        await eventually(lambda: client.session_id not in (None, session_id))
        await self.echo(client)
        await self.logged("started anew and has lost", str(session_id))
        self.assertEqual(len(self.lines("started anew")), 1)
        self.assertEqual(self.tracebacks, [])

    async def test_a_restart_within_a_second(self) -> None:
        """
        Two runs that begin in the same second are told apart all the same.
        """
        begin = Clocks().wall()
        clocks = Clocks(wall=lambda: begin)
        server = self.start_server(clocks=clocks)
        https_port, port_of_packets = server.https_port, server.port
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier=self.carrier)
        old = await self.echo(client)
        await self.stop(server)
        await eventually(lambda: old.lost_reason)
        self.start_server(https_port=https_port, port=port_of_packets, clocks=clocks)
        await self.logged("started anew")
        await eventually(lambda: client.session_id)
        await self.echo(client)

    async def test_a_session_that_the_server_ended(self) -> None:
        """
        A client whose session alone is gone, for instance after a week's sleep, starts another.
        """
        server = self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier=self.carrier)
        await self.echo(client)
        session_id = client.session_id
        server.sessions.end_sessions_of(lambda name: False)
        client.retry()
        await self.logged("the server has ended session", str(session_id))
        await eventually(lambda: client.session_id not in (None, session_id))
        await self.echo(client)

    async def test_revoked_key(self) -> None:
        """
        With its key a session ends: its connections are cut and its client says why.

        It takes as long as the interval at which keys are looked at, a second at most.
        """
        server = self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier=self.carrier)
        program = await self.echo(client)
        KeyStore(self.state).revoke("local")
        self.assertLessEqual(ORDINARY_INTERVAL, 1)
        await eventually(lambda: program.lost_reason)
        await self.logged("key local was revoked")
        self.assertEqual(len(server.sessions), 0)
        waiting = await self.connect(client)
        await self.logged("does not accept the key 'local'", "may have been revoked", "ask")
        await self.pass_time(4 * PATIENCE)
        self.assertEqual(len(self.lines("does not accept the key")), 1)
        self.assertEqual(self.tracebacks, [])
        await eventually(lambda: waiting.lost_reason)

    async def test_an_outage_is_told_once(self) -> None:
        """
        While the server is away the log has one line of it, whatever is tried meanwhile.
        """
        server = self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier=self.carrier)
        program = await self.echo(client)
        await self.stop(server)
        await eventually(lambda: program.lost_reason)
        before = len(self.messages)
        await self.connect(client)
        client.retry()
        await self.pass_time(5 * PATIENCE)
        told = [text for text in self.messages[before:] if "session" not in text]
        self.assertEqual(len(told), len(set(told)), told)
        self.assertLessEqual(len(told), 2)


class TCPRestartTests(RestartTests):
    """
    The same over TCP.
    """

    carrier = "tcp"

    async def test_an_outage_of_the_network(self) -> None:
        """
        When connections are refused for a while, the client says so once, and once that the
        server answers again; the program's connection lives on. The next outage is told again.
        """
        server = self.start_server()
        relay = TCPRelay(self.lab_reactor, (HOST, 0), (HOST, server.port))
        relay.startService()
        self.addCleanup(relay.stopService)
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier="tcp", invitation=self.invitation(port=relay.port))
        program = await self.echo(client)
        for outage in (1, 2):
            relay.is_refusing = True
            relay.cut()
            await self.logged("connection to the server is gone", count=outage)
            await self.pass_time(2 * PATIENCE)
            relay.is_refusing = False
            await self.logged("the server answers again", count=outage)
            program.received.clear()
            program.tcp.write(b"still here")
            await eventually(lambda: program.received == b"still here")
            self.assertEqual(len(self.lines("connection to the server is gone")), outage)


class ModernRestartTests(ServiceTestCase):
    """
    In the modern dialect a session that ends is told so, and nobody has to find out.
    """

    async def test_restarted_server(self) -> None:
        """
        A stopping server says so; the client starts another session as soon as it is back.
        """
        server = self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port)
        old = await self.echo(client)
        session_id = client.session_id
        await self.restart(server)
        await eventually(lambda: old.lost_reason)
        await eventually(lambda: client.session_id not in (None, session_id))
        await self.echo(client)
        await self.logged("the session is over", "starting another")
        self.assertEqual(self.tracebacks, [])

    async def test_revoked_key(self) -> None:
        """
        With its key a session ends, and its client says why.
        """
        server = self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port)
        program = await self.echo(client)
        KeyStore(self.state).revoke("local")
        await eventually(lambda: program.lost_reason)
        self.assertEqual(len(server.sessions), 0)
        await self.logged("does not accept the key 'local'", "may have been revoked", "ask")
        self.assertEqual(self.tracebacks, [])


class UnreachableTests(ServiceTestCase):
    """
    A client that starts before its server, or with a server that it cannot use.
    """

    async def failing_client(self, invitation: Invitation, *parts: str) -> None:
        """
        A client says what is wrong in one line, whatever it tries, and shows no traceback.
        """
        before = len(self.messages)
        client = self.start_client(f"0:{HOST}:1", invitation=invitation)
        await self.logged(*parts)
        await self.pass_time(0.5)
        told = self.messages[before:]
        self.assertEqual(len([text for text in told if "->" not in text]), 1, told)
        self.assertEqual(self.tracebacks, [])
        self.assertIsNone(client.session_id)

    async def test_server_down_at_start(self) -> None:
        """
        The client keeps trying, says so once, and connects when the server comes.
        """
        server = self.start_server()
        invitation = self.invitation()
        https_port, port_of_packets = server.https_port, server.port
        await self.stop(server)
        _, port = self.serve(echoes=True)
        client = self.start_client(port, invitation=invitation)
        program = await self.connect(client)
        program.tcp.write(b"early")
        await self.logged("refuses connections", "check that the server runs", "trying again")
        await self.pass_time(0.5)
        self.assertEqual(len(self.lines("refuses connections")), 1)
        self.start_server(https_port=https_port, port=port_of_packets)
        await eventually(lambda: program.received == b"early")

    async def test_a_change_is_told(self) -> None:
        """
        When the trouble becomes another one, that is a line too.
        """
        server = self.start_server()
        invitation = self.invitation(secret=bytes(32))
        https_port, port_of_packets = server.https_port, server.port
        await self.stop(server)
        self.start_client(f"0:{HOST}:1", invitation=invitation)
        await self.logged("refuses connections")
        self.start_server(https_port=https_port, port=port_of_packets)
        await self.logged("does not accept the key")

    async def test_try_now(self) -> None:
        """
        Whoever knows that something has changed need not wait for the next attempt.
        """
        self.patch(client_module, "FIRST_RETRY", 1000.0)
        server = self.start_server()
        https_port, port_of_packets = server.https_port, server.port
        invitation = self.invitation()
        await self.stop(server)
        client = self.start_client(f"0:{HOST}:1", invitation=invitation)
        await self.logged("refuses connections")
        self.start_server(https_port=https_port, port=port_of_packets)
        await self.pass_time(0.3)
        self.assertIsNone(client.session_id)
        client.retry()
        await eventually(lambda: client.session_id is not None)

    async def test_a_network_that_wants_a_login(self) -> None:
        """
        What looks like another server is told as what it is, and tried again soon: the login may
        be done at any time. Nobody is asked again and again where it is.
        """
        asked: list[str] = []

        async def find_login_page(reactor: object, host: str) -> str:
            asked.append(host)
            return "http://login.test/"

        self.patch(client_module, "find_login_page", find_login_page)
        self.patch(client_module, "HOPELESS_RETRY", 1000.0)
        server = self.start_server()
        key, root_key = make_key(), make_key()
        other = self.listen_tls(presenting(key, make_leaf(key, root_key), make_root(root_key)))
        relay = TCPRelay(self.lab_reactor, (HOST, 0), (HOST, other))
        relay.startService()
        invitation = self.invitation(https_port=relay.port, port=1)
        client = self.start_client(f"0:{HOST}:1", invitation=invitation)
        await self.logged("want a login", HOST, "http://login.test/", "trying again")
        await self.pass_time(0.5)
        https_port = relay.port
        await relay.stopService()
        relay = TCPRelay(self.lab_reactor, (HOST, https_port), (HOST, server.https_port))
        relay.startService()
        self.addCleanup(relay.stopService)
        await eventually(lambda: client.session_id is not None)
        self.assertEqual(asked, [HOST])
        self.assertEqual(len(self.lines("want a login")), 1)
        self.assertEqual(self.tracebacks, [])

    async def test_wrong_key(self) -> None:
        """
        A key that the server does not know: whom to ask.
        """
        self.start_server()
        await self.failing_client(
            self.invitation(secret=bytes(32)),
            "does not accept the key 'local'",
            "ask whoever runs the server for a new invitation",
        )

    async def test_wrong_pin(self) -> None:
        """
        Another server, or an attacker: it gets no key, nor an answer out of the client's hello.
        """
        self.start_server()
        invitation = self.invitation(pin=bytes(32), server_key=b"\x09" * 32)
        await self.failing_client(invitation, HOST, "invitation")
        self.assertEqual(self.lines("started for key"), [])

    async def test_expired_certificate(self) -> None:
        """
        A certificate that is outside its dates: both clocks are suspects.
        """
        root_key, leaf_key = make_key(), make_key()
        root = make_root(root_key)
        leaf = make_leaf(leaf_key, root_key, days=(-30, -1))
        port = self.listen_tls(presenting(leaf_key, leaf, root))
        self.start_server()
        invitation = self.invitation(https_port=port, port=1, pin=spki_hash(root))
        await self.failing_client(invitation, "valid from", "set the clock", "restarted to renew")

    async def test_something_else_answers(self) -> None:
        """
        A port where something else listens is told as such.
        """
        self.start_server()
        key = make_key()
        root_key = make_key()
        root = make_root(root_key)
        port = self.listen_tls(presenting(key, make_leaf(key, root_key), root))
        invitation = self.invitation(https_port=port, port=1, pin=spki_hash(root))
        await self.failing_client(invitation, "no resip server", "check host and port")

    async def test_unknown_name(self) -> None:
        """
        A name without an address: check it.
        """
        self.start_server()
        await self.failing_client(
            self.invitation(host="nowhere.invalid"), "nowhere.invalid", "check the name"
        )

    async def test_packets_do_not_get_through(self) -> None:
        """
        When HTTPS works and UDP does not, the client says so once and names the way out.
        """
        self.start_server()
        self.start_client(f"0:{HOST}:1", invitation=self.invitation(port=1))
        await self.logged("not to packets by udp", "another --carrier")
        await self.pass_time(3 * PATIENCE)
        self.assertEqual(len(self.lines("not to packets")), 1)

    def listen_tls(self, options: ssl.CertificateOptions) -> int:
        """
        An HTTPS server that knows no page, and its port.
        """
        site = Site(Resource())
        site.noisy = False
        port = self.reactor.listenSSL(0, site, options, interface=HOST)  # type: ignore[attr-defined]
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        return get_port_number(port)
