"""
A small service that speaks in lines, and its client: something to carry through a tunnel.

::

    client: LOGIN        server: Logged in.  Fantastic.
    client: DATA         server: five lines, each with the number of a reading and its value,
                                 and a line with a dot
    client: FILE 1000    server: a line with the size and the SHA-256 in hexadecimal digits,
                                 and then as many bytes
    client: QUIT         server: Bye.   (and it closes the connection)
    client: anything else               server: Error: ...
"""

# LineReceiver has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IPullProducer, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import CooperativeTask, Cooperator
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from resip.lab.payload import SeededBytes
from resip.lab.reactor import ILabReactor, IStreamTransport

#: Bytes of the longest line that either side takes, without its end.
MAX_LINE = 200
#: The largest file that a server makes; it computes each of them twice.
MAX_FILE_SIZE = 1 << 30
#: The readings of the command DATA.
READINGS = (3.14159, 2.71828, 1.41421, 1.61803, 0.57721)

GREETING = b"Logged in.  Fantastic."
FAREWELL = b"Bye."
END_OF_DATA = b"."

_BLOCK_SIZE = 65_536
# Seconds. Not 0, for a clock that is moved by hand runs what is due at once in one turn.
_NEXT_TURN = 1e-8


class LineServerFactory(ServerFactory):
    """
    Serves the lines.

    :param reactor: spreads the work for large files over many turns.
    :param seed: what the files are made of.
    """

    noisy = False

    def __init__(self, reactor: IReactorTime, *, seed: int = 0) -> None:
        self.seed = seed
        self.cooperator = Cooperator(scheduler=partial(reactor.callLater, _NEXT_TURN))

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """
        One protocol for each client.
        """
        return LineServer(self.cooperator, self.seed)


