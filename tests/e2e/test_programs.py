"""
Programs that people use, through real processes: they must work as if the network were good.
"""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from shutil import rmtree
from unittest import SkipTest

from tests.e2e.fixture import HOST, LOCAL6, EndToEndTestCase, is_root
from tests.support.processes import environment, find_program, free_port, missing_programs

SIZE = 5_000_000


class CurlTests(EndToEndTestCase):
    """
    A file over HTTP.
    """

    skip = missing_programs("curl", "sha256sum")

    def check(self, *, carrier: str, host: str) -> None:
        """
        Fetch a file through a tunnel whose sockets are all of one family.
        """
        original = self.make_file(SIZE, "www/file")
        web = self.start(
            sys.executable, "-m", "http.server", "--bind", host, "--directory",
            str(original.parent), "0",
        )  # fmt: skip
        port = web.wait_for(r"port (\d+)")
        self.start_server(host=host)
        self.join(host)
        bracketed = f"[{host}]" if ":" in host else host
        client = self.start_client(f"{bracketed}:0:{bracketed}:{port}", carrier=carrier)
        client.wait_for(rf"packets go by {carrier}6? \S*{host}")
        copy = self.directory / "copy"
        url = f"http://{bracketed}:{self.forwards[0]}/file"
        self.run_program("curl", "-gsS", "--fail", "-o", str(copy), url)
        self.assert_same(original, copy)

    def test_udp(self) -> None:
        """
        5 MB over UDP and IPv4.
        """
        self.check(carrier="udp", host=HOST)

    def test_udp_ipv6(self) -> None:
        """
        5 MB over UDP and IPv6.
        """
        self.check(carrier="udp", host=LOCAL6)

    def test_tcp(self) -> None:
        """
        5 MB over TCP and IPv4.
        """
        self.check(carrier="tcp", host=HOST)

    def test_tcp_ipv6(self) -> None:
        """
        5 MB over TCP and IPv6.
        """
        self.check(carrier="tcp", host=LOCAL6)


class SSHTestCase(EndToEndTestCase):
    """
    A private ``sshd`` behind the tunnel.
    """

    skip = missing_programs("ssh", "scp", "sshd", "ssh-keygen", "rsync", "sha256sum")
    carrier = "udp"
    size = 20_000_000

    def setUp(self) -> None:
        """
        Start ``sshd``, both services, and configure the client.
        """
        super().setUp()
        self.folder = self.directory / "ssh"
        self.folder.mkdir()
        for name in ("host", "user"):
            self.run_program(
                "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)
            )
        port = free_port()
        sshd = self.start("sshd", "-D", "-e", "-f", str(self.write_server_configuration(port)))
        sshd.wait_for("Server listening on")
        self.start_server()
        self.start_client(f"0:{HOST}:{port}", carrier=self.carrier)
        self.configuration = self.write_client_configuration(self.forwards[0])

    def write_server_configuration(self, port: int) -> Path:
        """
        Only this user, only by key, nothing of the system's own.
        """
        if is_root():
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        path = self.folder / "sshd_config"
        sftp = "Subsystem sftp internal-sftp"
        path.write_text(
            f"ListenAddress {HOST}\nPort {port}\nHostKey {self.folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/user.pub\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nPermitRootLogin yes\n{sftp}\n"
        )
        return path

    def write_client_configuration(self, port: int) -> Path:
        """
        Where the tunnel begins, and the host key behind it.
        """
        (self.folder / "known").write_text("far " + (self.folder / "host.pub").read_text())
        path = self.folder / "config"
        path.write_text(
            f"Host far\nHostName {HOST}\nPort {port}\nUser {getpass.getuser()}\n"
            f"HostKeyAlias far\nUserKnownHostsFile {self.folder}/known\n"
            f"StrictHostKeyChecking yes\nIdentityFile {self.folder}/user\nIdentitiesOnly yes\n"
            "BatchMode yes\n"
        )
        return path


def sshd_gives_terminals() -> bool:
    """
    Whether an ``sshd`` of this user may: it wants terminals of group ``tty``, and only root's
    can make them so where the system does not.
    """
    near, far = os.openpty()
    try:
        return os.getuid() == 0 or os.fstat(far).st_gid == grp.getgrnam("tty").gr_gid
    finally:
        os.close(near)
        os.close(far)


