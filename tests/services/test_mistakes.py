"""
What goes wrong on a server's own machine: at the start one line and an exit, later one line.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resip.bootstrap.state import StateDirectory
from resip.lab.reactor import get_port_number
from resip.services.clock import Clocks
from resip.services.server import ServerService
from tests.services.fixture import HOST, KEY_CHECK_INTERVAL, ServiceTestCase
from tests.tunnel.programs import DatagramProgram, eventually


class MistakeTestCase(ServiceTestCase):
    """
    Starts what cannot start.
    """

    async def refuse(self, start: Callable[..., object], *parts: str, **arguments: Any) -> None:
        """
        A start ends with one line that has these parts, in the log too, and leaves nothing.
        """
        error = self.assertRaises(SystemExit, start, **arguments)
        message = str(error.code)
        self.assertNotIn("\n", message)
        for part in parts:
            self.assertIn(part, message)
        self.assertEqual(len(self.lines(message.partition(": ")[2])), 1)
        self.assertEqual(self.tracebacks, [])
        await self.pass_time(0.01)  # sockets that were opened already close now


class PortTests(MistakeTestCase):
    """
    Ports that are not to be had.
    """

    async def test_https_port_taken(self) -> None:
        """
        The message names the port, how to find who has it, and the option.
        """
        _, port = self.serve()
        cure = (f"port {port}", "taken", "ss -lntup", "--https-port")
        await self.refuse(self.start_server, *cure, https_port=port)

    async def test_packet_port_taken(self) -> None:
        """
        It is enough that UDP is taken; what was opened before is closed again.
        """
        socket = self.reactor.listenUDP(0, DatagramProgram(), interface=HOST, maxPacketSize=9)
        port = get_port_number(socket)
        await self.refuse(self.start_server, f"port {port}", "taken", "--port", port=port)
        socket.stopListening()
        await self.pass_time(0.01)
        self.start_server(port=port)

    async def test_two_servers(self) -> None:
        """
        A second server on the same ports does not start, and the first one goes on.
        """
        server = self.start_server()
        other = StateDirectory(Path(self.mktemp()))
        await self.refuse(self.start_server, "taken", state=other, https_port=server.https_port)
        _, port = self.serve(echoes=True)
        await self.echo(self.start_client(port))

    async def test_local_port_taken(self) -> None:
        """
        A forward whose port is taken is quoted.
        """
        self.start_server()
        _, port = self.serve()
        forward = f"{port}:{HOST}:22"

        def start() -> None:
            self.start_client(forward)

        await self.refuse(start, f"port {port} is taken", forward, "choose another port")


class StateTests(MistakeTestCase):
    """
    State that cannot be read or written.
    """

    async def test_a_file_in_the_way(self) -> None:
        """
        A state directory that is a file is named.
        """
        self.state.path.write_text("not a directory")
        await self.refuse(self.start_server, str(self.state.path), "move it away", "--state")

    async def test_unreadable(self) -> None:
        """
        State that this user may not read: as whom to run.
        """
        await self.stop(self.start_server())
        self.fail_with(errno.EACCES, "open", "keys.json")
        await self.refuse(
            self.start_server, "keys.json", "Permission denied", "run resip as", "--state"
        )

    async def test_half_written_keys(self) -> None:
        """
        A key store that is cut off is never replaced by an empty one.
        """
        await self.stop(self.start_server())
        keys = self.state.path_of("keys.json")
        half = keys.read_bytes()[:40]
        keys.write_bytes(half)
        await self.refuse(self.start_server, str(keys), "damaged", "restore it from a backup")
        self.assertEqual(keys.read_bytes(), half)

    async def test_half_written_certificate(self) -> None:
        """
        A damaged certificate or key is named, with what to do.
        """
        await self.stop(self.start_server())
        for name in ("ca.pem", "server.pem", "server.key"):
            path = self.state.path_of(name)
            whole = path.read_bytes()
            path.write_bytes(whole[:60])
            await self.refuse(self.start_server, str(path))
            path.write_bytes(whole)
        self.start_server()

    async def test_disk_full_at_start(self) -> None:
        """
        Without space for its state a server does not start, and what was there is unchanged.
        """
        await self.stop(self.start_server())
        before = self.contents()
        self.fail_with(errno.ENOSPC, "fsync", "")
        await self.refuse(self.start_server, "No space left", "free some space", "unchanged")
        self.assertEqual(self.contents(), before)

    async def test_disk_full_at_the_first_start(self) -> None:
        """
        The same when there is no state yet: nothing half-written is left.
        """
        self.fail_with(errno.ENOSPC, "fsync", "")
        await self.refuse(self.start_server, "No space left")
        self.assertEqual(self.contents(), {})

    async def test_keys_damaged_while_running(self) -> None:
        """
        The keys of before stay valid, the log says so once, and a repaired file counts again.
        """
        self.start_server()
        _, port = self.serve(echoes=True)
        client = self.start_client(port)
        program = await self.echo(client)
        keys = self.state.path_of("keys.json")
        whole = keys.read_bytes()
        keys.write_bytes(whole[:40])
        await self.logged("damaged", "the keys of before stay valid")
        await self.pass_time(3 * KEY_CHECK_INTERVAL)
        self.assertEqual(len(self.lines("stay valid")), 1)
        self.start_client(port)
        await self.logged("started for key local", count=2)
        self.assertIsNone(program.lost_reason)
        keys.write_bytes(b'{"version": 1, "keys": {}}')
        await self.logged("key local was revoked", count=2)
        await eventually(lambda: program.lost_reason)

    async def test_our_own(self) -> None:
        """
        What raises is told, and done again the next time.
        """
        self.patch(ServerService, "_check_keys", lambda service: 1 / 0)
        self.start_server()
        await self.logged("a mistake in resip", count=2)
        self.assertGreaterEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    async def test_a_clock_that_is_far_ahead(self) -> None:
        """
        A machine whose clock says that the root certificate is over does not start, and the
        clock is the first suspect.
        """
        await self.stop(self.start_server())
        late = Clocks(wall=lambda: Clocks().wall() + 50 * 365 * 86400)
        await self.refuse(self.start_server, "ca.pem", "check this machine's clock", clocks=late)

    async def test_a_classic_client_at_a_modern_server(self) -> None:
        """
        The client says which option is missing, once.
        """
        self.start_server()
        self.is_classic = True
        self.start_client(1)
        await self.logged("does not speak the classic dialect", "--classic")
        self.assertEqual(self.tracebacks, [])

    def contents(self) -> dict[str, bytes]:
        """
        Every file with its content, without the lock.
        """
        return {
            path.name: path.read_bytes()
            for path in self.state.path.iterdir()
            if path.is_file() and path.name != ".lock"
        }

    def fail_with(self, number: int, function: str, name: str) -> None:
        """
        Let a function of ``os`` fail for files of that name.
        """
        original = getattr(os, function)

        def fail(subject: Any, *arguments: Any, **options: Any) -> Any:
            if str(subject).endswith(name):
                raise OSError(number, os.strerror(number))
            return original(subject, *arguments, **options)

        self.patch(os, function, fail)
