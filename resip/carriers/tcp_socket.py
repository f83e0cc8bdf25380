"""
What is asked of TCP sockets: large reads and writes, and for carriers a short queue.

What the kernel has taken and not sent yet is lost with the connection, and what is written
behind it has to wait. So little is kept there, and the carrier writes more when it is gone.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper

#: Bytes read and written by one call: what a turn costs whatever it brings is shared by as many.
READ_SIZE = 1024 * 1024
WRITE_SIZE = 1024 * 1024
#: Larger writes are left to the reactor's next turn: bulk gains nothing from haste.
MAX_HASTY_WRITE = 16 * 1024
#: More parts than this the kernel takes with no call (IOV_MAX of sendmsg(2)).
MAX_PARTS = 1024
#: Bytes that the kernel keeps unsent before a socket is not writable any more: 26 ms of 20 Mbit/s.
#: What is on its way and not acknowledged does not count, so fast connections do not suffer.
UNSENT_LIMIT = 64 * 1024

# Linux's number, which Python's socket module does not name everywhere: tcp(7).
TCP_NOTSENT_LOWAT = 25


class Writable(Protocol):
    """
    What can be written to.
    """

    def write(self, data: bytes) -> None:
        """
        Queue bytes.
        """


def enlarge_calls(transport: object) -> None:
    """
    Let a connection read and write more with each call than Twisted's 64 and 128 KiB.
    """
    if isinstance(transport, Connection):
        transport.bufferSize = READ_SIZE
        transport.SEND_LIMIT = WRITE_SIZE


def write_at_once(transport: Writable, pieces: Sequence[bytes]) -> bool:
    """
    Write, and give the kernel at once what it takes; returns whether that is everything.

    :param pieces: in order; not copied, unless they have to wait.

    Twisted's own write leaves everything to the reactor's next turn: somebody who waits for a
    few bytes waits for all that this turn still does.
    """
    # Bytes that wait already go first; Twisted tells nobody else whether there are any.
    if (
        isinstance(transport, Connection)
        and transport.connected
        and not (transport.TLS or transport.disconnecting)
        and not (transport.dataBuffer or transport._tempDataBuffer)
    ):
        try:
            sent = transport.getHandle().sendmsg(pieces[:MAX_PARTS])
        except OSError:
            sent = 0  # the reactor finds out what is wrong
        rest = _skip(pieces, sent)
        if rest:
            transport.writeSequence(rest)
        return not rest
    transport.write(b"".join(pieces))
    return False


def _skip(pieces: Sequence[bytes], count: int) -> list[bytes]:
    for at, piece in enumerate(pieces):
        if count < len(piece):
            return [piece[count:], *pieces[at + 1 :]]
        count -= len(piece)
    return []


def limit_unsent(transport: object) -> bool:
    """
    Have the kernel keep little that it has not sent, where it can.

    :return: whether the transport writes to a socket without another queue between them.
    """
    if not isinstance(transport, Connection):
        return False
    _set_unsent_limit(transport.getHandle())
    return True


def shorten_queue(transport: object) -> None:
    """
    The same for a connection with any number of layers around its socket, TLS among them: little
    waits below them, too.
    """
    connection = _find_connection(transport)
    if connection is not None:
        connection.bufferSize = UNSENT_LIMIT
        _set_unsent_limit(connection.getHandle())


def find_socket(transport: object) -> socket.socket | None:
    """
    The socket under any number of layers; ``None`` when there is no single one.
    """
    connection = _find_connection(transport)
    return None if connection is None else connection.getHandle()


def _find_connection(transport: object) -> Connection | None:
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport if isinstance(transport, Connection) else None


def _set_unsent_limit(handle: socket.socket) -> None:
    if sys.platform == "linux":
        with suppress(OSError):
            handle.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_LIMIT)
