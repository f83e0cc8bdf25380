"""
Real proxies on this machine: nginx and haproxy in front of a server, as ``etc`` configures them,
and squid before a client.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Where programs are that only administrators have on their path.
EXTRA_PATH = "/usr/sbin:/usr/local/sbin:/sbin"
START_TIMEOUT = 10.0

_ETC = Path(__file__).resolve().parent.parent.parent / "etc"
_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
worker_processes 1;
{user}
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{configuration}
}}
"""


def find_program(name: str) -> str | None:
    """
    Where a program is.
    """
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{EXTRA_PATH}")


#: squid's name for a session without privileges, and its checker of passwords, as on Debian.
SQUID_USER = "proxy"
BASIC_AUTHENTICATION = "/usr/lib/squid/basic_ncsa_auth"
_SQUID = """
http_port {host}:{port}
visible_hostname localhost
hosts_file {folder}/hosts
pid_filename none
cache_log {folder}/cache.log
access_log stdio:{folder}/access.log
buffered_logs off
coredump_dir {folder}
cache deny all
memory_cache_shared off
cache_mem 1 MB
max_filedescriptors 1024
pinger_enable off
dns_nameservers 127.0.0.1
shutdown_lifetime 0 seconds
{rules}http_access allow all
"""


@dataclass(frozen=True, slots=True)
class Squid:
    """
    A running squid.

    :ivar host: where it takes requests. :ivar port: the same.
    :ivar log: a line for each request that is over.
    """

    host: str
    port: int
    log: Path

    @property
    def url(self) -> str:
        """
        What ``--proxy`` takes.
        """
        return f"http://{self.host}:{self.port}"


@contextmanager
def run_nginx(state: Path, https_port: int, folder: Path) -> Iterator[int]:
    """
    Run nginx in front of the server with this state directory and port; gives nginx's port.

    :param folder: for its files.
    """
    port = free_port()
    configuration = _configure(
        "nginx-resip.conf",
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "    listen [::]:443 ssl;\n": "",
            "127.0.0.1:31265": f"127.0.0.1:{https_port}",
            "/var/lib/resip/": f"{state}/",
        },
    )
    file = folder / "nginx.conf"
    # Workers of another user could not enter the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(_NGINX.format(folder=folder, configuration=configuration, user=user))
    command = ["nginx", "-p", str(folder), "-e", f"{folder}/nginx.log", "-c", str(file)]
    with _run(command, port, folder / "nginx.out"):
        yield port


@contextmanager
def run_haproxy(
    state: Path, https_port: int, folder: Path, *, passes_tls: bool = False
) -> Iterator[int]:
    """
    The same with haproxy.

    :param passes_tls: give the port where TLS is passed through.
    """
    port, through = free_port(), free_port()
    certificate = folder / "resip.pem"
    certificate.touch(mode=0o600)
    certificate.write_bytes((state / "server.pem").read_bytes())
    with certificate.open("ab") as file:
        file.write((state / "server.key").read_bytes())
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        _configure(
            "haproxy-resip.cfg",
            {
                "bind :443 ": f"bind 127.0.0.1:{port} ",
                "bind :8443": f"bind 127.0.0.1:{through}",
                "127.0.0.1:31265": f"127.0.0.1:{https_port}",
                "/etc/haproxy/resip.pem": str(certificate),
                "/etc/haproxy/resip-ca.pem": str(state / "ca.pem"),
            },
        )
    )
    with _run(["haproxy", "-db", "-f", str(configuration)], port, folder / "haproxy.out"):
        yield through if passes_tls else port


@contextmanager
def run_squid(
    host: str = "127.0.0.1",
    *,
    allows_connect: bool = True,
    credentials: str = "",
    names: Iterable[str] = (),
) -> Iterator[Squid]:
    """
    Run squid for whoever reaches an address of this machine.

    :param allows_connect: whether it connects anybody; if not, it takes requests in absolute form.
    :param credentials: ``user:password`` that it wants to see.
    :param names: of hosts that it knows as this machine, and nobody else knows at all.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="resip-squid-") as name:
        folder = Path(name)
        (folder / "hosts").write_text("".join(f"127.0.0.1 {host}\n" for host in names))
        rules = []
        if credentials:
            rules.append(_squid_password(folder, credentials))
        if not allows_connect:
            rules.append("http_access deny CONNECT")
        configuration = folder / "squid.conf"
        configuration.write_text(
            _SQUID.format(folder=folder, host=host, port=port, rules="\n".join(rules) + "\n")
        )
        if os.geteuid() == 0:  # squid gives its privileges up, and needs its files afterwards
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, SQUID_USER, SQUID_USER)
        command = ["squid", "-N", "-f", str(configuration)]
        with _run(command, port, folder / "squid.out", host=host):
            yield Squid(host, port, folder / "access.log")


def _squid_password(folder: Path, credentials: str) -> str:
    user, _, password = credentials.partition(":")
    command = ["openssl", "passwd", "-apr1", "-stdin"]
    printed = subprocess.run(command, input=password, check=True, capture_output=True, text=True)
    (folder / "passwords").write_text(f"{user}:{printed.stdout}")
    return (
        f"auth_param basic program {BASIC_AUTHENTICATION} {folder}/passwords\n"
        "acl known proxy_auth REQUIRED\n"
        "http_access deny !known"
    )


def _configure(name: str, changes: Mapping[str, str]) -> str:
    # The comments go first: they say the same paths.
    lines = (_ETC / name).read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("#"))
    for what, instead in changes.items():
        if what not in text:
            raise ValueError(f"etc/{name} has no {what!r}")
        text = text.replace(what, instead)
    return text


@contextmanager
def _run(command: list[str], port: int, log: Path, *, host: str = "127.0.0.1") -> Iterator[None]:
    program = find_program(command[0])
    if program is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    with log.open("wb") as output:
        process = subprocess.Popen([program, *command[1:]], stdout=output, stderr=output)
    try:
        _wait_for_port(process, (host, port), log)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _wait_for_port(process: subprocess.Popen[bytes], address: tuple[str, int], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(address, timeout=1.0).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not listen:\n{log.read_text()}")


def free_port() -> int:
    """
    A port of this machine that was free a moment ago.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
