"""
What the laboratory needs of a reactor.
"""

from __future__ import annotations

from twisted.internet.interfaces import (
    IConsumer,
    IListeningPort,
    IPushProducer,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
    ITCPTransport,
)


class ILabReactor(IReactorTCP, IReactorUDP, IReactorTime):
    """
    Streams, datagrams and time: every reactor of Twisted on POSIX has them.
    """


class IStreamTransport(ITCPTransport, IConsumer, IPushProducer):
    """
    A TCP transport with its flow control, as every such reactor makes them.
    """


def get_port_number(port: IListeningPort | None) -> int:
    """
    The number of a TCP or UDP port that listens.

    :raises RuntimeError: when there is no port.
    """
    if port is None:
        raise RuntimeError("there is no port: the service does not run")
    number: int = port.getHost().port  # type: ignore[attr-defined]
    return number
