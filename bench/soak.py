"""
``python -m bench.soak``: an hour of mixed traffic through two real processes on loopback, and a
random fault every few seconds.

Relays between client and server do the damage: resets, blocks, loss, delay, new addresses; and
either process is stopped for some seconds. Afterwards every byte must have arrived once and in
order on connections that nobody cut, in one session, with nothing wrong in the logs, and neither
memory nor descriptors may have grown. The exit status says so. ``--seed`` repeats the faults.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.threads import blockingCallFromThread

from bench.soak_traffic import Target, Traffic
from bench.tunnel import Tunnel, run_tunnel
from resip.bootstrap.servers import find_invitation
from resip.bootstrap.state import StateDirectory
from resip.lab.link import LinkConditions
from resip.lab.reactor import ILabReactor
from resip.lab.reverse_proxies import free_port
from resip.lab.tcp_relay import TCPRelay
from resip.lab.udp_relay import UDPRelay

_HOST = "127.0.0.1"
_reactor: Any = installed_reactor
#: The line by UDP when nothing is wrong with it.
_GOOD = LinkConditions(rate=100e6, delay=0.005, queue_limit=200)
#: Seconds from the end of a fault to the next: at least, and at most.
_PAUSES = (1.0, 4.0)
#: How long faults of each kind last, seconds. No program gives up in that time.
_BLOCKS = (2.0, 8.0)
_OUTAGES = (1.0, 5.0)
_STOPS = (1.0, 3.0)
#: Seconds between looks at the processes, and between the lines that are printed.
_LOOK_INTERVAL = 1.0
_LINE_INTERVAL = 60.0
#: What memory may have grown by from the second third to the last, and descriptors from the
#: beginning to the end: a few spare connections may stand.
_MAX_GROWTH, _MAX_GROWTH_BYTES = 1.15, 24 << 20
_MAX_NEW_DESCRIPTORS = 16
#: Seconds after the traffic for connections to be gone.
_QUIET_TIME = 5.0
_WRONG = re.compile(r"Traceback|Unhandled|#error|#critical")


def _in_reactor(function: Callable[[], object]) -> None:
    # Waits for a Deferred, too.
    blockingCallFromThread(_reactor, cast(Callable[[], Any], function))


class Network:
    """
    What is between the client and the server: relays for all ports, which do as they are told.

    They run in the reactor's thread; the methods are called in any other.

    :param seed: decides which packets are lost.
    """

    def __init__(self, *, https_port: int, port: int, seed: int) -> None:
        reactor = cast(ILabReactor, _reactor)
        listen = (_HOST, free_port())
        self._https = TCPRelay(reactor, (_HOST, 0), (_HOST, https_port))
        self._tcp = TCPRelay(reactor, listen, (_HOST, port))
        self._udp = UDPRelay(
            reactor, listen, (_HOST, port), up_conditions=_GOOD, down_conditions=_GOOD, seed=seed
        )

    def start(self) -> tuple[int, int]:
        """
        Listen; returns the ports for HTTPS and for packets.
        """
        for relay in (self._https, self._tcp, self._udp):
            _in_reactor(relay.startService)
        return self._https.port, self._tcp.port

    def stop(self) -> None:
        """
        Close everything.
        """
        for relay in (self._https, self._tcp, self._udp):
            _in_reactor(relay.stopService)

    def cut(self) -> None:
        """
        Reset every connection.
        """
        for relay in (self._https, self._tcp):
            _in_reactor(relay.cut)

    def block(self, *, udp: bool = False, tcp: bool = False) -> None:
        """
        Let nothing pass of what is named: packets vanish, connections are refused.
        """
        if udp:
            _in_reactor(self._udp.down)
        for relay in (self._https, self._tcp) if tcp else ():
            relay.is_refusing = True
        if tcp:
            self.cut()

    def unblock(self) -> None:
        """
        Let everything pass.
        """
        _in_reactor(self._udp.up)
        self._https.is_refusing = self._tcp.is_refusing = False

    def change_address(self) -> None:
        """
        Have the server see the client under another port.
        """
        _in_reactor(self._udp.change_address)

    def set_line(self, conditions: LinkConditions) -> None:
        """
        Make the line by UDP better or worse.
        """
        for link in (self._udp.up_link, self._udp.down_link):
            link.conditions = conditions


class Faults:
    """
    Does something bad every few seconds, and undoes it.

    :ivar count: how many faults there were.

    :param seed: decides what, when and for how long.
    """

    def __init__(self, network: Network, tunnel: Tunnel, *, seed: int) -> None:
        self._network = network
        self._tunnel = tunnel
        self._dice = Random(seed)
        self.count = 0

    def one(self) -> None:
        """
        One fault, from beginning to end, and the pause behind it.
        """
        self.count += 1
        network, dice = self._network, self._dice
        match dice.choice(("cut", "udp", "tcp", "outage", "line", "address", "client", "server")):
            case "cut":
                network.cut()
            case "udp":
                self._block(_BLOCKS, udp=True)
            case "tcp":
                self._block(_BLOCKS, tcp=True)
            case "outage":
                self._block(_OUTAGES, udp=True, tcp=True)
            case "line":
                loss, delay = dice.uniform(0, 0.2), dice.uniform(0, 0.05)
                network.set_line(dataclasses.replace(_GOOD, loss=loss, delay=delay))
            case "address":
                network.change_address()
            case "client":
                self._pause(self._tunnel.client.pid)
            case "server":
                self._pause(self._tunnel.server.pid)
        time.sleep(dice.uniform(*_PAUSES))

    def _block(self, seconds: tuple[float, float], *, udp: bool = False, tcp: bool = False) -> None:
        self._network.block(udp=udp, tcp=tcp)
        time.sleep(self._dice.uniform(*seconds))
        self._network.unblock()

    def _pause(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(self._dice.uniform(*_STOPS))
        finally:
            os.kill(pid, signal.SIGCONT)


class Health:
    """
    What a process uses.

    :ivar descriptors: open ones, before the traffic.

    :param name: for the report.
    """

    def __init__(self, name: str, pid: int) -> None:
        self._name = name
        self._folder = Path("/proc") / str(pid)
        self._memory: list[int] = []
        self.descriptors = self._count_descriptors()

    def look(self) -> None:
        """
        Note what it uses now.
        """
        self._memory.append(self._read_memory())

    def __str__(self) -> str:
        """
        What it uses now, for people.
        """
        megabytes = self._read_memory() / 2**20
        return f"{self._name} {megabytes:.1f} MiB, {self._count_descriptors()} descriptors"

    def find_problems(self) -> Iterator[str]:
        """
        What has grown. Call it when all connections are gone.
        """
        third = len(self._memory) // 3
        before = statistics.median(self._memory[third : 2 * third])
        after = statistics.median(self._memory[2 * third :])
        if after > _MAX_GROWTH * before + _MAX_GROWTH_BYTES:
            yield f"the {self._name}'s memory has grown from {before:.0f} to {after:.0f} bytes"
        count = self._count_descriptors()
        if count > self.descriptors + _MAX_NEW_DESCRIPTORS:
            yield f"the {self._name} has {count} descriptors open, at first {self.descriptors}"

    def _count_descriptors(self) -> int:
        return len(list((self._folder / "fd").iterdir()))

    def _read_memory(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", (self._folder / "status").read_text())
        assert found is not None, "Linux tells"
        return int(found[1]) * 1024


def find_wrong_lines(tunnel: Tunnel) -> Iterator[str]:
    """
    What the logs say that they should not.
    """
    for log in (tunnel.client_log, tunnel.server_log):
        for line in log.read_text().splitlines():
            if _WRONG.search(line):
                yield f"{log.name}: {line}"
    sessions = len(re.findall(r"session \d+ started with", tunnel.client_log.read_text()))
    if sessions != 1:
        yield f"there were {sessions} sessions"


def soak(network: Network, tunnel: Tunnel, *, seconds: float, seed: int) -> list[str]:
    """
    Traffic and faults for a time; returns what went wrong.
    """
    processes = [Health("client", tunnel.client.pid), Health("server", tunnel.server.pid)]
    faults = Faults(network, tunnel, seed=seed)
    traffic = Traffic(tunnel.address, seed=seed)
    traffic.start()
    start = time.monotonic()
    is_over = threading.Event()
    watching = threading.Thread(target=_watch, args=(processes, is_over))
    watching.start()
    next_line = start + _LINE_INTERVAL
    while (now := time.monotonic()) < start + seconds and not traffic.problems:
        if now >= next_line:
            next_line += _LINE_INTERVAL
            _print_line(now - start, traffic, faults, processes)
        faults.one()
    is_over.set()
    watching.join()
    network.set_line(_GOOD)
    traffic.stop()
    time.sleep(_QUIET_TIME)
    _print_line(time.monotonic() - start, traffic, faults, processes)
    grown = [problem for process in processes for problem in process.find_problems()]
    return [*traffic.problems, *grown, *find_wrong_lines(tunnel)]


def _watch(processes: list[Health], is_over: threading.Event) -> None:
    while not is_over.wait(_LOOK_INTERVAL):
        for process in processes:
            process.look()


def _print_line(seconds: float, traffic: Traffic, faults: Faults, processes: list[Health]) -> None:
    print(
        f"{seconds / 60:5.1f} min  {faults.count} faults, {traffic.connections} connections, "
        f"{traffic.carried / 1e6:.0f} MB; " + "; ".join(map(str, processes)),
        flush=True,
    )


@contextmanager
def run_network(state: Path, networks: list[Network], *, seed: int) -> Iterator[list[str]]:
    """
    Put a network before the server with this state directory; gives the client's options.

    :param networks: is given it.
    """
    invitation = find_invitation(None, StateDirectory(state))
    network = Network(https_port=invitation.https_port, port=invitation.port, seed=seed)
    networks.append(network)
    file = state.parent / "invitation"
    file.touch(mode=0o600)
    https_port, port = network.start()
    through = dataclasses.replace(invitation, https_port=https_port, port=port)
    file.write_text(through.to_text())
    try:
        yield ["--server", str(file)]
    finally:
        network.stop()


def main() -> None:
    """
    Soak, and say how it went.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--carrier", default="auto", help="of the client")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    run_reactor = threading.Thread(
        target=_reactor.run, kwargs={"installSignalHandlers": False}, daemon=True
    )
    run_reactor.start()
    networks: list[Network] = []
    before = partial(run_network, networks=networks, seed=options.seed)
    with run_tunnel(Target().port, "--carrier", options.carrier, before_client=before) as tunnel:
        problems = soak(networks[0], tunnel, seconds=60 * options.minutes, seed=options.seed)
    _reactor.callFromThread(_reactor.stop)
    run_reactor.join()
    for problem in problems:
        print(problem)
    print(f"seed {options.seed}: " + ("FAILED" if problems else "every byte once and in order"))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
