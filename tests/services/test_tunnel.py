"""
Server and client together: what programs see while all is well, and while the link is not.
"""

from __future__ import annotations

import hashlib
import random

from twisted.internet.defer import maybeDeferred

from resip.bootstrap.keystore import KeyStore
from resip.lab.link import LinkConditions
from resip.lab.reactor import get_port_number
from resip.lab.relay import TCPRelay, UDPRelay
from resip.services.clock import Clocks
from tests.services.fixture import HOST, KEY_CHECK_INTERVAL, ServiceTestCase
from tests.tunnel.programs import DatagramProgram, Program, eventually

BULK = random.Random(1).randbytes(2_000_000)


class TunnelTests(ServiceTestCase):
    """
    Over UDP.
    """

    carrier = "udp"
    #: Of UDP datagrams that pass; the modern dialect takes what fits the first packets.
    datagram_sizes: tuple[int, ...] = (1, 500, 1100)

    async def test_echo(self) -> None:
        """
        A program talks to a server through both services, which say what they do.
        """
        self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier=self.carrier)
        await self.echo(client)
        self.assertIsNotNone(client.session_id)
        await self.logged(f"packets go by {self.carrier} {HOST}")
        await self.logged(f"session {client.session_id}: client is at {self.carrier} {HOST}")
        self.assertEqual(self.tracebacks, [])

    async def test_compressed(self) -> None:
        """
        What the user asks to be compressed comes out as it went in.
        """
        self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier=self.carrier, compress=True)
        await self.echo(client, b"a" * 100_000)

    async def test_bulk_both_ways(self) -> None:
        """
        2 MB in each direction at once arrive complete and unchanged.
        """
        self.start_server()
        programs, port = self.serve()
        near = await self.connect(self.start_client(port, carrier=self.carrier))
        await eventually(lambda: programs.connections)
        await self.exchange(near, programs.connections[0])

    async def exchange(self, near: Program, far: Program, *, seconds: float = 60) -> None:
        """
        Send :data:`BULK` both ways and end.
        """
        await eventually(lambda: near.is_connected and far.is_connected)
        for program in (near, far):
            program.tcp.write(BULK)
            program.end()
        await eventually(lambda: near.has_heard_end and far.has_heard_end, seconds=seconds)
        for program in (near, far):
            digest = hashlib.sha256(program.received).hexdigest()
            self.assertEqual(digest, hashlib.sha256(BULK).hexdigest())

    async def test_a_connection_before_the_session(self) -> None:
        """
        A program that connects before the server is reached waits, and is served.
        """
        self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier=self.carrier)
        self.assertIsNone(client.session_id)
        self.assertIsNone(client.path)
        await self.echo(client)

    async def test_several_clients_and_channels(self) -> None:
        """
        Two clients with ten connections each do not get into each other's way.
        """
        server = self.start_server()
        _, port = self.serve(echoes=True)
        for name in ("one", "two"):
            client = self.start_client(port, carrier=self.carrier)
            for number in range(10):
                await self.echo(client, f"{name} {number}".encode())
        self.assertEqual(len(server.sessions), 2)

    async def test_datagrams(self) -> None:
        """
        A forwarded UDP port answers with whole datagrams.
        """
        self.start_server()
        echo = DatagramProgram(echoes=True)
        far = self.reactor.listenUDP(0, echo, interface=HOST, maxPacketSize=65535)
        port = get_port_number(far)
        client = self.start_client(f"udp:0:{HOST}:{port}", carrier=self.carrier)
        program = DatagramProgram()
        near = self.reactor.listenUDP(0, program, interface=HOST, maxPacketSize=65535)
        await eventually(lambda: client.path)
        sizes = self.datagram_sizes
        for size in sizes:
            assert program.transport is not None
            program.transport.write(b"x" * size, client.forwards[0].ports[0])
        await eventually(lambda: len(program.received) == len(sizes))
        self.assertEqual(sorted(map(len, program.received)), list(sizes))
        for socket in (near, far):
            await maybeDeferred(socket.stopListening)

    async def test_refused_target(self) -> None:
        """
        What the policy forbids is refused at once, and both logs say what to do.
        """
        self.start_server(allow=("127.0.0.1:1",))
        programs, port = self.serve()
        client = self.start_client(port, carrier=self.carrier)
        program = await self.connect(client)
        await eventually(lambda: program.lost_reason)
        target = f"tcp:{HOST}:{port}"
        cure = f"--allow {HOST}:{port}"
        await self.logged("local:", f"{target} refused", "no pattern covers it", cure)
        await self.logged(f"no channel to {target}", "the server does not allow it", cure)
        self.assertEqual(programs.connections, [])

    async def test_a_keys_own_targets(self) -> None:
        """
        A key's own list takes the place of the server's, from the next connection on; one that
        was damaged by hand refuses with the key's name and the command to correct it.
        """
        self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier=self.carrier)
        await self.echo(client)
        KeyStore(self.state).set_allow("local", ["10.0.0.1"])
        await self.pass_time(2 * KEY_CHECK_INTERVAL)
        refused = await self.connect(client)
        await eventually(lambda: refused.lost_reason)
        KeyStore(self.state).set_allow("local", ["not a pattern"])
        await self.pass_time(2 * KEY_CHECK_INTERVAL)
        refused = await self.connect(client)
        await eventually(lambda: refused.lost_reason)
        await self.logged("key local", "not a pattern", "resip keys allow local")
        self.assertEqual(self.tracebacks, [])

    async def test_a_target_that_nobody_serves(self) -> None:
        """
        A failed connection is reset for the program, and the server's log says why.
        """
        self.start_server()
        client = self.start_client(1, carrier=self.carrier)
        program = await self.connect(client)
        await eventually(lambda: program.lost_reason)
        await self.logged(f"cannot connect to tcp:{HOST}:1", "refused")

    async def test_wall_clock_jumps(self) -> None:
        """
        A wall clock that jumps a year back and forth changes nothing.
        """
        now = [Clocks().wall()]
        clocks = Clocks(wall=lambda: now[0])
        server = self.start_server(clocks=clocks)
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier=self.carrier, clocks=clocks)
        program = await self.echo(client)
        session_id = client.session_id
        for jump in (-365 * 86400, 2 * 365 * 86400):
            now[0] += jump
            await self.pass_time(2 * KEY_CHECK_INTERVAL)
            program.received.clear()
            program.tcp.write(b"still here")
            await eventually(lambda: program.received == b"still here")
        self.assertEqual(client.session_id, session_id)
        self.assertEqual(len(server.sessions), 1)

    async def test_stop_in_the_middle(self) -> None:
        """
        Services that stop during a transfer leave no socket and no timer, and reset programs.
        """
        server = self.start_server()
        programs, port = self.serve()
        client = self.start_client(port, carrier=self.carrier)
        near = await self.connect(client)
        await eventually(lambda: programs.connections and programs.connections[0].is_connected)
        near.tcp.write(BULK)
        await eventually(lambda: programs.connections[0].received)
        await self.stop(client)
        await eventually(lambda: near.lost_reason and programs.connections[0].lost_reason)
        await self.stop(server)
        self.assertEqual(self.tracebacks, [])


