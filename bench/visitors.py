"""
A server in memory, and clients that come, say a word and are gone, in virtual time.

A few clients are there at a time: Twisted's Clock sorts all its timers whenever one changes.
"""

from __future__ import annotations

import gc
import math
import os
import sys
import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.task import Clock

from resip.bootstrap.keystore import KeyRecord
from resip.carriers.channels import Channel
from resip.core.errors import ResetCode
from resip.core.events import DataReceived
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.handshake import ClientHandshake, Hello
from resip.core.modern.noise import public_key_of
from resip.core.modern.parts import Agreement, IdAllocation
from resip.core.modern.session import ModernSession
from resip.core.types import Path, Protocol, Target
from resip.services.clock import Clocks
from resip.services.server import PARKING_INTERVAL
from resip.services.sessions import MAX_SESSIONS_PER_KEY, ServerSessions
from resip.services.starters import make_controller

#: What takes packets that came by a path.
Receive = Callable[[Sequence[bytes], Path], object]
#: Seconds that packets are under way, and those between two looks at what is due while none is.
LATENCY = 0.005
STEP = 0.05
#: Seconds for which a client is there: as long as credit may take to be announced, and more.
VISIT = 5.0
SERVER = Path("memory", ("192.0.2.1", 31266))
TARGET = Target(Protocol.TCP, "echo.example", 7)
WORD = b"hello"
#: Clients that are there together.
CROWD = 25
#: Packets whose cost is measured.
PACKETS = 20
#: Sessions between two lines that say how far it is.
PROGRESS = 1000