class LineServer(LineReceiver):
    """
    The server's side of one connection.
    """

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    transport: IStreamTransport

    def __init__(self, cooperator: Cooperator, seed: int) -> None:
        self._cooperator = cooperator
        self._seed = seed
        self._hashing: CooperativeTask[Iterator[object]] | None = None

    def lineReceived(self, line: bytes) -> None:
        """
        Answer one command.
        """
        command, _, argument = line.strip().partition(b" ")
        if command == b"FILE":
            self._send_file(argument)
        elif argument:
            self._send_error("no command but FILE takes an argument")
        elif command == b"LOGIN":
            self.sendLine(GREETING)
        elif command == b"DATA":
            for number, value in enumerate(READINGS, start=1):
                self.sendLine(f"reading {number}: {value:.5f}".encode())
            self.sendLine(END_OF_DATA)
        elif command == b"QUIT":
            self.sendLine(FAREWELL)
            self.transport.loseConnection()
        else:
            self._send_error("unknown command; use LOGIN, DATA, FILE <bytes> or QUIT")

    def lineLengthExceeded(self, line: bytes) -> None:
        """
        Say so, and close the connection.
        """
        self._send_error(f"a line has at most {MAX_LINE} bytes")
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Drop the work for a client that is gone.
        """
        if self._hashing is not None:
            self._hashing.stop()
            self._hashing = None

    def _send_error(self, text: str) -> None:
        self.sendLine(f"Error: {text}".encode())

    def _send_file(self, argument: bytes) -> None:
        if not argument.isdigit() or int(argument) > MAX_FILE_SIZE:
            self._send_error(f"FILE needs a number of bytes from 0 to {MAX_FILE_SIZE}")
            return
        # Further commands wait until the file is out.
        self.pauseProducing()
        size = int(argument)
        digest = hashlib.sha256()
        work: Iterator[object] = map(digest.update, self._make_blocks(size))
        hashing = self._hashing = self._cooperator.cooperate(work)

        def hashed(_: object) -> None:
            self._hashing = None
            self.sendLine(f"{size} {digest.hexdigest()}".encode())
            blocks = self._make_blocks(size)
            producer = _FileProducer(self.transport, blocks, self.resumeProducing)
            self.transport.registerProducer(producer, False)

        # The only failure is that the client went away, which stops the task.
        hashing.whenDone().addCallbacks(hashed, lambda _: None)

    def _make_blocks(self, size: int) -> Iterator[bytes]:
        source = SeededBytes(self._seed)
        for start in range(0, size, _BLOCK_SIZE):
            yield source.read(min(_BLOCK_SIZE, size - start))


@implementer(IPullProducer)
class _FileProducer:
    """
    Gives a transport one block at a time.
    """

    def __init__(
        self, transport: IStreamTransport, blocks: Iterator[bytes], done: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._blocks = blocks
        self._done = done

    def resumeProducing(self) -> None:
        """
        The transport has room for a block.
        """
        block = next(self._blocks, None)
        if block is None:
            self._transport.unregisterProducer()
            self._done()
        else:
            self._transport.write(block)

    def stopProducing(self) -> None:
        """
        The client is gone.
        """
        self._blocks = iter(())


class FetchResult(NamedTuple):
    """
    What became of a file.

    :ivar expected_sha256: what the server said, in hexadecimal digits.
    :ivar received_sha256: what arrived.
    :ivar seconds: from the request to the last byte.
    """

    expected_sha256: str
    received_sha256: str
    seconds: float

    @property
    def is_intact(self) -> bool:
        """
        What arrived is what was sent.
        """
        return self.expected_sha256 == self.received_sha256


async def run_dialogue(reactor: ILabReactor, host: str, port: int) -> list[tuple[str, str]]:
    """
    Log in, ask for the data and say goodbye.

    It waits for answers as long as the connection lives, since links that are bad on purpose
    may keep it waiting for long; cancel the Deferred around it to give up.

    :return: what was sent and what came back, for each command; lines are joined by newlines.
    :raises twisted.internet.error.ConnectError: when there is no connection.
    :raises twisted.internet.error.ConnectionLost: when it ends before the dialogue does.
    """
    client = await _connect(reactor, host, port)
    dialogue = []
    try:
        for command in ("LOGIN", "DATA", "QUIT"):
            client.sendLine(command.encode())
            lines = [await client.read_line()]
            while command == "DATA" and lines[-1] != END_OF_DATA:
                lines.append(await client.read_line())
            dialogue.append((command, b"\n".join(lines).decode("utf-8", "replace")))
    finally:
        await client.disconnect()
    return dialogue


async def fetch_file(
    reactor: ILabReactor,
    host: str,
    port: int,
    size: int,
    on_progress: Callable[[int], None] = lambda count: None,
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> FetchResult:
    """
    Fetch ``size`` pseudo-random bytes and check them. Waits like :func:`run_dialogue`.

    :param on_progress: told the number of bytes received so far, as they arrive.
    :param monotonic: tells monotonic seconds.
    :raises ValueError: when the server refuses the size, with its answer.
    :raises twisted.internet.error.ConnectError: when there is no connection.
    :raises twisted.internet.error.ConnectionLost: when it ends before the file does.
    """
    client = await _connect(reactor, host, port)
    try:
        start = monotonic()
        client.sendLine(f"FILE {size}".encode())
        answer = (await client.read_line()).decode("utf-8", "replace")
        if answer.partition(" ")[0] != str(size):
            raise ValueError(f"the server does not send the file: {answer}")
        digest = hashlib.sha256()
        received = 0
        while received < size:
            block = await client.read_block(size - received)
            digest.update(block)
            received += len(block)
            on_progress(received)
        return FetchResult(answer.partition(" ")[2], digest.hexdigest(), monotonic() - start)
    finally:
        await client.disconnect()


async def _connect(reactor: ILabReactor, host: str, port: int) -> LineClient:
    endpoint = HostnameEndpoint(reactor, host, port)
    client = LineClient()
    await connectProtocol(endpoint, client)
    return client


class LineClient(LineReceiver):
    """
    The client's side of one connection. It reads nothing that it was not asked to read.
    """

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    transport: IStreamTransport

    def __init__(self) -> None:
        self._waiting: Deferred[bytes] | None = None
        self._limit = 0
        self._is_connected = False
        self._gone: Deferred[None] = Deferred()

    def read_line(self) -> Deferred[bytes]:
        """
        The next line, without its end.
        """
        return self._wait()

    def read_block(self, limit: int) -> Deferred[bytes]:
        """
        What arrives next, at least one byte and at most ``limit``.
        """
        self._limit = limit
        self.setRawMode()
        return self._wait()

    def disconnect(self) -> Deferred[None]:
        """
        Close the connection; fires when it is gone.
        """
        self.transport.loseConnection()
        return self._gone

    def connectionMade(self) -> None:
        """
        Wait to be asked.
        """
        self._is_connected = True
        self.pauseProducing()

    def lineReceived(self, line: bytes) -> None:
        """
        Hand over a line.
        """
        self._resolve(line)

    def rawDataReceived(self, data: bytes) -> None:
        """
        Hand over a block. What follows it is a line again, or the rest of the file.
        """
        block, rest = data[: self._limit], data[self._limit :]
        self.setLineMode(rest)
        self._resolve(block)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Tell whoever still waits.
        """
        self._is_connected = False
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.errback(_make_error(reason))
        self._gone.callback(None)

    def _wait(self) -> Deferred[bytes]:
        if not self._is_connected:
            raise _make_error(connectionDone)
        self._waiting = Deferred()
        waiting = self._waiting
        self.resumeProducing()
        return waiting

    def _resolve(self, data: bytes) -> None:
        self.pauseProducing()
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(data)


def _make_error(reason: Failure) -> ConnectionLost:
    return ConnectionLost(f"the line service went away too early: {reason.getErrorMessage()}")
