"""
``python -m bench.throttle``: UDP is slowed down and TCP is not; which carrier does a client use?

Client and server are real processes, each in a network namespace; root is needed. Between them is
a line of 20 Mbit/s and 40 ms, on which UDP is policed to 1 Mbit/s. In the middle of a transfer the
policer goes. Printed is when which carrier came into use, and the goodput of every five seconds.
"""

from __future__ import annotations

import argparse
import re
import sys
import threading
import time
from contextlib import suppress

from bench.emulator import Direction, open_device, run
from bench.load import LoadServer, connect
from bench.namespaces import CLIENT_ADDRESS, SERVER_ADDRESS, EmulatedNetwork, Link
from bench.tunnel import Tunnel, run_tunnel
from resip.lab.link import LinkConditions, LinkModel

LINE = LinkConditions(rate=20e6, delay=0.02, queue_limit=100, overhead=0)
#: What JSON calls the conditions of UDP.
POLICED = {"rate": 1e6, "queue_limit": 0}
FREE = {"rate": None}
#: Seconds with the policer, and without it.
POLICED_TIME = 90.0
FREE_TIME = 90.0
STEP = 5.0
#: Number of UDP in the tenth byte of an IPv4 packet.
UDP_PROTOCOL = 17


class ThrottledDirection(Direction):
    """
    A line whose UDP packets pass a policer first; what the standard input says is for that.
    """

    def __init__(self, source: int, target: int, *, seed: int) -> None:
        super().__init__(source, target, seed=seed)
        self._line = LinkModel(LINE, seed + 10)

    def transmit(self, packet: bytes, *, now: float) -> list[tuple[float, bytes]]:
        """
        Through the policer, then the line.
        """
        if packet[9] == UDP_PROTOCOL and not self.model.transmit(packet, now=now):
            return []
        return self._line.transmit(packet, now=now)


class ThrottledLink(Link):
    """
    The process that carries packets is this module's.
    """

    module = "bench.throttle"


class ThrottledNetwork(EmulatedNetwork):
    """
    Two hosts joined by such a line.
    """

    def __init__(self) -> None:
        super().__init__()
        ends = self.client, CLIENT_ADDRESS, self.server, SERVER_ADDRESS
        self._link = ThrottledLink(ends, dict(POLICED))


class Counter:
    """
    A transfer that counts its bytes.

    :ivar total: that came so far.
    """

    def __init__(self, network: ThrottledNetwork, tunnel: Tunnel) -> None:
        self.total = 0
        with network.inside(network.client):
            self._socket = connect(tunnel.address, b"D")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(ConnectionResetError):  # the client is stopped
            while data := self._socket.recv(1 << 16):
                self.total += len(data)


def watch(tunnel: Tunnel, counter: Counter, seconds: float, *, start: float) -> None:
    """
    Print what happens meanwhile.
    """
    end, before = time.monotonic() + seconds, counter.total
    lines = len(tunnel.client_log.read_text().splitlines())
    step_end = time.monotonic() + STEP
    while time.monotonic() < end:
        time.sleep(0.05)
        for line in tunnel.client_log.read_text().splitlines()[lines:]:
            lines += 1
            if way := re.search(r"packets go by .*", line):
                print(f"{time.monotonic() - start:6.1f} s  {way[0]}", flush=True)
        if time.monotonic() >= step_end:
            step_end += STEP
            rate = (counter.total - before) * 8 / STEP / 1e6
            before = counter.total
            print(f"{time.monotonic() - start:6.1f} s  {rate:.1f} Mbit/s", flush=True)


def main() -> None:
    """
    Be the line, or police UDP for a while.
    """
    if len(sys.argv) == 5:
        first, first_address, second, second_address = sys.argv[1:]
        one, other = open_device(first, first_address), open_device(second, second_address)
        print("ready", flush=True)
        run([ThrottledDirection(one, other, seed=1), ThrottledDirection(other, one, seed=2)])
        return
    argparse.ArgumentParser(prog="python -m bench.throttle", description=__doc__).parse_args()
    with ThrottledNetwork() as network:
        with network.inside(network.server):
            load = LoadServer()
        with run_tunnel(load.port, network=network) as tunnel:
            counter, start = Counter(network, tunnel), time.monotonic()
            print("UDP is policed to 1 Mbit/s, of 20")
            watch(tunnel, counter, POLICED_TIME, start=start)
            network.change(**FREE)
            print("it is free")
            watch(tunnel, counter, FREE_TIME, start=start)


if __name__ == "__main__":
    main()
