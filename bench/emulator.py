"""
``python -m bench.emulator NAMESPACE ADDRESS NAMESPACE ADDRESS``: a bad link between two hosts.

Opens a TUN device in each namespace and carries IP packets between them as
:class:`resip.lab.link.LinkModel` says. Each line on standard input is a JSON object with the
conditions of both directions from then on. A line on standard output says that it began.
Good for some thousand packets a second.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import json
import os
import select
import struct
import subprocess
import sys
import time

from bench.namespaces import Hosts
from resip.lab.link import LinkConditions, LinkModel

# linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
DEVICE = "eth0"
#: Packets read from one device before the other's turn.
BATCH = 64
#: Sleeping longer than asked is made up for by looking again this much earlier, seconds.
WAKE_EARLY = 0.0002


class Direction:
    """
    From one device to the other.
    """

    def __init__(self, source: int, target: int, *, seed: int) -> None:
        self.source = source
        self.target = target
        self.model = LinkModel(LinkConditions(overhead=0), seed)
        self._order = itertools.count()
        self._on_the_way: list[tuple[float, int, bytes]] = []

    @property
    def next_arrival(self) -> float:
        """
        When the next packet arrives; infinite when none is on its way.
        """
        return self._on_the_way[0][0] if self._on_the_way else float("inf")

    def take(self) -> None:
        """
        Read what the device has.
        """
        for _ in range(BATCH):
            try:
                packet = os.read(self.source, 65_536)
            except BlockingIOError:
                return
            for when, copy in self.transmit(packet, now=time.monotonic()):
                heapq.heappush(self._on_the_way, (when, next(self._order), copy))

    def transmit(self, packet: bytes, *, now: float) -> list[tuple[float, bytes]]:
        """
        When the packet, and copies of it, arrive; nothing when it is lost.
        """
        return self.model.transmit(packet, now=now)

    def deliver(self) -> None:
        """
        Write what has arrived.
        """
        now = time.monotonic()
        while self._on_the_way and self._on_the_way[0][0] <= now:
            os.write(self.target, heapq.heappop(self._on_the_way)[2])


def open_device(namespace: str, address: str) -> int:
    """
    A TUN device in a namespace, with an address, as the way to everywhere.
    """
    hosts = Hosts()
    with hosts.inside(namespace):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        flags = struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI)
        fcntl.ioctl(device, TUNSETIFF, flags)
    for command in (
        ["address", "add", f"{address}/24", "dev", DEVICE],
        ["link", "set", DEVICE, "mtu", "1500", "txqueuelen", "5000", "up"],
        ["route", "add", "default", "dev", DEVICE],
    ):
        subprocess.run(["ip", "-n", namespace, *command], check=True)
    return device


def run(directions: list[Direction]) -> None:
    """
    Carry packets until standard input ends.
    """
    by_source = {direction.source: direction for direction in directions}
    control = os.fdopen(0, buffering=1)
    while True:
        arrival = min(direction.next_arrival for direction in directions)
        wait = min(1.0, max(0.0, arrival - time.monotonic() - WAKE_EARLY))
        readable, _, _ = select.select([*by_source, control.fileno()], [], [], wait)
        for source in readable:
            if source in by_source:
                by_source[source].take()
                continue
            line = control.readline()
            if not line:
                return
            conditions = LinkConditions(**{"overhead": 0, **json.loads(line)})
            for direction in directions:
                direction.model.conditions = conditions
        for direction in directions:
            direction.deliver()


def main() -> None:
    """
    Open the devices and carry packets.
    """
    first, first_address, second, second_address = sys.argv[1:]
    one, other = open_device(first, first_address), open_device(second, second_address)
    directions = [Direction(one, other, seed=1), Direction(other, one, seed=2)]
    print("ready", flush=True)
    run(directions)


if __name__ == "__main__":
    main()
