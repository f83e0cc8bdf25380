"""
``make demo``: the main job, on one machine, in under a minute.

A small service, a resip server, a resip client; and between the two a link that loses 30 % of
all packets and gives the client another address in the middle of a transfer. Server and client
are real ``twistd`` processes with nothing but their usual options.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IListeningPort, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import react
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from resip.lab.line_service import FetchResult, LineServerFactory, fetch_file, run_dialogue
from resip.lab.link import LinkConditions
from resip.lab.reactor import ILabReactor, get_port_number
from resip.lab.relay import UDPRelay

FILE_SIZE = 8_000_000
LOSS = 0.30
#: One way, seconds.
DELAY = 0.02
#: Seconds for a process to say that it is ready.
START_TIMEOUT = 30.0
BAR_WIDTH = 40


class DemoError(Exception):
    """
    The demo could not show what it wanted to.
    """


class Service(ProcessProtocol):
    """
    A ``twistd`` process whose log is read for one line.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._output = ""
        self._waiting: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """
        Log lines arrived; Twisted calls this.
        """
        self._output += data.decode(errors="replace")
        for pattern, found in list(self._waiting):
            if (match := pattern.search(self._output)) is not None:
                self._waiting.remove((pattern, found))
                found.callback(match)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """
        The process is gone; Twisted calls this.
        """
        reason.trap(ProcessDone, ProcessTerminated)
        for _, found in self._waiting:
            found.errback(DemoError(f"the {self._name} ended early:\n{self._output}"))
        self._waiting.clear()
        self.ended.callback(None)

    def wait_for(self, pattern: str) -> Deferred[re.Match[str]]:
        """
        The first match of ``pattern`` in the log, past or to come.
        """
        found: Deferred[re.Match[str]] = Deferred()
        self._waiting.append((re.compile(pattern), found))
        self.outReceived(b"")
        return found

    async def stop(self) -> None:
        """
        Ask the process to end, and wait until it has.
        """
        if self.transport is not None and self.transport.pid is not None:
            self.transport.signalProcess("TERM")
            await self.ended


class Stage:
    """
    Where the demo plays: starts processes, and cleans up behind them.
    """

    def __init__(self, reactor: ILabReactor, folder: Path, exits: AsyncExitStack) -> None:
        self._reactor = reactor
        self._folder = folder
        self._exits = exits

    def run_service(self, name: str, arguments: Sequence[str]) -> Service:
        """
        Start ``twistd -n resip-NAME``, and show the command.
        """
        say(f"  $ twistd -n resip-{name} {' '.join(arguments)}")
        service = Service(name)
        command = [sys.executable, "-c", _TWISTD, "-n", "--pidfile=", f"resip-{name}", *arguments]
        cast(IReactorProcess, self._reactor).spawnProcess(
            service, sys.executable, command, env=dict(os.environ), path=str(self._folder)
        )
        self._exits.push_async_callback(service.stop)
        return service

    async def run_resip(self, arguments: Sequence[str]) -> str:
        """
        Run the ``resip`` command and return what it prints.
        """
        say(f"  $ resip {' '.join(arguments)}")
        output, errors, status = await getProcessOutputAndValue(
            sys.executable,
            ["-c", _RESIP, *arguments],
            env=dict(os.environ),
            path=str(self._folder),
        )
        if status:
            raise DemoError(errors.decode(errors="replace"))
        return str(output.decode()).strip()


# The two commands, by the interpreter of this process whatever is first on the PATH.
_TWISTD = "from twisted.scripts.twistd import run; run()"
_RESIP = "from resip.cli.main import main; main()"


def say(text: str = "") -> None:
    """
    One line for the reader.
    """
    print(text, flush=True)


def show_progress(received: int) -> None:
    """
    A bar on a terminal; elsewhere nothing.
    """
    if sys.stdout.isatty():
        done = BAR_WIDTH * received // FILE_SIZE
        bar = "#" * done + "." * (BAR_WIDTH - done)
        print(f"\r  [{bar}] {received / 1e6:4.1f} MB", end="", flush=True)


