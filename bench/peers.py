"""
Other ways from one host to the next, to compare with: TCP itself, ``ssh -L``, kcptun, WireGuard.

Each is a context manager that yields the address to which the client's host connects. A program
that is not installed raises :class:`MissingProgram`.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from bench import secure_shell
from bench.namespaces import SERVER_ADDRESS, Hosts
from bench.tunnel import run_tunnel

#: Where the peers' near ends listen.
LOCAL_PORT = 4000
START_TIMEOUT = 60.0

Peer = Callable[[Hosts, int], AbstractContextManager[tuple[str, int]]]


class MissingProgram(RuntimeError):
    """
    A program to compare with is not installed.
    """


@contextmanager
def resip(hosts: Hosts, port: int, *options: str) -> Iterator[tuple[str, int]]:
    """
    Two services of this project.
    """
    with run_tunnel(port, *options, network=hosts) as tunnel:
        yield tunnel.address


@contextmanager
def tcp(hosts: Hosts, port: int, *, control: str = "cubic") -> Iterator[tuple[str, int]]:
    """
    The kernel's TCP with one of its congestion controls.
    """
    for namespace in (hosts.client, hosts.server):
        setting = f"net.ipv4.tcp_congestion_control={control}"
        command = hosts.command(namespace, "sysctl", "-qw", setting)
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise MissingProgram(f"this kernel has no {control}")
    yield SERVER_ADDRESS, port


@contextmanager
def ssh(hosts: Hosts, port: int) -> Iterator[tuple[str, int]]:
    """
    ``ssh -L`` with OpenSSH's defaults.
    """
    _require(*secure_shell.PROGRAMS)
    with secure_shell.run_sshd(hosts) as login:
        forward = ("-N", "-L", f"{LOCAL_PORT}:127.0.0.1:{port}")
        client = login.command(SERVER_ADDRESS, secure_shell.PORT, *forward)
        with _listening(hosts, hosts.client, *client):
            yield "127.0.0.1", LOCAL_PORT


@contextmanager
def kcptun(hosts: Hosts, port: int) -> Iterator[tuple[str, int]]:
    """
    The tool kcptun in its fastest mode, with its usual forward error correction and large windows.
    """
    _require("kcptun-client", "kcptun-server")
    common = ["--crypt", "aes-128", "--key", "bench", "--mode", "fast3", "--nocomp"]
    common += ["--sndwnd", "4096", "--rcvwnd", "4096", "--sockbuf", "8388608"]
    common += ["--smuxbuf", "8388608", "--streambuf", "8388608"]
    server = ["kcptun-server", "-l", ":29900", "-t", f"127.0.0.1:{port}", *common]
    client = ["kcptun-client", "-l", f":{LOCAL_PORT}", "-r", f"{SERVER_ADDRESS}:29900", *common]
    with (
        _running(hosts, hosts.server, *server),
        _listening(hosts, hosts.client, *client),
    ):
        yield "127.0.0.1", LOCAL_PORT


@contextmanager
def wireguard(hosts: Hosts, port: int) -> Iterator[tuple[str, int]]:
    """
    The kernel's TCP inside wireguard-go.
    """
    _require("wireguard-go", "wg")
    inner = {hosts.client: "10.88.0.1", hosts.server: "10.88.0.2"}
    with tempfile.TemporaryDirectory(prefix="resip-bench-") as name:
        keys = {host: _wireguard_key(Path(name) / host) for host in inner}
        with (
            _running(hosts, hosts.client, "wireguard-go", "-f", "wg-c"),
            _running(hosts, hosts.server, "wireguard-go", "-f", "wg-s"),
        ):
            time.sleep(1)  # until the devices are there
            for host, peer, device in (
                (hosts.client, hosts.server, "wg-c"),
                (hosts.server, hosts.client, "wg-s"),
            ):
                setup = f"wg set {device} listen-port 51820 private-key {name}/{host}"
                setup += f" peer {keys[peer]} allowed-ips {inner[peer]}/32"
                if peer == hosts.server:
                    setup += f" endpoint {SERVER_ADDRESS}:51820"
                setup += f" && ip address add {inner[host]}/24 dev {device}"
                setup += f" && ip link set {device} mtu 1420 up"
                subprocess.run(hosts.command(host, "sh", "-c", setup), check=True)
            yield inner[hosts.server], port


PEERS: dict[str, Peer] = {
    "resip": resip,
    "resip-udp": lambda hosts, port: resip(hosts, port, "--carrier", "udp"),
    "resip-tcp": lambda hosts, port: resip(hosts, port, "--carrier", "tcp"),
    "resip-websocket": lambda hosts, port: resip(hosts, port, "--carrier", "websocket"),
    "resip-http": lambda hosts, port: resip(hosts, port, "--carrier", "http"),
    "tcp": tcp,
    "tcp-bbr": partial(tcp, control="bbr"),
    "ssh": ssh,
    "kcptun": kcptun,
    "wireguard": wireguard,
}


def _require(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise MissingProgram(f"{program} is not installed")


def _wireguard_key(file: Path) -> str:
    private = subprocess.run(["wg", "genkey"], check=True, capture_output=True).stdout
    file.touch(mode=0o600)
    file.write_bytes(private)
    public = subprocess.run(["wg", "pubkey"], input=private, check=True, capture_output=True)
    return public.stdout.decode().strip()


@contextmanager
def _running(hosts: Hosts, namespace: str, *command: str) -> Iterator[None]:
    process = hosts.start(namespace, *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()


@contextmanager
def _listening(hosts: Hosts, namespace: str, *command: str) -> Iterator[None]:
    """
    Run a near end, and go on when it listens.
    """
    with _running(hosts, namespace, *command):
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            with suppress(OSError), hosts.inside(namespace):
                socket.create_connection(("127.0.0.1", LOCAL_PORT), timeout=1).close()
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{command[0]} did not come up")
        yield
