"""
Tests of :mod:`resip.lab.udp_relay`, over real sockets on the loopback interface.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.interfaces import IListeningPort, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from resip.lab import udp_relay
from resip.lab.link import LinkConditions
from resip.lab.reactor import ILabReactor, get_port_number
from resip.lab.udp_relay import UDPRelay

reactor = cast(ILabReactor, installed_reactor)
HOST = "127.0.0.1"


class Socket(DatagramProtocol):
    """
    A UDP socket whose datagrams wait in a queue, with their sender.
    """

    transport: IUDPTransport
    noisy = False

    def __init__(self, *, echoes: bool = False) -> None:
        self.received: DeferredQueue[tuple[bytes, tuple[str, int]]] = DeferredQueue()
        self.echoes = echoes

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        Keep it, and send it back.
        """
        self.received.put((datagram, addr))
        if self.echoes:
            self.transport.write(datagram, addr)

    @property
    def waiting(self) -> int:
        """
        How many datagrams wait.
        """
        return len(self.received.pending)


class Setting:
    """
    An echo server, a relay to it, and clients of the relay.
    """

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.server = Socket(echoes=True)
        self.relay: UDPRelay

    async def open(self, up: LinkConditions, down: LinkConditions) -> Setting:
        """
        Start the server and the relay.
        """
        server_port = await self.add(self.server)
        self.relay = UDPRelay(
            reactor, (HOST, 0), (HOST, server_port), up_conditions=up, down_conditions=down, seed=7
        )
        self.relay.startService()
        self._stack.push_async_callback(self._await, self.relay.stopService)
        return self

    async def add(self, protocol: Socket) -> int:
        """
        Open a socket and return its port.
        """
        port: IListeningPort = reactor.listenUDP(0, protocol, HOST, 65_536)
        self._stack.push_async_callback(self._await, port.stopListening)
        return get_port_number(port)

    async def add_client(self) -> Socket:
        """
        Open a client's socket.
        """
        client = Socket()
        await self.add(client)
        return client

    def send(self, client: Socket, *datagrams: bytes) -> None:
        """
        Send from a client to the relay.
        """
        for datagram in datagrams:
            client.transport.write(datagram, (HOST, self.relay.port))

    async def _await(self, function: Callable[[], Awaitable[object] | None]) -> None:
        if (waiting := function()) is not None:
            await waiting


@asynccontextmanager
async def make_setting(
    up: LinkConditions | None = None, down: LinkConditions | None = None
) -> AsyncIterator[Setting]:
    """
    A setting that is torn down afterwards.
    """
    async with AsyncExitStack() as stack:
        yield await Setting(stack).open(up or LinkConditions(), down or LinkConditions())


async def wait(seconds: float) -> None:
    """
    Let the sockets work.
    """
    await deferLater(reactor, seconds)


