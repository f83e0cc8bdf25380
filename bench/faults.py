"""
``python -m bench.faults``: how soon two real processes go on after what a network does to them.

Client and server run in network namespaces with a router between them (see
:mod:`bench.namespaces`), so root is needed. The links have neither delay nor loss, so that what is
measured is the tunnel's own part, unless ``--round-trip`` says otherwise. Where a transfer goes on
meanwhile, the client's link takes 20 Mbit/s.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.fault_traffic import KINDS, PATIENCE, Traffic, report, start_load, watch
from bench.namespaces import CLIENT_NET, ROUTER_ADDRESS, SERVER_NET, Network
from bench.stolen import StolenTime
from bench.tunnel import Tunnel, run_tunnel
from resip.lab.reverse_proxies import Squid, find_program, run_squid

#: Seconds for a tunnel to find its feet before something happens to it.
SETTLE_TIME = 3.0
#: A blackout lasts up to this share longer, so that no two end equally long after a probe.
SPREAD = 0.05
#: Time for a carrier that is blocked, and for one to be returned to, seconds.
BLOCKED_TIME = 20.0
#: The client's link beside its delay: bit/s, and packets.
LINK = {"rate": 20e6, "queue_limit": 170}
#: Until the first byte, seconds: after up to 10 s of blackout, after more, after another address.
SHORT_BLACKOUT = 10.0
SHORT_TARGET, LONG_TARGET, ADDRESS_TARGET = 0.5, 2.5, 0.2
HOSTS = f"{CLIENT_NET}.0/24", f"{SERVER_NET}.0/24"
#: What is blocked, by name.
BLOCKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "UDP": (("ipproto", "udp"),),
    "UDP and TCP port 31266": (("ipproto", "udp"), ("ipproto", "tcp", "dport", "31266")),
    "all but an HTTP proxy": tuple(
        ("from", one, "to", other) for one, other in itertools.permutations(HOSTS)
    ),
}


def make_network(
    options: argparse.Namespace, *, number: int = 0, has_link: bool = False
) -> Network:
    """
    Hosts that are there once the context is entered.

    :param has_link: the client's link has a rate even where no delay was asked for.
    """
    conditions: dict[str, Any] = {}
    if options.round_trip or has_link:
        conditions = {**LINK, "delay": options.round_trip / 2}
    return Network(number=number, **conditions)


@contextmanager
def _one_tunnel(options: argparse.Namespace, number: int) -> Iterator[tuple[Network, Traffic]]:
    with (
        make_network(options, number=number) as network,
        run_tunnel(start_load(network).port, *options.client, network=network) as tunnel,
        watch(network, tunnel, options.traffic) as traffic,
    ):
        yield network, traffic


def blackouts(options: argparse.Namespace) -> None:
    """
    Nothing passes for some time; how long after the return of the link until bytes flow again?
    """
    tunnels = options.count if options.at_once else 1
    with ExitStack() as stack, ThreadPoolExecutor(tunnels) as pool:
        watched = [stack.enter_context(_one_tunnel(options, n)) for n in range(tunnels)]
        for seconds in options.seconds:

            def suffer(one: tuple[Network, Traffic], seconds: float = seconds) -> list[float]:
                return [
                    _black_out(*one, seconds, pause=SETTLE_TIME + random.uniform(0, tunnels))
                    for _ in range(options.count // tunnels)
                ]

            waits = list(itertools.chain(*pool.map(suffer, watched)))
            target = SHORT_TARGET if seconds <= SHORT_BLACKOUT else LONG_TARGET
            target += options.round_trip
            report(f"blackout of {seconds:g} s, {options.traffic}", waits, target=target)


def _black_out(network: Network, traffic: Traffic, seconds: float, *, pause: float) -> float:
    # Tunnels that wake up at once would wait for each other's turn at the processors.
    time.sleep(pause)
    network.block()
    time.sleep(seconds * random.uniform(1, 1 + SPREAD))
    network.unblock()
    return traffic.first_after(time.monotonic())


def addresses(options: argparse.Namespace) -> None:
    """
    The client's address changes; how long until bytes flow again?
    """
    with _one_tunnel(options, 0) as (network, traffic):
        waits = []
        for _ in range(options.count):
            time.sleep(SETTLE_TIME)
            waits.append(traffic.first_after(network.change_address()))
        report("change of address", waits, target=ADDRESS_TARGET + options.round_trip)


def blocks(options: argparse.Namespace) -> None:
    """
    A way is blocked in mid-transfer and free again later: how long is the gap, and how long
    until the client is back on the better way?
    """
    for name, selectors in BLOCKS.items():
        if "proxy" in name and find_program("squid") is None:
            print(f"{name}: squid is not installed")
            continue
        with ExitStack() as stack:
            network = stack.enter_context(make_network(options, has_link=True))
            client = list(options.client)
            if "proxy" in name:
                client += ["--proxy", stack.enter_context(_squid_on_router(network)).url]
            load = start_load(network)
            tunnel = stack.enter_context(run_tunnel(load.port, *client, network=network))
            traffic = stack.enter_context(watch(network, tunnel, "download"))
            gaps, returns = [], []
            for _ in range(options.count):
                time.sleep(SETTLE_TIME)
                _time_until_udp(tunnel)
                for selector in selectors:
                    network.block(*selector)
                start = time.monotonic()
                time.sleep(BLOCKED_TIME)
                gaps.append(traffic.longest_gap(start, time.monotonic()))
                network.unblock()
                returns.append(_time_until_udp(tunnel))
            report(f"{name} blocked: gap", gaps, target=2.0)
            report(f"{name} free again: back on UDP", returns, target=30.0)


@contextmanager
def _squid_on_router(network: Network) -> Iterator[Squid]:
    with ExitStack() as stack:
        with network.inside(network.router):
            squid = stack.enter_context(run_squid(ROUTER_ADDRESS))
        yield squid


def _time_until_udp(tunnel: Tunnel) -> float:
    start = time.monotonic()
    while time.monotonic() < start + PATIENCE:
        ways = re.findall(r"packets go by (\w+)", tunnel.client_log.read_text())
        if ways and ways[-1].startswith("udp"):
            return time.monotonic() - start
        time.sleep(0.05)
    return float("inf")


FAULTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "blackouts": blackouts,
    "addresses": addresses,
    "blocks": blocks,
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
        "--at-once", action="store_true", help="blackouts: each time to a tunnel of its own"
    )
    parser.add_argument(
        "--traffic", choices=KINDS, default="echoes", help="blackouts, addresses: what waits"
    )
    parser.add_argument(
        "--round-trip", type=float, default=0.0, metavar="SECONDS", help="of the client's link"
    )
    parser.add_argument(
        "--client", action="append", default=[], help="a further argument of the client"
    )
    options = parser.parse_args()
    stolen = StolenTime()
    if unknown := set(options.faults) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    for name in options.faults or FAULTS:
        FAULTS[name](options)
    print(stolen)


if __name__ == "__main__":
    main()
