"""
The programs on both sides of a tunnel, and what waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
    ITCPTransport,
)
from twisted.internet.protocol import DatagramProtocol, Protocol, ServerFactory, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from resip.carriers.channels import Channel
from resip.core.errors import ResetCode
from resip.tunnel.reactor import ITunnelReactor


def the_reactor() -> ITunnelReactor:
    """
    The reactor that trial runs.
    """
    from twisted.internet import reactor

    return cast(ITunnelReactor, reactor)


async def eventually(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """
    Return once ``condition`` holds; fail when it does not in time.
    """
    reactor = the_reactor()
    deadline = reactor.seconds() + seconds
    while not condition():
        if reactor.seconds() > deadline:
            raise AssertionError("it did not happen in time")
        await deferLater(reactor, 0.002, lambda: None)


@implementer(IHalfCloseableProtocol)
class Program(Protocol):
    """
    One end of a TCP connection, with everything that happened to it.
    """

    def __init__(self, *, echoes: bool = False) -> None:
        self.received = bytearray()
        self.is_connected = False
        self.has_heard_end = False
        self.lost_reason: Failure | None = None
        self._has_ended = False
        self._echoes = echoes

    @property
    def tcp(self) -> ITCPTransport:
        """
        The transport.
        """
        return cast(ITCPTransport, self.transport)

    @property
    def was_reset(self) -> bool:
        """
        Whether the connection was lost otherwise than by its end.
        """
        return self.lost_reason is not None and isinstance(self.lost_reason.value, ConnectionLost)

    def connectionMade(self) -> None:
        """
        Note it.
        """
        self.is_connected = True

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it, and send it back if it echoes.
        """
        self.received += data
        if self._echoes:
            self.tcp.write(data)

    def readConnectionLost(self) -> None:
        """
        Note it; an echo ends too, and so does a program that had ended before.
        """
        self.has_heard_end = True
        if self._echoes or self._has_ended:
            self.tcp.loseConnection()

    def end(self) -> None:
        """
        Say no more, and close when the other side has ended too.
        """
        self._has_ended = True
        if self.has_heard_end:
            self.tcp.loseConnection()
        else:
            self.tcp.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """
        The end of file went out.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Note why.
        """
        self.lost_reason = reason


class Programs(ServerFactory):
    """
    A server program: one :class:`Program` per connection.
    """

    noisy = False

    def __init__(self, *, echoes: bool = False) -> None:
        self.connections: list[Program] = []
        self._echoes = echoes

    def buildProtocol(self, addr: object) -> Program:
        """
        One more.
        """
        program = Program(echoes=self._echoes)
        self.connections.append(program)
        return program


async def abort(programs: Sequence[Program]) -> None:
    """
    Reset the connections that programs still have, and wait until they are gone.
    """
    for program in programs:
        if program.lost_reason is None and program.is_connected:
            program.tcp.abortConnection()
    await eventually(lambda: all(each.lost_reason or not each.is_connected for each in programs))


class DatagramProgram(DatagramProtocol):
    """
    One UDP socket, with what it received; an echoing one sends everything back.
    """

    noisy = False

    def __init__(self, *, echoes: bool = False) -> None:
        self.received: list[bytes] = []
        self.sources: set[tuple[str, int]] = set()
        self._echoes = echoes

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        Keep it, and send it back if it echoes.
        """
        self.received.append(datagram)
        self.sources.add(addr)
        if self._echoes and self.transport is not None:
            self.transport.write(datagram, addr)


class RecordingUser:
    """
    A channel user that notes what it hears, and consumes at once.
    """

    def __init__(self) -> None:
        self.heard: list[str | bytes | ResetCode] = []
        self.channel: Channel | None = None
        self.consumes = True

    @property
    def received(self) -> bytes:
        """
        All the bytes of the stream so far.
        """
        return b"".join(each for each in self.heard if isinstance(each, bytes))

    def channel_opened(self) -> None:
        """
        Note it.
        """
        self.heard.append("opened")

    def data_received(self, data: bytes) -> None:
        """
        Note it.
        """
        self.heard.append(data)
        if self.consumes and self.channel is not None:
            self.channel.consume(len(data))

    def channel_ended(self) -> None:
        """
        Note it.
        """
        self.heard.append("ended")

    def channel_writable(self) -> None:
        """
        Note it.
        """
        self.heard.append("writable")

    def channel_reset(self, code: ResetCode) -> None:
        """
        Note the code.
        """
        self.heard.append(code)

    def channel_closed(self) -> None:
        """
        Note it.
        """
        self.heard.append("closed")


class MemoryTransport(StringTransport):
    """
    A TCP transport in memory that notes how it was ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[str] = []

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Note it.
        """
        self.noDelay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        Note it.
        """
        self.keepAlive = enabled

    def loseWriteConnection(self) -> None:
        """
        Note it.
        """
        self.ends.append("end")

    def loseConnection(self) -> None:
        """
        Note it.
        """
        self.ends.append("close")

    def abortConnection(self) -> None:
        """
        Note it.
        """
        self.ends.append("abort")


@implementer(IHostnameResolver)
class ScriptedResolver:
    """
    A name server: the answers to each name, one per question; the last one stays.
    """

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(each) for name, each in answers.items()}
        self.questions: list[str] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """
        Answer at once.
        """
        self.questions.append(hostName)
        script = self.answers.get(hostName, [[]])
        answer = script.pop(0) if len(script) > 1 else script[0]
        resolution = cast(IHostResolution, object())
        resolutionReceiver.resolutionBegan(resolution)
        for host in answer:
            kind = IPv6Address if ":" in host else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution
