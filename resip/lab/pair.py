"""
Two sessions joined by two simulated links: hours of protocol in seconds, repeatable by seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from resip.core.events import Event
from resip.core.session import Session
from resip.core.types import Path
from resip.lab.link import LinkModel
from resip.lab.simulator import Simulator

#: The addresses are from the blocks for documentation (RFC 5737).
SERVER_ADDRESS = ("192.0.2.1", 31266)
CLIENT_HOST = "198.51.100.1"
FIRST_CLIENT_PORT = 40_000

#: Packets, timers and events within one instant of virtual time, above which the two sides
#: are taken to chase each other for ever. A window of 50 MB sent at once stays below.
MAX_STEPS_PER_INSTANT = 100_000


class Application(Protocol):
    """
    A program on one side: hears every event of the session and picks its own.
    """

    def on_event(self, host: Host, event: Event, *, now: float) -> None:
        """
        Something happened on the session of ``host``, whose verbs may be called at once.
        """


AnyApplication = TypeVar("AnyApplication", bound=Application)


class Host:
    """
    One side of a :class:`SimulatedPair`: a session, and what a driver does for it.

    :ivar session: the session, or whatever offers its verbs.
    :ivar simulator: the clock of both sides.
    :ivar events: what the session reported, in order, unless the pair does not keep events.
    """

    def __init__(
        self,
        session: Session,
        simulator: Simulator,
        *,
        send: Callable[[Path, bytes], None],
        count_step: Callable[[], None],
        keeps_events: bool,
    ) -> None:
        self.session = session
        self.simulator = simulator
        self.events: list[Event] = []
        self._send = send
        self._count_step = count_step
        self._keeps_events = keeps_events
        self._applications: list[Application] = []
        self._is_flushing = False
        self._wake_at = math.inf

    @property
    def now(self) -> float:
        """
        The virtual time.
        """
        return self.simulator.now

    def attach(self, application: AnyApplication) -> AnyApplication:
        """
        Let ``application`` hear the events from now on, and return it.
        """
        self._applications.append(application)
        return application

    def receive(self, data: bytes, path: Path) -> None:
        """
        A packet arrives.
        """
        self.session.receive_datagrams((data,), path, now=self.simulator.now)
        self.flush()

    def flush(self) -> None:
        """
        What a driver does after any input: deliver events, send packets, set the timer.

        Call it after using the session's verbs from outside of ``on_event``.
        """
        if self._is_flushing:
            return
        self._is_flushing = True
        try:
            self._deliver_events()
            now = self.simulator.now
            probes = self.session.probes_to_send(now=now)
            for path, packets in (*probes, *self.session.datagrams_to_send(now=now)):
                for packet in packets:
                    self._count_step()
                    self._send(path, packet)
        finally:
            self._is_flushing = False
        self._arm()

    def call_later(self, delay: float, function: Callable[[], object]) -> None:
        """
        Call ``function`` in ``delay`` seconds, and flush after it.
        """
        self.simulator.call_at(self.simulator.now + delay, partial(self._call, function))

    def _call(self, function: Callable[[], object]) -> None:
        function()
        self.flush()

    def _deliver_events(self) -> None:
        while (event := self.session.next_event()) is not None:
            self._count_step()
            if self._keeps_events:
                self.events.append(event)
            for application in self._applications:
                application.on_event(self, event, now=self.simulator.now)

    def _arm(self) -> None:
        """
        Wake up at the session's deadline. One that moves away is met by an idle wake-up,
        which is cheaper than to search the queue of the simulator for the old one.
        """
        deadline = self.session.get_timer()
        if deadline is not None and deadline < self._wake_at:
            self._wake_at = max(deadline, self.simulator.now)
            self.simulator.call_at(self._wake_at, self._wake)

    def _wake(self) -> None:
        now = self.simulator.now
        if now < self._wake_at:
            return  # An earlier wake-up has taken the place of this one.
        self._wake_at = math.inf
        deadline = self.session.get_timer()
        if deadline is None or deadline > now:
            self._arm()
            return
        self._count_step()
        self.session.handle_timer(now=now)
        self.flush()


class SimulatedPair:
    """
    A client and a server, and all that lies between them.

    The client is given its path at once, if it has none. The server learns the client's
    address from the packets, and must follow it when it changes.

    :ivar client: the side that dials.
    :ivar server: the side that is dialled.
    :ivar up: the link from client to server.
    :ivar down: the link from server to client.
    :ivar simulator: the clock.
    :ivar client_address: where the server sees the client now.
    :ivar misaddressed: packets that arrived nowhere, since their address is not, or no
        longer, in use.

    :param carrier: the name of the carrier in every path.
    :param is_reliable: what the paths say of the carrier; the links should then lose nothing.
    :param keeps_events: record the events of both sides. Turn it off for long transfers.
    """

    def __init__(
        self,
        client: Session,
        server: Session,
        up: LinkModel,
        down: LinkModel,
        simulator: Simulator | None = None,
        *,
        carrier: str = "simulated",
        is_reliable: bool = False,
        keeps_events: bool = True,
    ) -> None:
        self.simulator = simulator or Simulator()
        self.up = up
        self.down = down
        self.misaddressed = 0
        self._make_path = partial(Path, carrier, is_reliable=is_reliable)
        self._server_path = self._make_path(SERVER_ADDRESS)
        self._client_path = self._make_path((CLIENT_HOST, FIRST_CLIENT_PORT))
        self._instant = -math.inf
        self._steps = 0
        make_host = partial(
            Host,
            simulator=self.simulator,
            count_step=self._count_step,
            keeps_events=keeps_events,
        )
        self.client = make_host(client, send=self._send_up)
        self.server = make_host(server, send=self._send_down)
        if client.path is None:
            client.use_path(self._server_path, now=self.simulator.now)

    @property
    def now(self) -> float:
        """
        The virtual time.
        """
        return self.simulator.now

    @property
    def client_address(self) -> tuple[str, int]:
        """
        The source address of the client's packets.
        """
        address = self._client_path.address
        assert address is not None
        return address

    @property
    def client_path(self) -> Path:
        """
        The way to the client, as the server sees it.
        """
        return self._client_path

    @property
    def server_path(self) -> Path:
        """
        The way to the server, as the client sees it.
        """
        return self._server_path

    @property
    def seeds(self) -> str:
        """
        What repeats this run, for messages.
        """
        return f"up seed {self.up.seed}, down seed {self.down.seed}"

    def change_address(self) -> tuple[str, int]:
        """
        Give the client a new source address, as a NAT that forgot it does: nobody is told.

        Packets on their way to the old address are lost. Call the session's ``retry`` or
        ``use_path`` as well to play a client that noticed.

        :return: the new address.
        """
        host, port = self.client_address
        self._client_path = self._make_path((host, port + 1))
        return self.client_address

    def flush(self) -> None:
        """
        Let both sides act on verbs that were called from outside.
        """
        self.client.flush()
        self.server.flush()

    def run_until(self, when: float) -> None:
        """
        Let everything happen up to the virtual time ``when``.
        """
        self.flush()
        self.simulator.run_until(when)

    def run_for(self, seconds: float) -> None:
        """
        Let that much virtual time pass.
        """
        self.run_until(self.now + seconds)

    def run_while(self, condition: Callable[[], bool], limit: float) -> bool:
        """
        Run as long as ``condition()`` holds, at most up to the time ``limit``.

        :return: whether the condition came to an end in time.
        """
        self.flush()
        return self.simulator.run_while(condition, limit)

    def _send_up(self, path: Path, data: bytes) -> None:
        arrivals = self.up.transmit(data, now=self.simulator.now)
        if path != self._server_path:
            self.misaddressed += len(arrivals)
            return
        for deliver_at, packet in arrivals:
            self.simulator.call_at(
                deliver_at, partial(self.server.receive, packet, self._client_path)
            )

    def _send_down(self, path: Path, data: bytes) -> None:
        for deliver_at, packet in self.down.transmit(data, now=self.simulator.now):
            self.simulator.call_at(deliver_at, partial(self._arrive_down, packet, path))

    def _arrive_down(self, packet: bytes, path: Path) -> None:
        if path != self._client_path:
            self.misaddressed += 1
            return
        self.client.receive(packet, self._server_path)

    def _count_step(self) -> None:
        now = self.simulator.now
        if now != self._instant:
            self._instant = now
            self._steps = 0
        self._steps += 1
        if self._steps > MAX_STEPS_PER_INSTANT:
            raise AssertionError(
                f"more than {MAX_STEPS_PER_INSTANT} packets, timers and events at the virtual "
                f"time {now:.6f}: the two sides never come to rest ({self.seeds})"
            )