class SSHTests(SSHTestCase):
    """
    Over UDP.
    """

    def test_interactive(self) -> None:
        """
        A shell on a terminal answers each command before the next is typed.
        """
        if not sshd_gives_terminals():
            raise SkipTest("/dev/pts is not of group tty, so only root's sshd gives terminals")
        shell = subprocess.Popen(
            [find_program("ssh") or "ssh", "-F", str(self.configuration), "-tt", "far", "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
        self.addCleanup(shell.wait)
        self.addCleanup(shell.kill)
        assert shell.stdin is not None
        assert shell.stdout is not None
        self.addCleanup(shell.stdin.close)
        self.addCleanup(shell.stdout.close)
        for number in range(20):
            shell.stdin.write(b"tty >/dev/null && echo answer-$((%d + 1000))\n" % number)
            shell.stdin.flush()
            while b"answer-%d" % (number + 1000) not in (line := shell.stdout.readline()):
                self.assertTrue(line, "the connection ended early")
        shell.stdin.write(b"exit 7\n")
        shell.stdin.flush()
        self.assertEqual(shell.wait(timeout=20), 7)

    def test_scp(self) -> None:
        """
        A large file there and back again.
        """
        original = self.make_file(self.size)
        there, back = self.directory / "there", self.directory / "back"
        for source, target in ((str(original), f"far:{there}"), (f"far:{there}", str(back))):
            self.run_program("scp", "-q", "-F", str(self.configuration), source, target)
        self.assert_same(original, there)
        self.assert_same(original, back)

    def test_rsync(self) -> None:
        """
        A tree of files, then the same with one of them changed.
        """
        for number in range(50):
            self.make_file(number * 4001, f"tree/{number % 5}/{number}", seed=number)
        for _ in range(2):
            shell = f"{find_program('ssh')} -F {self.configuration}"
            tree, copy = self.directory / "tree", self.directory / "copy"
            self.run_program("rsync", "-a", "-e", shell, f"{tree}/", f"far:{copy}/")
            self.run_program("diff", "-r", str(tree), str(copy))
            with (tree / "4" / "49").open("ab") as file:
                file.write(b"more")


class TCPSSHTests(SSHTests):
    """
    The same over TCP.
    """

    carrier = "tcp"


class ClassicSSHTests(SSHTests):
    """
    The same in the classic dialect, over UDP.
    """

    dialect = ("--classic",)


class ClassicTCPSSHTests(TCPSSHTests):
    """
    The same in the classic dialect, over TCP.
    """

    dialect = ("--classic",)


class PostgreSQLTests(EndToEndTestCase):
    """
    A database.
    """

    skip = missing_programs("psql", "initdb", "postgres")

    def start_postgres(self) -> str:
        """
        Start a private PostgreSQL and return its port. It refuses to run as root.
        """
        folder = Path(tempfile.mkdtemp(prefix="resip-pg-"))
        self.addCleanup(rmtree, folder, ignore_errors=True)
        identity: dict[str, object] = {"cwd": folder}
        if is_root():
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            identity |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = str(folder / "data")
        self.run_program(
            "initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-locale",
            "--no-sync", **identity,
        )  # fmt: skip
        port = str(free_port())
        postgres = self.start(
            "postgres", "-D", data, "-p", port, "-h", HOST, "-F",
            "-c", "unix_socket_directories=", **identity,
        )  # fmt: skip
        postgres.wait_for("ready to accept connections")
        return port

    def psql(self, command: str, text: bytes = b"") -> bytes:
        """
        Run a command through the tunnel.
        """
        address = ("-h", HOST, "-p", str(self.forwards[0]), "-U", "tester", "-d", "postgres")
        return self.run_program(
            "psql", "-X", "-q", "-At", *address, "-c", command, text=text
        ).stdout

    def check(self, carrier: str) -> None:
        """
        A query, and 5 MB in and out.
        """
        port = self.start_postgres()
        self.start_server()
        self.start_client(f"0:{HOST}:{port}", carrier=carrier)
        self.assertEqual(self.psql("select 6 * 7"), b"42\n")
        dice = Random(1)
        rows = b"".join(b"%d\t%s\n" % (n, dice.randbytes(45).hex().encode()) for n in range(52_000))
        self.assertGreater(len(rows), 5_000_000)
        self.psql("create table t (id int, text text)")
        self.psql("copy t from stdin", rows)
        self.assertEqual(self.psql("copy (select * from t order by id) to stdout"), rows)

    def test_udp(self) -> None:
        """
        Over UDP.
        """
        self.check("udp")

    def test_tcp(self) -> None:
        """
        Over TCP.
        """
        self.check("tcp")