def run(coroutine: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
    """
    Run the body of a test.
    """
    return Deferred.fromCoroutine(coroutine)


class UDPRelayTests(TestCase):
    """
    A bad link between real sockets.
    """

    timeout = 20

    def find_closed_port(self) -> int:
        """
        A UDP port on which nobody listens.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind((HOST, 0))
            port: int = closed.getsockname()[1]
            return port

    def test_carries_both_ways(self) -> Deferred[None]:
        """
        Two clients' packets arrive under two addresses, and each gets its own answer.
        """

        async def body() -> None:
            async with make_setting() as setting:
                clients = [await setting.add_client() for _ in range(2)]
                sources = set()
                for number, client in enumerate(clients):
                    setting.send(client, b"%d" % number)
                    sources.add((await setting.server.received.get())[1])
                    data, sender = await client.received.get()
                    self.assertEqual((data, sender), (b"%d" % number, (HOST, setting.relay.port)))
                self.assertEqual((len(sources), setting.relay.client_count), (2, 2))

        return run(body())

    def test_delays_and_keeps_the_order(self) -> Deferred[None]:
        """
        Packets arrive after the delay of both links, in the order they were sent.
        """

        async def body() -> None:
            conditions = LinkConditions(delay=0.05, jitter=0.02)
            async with make_setting(conditions, conditions) as setting:
                client = await setting.add_client()
                sent = [b"%d" % number for number in range(50)]
                setting.send(client, *sent)
                await wait(0.08)
                self.assertEqual(client.waiting, 0)
                received = [(await client.received.get())[0] for _ in sent]
                self.assertEqual(received, sent)

        return run(body())

    def test_loses_packets(self) -> Deferred[None]:
        """
        The links lose what their dice say, and count it.
        """

        async def body() -> None:
            async with make_setting(LinkConditions(loss=0.5), LinkConditions(loss=0.5)) as setting:
                client = await setting.add_client()
                setting.send(client, *[b"x"] * 100)
                await wait(0.1)
                up, down = setting.relay.up_link.counters, setting.relay.down_link.counters
                self.assertEqual((up.sent, down.sent), (100, up.delivered))
                self.assertEqual(setting.server.waiting, up.delivered)
                self.assertEqual(client.waiting, down.delivered)
                self.assertTrue(0 < down.delivered < up.delivered < 100)

        return run(body())

    def test_change_of_address(self) -> Deferred[None]:
        """
        The server sees the client under another port; what it had under way to the old one is
        lost, and it reaches the client under the new one.
        """

        async def body() -> None:
            async with make_setting(down=LinkConditions(delay=0.1)) as setting:
                client = await setting.add_client()
                setting.send(client, b"before")
                _, old = await setting.server.received.get()
                await wait(0.03)
                setting.relay.change_address()
                setting.send(client, b"after")
                _, new = await setting.server.received.get()
                self.assertNotEqual(old, new)
                self.assertEqual((await client.received.get())[0], b"after")
                self.assertEqual(client.waiting, 0)

        return run(body())

    def test_down_and_up(self) -> Deferred[None]:
        """
        A cut relay carries nothing, and a mended one what is sent from then on.
        """

        async def body() -> None:
            async with make_setting(LinkConditions(mtu=1000)) as setting:
                client = await setting.add_client()
                setting.relay.down()
                setting.send(client, b"lost")
                await wait(0.05)
                setting.relay.up()
                setting.send(client, b"found")
                self.assertEqual((await client.received.get())[0], b"found")
                self.assertEqual(setting.relay.up_link.counters.lost, 1)
                self.assertEqual(setting.relay.up_link.conditions.mtu, 1000)

        return run(body())

    def test_conditions_change_in_flight(self) -> Deferred[None]:
        """
        New conditions hold for the packets that come after them.
        """

        async def body() -> None:
            async with make_setting() as setting:
                client = await setting.add_client()
                link = setting.relay.up_link
                link.conditions = replace(link.conditions, duplicate=1.0)
                setting.send(client, b"twice")
                copies = [(await client.received.get())[0] for _ in range(2)]
                self.assertEqual(copies, [b"twice"] * 2)

        return run(body())

    def test_remembers_a_bounded_number_of_clients(self) -> Deferred[None]:
        """
        One client too many takes the place of the one that was quiet for longest.
        """

        async def body() -> None:
            self.patch(udp_relay, "MAX_CLIENTS", 2)
            async with make_setting() as setting:
                clients = [await setting.add_client() for _ in range(3)]
                for number in (0, 1, 2, 1, 0, 1):
                    setting.send(clients[number], b"x")
                    await clients[number].received.get()
                sources = [(await setting.server.received.get())[1] for _ in range(6)]
                self.assertEqual(setting.relay.client_count, 2)
                self.assertEqual([sources[3], sources[5]], [sources[1]] * 2)
                self.assertEqual(len(set(sources)), 4)

        return run(body())

    def test_air_is_bounded(self) -> Deferred[None]:
        """
        Packets beyond the limit of the bytes in the air are lost and counted.
        """

        async def body() -> None:
            self.patch(udp_relay, "MAX_BYTES_IN_AIR", 3000)
            async with make_setting(LinkConditions(delay=0.1)) as setting:
                client = await setting.add_client()
                setting.send(client, *[bytes(1000)] * 4)
                await wait(0.05)
                self.assertEqual(setting.relay.overflowed, 2)
                await wait(0.15)
                self.assertEqual(client.waiting, 2)

        return run(body())

    def test_stopping_leaves_nothing(self) -> Deferred[None]:
        """
        A relay that stops forgets the packets in the air; its timers and sockets are gone.
        """

        async def body() -> None:
            async with make_setting(LinkConditions(delay=60.0, jitter=1.0)) as setting:
                client = await setting.add_client()
                setting.send(client, *[b"x"] * 20)
                await wait(0.02)
                self.assertEqual(setting.relay.up_link.counters.delivered, 20)

        return run(body())

    def test_names_are_refused(self) -> None:
        """
        The target is an address, since nothing here resolves names.
        """
        perfect = LinkConditions()
        with self.assertRaises(ValueError):
            UDPRelay(
                reactor, (HOST, 0), ("localhost", 1), up_conditions=perfect, down_conditions=perfect
            )

    def test_strangers_are_not_heard(self) -> Deferred[None]:
        """
        What others send to the socket towards the server does not reach the client.
        """

        async def body() -> None:
            async with make_setting() as setting:
                client, stranger = await setting.add_client(), await setting.add_client()
                setting.send(client, b"x")
                _, source = await setting.server.received.get()
                await client.received.get()
                stranger.transport.write(b"forged", source)
                await wait(0.05)
                self.assertEqual(client.waiting, 0)

        return run(body())

    def test_server_that_is_not_there(self) -> Deferred[None]:
        """
        While nobody listens at the target the relay lives on.
        """

        async def body() -> None:
            relay = UDPRelay(
                reactor,
                (HOST, 0),
                (HOST, self.find_closed_port()),
                up_conditions=LinkConditions(),
                down_conditions=LinkConditions(),
            )
            self.assertRaises(RuntimeError, lambda: relay.port)
            relay.startService()
            async with make_setting() as setting:
                client = await setting.add_client()
                for _ in range(3):
                    client.transport.write(b"x", (HOST, relay.port))
                    await wait(0.02)
                self.assertEqual((relay.up_link.counters.sent, relay.client_count), (3, 1))
            await relay.stopService()

        return run(body())