class TCPTunnelTests(TunnelTests):
    """
    The same over TCP.
    """

    carrier = "tcp"

    async def test_cut_connections(self) -> None:
        """
        A carrier that is cut again and again is redialled, and the transfer completes.
        """
        server = self.start_server()
        relay = TCPRelay(self.lab_reactor, (HOST, 0), (HOST, server.port), byte_limit=1_000_000)
        relay.startService()
        self.addCleanup(relay.stopService)
        programs, port = self.serve()
        client = self.start_client(port, carrier="tcp", invitation=self.invitation(port=relay.port))
        near = await self.connect(client)
        await eventually(lambda: programs.connections)
        await self.exchange(near, programs.connections[0])
        self.assertGreaterEqual(relay.cuts, 3)
        self.assertEqual(len(server.sessions), 1)
        self.assertEqual(self.tracebacks, [])


class ClassicTunnelTests(TunnelTests):
    """
    The same in the classic dialect, which cuts larger datagrams into fragments.
    """

    is_classic = True
    datagram_sizes = (1, 500, 5000)


class ClassicTCPTunnelTests(TCPTunnelTests):
    """
    The same in the classic dialect over TCP.
    """

    is_classic = True


class BadLinkTests(ServiceTestCase):
    """
    Over UDP by a relay that loses packets and forgets addresses.
    """

    async def test_loss_and_new_addresses(self) -> None:
        """
        With 30 % loss and an address that changes in the middle, every byte arrives.
        """
        server = self.start_server()
        conditions = LinkConditions(delay=0.005, loss=0.3)
        relay = UDPRelay(
            self.lab_reactor,
            (HOST, 0),
            (HOST, server.port),
            up_conditions=conditions,
            down_conditions=conditions,
            seed=4,
        )
        relay.startService()
        self.addCleanup(relay.stopService)
        programs, port = self.serve()
        client = self.start_client(port, invitation=self.invitation(port=relay.port))
        near = await self.connect(client)
        near.tcp.write(BULK)
        near.end()
        await eventually(lambda: programs.connections)
        far = programs.connections[0]
        for part in (200_000, 700_000):
            await eventually(lambda part=part: len(far.received) > part, seconds=60)  # type: ignore[misc]
            relay.change_address()
        await eventually(lambda: far.has_heard_end, seconds=60)
        self.assertEqual(far.received, BULK)
        await self.logged("client is at udp", count=2)
        self.assertEqual(self.tracebacks, [])


class ClassicBadLinkTests(BadLinkTests):
    """
    The same in the classic dialect.
    """

    is_classic = True


class StopTests(ServiceTestCase):
    """
    Stopping at inconvenient times; trial looks for what is left behind.
    """

    async def test_at_once(self) -> None:
        """
        A client that is stopped before the server has answered is quiet.
        """
        self.start_server()
        client = self.start_client(1)
        await self.stop(client)
        self.assertEqual(self.tracebacks, [])

    async def test_while_a_name_is_looked_up(self) -> None:
        """
        A client that is stopped while its server's name is resolved is quiet.
        """
        self.start_server()
        client = self.start_client(1, invitation=self.invitation(host="localhost"))
        await eventually(lambda: client.session_id)
        await self.stop(client)
        await self.pass_time(0.1)
        self.assertEqual(self.tracebacks, [])

    async def test_while_a_server_says_nothing(self) -> None:
        """
        A client is stopped while something that is no server keeps it waiting.
        """
        _, port = self.serve()
        self.start_server()
        client = self.start_client(1, invitation=self.invitation(https_port=port))
        await self.pass_time(0.1)
        await self.stop(client)
        self.assertEqual(self.tracebacks, [])

    async def test_between_attempts(self) -> None:
        """
        A client is stopped while it waits for its next attempt, with a program that waits too.
        """
        server = self.start_server()
        invitation = self.invitation()
        await self.stop(server)
        client = self.start_client(1, invitation=invitation)
        program = await self.connect(client)
        await self.logged("refuses connections")
        await self.stop(client)
        await eventually(lambda: program.lost_reason)
