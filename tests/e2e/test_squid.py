"""
A client that has nothing but the real squid: it connects (CONNECT), or takes requests for plain
HTTP in absolute form where it does not.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from resip.bootstrap.servers import find_invitation
from resip.bootstrap.state import StateDirectory
from resip.lab.reverse_proxies import BASIC_AUTHENTICATION, Squid, run_squid
from tests.e2e.fixture import HOST, EndToEndTestCase
from tests.support.processes import RESIP, Process, environment, free_port, missing_programs

SEED = 12
#: A name that squid knows and nobody else: whoever reaches it goes through squid.
HIDDEN_HOST = "server.example"
USER, PASSWORD = "somebody", "what: 7@ever"


def missing() -> str | None:
    """
    Why the tests cannot run.
    """
    if not Path(BASIC_AUTHENTICATION).exists():
        return f"not installed: {BASIC_AUTHENTICATION}"
    return missing_programs("squid", "openssl", "curl")


class SquidTestCase(EndToEndTestCase):
    """
    Runs squid between client and server.
    """

    skip = missing()

    def run_squid(self, **options: Any) -> Squid:
        """
        Start it; it stops with the test.
        """
        stack = ExitStack()
        self.addCleanup(stack.close)
        return stack.enter_context(run_squid(names=[HIDDEN_HOST], **options))

    def serve(self, *options: str, host: str = HIDDEN_HOST) -> None:
        """
        Start a server, have the client join it under a name, and put a file up for download.
        """
        self.start_server(*options)
        invitation = find_invitation(None, StateDirectory(self.state))
        # Nothing listens where packets would go without a proxy.
        hidden = dataclasses.replace(invitation, host=host, port=free_port())
        self.client_state = self.directory / "client"
        join = (*RESIP, "join", "home", "--state", str(self.client_state))
        self.run_program(*join, text=hidden.to_text())
        self.content = Random(SEED).randbytes(3_000_000)
        (self.directory / "file").write_bytes(self.content)
        web = free_port()
        self.start("python3", "-m", "http.server", str(web), cwd=self.directory).wait_for(
            "Serving HTTP"
        )
        self.target = f"0:{HOST}:{web}"

    def carry(self, carrier: str, *options: str, expects: str = "", **process: Any) -> Process:
        """
        Copy the file through the tunnel, and see it arrive whole.

        :param expects: the carrier that is used in the end, if it is another.
        """
        client = self.start_client(self.target, carrier=carrier, options=options, **process)
        client.wait_for(rf"packets go by {expects or carrier} ")
        url = f"http://{HOST}:{self.forwards[0]}/file"
        got = self.run_program("curl", "--silent", "--show-error", url).stdout
        self.assertEqual(got, self.content)
        return client


class ConnectTests(SquidTestCase):
    """
    Squid connects to the server's HTTPS port.
    """

    def test_websocket(self) -> None:
        """
        By WebSocket.
        """
        squid = self.run_squid()
        self.serve()
        self.carry("websocket", "--proxy", squid.url)
        self.assertIn(f"CONNECT {HIDDEN_HOST}", squid.log.read_text())

    def test_http(self) -> None:
        """
        By requests and responses.
        """
        squid = self.run_squid()
        self.serve()
        self.carry("http", "--proxy", squid.url)
        self.assertIn(f"CONNECT {HIDDEN_HOST}", squid.log.read_text())


class PasswordTests(SquidTestCase):
    """
    Squid wants to know who asks.
    """

    def secrets(self) -> list[str]:
        """
        The password, too, in each form.
        """
        return [*super().secrets(), PASSWORD, quote(PASSWORD, safe="")]

    def proxy_variable(self, squid: Squid, password: str) -> dict[str, str]:
        """
        An environment that names squid.
        """
        url = f"http://{USER}:{quote(password, safe='')}@{HOST}:{squid.port}"
        return {**environment(), "HTTPS_PROXY": url}

    def test_connect(self) -> None:
        """
        ``HTTPS_PROXY`` has user and password.
        """
        squid = self.run_squid(credentials=f"{USER}:{PASSWORD}")
        self.serve()
        env = self.proxy_variable(squid, PASSWORD)
        self.carry("https", expects="websocket", env=env)
        self.assertRegex(squid.log.read_text(), f"CONNECT {HIDDEN_HOST}.* {USER} ")

    def test_absolute_form(self) -> None:
        """
        They go with each request where squid does not connect.
        """
        squid = self.run_squid(credentials=f"{USER}:{PASSWORD}", allows_connect=False)
        port = str(free_port())
        self.serve("--http-port", port)
        env = self.proxy_variable(squid, PASSWORD)
        self.carry("plain-http", "--http-port", port, env=env)
        self.assertRegex(squid.log.read_text(), f"/204 .* POST http://{HIDDEN_HOST}.* {USER} ")

    def test_wrong_password(self) -> None:
        """
        The log says what to correct.
        """
        squid = self.run_squid(credentials=f"{USER}:{PASSWORD}")
        self.serve()
        client = self.start_twistd(
            "resip-client",
            "--state",
            str(self.client_state),
            "--carrier=https",
            f"--forward={self.target}",
            env=self.proxy_variable(squid, "guess"),
        )
        client.wait_for("wants other user and password: put .* into HTTPS_PROXY")


class AbsoluteFormTests(SquidTestCase):
    """
    Squid connects nobody: the session starts, and goes, by plain HTTP.
    """

    def test_plain_http(self) -> None:
        """
        By requests and responses in absolute form.
        """
        squid = self.run_squid(allows_connect=False)
        port = str(free_port())
        self.serve("--http-port", port)
        client = self.carry("plain-http", "--http-port", port, "--proxy", squid.url)
        client.wait_for("in packets; HTTPS: the proxy .* does not connect to")
        self.assertIn(f"GET http://{HIDDEN_HOST}:{port}/resip/v2/carrier", squid.log.read_text())

    def test_automatic(self) -> None:
        """
        The client finds that there is no other way.
        """
        squid = self.run_squid(allows_connect=False)
        port = str(free_port())
        self.serve("--http-port", port, host=HOST)
        self.carry("auto", "--http-port", port, "--proxy", squid.url, expects="plain-http")