class Echo:
    """
    The server's user of a channel.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def data_received(self, data: bytes) -> None:
        """
        Send it back.
        """
        self._channel.write(data)
        self._channel.consume(len(data))

    def channel_ended(self) -> None:
        """
        End the other direction, too.
        """
        self._channel.end()

    def channel_opened(self) -> None:
        """
        Not said to a server.
        """

    def channel_writable(self) -> None:
        """
        A word always fits.
        """

    def channel_reset(self, code: ResetCode) -> None:
        """
        The client is gone.
        """

    def channel_closed(self) -> None:
        """
        Done.
        """


class Client:
    """
    A client without a driver.
    """

    def __init__(self, bench: Bench, number: int) -> None:
        self._bench = bench
        self.path = Path("memory", (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 4000))
        hello = Hello(number + 1, 1 + number, INITIAL_SESSION_WINDOW, INITIAL_CHANNEL_WINDOW)
        key = bench.client_keys[number // (MAX_SESSIONS_PER_KEY - 1)]
        handshake = ClientHandshake(key, bench.server_key, hello, os.urandom)
        began = time.process_time()
        answer = bench.sessions.accept_handshake(handshake.message1)
        self.start_time = time.process_time() - began
        assert answer is not None, "the client is known"
        welcome, secrets = handshake.finish(answer.message2)
        agreement = Agreement(
            secrets,
            is_client=True,
            local_id=number + 1,
            peer_id=welcome.session_id,
            session_credit=welcome.session_credit,
            channel_credit=welcome.channel_credit,
            peer_token=welcome.reset_token,
        )
        self.session = ModernSession(
            agreement,
            make_controller(os.urandom, now=bench.clock.seconds()),
            ids=IdAllocation(
                lambda: int.from_bytes(os.urandom(4)), lambda _: None, lambda _: os.urandom(16)
            ),
            random_bytes=os.urandom,
            now=bench.clock.seconds(),
        )
        self.session.use_path(SERVER, now=bench.clock.seconds())
        self._due_time = 0.0

    def wake(self) -> None:
        """
        Take a turn if anything is due.
        """
        now = self._bench.clock.seconds()
        if now >= self._due_time:
            self.session.handle_timer(now=now)
            self.turn()

    def turn(self) -> None:
        """
        What a driver does.
        """
        now = self._bench.clock.seconds()
        while (event := self.session.next_event()) is not None:
            if isinstance(event, DataReceived):
                self.session.consume(event.channel_id, len(event.data), now=now)
        for _, packets in self.session.datagrams_to_send(now=now):
            self._bench.post(self._bench.sessions.receive_datagrams, packets, self.path)
        self._due_time = self.session.get_timer() or math.inf

    def receive(self, packets: Sequence[bytes], path: Path) -> None:
        """
        The server sent something.
        """
        self.session.receive_datagrams(packets, path, now=self._bench.clock.seconds())
        self.turn()


class Bench:
    """
    A server in memory. It is the carrier, too.

    :param count: the most clients that will come.
    """

    def __init__(self, count: int, *, keeps_channel: bool) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self._clients: dict[Path, Client] = {}
        self._mail: list[tuple[Receive, Sequence[bytes], Path]] = []
        self._keeps_channel = keeps_channel
        self.sessions = ServerSessions(
            {"memory": self},
            clock=self.clock,
            clocks=Clocks(monotonic=self.clock.seconds),
            random_bytes=os.urandom,
            on_request=lambda channel, key: channel.accept(Echo(channel)),
            is_classic=False,
        )
        keys = 1 + count // (MAX_SESSIONS_PER_KEY - 1)
        self.client_keys = [X25519PrivateKey.generate() for _ in range(keys)]
        records = {
            public_key_of(key): KeyRecord(f"key-{at}", public_key_of(key), None, 0)
            for at, key in enumerate(self.client_keys)
        }
        self.server_key = self.sessions.speak_modern(X25519PrivateKey.generate(), records.get)
        self._swept_at = self.clock.seconds()
        self.started = 0

    def send(self, path: Path, packets: Sequence[bytes]) -> None:
        """
        The server's packets, to a client that is there or to nobody.
        """
        client = self._clients.get(path)
        if client is not None:
            self.post(client.receive, packets, SERVER)

    def post(self, receive: Receive, packets: Sequence[bytes], path: Path) -> None:
        """
        Let packets arrive with the next step.
        """
        self._mail.append((receive, packets, path))

    def is_writable(self, path: Path) -> bool:
        """
        Memory always is.
        """
        return True

    def run_for(self, seconds: float, clients: Sequence[Client] = ()) -> None:
        """
        Let virtual time pass, with the server's one timer for idle sessions.
        """
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            for client in clients:
                client.wake()
            self.clock.advance(LATENCY if self._mail else STEP)
            mail, self._mail = self._mail, []
            for receive, packets, path in mail:
                receive(packets, path)
            if self.clock.seconds() >= self._swept_at + PARKING_INTERVAL:
                self._swept_at = self.clock.seconds()
                self.sweep()

    def sweep(self) -> None:
        """
        What the server's timer for idle sessions does.
        """
        self.sessions.park_idle()

    def visit(self, count: int) -> None:
        """
        Clients come together, say a word, and are gone.
        """
        clients = [self._welcome() for _ in range(count)]
        for client in clients:
            channel_id = client.session.open_channel(TARGET, now=self.clock.seconds())
            client.session.write(channel_id, WORD, now=self.clock.seconds())
            client.turn()
        self.run_for(VISIT / 2, clients)
        for client in clients:
            if not self._keeps_channel:
                client.session.end(1, now=self.clock.seconds())
                client.turn()
        self.run_for(VISIT / 2, clients)
        for client in clients:
            assert client.session.channel_count == self._keeps_channel, "the channel has ended"
            del self._clients[client.path]

    def visits(self, count: int) -> None:
        """
        Clients come, a few at a time, until ``count`` have been there.
        """
        for number in range(0, count, CROWD):
            self.visit(CROWD)
            # A client's parts hold each other. Swept up later, they would count as the server's.
            gc.collect(0)
            if (number + CROWD) % PROGRESS == 0:
                print(f"{number + CROWD} sessions", file=sys.stderr, flush=True)

    def start_one(self) -> float:
        """
        Processor seconds of one handshake. The client is gone at once.
        """
        client = self._welcome()
        del self._clients[client.path]
        return client.start_time

    def keep_alive(self, pause: float) -> float:
        """
        Processor seconds that the server takes for a keep-alive after a pause, answered and all,
        until the session is idle again.
        """
        client = self._welcome()
        self.run_for(VISIT, [client])
        spent = 0.0
        for _ in range(PACKETS):
            self.run_for(pause)
            now = self.clock.seconds()
            client.session.handle_timer(now=now)
            ((_, packets),) = client.session.datagrams_to_send(now=now)
            began = time.process_time()
            self.sessions.receive_datagrams(packets, client.path)
            self.clock.advance(STEP)
            spent += time.process_time() - began
            self.run_for(VISIT, [client])
        return spent / PACKETS

    def _welcome(self) -> Client:
        client = Client(self, self.started)
        self.started += 1
        self._clients[client.path] = client
        return client