async def play(reactor: ILabReactor, folder: Path, exits: AsyncExitStack) -> bool:
    """
    The whole demo; returns whether the file arrived intact.
    """
    stage = Stage(reactor, folder, exits)
    service = reactor.listenTCP(0, LineServerFactory(reactor), interface="127.0.0.1")
    exits.push_async_callback(_stop_listening, service)
    service_port = get_port_number(service)

    say("1. A server. It makes its keys, and lets clients reach this machine only.")
    server = stage.run_service("server", ["--state", "server", "--https-port", "0", "--port", "0"])
    match = await server.wait_for(r"packets on UDP and TCP port (\d+)").addTimeout(
        START_TIMEOUT, reactor
    )
    server_port = int(match[1])

    say("\n2. An invitation: one line that a client needs, to be passed on in secret.")
    invitation = await stage.run_resip(
        ["invite", "demo", "--host", "127.0.0.1", "--state", "server"]
    )
    say(f"  {invitation[:12]}... (the rest is the key)")

    say("\n3. A bad link: packets between client and server go through a relay that delays them")
    say(f"   by {DELAY * 1000:.0f} ms each way and loses {LOSS:.0%} of them, in both directions.")
    conditions = LinkConditions(delay=DELAY, loss=LOSS)
    relay = UDPRelay(
        reactor,
        ("127.0.0.1", 0),
        ("127.0.0.1", server_port),
        up_conditions=conditions,
        down_conditions=conditions,
        seed=1,
    )
    relay.startService()
    exits.push_async_callback(_stop_relay, relay)

    say("\n4. A client, whose port leads to the service behind the server.")
    file = folder / "invitation"
    file.touch(0o600)
    file.write_text(re.sub(r"([?&]port=)\d+", rf"\g<1>{relay.port}", invitation) + "\n")
    client = stage.run_service(
        "client",
        ["--state", "client", "--server", "invitation", "--forward", f"0:127.0.0.1:{service_port}"],
    )
    match = await client.wait_for(r"127\.0\.0\.1:(\d+) -> ").addTimeout(START_TIMEOUT, reactor)
    port = int(match[1])

    say(f"\n5. A program talks to port {port} as if the network were good:")
    for sent, received in await run_dialogue(reactor, "127.0.0.1", port):
        say(f"  > {sent}")
        for line in received.splitlines():
            say(f"  < {line}")

    return await show_transfer(reactor, relay, port)


async def show_transfer(reactor: ILabReactor, relay: UDPRelay, port: int) -> bool:
    """
    The last act: a file through the bad link; returns whether it arrived intact.
    """
    say(f"\n6. A file of {FILE_SIZE / 1e6:.0f} MB; halfway the client's address changes:")
    result = await fetch_with_change(reactor, relay, port)
    counters = (relay.up_link.counters, relay.down_link.counters)
    lost = sum(counter.lost for counter in counters)
    sent_packets = sum(counter.sent for counter in counters)
    say(f"  sent      {result.expected_sha256}")
    say(f"  received  {result.received_sha256}")
    say(
        f"  {FILE_SIZE * 8 / result.seconds / 1e6:.1f} Mbit/s; {lost:,} of {sent_packets:,} "
        f"packets were lost on the way, no byte was"
    )
    return result.is_intact


async def fetch_with_change(reactor: ILabReactor, relay: UDPRelay, port: int) -> FetchResult:
    """
    Fetch the file, and change the client's address when half of it has arrived.
    """
    has_changed = False

    def on_progress(received: int) -> None:
        nonlocal has_changed
        show_progress(received)
        if received * 2 >= FILE_SIZE and not has_changed:
            has_changed = True
            relay.change_address()

    result = await fetch_file(reactor, "127.0.0.1", port, FILE_SIZE, on_progress)
    if sys.stdout.isatty():
        say()
    return result


async def _stop_listening(port: IListeningPort) -> None:
    await maybeDeferred(port.stopListening)


async def _stop_relay(relay: UDPRelay) -> None:
    await relay.stopService()


async def demo(reactor: ILabReactor) -> None:
    """
    Set the stage, play, clean up; exits with 1 when the file did not arrive intact.
    """
    folder = Path(tempfile.mkdtemp(prefix="resip-demo-"))
    try:
        async with AsyncExitStack() as exits:
            is_intact = await play(reactor, folder, exits)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not is_intact:
        raise SystemExit("the file did not arrive intact")
    say("\nAll of it arrived, once and in order.")


def main() -> None:
    """
    Run the demo under the reactor.
    """
    react(lambda reactor: Deferred.fromCoroutine(demo(cast(ILabReactor, reactor))))


if __name__ == "__main__":
    main()
