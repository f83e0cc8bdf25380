"""
``--carrier auto`` with real sockets: one journey from UDP to TCP and back.
"""

from __future__ import annotations

from resip.lab.link import LinkConditions
from resip.lab.relay import TCPRelay, UDPRelay
from resip.services.client import ClientService
from tests.services.fixture import HOST, ServiceTestCase
from tests.tunnel.programs import eventually

FINE = LinkConditions()
BLOCKED = LinkConditions(is_down=True)


class AutomaticCarrierTests(ServiceTestCase):
    """
    Relays in between, on one port number for UDP and TCP.
    """

    async def test_udp_is_blocked_and_unblocked(self) -> None:
        """
        The program's connection goes on by TCP, which was not even dialled before, and goes on by
        UDP when that is back. The log says so.
        """
        server = self.start_server()
        target = (HOST, server.port)
        udp = UDPRelay(
            self.lab_reactor, (HOST, 0), target, up_conditions=FINE, down_conditions=FINE
        )
        udp.startService()
        self.addCleanup(udp.stopService)
        tcp = TCPRelay(self.lab_reactor, (HOST, udp.port), target)
        tcp.startService()
        self.addCleanup(tcp.stopService)
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier="auto", invitation=self.invitation(port=udp.port))
        program = await self.echo(client)
        await self.logged("packets go by udp")
        self.assertEqual(self.lines("packets go by tcp"), [])
        for conditions, carrier in ((BLOCKED, "tcp"), (FINE, "udp")):
            udp.up_link.conditions = udp.down_link.conditions = conditions
            program.received.clear()
            program.tcp.write(b"still here")
            await eventually(lambda: program.received == b"still here")
            await self.used(client, carrier)
        # On a busy machine WebSocket may answer first, and TCP a moment later.
        await self.logged("udp", "gives no answers; trying")
        await self.logged("packets go by tcp")
        await self.logged("udp", "answers and is better than tcp")
        self.assertIsNone(program.lost_reason)
        self.assertEqual(self.tracebacks, [])

    async def test_only_the_https_port_is_open(self) -> None:
        """
        When nothing else answers, packets go over HTTPS.
        """
        self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port, carrier="auto", invitation=self.invitation(port=1))
        await self.echo(client)
        await self.logged("gives no answers; trying websocket")
        await self.logged("packets go by websocket")

    async def test_a_server_with_several_addresses(self) -> None:
        """
        A session that nobody answers at the first starts at the second, and goes on at the third
        when that one falls silent.
        """
        server = self.start_server()
        relays = [
            UDPRelay(
                self.lab_reactor,
                (HOST, 0),
                (HOST, server.port),
                up_conditions=FINE,
                down_conditions=FINE,
            )
            for _ in range(2)
        ]
        for relay in relays:
            relay.startService()
            self.addCleanup(relay.stopService)
        _, port = self.serve(echoes=True)
        client = self.start_client(
            port,
            invitation=self.invitation(https_port=1, port=1),
            others=[self.invitation(port=relay.port) for relay in relays],
        )
        program = await self.echo(client)
        used = next(relay for relay in relays if self.is_used(client, relay))
        used.up_link.conditions = used.down_link.conditions = BLOCKED
        program.received.clear()
        program.tcp.write(b"still here")
        await eventually(lambda: program.received == b"still here")
        self.assertTrue(any(self.is_used(client, other) for other in relays if other is not used))
        self.assertIsNone(program.lost_reason)
        self.assertEqual(self.tracebacks, [])

    def is_used(self, client: ClientService, relay: UDPRelay) -> bool:
        """
        Whether packets go by a relay.
        """
        return client.path is not None and client.path.address == (HOST, relay.port)

    async def used(self, client: ClientService, carrier: str) -> None:
        """
        Wait until a client uses a carrier.
        """
        await eventually(lambda: client.path is not None and client.path.carrier == carrier)
