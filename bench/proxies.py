"""
``python -m bench.proxies``: the carriers over HTTPS through the real nginx and haproxy of this
machine, as ``etc`` configures them, and through squid, with real processes on loopback. Squid
connects (CONNECT), or takes the requests of ``plain-http`` in absolute form.

The added echo is the difference to the same carrier without a proxy in the same run. CPU seconds
are those of client and server together for a gigabyte of payload, down and up.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

from bench.load import LoadServer, measure_down, measure_up
from bench.loopback import echo_median
from bench.stolen import StolenTime
from bench.tunnel import run_tunnel
from resip.bootstrap.servers import find_invitation
from resip.bootstrap.state import StateDirectory
from resip.lab.reverse_proxies import (
    find_program,
    free_port,
    run_haproxy,
    run_nginx,
    run_squid,
)

WARM_UP = 1.0
#: Puts a proxy before a server with a state directory; gives the client's options to go through it.
Reach: TypeAlias = Callable[[Path], AbstractContextManager[list[str]]]


@contextmanager
def reach_directly(state: Path) -> Iterator[list[str]]:
    """
    No proxy.
    """
    yield []


@contextmanager
def reach_by_squid(state: Path, *, allows_connect: bool = True) -> Iterator[list[str]]:
    """
    Squid before the client.
    """
    with run_squid(allows_connect=allows_connect) as squid:
        yield ["--proxy", squid.url]


@contextmanager
def reach_through(
    run: Callable[..., AbstractContextManager[int]], state: Path
) -> Iterator[list[str]]:
    """
    A proxy before the server.
    """
    invitation = find_invitation(None, StateDirectory(state))
    with tempfile.TemporaryDirectory(prefix="resip-proxy-") as name:
        folder = Path(name)
        with run(state, invitation.https_port, folder) as port:
            file = folder / "invitation"
            file.touch(mode=0o600)
            file.write_text(dataclasses.replace(invitation, https_port=port).to_text())
            yield ["--server", str(file)]


PROXIES: Mapping[str, Reach] = {
    "direct": reach_directly,
    "nginx": partial(reach_through, run_nginx),
    "haproxy": partial(reach_through, run_haproxy),
    "haproxy, TLS passed through": partial(reach_through, partial(run_haproxy, passes_tls=True)),
    "squid": reach_by_squid,
}
CARRIERS: Mapping[str, Mapping[str, Reach]] = {
    "websocket": PROXIES,
    "http": PROXIES,
    "plain-http": {
        "direct": reach_directly,
        "squid": partial(reach_by_squid, allows_connect=False),
    },
}


def measure(carrier: str, reach: Reach, load: LoadServer, seconds: float) -> tuple[float, ...]:
    """
    Mbit/s down and up, the median echo in milliseconds, CPU seconds for a gigabyte.
    """
    client, server = ["--carrier", carrier], []
    if carrier == "plain-http":
        server = ["--http-port", str(free_port())]
        client += server
    with run_tunnel(load.port, *client, server_options=server, before_client=reach) as tunnel:
        address = tunnel.address
        echo = echo_median(address)
        before_bulk = sum(tunnel.cpu_seconds())
        down = measure_down(address, warm_up=WARM_UP, seconds=seconds) / 1e6
        up = measure_up(address, warm_up=WARM_UP, seconds=seconds) / 1e6
        gigabytes = (down + up) * (WARM_UP + seconds) / 8e3
        return down, up, echo, (sum(tunnel.cpu_seconds()) - before_bulk) / gigabytes


def main() -> None:
    """
    Measure the carriers through all proxies that are installed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each bulk measurement")
    options = parser.parse_args()
    stolen = StolenTime()
    load = LoadServer()
    print(f"{'':40}    down      up Mbit/s   echo   added ms   CPU s/GB")
    for carrier, proxies in CARRIERS.items():
        direct = 0.0
        for proxy, reach in proxies.items():
            if proxy != "direct" and find_program(proxy.partition(",")[0]) is None:
                print(f"{carrier}, {proxy}: not installed")
                continue
            down, up, echo, cpu = measure(carrier, reach, load, options.seconds)
            direct = direct or echo
            print(
                f"{f'{carrier}, {proxy}':40} {down:7.1f} {up:7.1f} {echo:13.2f} "
                f"{echo - direct:7.2f} {cpu:13.1f}",
                flush=True,
            )
    print(stolen)


if __name__ == "__main__":
    main()
