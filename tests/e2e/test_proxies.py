"""
The carriers over HTTPS through the real nginx and haproxy, as ``etc`` configures them.
"""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from functools import partial
from random import Random

from resip.bootstrap.servers import find_invitation
from resip.bootstrap.state import StateDirectory
from resip.lab.reverse_proxies import run_haproxy, run_nginx
from tests.e2e.fixture import HOST, EndToEndTestCase
from tests.support.processes import RESIP, free_port, missing_programs

SEED = 11


class NginxTests(EndToEndTestCase):
    """
    With nginx, which ends TLS and speaks it anew to the server.
    """

    skip = missing_programs("nginx", "curl")

    def run_proxy(self) -> AbstractContextManager[int]:
        """
        Start the proxy; gives its port.
        """
        return run_nginx(self.state, self.ports["https_port"], self.directory)

    def carry(self, carrier: str) -> None:
        """
        Copy a file through a tunnel that has only the proxy's port, and see it arrive whole.
        """
        self.start_server()
        with self.run_proxy() as port:
            invitation = find_invitation(None, StateDirectory(self.state))
            # Nothing listens where packets would go without HTTPS.
            through = dataclasses.replace(invitation, https_port=port, port=free_port())
            self.client_state = self.directory / "client"
            join = (*RESIP, "join", "home", "--state", str(self.client_state))
            self.run_program(*join, text=through.to_text())
            content = Random(SEED).randbytes(3_000_000)
            (self.directory / "file").write_bytes(content)
            web = free_port()
            self.start("python3", "-m", "http.server", str(web), cwd=self.directory).wait_for(
                "Serving HTTP"
            )
            client = self.start_client(f"0:{HOST}:{web}", carrier=carrier)
            client.wait_for(rf"packets go by {carrier} ")
            url = f"http://{HOST}:{self.forwards[0]}/file"
            got = self.run_program("curl", "--silent", "--show-error", url).stdout
            self.assertEqual(got, content)

    def test_websocket(self) -> None:
        """
        By WebSocket.
        """
        self.carry("websocket")

    def test_http(self) -> None:
        """
        By requests and responses.
        """
        self.carry("http")


class HAProxyTests(NginxTests):
    """
    With haproxy, which does the same.
    """

    skip = missing_programs("haproxy", "curl")
    passes_tls = False

    def run_proxy(self) -> AbstractContextManager[int]:
        """
        Start the proxy; gives its port.
        """
        run = partial(run_haproxy, passes_tls=self.passes_tls)
        return run(self.state, self.ports["https_port"], self.directory)


class PassthroughTests(HAProxyTests):
    """
    With haproxy, which passes TLS through.
    """

    passes_tls = True
