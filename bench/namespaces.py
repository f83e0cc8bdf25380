"""
Hosts on this machine: a client and a server, each in a network namespace of its own, and between
them a router that drops what it is told to drop, silently, as a bad network does, or a link with
delay and loss, or both. Everything is removed at the end. Needs Linux, root and iproute2.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

#: Addresses of the two links; the router has 1, the hosts have 2 and more.
CLIENT_NET = "10.213.1"
SERVER_NET = "10.213.2"
CLIENT_ADDRESS = f"{CLIENT_NET}.2"
SERVER_ADDRESS = f"{SERVER_NET}.2"
ROUTER_ADDRESS = f"{CLIENT_NET}.1"
#: Rules that drop stand before all others, the table of local addresses included.
RULE_PRIORITY = 10
#: setns(2), which Python 3.11 does not have.
CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")
#: Of their names; the number of the process follows.
PREFIX = "resip-"


class Hosts:
    """
    A context: the namespaces exist while it lasts.

    :ivar client: name of the client's namespace. :ivar server: of the server's.

    :param number: tells several of one process apart.
    """

    def __init__(self, *, number: int = 0) -> None:
        self._name = f"{PREFIX}{os.getpid()}-{number}"
        self.client, self.server = f"{self._name}-c", f"{self._name}-s"
        self._names = [self.client, self.server]

    def __enter__(self) -> Self:
        """
        Make the namespaces.

        :raises RuntimeError: without root or iproute2.
        """
        if os.geteuid() != 0:
            raise RuntimeError("network namespaces need root")
        _remove_leftovers()
        for namespace in self._names:
            _run("ip", "netns", "add", namespace)
            self._ip(namespace, "link", "set", "lo", "up")
        return self

    def __exit__(self, *exception: object) -> None:
        """
        Remove everything.
        """
        self._remove()

    def command(self, namespace: str, *arguments: str) -> list[str]:
        """
        The command line that runs ``arguments`` in a namespace.
        """
        return ["ip", "netns", "exec", namespace, *arguments]

    def start(self, namespace: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """
        Start a program in a namespace; the caller ends it.
        """
        return subprocess.Popen(self.command(namespace, *arguments), **options)

    @contextmanager
    def inside(self, namespace: str) -> Iterator[None]:
        """
        Sockets that this thread makes meanwhile belong to the namespace, also afterwards.
        """
        with open("/proc/thread-self/ns/net") as own, (NAMESPACES / namespace).open() as other:
            _set_namespace(other.fileno())
            try:
                yield
            finally:
                _set_namespace(own.fileno())

    def _ip(self, namespace: str, *arguments: str) -> None:
        _run("ip", "-n", namespace, *arguments)

    def _remove(self) -> None:
        for namespace in self._names:
            _delete(namespace)


class Network(Hosts):
    """
    Two hosts and a router, joined by links of Ethernet.

    :ivar router: name of its namespace.

    :param mtu: of both links, bytes.
    :param conditions: of each direction between the client and the router, if that link shall be
        a bad one, with an MTU of 1500; fields of :class:`resip.lab.link.LinkConditions`.
    """

    def __init__(self, *, number: int = 0, mtu: int = 1500, **conditions: Any) -> None:
        super().__init__(number=number)
        self.router = f"{self._name}-r"
        self._names.append(self.router)
        self._mtu = mtu
        self._client_host = 2
        self._rules: list[Sequence[str]] = []
        ends = self.client, CLIENT_ADDRESS, self.router, ROUTER_ADDRESS
        self._link = Link(ends, conditions) if conditions else None

    def __enter__(self) -> Self:
        """
        Make the namespaces and join them.
        """
        super().__enter__()
        if self._link is None:
            self._join(self.client, "to-client", CLIENT_NET)
        else:
            self._link.start()
        self._join(self.server, "to-server", SERVER_NET)
        _run(*self.command(self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        return self

    def __exit__(self, *exception: object) -> None:
        """
        Remove everything.
        """
        if self._link is not None:
            self._link.stop()
        super().__exit__(*exception)

    def block(self, *selector: str) -> None:
        """
        Drop what matches from now on, both ways: ``block("ipproto", "udp")``, ``block("ipproto",
        "tcp", "dport", "443")``; see ip-rule(8). Without a selector, everything.

        What has a ``dport`` is dropped on its way to the server only.
        """
        rule = [*selector, "blackhole"]
        self._rules.append(rule)
        self._ip(self.router, "rule", "add", "pref", str(RULE_PRIORITY), *rule)

    def unblock(self) -> None:
        """
        Drop nothing any more.
        """
        while self._rules:
            self._ip(self.router, "rule", "del", "pref", str(RULE_PRIORITY), *self._rules.pop())

    def change_address(self) -> float:
        """
        Take the client's address away, and give it another one.

        :return: when it had no way to anywhere yet, in ``time.monotonic()``.
        """
        old, self._client_host = self._client_host, 2 + self._client_host % 200
        new = f"{CLIENT_NET}.{self._client_host}"
        self._ip(self.client, "address", "del", f"{CLIENT_NET}.{old}/24", "dev", "eth0")
        self._ip(self.client, "address", "add", f"{new}/24", "dev", "eth0")
        moment = time.monotonic()
        self._ip(self.client, "route", "replace", "default", "via", ROUTER_ADDRESS)
        return moment

    def _join(self, host: str, link: str, net: str) -> None:
        mtu = str(self._mtu)
        self._ip(
            self.router, "link", "add", link, "mtu", mtu, "type", "veth",
            "peer", "name", "eth0", "netns", host, "mtu", mtu,
        )  # fmt: skip
        for namespace, device, number in ((self.router, link, 1), (host, "eth0", 2)):
            self._ip(namespace, "address", "add", f"{net}.{number}/24", "dev", device)
            self._ip(namespace, "link", "set", device, "up")
        self._ip(host, "route", "add", "default", "via", f"{net}.1")


class EmulatedNetwork(Hosts):
    """
    Two hosts joined by a link that is as bad as one likes.

    :param conditions: of each direction; fields of :class:`resip.lab.link.LinkConditions`.
    """

    def __init__(self, **conditions: Any) -> None:
        super().__init__()
        self._link = Link((self.client, CLIENT_ADDRESS, self.server, SERVER_ADDRESS), conditions)

    def __enter__(self) -> Self:
        """
        Make the namespaces and start the link.
        """
        super().__enter__()
        self._link.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """
        Remove everything.
        """
        self._link.stop()
        super().__exit__(*exception)

    def change(self, **conditions: Any) -> None:
        """
        Change some conditions of both directions.
        """
        self._link.change(**conditions)


class Link:
    """
    A process that carries packets between two namespaces; see :mod:`bench.emulator`.

    :param ends: a namespace and its address, the other namespace and its address.
    :param conditions: of each direction.
    :cvar module: what the process runs.
    """

    module = "bench.emulator"

    def __init__(self, ends: Sequence[str], conditions: dict[str, Any]) -> None:
        self._ends = ends
        self._conditions = conditions
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """
        Join the namespaces, which exist by now.
        """
        command = [sys.executable, "-m", self.module, *self._ends]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.change()
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("the link did not come up")

    def stop(self) -> None:
        """
        End the process.
        """
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def change(self, **conditions: Any) -> None:
        """
        Change some conditions of both directions.
        """
        self._conditions.update(conditions)
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._conditions).encode() + b"\n")
        self._process.stdin.flush()


def _remove_leftovers() -> None:
    # Those of processes that were killed.
    for path in NAMESPACES.glob(f"{PREFIX}*-*"):
        number = path.name.removeprefix(PREFIX).partition("-")[0]
        if number.isdigit() and not Path("/proc", number).exists():
            _delete(path.name)


def _delete(namespace: str) -> None:
    subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL, check=False)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError(f"{command[0]} is missing: install iproute2") from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{' '.join(command)}: {error.stderr.strip()}") from None


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
