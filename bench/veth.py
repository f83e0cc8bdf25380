"""
``python -m bench.veth``: what one stream gets between two hosts with Ethernet's MTU of 1500.

The hosts are network namespaces on this machine (see :mod:`bench.namespaces`), so root is needed.
Source and sink of the load, and both ends of the tunnel, are processes of their own; all of them
and the kernel share the machine's cores. In the same run, where they are installed, the peers:
TCP without a tunnel, ``ssh -L``, kcptun, wireguard-go.

CPU seconds are those of the tunnel's processes, user and system, for a gigabyte of payload from
the server to the client; the kernel's work in interrupts is not in them. The last column says how
much of the processors the host gave to others (see :mod:`bench.stolen`).
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import measure_down, measure_echo, measure_up
from bench.loopback import both_ways
from bench.namespaces import CLIENT_NET, SERVER_ADDRESS, Network
from bench.stolen import StolenTime
from bench.tunnel import run_tunnel

PORT = 7000
LOCAL_PORT = 4000
CLIENT_ADDRESS = f"{CLIENT_NET}.2"
START_TIMEOUT = 20.0
WARM_UP = 2.0
ECHOES = 200
ECHO_INTERVAL = 0.01
#: Payload of one full packet of ours.
PACKET_PAYLOAD = 1442
#: Inside WireGuard.
WIREGUARD_NET = "10.213.9"


@dataclass
class Peer:
    """
    A running tunnel, ours or another.

    :ivar address: where the client's side takes connections.
    :ivar client: its process at the client, if any. :ivar server: at the server.
    """

    address: tuple[str, int]
    client: int | None = None
    server: int | None = None

    def cpu_seconds(self) -> tuple[float, float]:
        """
        CPU time used so far by client and server, children included.
        """
        return _tree_seconds(self.client), _tree_seconds(self.server)


class Bench:
    """
    One network, and what runs on it one after the other.
    """

    def __init__(self, network: Network, folder: Path, seconds: float) -> None:
        self._network = network
        self._folder = folder
        self._seconds = seconds

    def measure(self, name: str, peer: Peer) -> None:
        """
        Print a line.
        """
        stolen = StolenTime()
        with self._network.inside(self._network.client):
            _wait_for(peer.address)
            down, costs = self._measure_down(peer)
            up = measure_up(peer.address, warm_up=WARM_UP, seconds=self._seconds)
            both = both_ways(peer.address, warm_up=WARM_UP, seconds=self._seconds)
            times = measure_echo(peer.address, count=ECHOES, interval=ECHO_INTERVAL)
        rates = "".join(f"{rate / 1e6:9,.0f}" for rate in (down, up, *both))
        cpu = "".join(f"{cost * 1e9:8.2f}" for cost in costs)
        packet = "".join(f"{cost * PACKET_PAYLOAD * 1e6:7.2f}" for cost in costs)
        echo = statistics.median(times) * 1e3
        print(f"{name:22}{rates}{echo:8.2f}{cpu}{packet}{stolen.share:8.0%}", flush=True)

    def _measure_down(self, peer: Peer) -> tuple[float, list[float]]:
        rates: list[float] = []
        reader = threading.Thread(
            target=lambda: rates.append(
                measure_down(peer.address, warm_up=WARM_UP, seconds=self._seconds)
            )
        )
        reader.start()
        time.sleep(WARM_UP)
        before = peer.cpu_seconds()
        time.sleep(self._seconds)
        after = peer.cpu_seconds()
        reader.join()
        size = rates[0] * self._seconds / 8
        return rates[0], [(b - a) / size for a, b in zip(before, after, strict=True)]

    # The peers.

    @contextmanager
    def resip(self, *options: str) -> Iterator[Peer]:
        """
        Ours.
        """
        with run_tunnel(PORT, *options, network=self._network) as tunnel:
            yield Peer(tunnel.address, tunnel.client.pid, tunnel.server.pid)

    @contextmanager
    def plain(self) -> Iterator[Peer]:
        """
        TCP from end to end.
        """
        yield Peer((SERVER_ADDRESS, PORT))

    @contextmanager
    def ssh(self) -> Iterator[Peer]:
        """
        OpenSSH with its defaults.
        """
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for name in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._path(name)]
            subprocess.run(command, check=True)
        shutil.copy(self._path("user.pub"), self._path("authorized"))
        server_options = ["-o", f"AuthorizedKeysFile={self._path('authorized')}"]
        for option in ("StrictModes=no", "UsePAM=no", "PermitRootLogin=yes", "PidFile=none"):
            server_options += ["-o", option]
        client_options = ["-N", "-F", "/dev/null", "-p", "2222", "-i", self._path("user")]
        for option in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"):
            client_options += ["-o", option]
        forward = f"127.0.0.1:{LOCAL_PORT}:127.0.0.1:{PORT}"
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "sshd"
        with ExitStack() as stack:
            server = self._start(
                stack, self._network.server, sshd, "-D", "-f", "/dev/null", "-p", "2222",
                "-h", self._path("host"), *server_options,
            )  # fmt: skip
            with self._network.inside(self._network.client):
                _wait_for((SERVER_ADDRESS, 2222))
            client = self._start(
                stack, self._network.client, "ssh", *client_options, "-L", forward,
                f"root@{SERVER_ADDRESS}",
            )  # fmt: skip
            yield Peer(("127.0.0.1", LOCAL_PORT), client, server)

    @contextmanager
    def kcptun(self) -> Iterator[Peer]:
        """
        Kcptun in its fastest mode, without redundancy.
        """
        options = ["--crypt", "aes-128", "--key", secrets.token_hex(), "--mode", "fast3"]
        options += ["--mtu", "1400", "--sndwnd", "4096", "--rcvwnd", "4096", "--nocomp"]
        options += ["--datashard", "0", "--parityshard", "0", "--sockbuf", "8388608"]
        options += ["--smuxbuf", "8388608", "--streambuf", "8388608", "--quiet"]
        with ExitStack() as stack:
            server = self._start(
                stack, self._network.server, "kcptun-server", "-l", ":29900",
                "-t", f"127.0.0.1:{PORT}", *options,
            )  # fmt: skip
            client = self._start(
                stack, self._network.client, "kcptun-client", "-l", f"127.0.0.1:{LOCAL_PORT}",
                "-r", f"{SERVER_ADDRESS}:29900", *options,
            )  # fmt: skip
            yield Peer(("127.0.0.1", LOCAL_PORT), client, server)

    @contextmanager
    def wireguard(self) -> Iterator[Peer]:
        """
        WireGuard in user space, with TCP inside.
        """
        network = self._network
        sides = {network.client: CLIENT_ADDRESS, network.server: SERVER_ADDRESS}
        secret_keys = {side: subprocess.check_output(["wg", "genkey"]).strip() for side in sides}
        with ExitStack() as stack:
            pids = [
                self._start(stack, side, "wireguard-go", "-f", f"wg{number}")
                for number, side in enumerate(sides)
            ]
            time.sleep(1)
            for number, side in enumerate(sides):
                (other,) = set(sides) - {side}
                public_key = subprocess.check_output(["wg", "pubkey"], input=secret_keys[other])
                key_file = self._folder / f"wg{number}.key"
                key_file.touch(mode=0o600)
                key_file.write_bytes(secret_keys[side])
                device, inner = f"wg{number}", f"{WIREGUARD_NET}.{number + 1}"
                for command in (
                    f"wg set {device} listen-port 51820 private-key {key_file} peer "
                    f"{public_key.decode().strip()} allowed-ips {WIREGUARD_NET}.{2 - number}/32 "
                    f"endpoint {sides[other]}:51820",
                    f"ip address add {inner}/24 dev {device}",
                    f"ip link set {device} up mtu 1420",
                ):
                    subprocess.run(network.command(side, *command.split()), check=True)
            yield Peer((f"{WIREGUARD_NET}.2", PORT), *pids)

    def _path(self, name: str) -> str:
        return str(self._folder / name)

    def _start(self, stack: ExitStack, namespace: str, *command: str) -> int:
        process = self._network.start(
            namespace, *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        return process.pid


def _wait_for(address: tuple[str, int]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _tree_seconds(pid: int | None) -> float:
    if pid is None:
        return 0.0
    ticks = 0
    family = {pid}
    # Children have higher numbers than their parents, or else they are counted one look later.
    for stat in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda path: int(path.parent.name)):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) in family:
            family.add(int(stat.parent.name))
        if int(stat.parent.name) in family:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def run(names: Sequence[str], seconds: float) -> None:
    """
    Measure the named peers, each on the same network.
    """
    with (
        tempfile.TemporaryDirectory(prefix="resip-veth-") as folder,
        Network() as network,
        ExitStack() as stack,
    ):
        bench = Bench(network, Path(folder), seconds)
        load = [sys.executable, "-m", "bench.load", "--host", "0.0.0.0", "--port", str(PORT)]
        process = network.start(network.server, *load)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        peers: dict[str, tuple[str, Callable[[], object]]] = {
            "udp": ("", lambda: bench.resip("--carrier", "udp")),
            "tcp": ("", lambda: bench.resip("--carrier", "tcp")),
            "plain": ("", bench.plain),
            "ssh": ("ssh", bench.ssh),
            "kcptun": ("kcptun-client", bench.kcptun),
            "wireguard": ("wireguard-go", bench.wireguard),
        }
        print(
            f"{'':22}{'down':>9}{'up':>9}{'both, down and up':>18}{'echo':>8}"
            f"{'CPU s/GB':>16}{'CPU us/packet':>14}{'stolen':>8}\n"
            f"{'':22}{'Mbit/s':>36}{'ms':>8}{'client  server':>16}{'cl.':>7}{'srv.':>7}"
        )
        for name in names or peers:
            program, start = peers[name]
            if program and shutil.which(program) is None:
                print(f"{name:22}{program} is not installed")
                continue
            with start() as peer:  # type: ignore[attr-defined]
                bench.measure(name, peer)


def main() -> None:
    """
    Parse arguments and run.
    """
    parser = argparse.ArgumentParser(description="One stream over Ethernet, ours and others'.")
    parser.add_argument("names", nargs="*", help="udp, tcp, plain, ssh, kcptun, wireguard")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    arguments = parser.parse_args()
    run(arguments.names, arguments.seconds)


if __name__ == "__main__":
    main()
