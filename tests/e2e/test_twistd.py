"""
The services as their users start, stop and misuse them.
"""

from __future__ import annotations

import os
import signal
import socket

from twisted.trial.unittest import SkipTest

from resip.bootstrap.certificates import SERVER_NAME
from tests.e2e.fixture import ENDED_BY_REQUEST, HOST, EndToEndTestCase
from tests.support.processes import (
    TWISTD,
    Process,
    free_port,
    missing_programs,
    run,
    wait_for_file,
)


class EchoServer:
    """
    A TCP server that sends back what it reads, in a process of its own.
    """

    SOURCE = (
        "import socketserver, sys\n"
        "class Echo(socketserver.BaseRequestHandler):\n"
        "    def handle(self):\n"
        "        while data := self.request.recv(65536):\n"
        "            self.request.sendall(data)\n"
        "class Server(socketserver.ThreadingTCPServer):\n"
        "    daemon_threads = True\n"
        "with Server(('127.0.0.1', 0), Echo) as server:\n"
        "    print('port', server.server_address[1])\n"
        "    server.serve_forever()\n"
    )


class TwistdTestCase(EndToEndTestCase):
    """
    With an echo server for those who want it.
    """

    def start_echo(self) -> str:
        """
        Start the echo server and return its port.
        """
        return self.start(TWISTD[0], "-c", EchoServer.SOURCE).wait_for(r"port (\d+)")

    def echo(self, connection: socket.socket, text: bytes) -> None:
        """
        Send ``text`` and wait until it has come back.
        """
        connection.sendall(text)
        received = b""
        while len(received) < len(text):
            part = connection.recv(65536)
            self.assertTrue(part, self.logs())
            received += part
        self.assertEqual(received, text)

    def connect(self, *, seconds: float = 20.0) -> socket.socket:
        """
        Connect to the first forward.
        """
        connection = socket.create_connection((HOST, self.forwards[0]), timeout=seconds)
        self.addCleanup(connection.close)
        return connection


class LifeTests(TwistdTestCase):
    """
    Start and stop.
    """

    def test_help(self) -> None:
        """
        ``twistd --help`` lists both services, and each explains its options.
        """
        listing = self.run_program(*TWISTD, "--help").stdout.decode()
        for name in ("resip-server", "resip-client"):
            self.assertIn(name, listing)
            options = self.run_program(*TWISTD, name, "--help").stdout.decode()
            self.assertIn("--state=", options)
            self.assertIn("--config=", options)

    def test_termination(self) -> None:
        """
        On SIGTERM both end in order, with connections open; programs are told.
        """
        port = self.start_echo()
        server = self.start_server()
        client = self.start_client(f"0:{HOST}:{port}")
        connection = self.connect()
        self.echo(connection, b"hello")
        self.assertEqual(client.stop(), ENDED_BY_REQUEST)
        self.assertRaises(ConnectionResetError, connection.recv, 1)
        self.assertEqual(server.stop(), ENDED_BY_REQUEST)

    def test_interrupt(self) -> None:
        """
        Ctrl-C ends a service as cleanly.
        """
        server = self.start_server()
        self.assertEqual(server.stop(signal.SIGINT), -signal.SIGINT)
        self.twistds.remove(server)
        self.assertIn("Server Shut Down.", server.text)

    def test_daemon(self) -> None:
        """
        Without ``-n`` a server goes into the background when it can be used, and logs to a file.
        """
        pidfile, log = self.directory / "pid", self.directory / "log"
        self.run_program(
            *TWISTD, f"--pidfile={pidfile}", f"--logfile={log}", "resip-server",
            "--state", str(self.state), "--https-port=0", "--port=0", "--listen", HOST,
        )  # fmt: skip
        pid = int(pidfile.read_text())
        self.addCleanup(self.kill, pid)
        watch = Process("sleep", "30", log=self.directory / "watch")
        self.addCleanup(watch.stop)
        wait_for_file(watch, self.state / "server.json")
        os.kill(pid, signal.SIGTERM)
        watch.wait_until(
            lambda: "Server Shut Down." in log.read_text() or None, "end of the server"
        )
        self.assertNotIn("Traceback", log.read_text())

    def kill(self, pid: int) -> None:
        """
        End a process that may be gone.
        """
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def test_a_server_that_is_killed(self) -> None:
        """
        After ``kill -9`` and a new start on the same port the client gets a new session by
        itself, and new connections work.
        """
        port = self.start_echo()
        server = self.start_server("--port", str(packets := free_port()))
        https = self.ports["https_port"]
        client = self.start_client(f"0:{HOST}:{port}")
        self.echo(self.connect(), b"before")
        server.stop(signal.SIGKILL)
        self.twistds.remove(server)
        self.start_server("--port", str(packets), "--https-port", str(https))
        self.connect().sendall(b"lost with the old session")
        client.wait_for(r"the session is over: the server does not know the session any more")
        client.wait_for(r"session \d+ started with", count=2)
        self.echo(self.connect(), b"after")

    def test_secrets(self) -> None:
        """
        Neither the invitation's secret nor the API key is in any log or process argument, while
        keys are made, used, refused and revoked. The check itself is in ``stop_all``.
        """
        port = self.start_echo()
        self.start_server()
        self.join(HOST)
        self.start_client(f"0:{HOST}:{port}")
        self.echo(self.connect(), b"hello")
        if missing := missing_programs("curl"):
            raise SkipTest(missing)
        secrets = self.secrets()
        self.assertEqual(len(secrets), 6)
        self.assertTrue(all(len(secret) >= 20 for secret in secrets))
        port = str(self.ports["https_port"])
        reply = self.run_program(
            "curl", "-sS", "--cacert", str(self.state / "ca.pem"),
            "--resolve", f"{SERVER_NAME}:{port}:{HOST}", "-H", f"X-APIKey: {secrets[0]}x",
            f"https://{SERVER_NAME}:{port}/resip/v1/server/info?apikey=x{secrets[0]}",
        )  # fmt: skip
        self.assertIn(b"invalid_missing_apikey", reply.stdout)


