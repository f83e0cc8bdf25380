"""
``python -m bench.faults``: how soon two real processes go on after what a network does to them.

Client and server run in network namespaces with a router between them (see
:mod:`bench.namespaces`), so root is needed. The links have neither delay nor loss: what is
measured is the tunnel's own part.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import re
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from bench.load import LoadServer, connect
from bench.namespaces import CLIENT_NET, ROUTER_ADDRESS, SERVER_ADDRESS, SERVER_NET, Network
from bench.tunnel import Tunnel, run_tunnel
from resip.lab.reverse_proxies import Squid, find_program, run_squid
from resip.services.server import DEFAULT_HTTPS_PORT, DEFAULT_PORT

#: Seconds between the messages whose echoes are waited for.
MESSAGE_INTERVAL = 0.01
#: Seconds for a tunnel to find its feet before something happens to it.
SETTLE_TIME = 3.0
#: Longest wait for anything, seconds.
PATIENCE = 90.0
#: Time for a carrier that is blocked, and for one to be returned to, seconds.
BLOCKED_TIME = 20.0
#: Seconds between resets, and the share of the goodput that must remain.
CUTS = ((20.0, 0.85), (5.0, 0.7), (1.0, 0.4))
#: A transfer lasts so many of them.
TRANSFER_INTERVALS = 3.5
#: Transfers of each kind, each after one that nothing disturbs, of so many seconds: the speed of a
#: machine that others use as well changes from minute to minute.
CUT_ROUNDS = 3
UNDISTURBED_TIME = 5.0


class Traffic:
    """
    A connection through the tunnel, and when bytes came out of it.

    :ivar arrivals: times, in ``time.monotonic()``.
    :ivar is_broken: the connection ended, which never should happen.
    """

    def __init__(self, network: Network, tunnel: Tunnel, kind: bytes) -> None:
        with network.inside(network.client):
            self._socket = connect(tunnel.address, kind)
        self._socket.settimeout(PATIENCE)
        self.arrivals: list[float] = []
        self.is_broken = False
        self._is_over = False
        threading.Thread(target=self._read, daemon=True).start()
        if kind == b"E":
            threading.Thread(target=self._write, daemon=True).start()

    def close(self) -> None:
        """
        End the connection.
        """
        self._is_over = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def first_after(self, moment: float, *, patience: float = PATIENCE) -> float:
        """
        Seconds from ``moment`` to the first byte after it; infinite when none came.
        """
        deadline = time.monotonic() + patience
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
        try:
            while self._socket.recv(1 << 16):
                self.arrivals.append(time.monotonic())
        except OSError:
            pass
        self.is_broken = not self._is_over

    def _write(self) -> None:
        with suppress(OSError):
            while not self._is_over:
                self._socket.sendall(bytes(64))
                time.sleep(MESSAGE_INTERVAL)


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


def start_load(network: Network) -> LoadServer:
    """
    The target, on the server's host.
    """
    with network.inside(network.server):
        return LoadServer()


def blackouts(network: Network, options: argparse.Namespace) -> None:
    """
    Nothing passes for some time; how long after the return of the link until bytes flow again?
    """
    with run_tunnel(start_load(network).port, *options.client, network=network) as tunnel:
        traffic = Traffic(network, tunnel, b"E")
        time.sleep(SETTLE_TIME)
        for seconds in options.seconds:
            waits = []
            for _ in range(options.count):
                network.block()
                time.sleep(seconds)
                network.unblock()
                waits.append(traffic.first_after(time.monotonic()))
                time.sleep(SETTLE_TIME)
            report(f"blackout of {seconds:g} s", waits, target=0.5 if seconds <= 10 else 2.5)
        print("the connection " + ("BROKE" if traffic.is_broken else "lived on"))
        traffic.close()


def addresses(network: Network, options: argparse.Namespace) -> None:
    """
    The client's address changes; how long until bytes flow again?
    """
    with run_tunnel(start_load(network).port, *options.client, network=network) as tunnel:
        traffic = Traffic(network, tunnel, b"E")
        time.sleep(SETTLE_TIME)
        waits = []
        for _ in range(options.count):
            network.change_address()
            waits.append(traffic.first_after(time.monotonic()))
            time.sleep(SETTLE_TIME)
        report("change of address", waits, target=0.2)
        print("the connection " + ("BROKE" if traffic.is_broken else "lived on"))
        traffic.close()


def blocks(network: Network, options: argparse.Namespace) -> None:
    """
    A way is blocked in mid-transfer and free again later: how long is the gap, and how long
    until the client is back on the better way?
    """
    hosts = f"{CLIENT_NET}.0/24", f"{SERVER_NET}.0/24"
    kinds = {
        "UDP": (("ipproto", "udp"),),
        "UDP and TCP port 31266": (("ipproto", "udp"), ("ipproto", "tcp", "dport", "31266")),
        "all but an HTTP proxy": tuple(
            ("from", one, "to", other) for one, other in itertools.permutations(hosts)
        ),
    }
    for name, selectors in kinds.items():
        if "proxy" in name and find_program("squid") is None:
            print(f"{name}: squid is not installed")
            continue
        with ExitStack() as stack:
            client = list(options.client)
            if "proxy" in name:
                client += ["--proxy", stack.enter_context(_squid_on_router(network)).url]
            load = start_load(network)
            tunnel = stack.enter_context(run_tunnel(load.port, *client, network=network))
            traffic = Traffic(network, tunnel, b"D")
            gaps, returns = [], []
            for _ in range(options.count):
                time.sleep(SETTLE_TIME)
                for selector in selectors:
                    network.block(*selector)
                start = time.monotonic()
                time.sleep(BLOCKED_TIME)
                gaps.append(traffic.longest_gap(start, time.monotonic()))
                network.unblock()
                returns.append(_time_until_udp(tunnel))
            report(f"{name} blocked: gap", gaps, target=2.0)
            report(f"{name} free again: back on UDP", returns, target=30.0)
            print("the connection " + ("BROKE" if traffic.is_broken else "lived on"))
            traffic.close()


@contextmanager
def _squid_on_router(network: Network) -> Iterator[Squid]:
    with ExitStack() as stack:
        with network.inside(network.router):
            squid = stack.enter_context(run_squid(ROUTER_ADDRESS))
        yield squid


def cuts(network: Network, options: argparse.Namespace) -> None:
    """
    A proxy resets every TCP connection after some seconds: what remains of the goodput?
    """
    load = start_load(network)
    for cut_every, target in CUTS:
        pairs = [
            [
                _goodput_through_relay(network, load, options, cut_every=each)
                for each in (None, cut_every)
            ]
            for _ in range(CUT_ROUNDS)
        ]
        undisturbed, goodput = (statistics.median(column) for column in zip(*pairs, strict=True))
        shares = sorted(after / before for before, after in pairs)
        share = statistics.median(shares)
        verdict = "met" if share >= target else "missed"
        print(
            f"{f'TCP through a relay, reset every {cut_every:g} s':44} {goodput / 1e6:.0f} Mbit/s "
            f"of {undisturbed / 1e6:.0f}, share {share:.2f}, {shares[0]:.2f} to {shares[-1]:.2f}; "
            f"target {target:g}: {verdict}",
            flush=True,
        )


def _goodput_through_relay(
    network: Network, load: LoadServer, options: argparse.Namespace, *, cut_every: float | None
) -> float:
    arguments = [] if cut_every is None else ["--cut-every", str(cut_every)]
    relays = [
        network.start(
            network.router, sys.executable, "-m", "bench.relay",
            ROUTER_ADDRESS, str(port), SERVER_ADDRESS, *extra,
        )
        for port, extra in ((DEFAULT_HTTPS_PORT, []), (DEFAULT_PORT, arguments))
    ]  # fmt: skip
    try:
        client = ["--carrier", "tcp", *options.client]
        seconds = TRANSFER_INTERVALS * cut_every if cut_every else UNDISTURBED_TIME
        with run_tunnel(load.port, *client, network=network, server_host=ROUTER_ADDRESS) as tunnel:
            terminal = Traffic(network, tunnel, b"E")
            with network.inside(network.client):
                goodput = _transfer(tunnel.address, seconds=seconds)
            if terminal.first_after(time.monotonic()) > PATIENCE:
                raise RuntimeError("a connection broke beside the transfer")
            terminal.close()
            return goodput
    finally:
        for relay in relays:
            relay.terminate()
            relay.wait(10)


def _transfer(address: tuple[str, int], *, seconds: float) -> float:
    """
    Goodput of one connection that must not break, bit/s.
    """
    with connect(address, b"D") as connection:
        start, total = time.monotonic(), 0
        while time.monotonic() < start + seconds:
            data = connection.recv(1 << 18)
            if not data:
                raise RuntimeError("the connection broke")
            total += len(data)
    return total * 8 / seconds


def _time_until_udp(tunnel: Tunnel) -> float:
    start = time.monotonic()
    while time.monotonic() < start + PATIENCE:
        ways = re.findall(r"packets go by (\w+)", tunnel.client_log.read_text())
        if ways and ways[-1].startswith("udp"):
            return time.monotonic() - start
        time.sleep(0.05)
    return float("inf")


FAULTS: dict[str, Callable[[Network, argparse.Namespace], None]] = {
    "blackouts": blackouts,
    "addresses": addresses,
    "blocks": blocks,
    "cuts": cuts,
}


def main() -> None:
    """
    Cause the faults that were asked for.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--count", type=int, default=10, help="times each (default: 10)")
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[1, 10], help="lengths of the blackouts"
    )
    parser.add_argument(
        "--client", action="append", default=[], help="a further argument of the client"
    )
    options = parser.parse_args()
    if unknown := set(options.faults) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    for name in options.faults or FAULTS:
        with Network() as network:
            FAULTS[name](network, options)


if __name__ == "__main__":
    main()
