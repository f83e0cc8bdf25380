"""
Traffic that watches a tunnel while something happens to its network.
"""

from __future__ import annotations

import bisect
import itertools
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from bench.load import LoadServer, connect
from bench.namespaces import Hosts
from bench.tunnel import Tunnel

#: Seconds between the messages whose echoes are waited for.
MESSAGE_INTERVAL = 0.02
#: Longest wait for a byte, seconds.
PATIENCE = 90.0
#: What the connections are for, and how the target is asked for it.
KINDS = {"echoes": b"E", "ticks": b"T", "download": b"D"}


class Traffic:
    """
    A connection through a tunnel, and when bytes came out of it at the client.

    :ivar arrivals: times, in ``time.monotonic()``.
    :ivar is_broken: the connection ended, which never should happen.

    :param kind: of :data:`KINDS`.
    """

    def __init__(self, network: Hosts, tunnel: Tunnel, kind: str) -> None:
        with network.inside(network.client):
            self._socket = connect(tunnel.address, KINDS[kind])
        self._socket.settimeout(None)
        self.arrivals: list[float] = []
        self.is_broken = False
        self._is_over = False
        threading.Thread(target=self._read, daemon=True).start()
        if kind == "echoes":
            threading.Thread(target=self._write, daemon=True).start()

    def close(self) -> None:
        """
        End the connection.
        """
        self._is_over = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def first_after(self, moment: float) -> float:
        """
        Seconds from ``moment`` to the first byte after it; infinite when none came.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not self.is_broken:
            index = bisect.bisect_right(self.arrivals, moment)
            if index < len(self.arrivals):
                return self.arrivals[index] - moment
            time.sleep(0.005)
        return float("inf")

    def longest_gap(self, start: float, end: float) -> float:
        """
        The longest time without a byte between two moments, seconds.
        """
        times = [start, *(when for when in self.arrivals if start < when < end), end]
        return max(after - before for before, after in itertools.pairwise(times))

    def _read(self) -> None:
        with suppress(OSError):
            while self._socket.recv(1 << 16):
                self.arrivals.append(time.monotonic())
        self.is_broken = not self._is_over

    def _write(self) -> None:
        with suppress(OSError):
            while not self._is_over:
                self._socket.sendall(bytes(64))
                time.sleep(MESSAGE_INTERVAL)


@contextmanager
def watch(network: Hosts, tunnel: Tunnel, kind: str) -> Iterator[Traffic]:
    """
    Traffic for as long as something happens; prints when its connection broke.
    """
    traffic = Traffic(network, tunnel, kind)
    try:
        yield traffic
        if traffic.is_broken:
            print("the connection BROKE", flush=True)
    finally:
        traffic.close()


def start_load(network: Hosts) -> LoadServer:
    """
    The target, on the server's host.
    """
    with network.inside(network.server):
        return LoadServer()


def report(name: str, seconds: Sequence[float], *, target: float) -> None:
    """
    Print one line of figures.
    """
    values = sorted(seconds)
    median = statistics.median(values)
    verdict = "met" if median <= target else "missed"
    print(
        f"{name:44} median {median:6.2f} s, {values[0]:.2f} to {values[-1]:.2f}, "
        f"of {len(values)}; target {target:g} s: {verdict}",
        flush=True,
    )