class MistakeTests(TwistdTestCase):
    """
    One line that says what is wrong and what helps, exit status 1, no traceback.
    """

    def refuse(self, *arguments: str) -> str:
        """
        Start a service that does not start, and return the line.
        """
        result = run(*TWISTD, "-n", "--pidfile=", *arguments, cwd=self.directory)
        output = (result.stdout + result.stderr).decode()
        self.assertEqual(result.returncode, 1, output)
        self.assertNotIn("Traceback", output)
        return output.strip().splitlines()[-1]

    def state_option(self) -> tuple[str, str]:
        """
        The state directory of the test.
        """
        return "--state", str(self.state)

    def test_bad_forward(self) -> None:
        """
        A forward that is none is quoted, with the right form.
        """
        line = self.refuse("resip-client", *self.state_option(), "--forward=4000")
        self.assertIn("'4000'", line)
        self.assertIn("port:host:hostport", line)

    def test_no_server_known(self) -> None:
        """
        A client that knows no server says how to get to know one.
        """
        line = self.refuse("resip-client", *self.state_option(), "--forward=4000:localhost:22")
        self.assertIn("resip join", line)

    def test_unknown_option(self) -> None:
        """
        An option that is none is named.
        """
        self.assertIn("prot", self.refuse("resip-server", "--prot=1"))

    def test_unknown_key_in_a_file(self) -> None:
        """
        A key that is none is named with its file.
        """
        file = self.directory / "resip.toml"
        file.write_text("prot = 1\n")
        line = self.refuse("resip-server", "--config", str(file))
        self.assertIn(str(file), line)
        self.assertIn("'prot'", line)

    def test_port_taken(self) -> None:
        """
        A port that is taken is named with the option that takes another.
        """
        with socket.create_server((HOST, 0)) as taken:
            port = str(taken.getsockname()[1])
            line = self.refuse(
                "resip-server", *self.state_option(), "--listen", HOST, "--https-port", port
            )
        self.assertIn(f"port {port}", line)
        self.assertIn("--https-port", line)

    def test_port_taken_in_the_background(self) -> None:
        """
        The same without ``-n``: the command fails, and nothing stays in the background.
        """
        pidfile = self.directory / "pid"
        with socket.create_server((HOST, 0)) as taken:
            port = str(taken.getsockname()[1])
            result = run(
                *TWISTD, f"--pidfile={pidfile}", f"--logfile={self.directory / 'log'}",
                "resip-server", *self.state_option(), "--listen", HOST, "--https-port", port,
            )  # fmt: skip
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"port {port}".encode(), result.stderr)
        self.assertIn(b"look at log file", result.stderr)
        log = (self.directory / "log").read_text()
        self.assertIn("--https-port", log)
        self.assertNotIn("Traceback", log)
        self.assertFalse(pidfile.exists())

    def test_half_written_keys(self) -> None:
        """
        A damaged key store is named, and left alone.
        """
        self.state.mkdir(mode=0o700)
        keys = self.state / "keys.json"
        keys.write_bytes(b'{"version": 1, "ke')
        line = self.refuse("resip-server", *self.state_option(), "--listen", HOST, "--port=0")
        self.assertIn(str(keys), line)
        self.assertIn("backup", line)
        self.assertEqual(keys.read_bytes(), b'{"version": 1, "ke')

    def test_full_disk(self) -> None:
        """
        A disk without space for the state is told as such.
        """
        self.state.mkdir(mode=0o700)
        if run("mount", "-t", "tmpfs", "-o", "size=4k", "none", str(self.state)).returncode:
            raise SkipTest("only root can mount a small disk")
        self.addCleanup(run, "umount", str(self.state))
        line = self.refuse(
            "resip-server", *self.state_option(), "--listen", HOST, "--port=0", "--https-port=0"
        )
        self.assertIn("No space left on device", line)
        self.assertIn("free some space", line)
