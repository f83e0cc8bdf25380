"""
The traffic of ``python -m bench.soak``: bytes made from seeds, so that both ends know what must
arrive, through any number of connections. Blocking sockets and threads, each paced, so that there
is time left for what is tested.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from random import Random

from resip.lab.payload import SeededBytes

#: What a connection begins with: what it wants, a seed and a number of bytes.
_OPENING = struct.Struct("!cQQ")
_DOWN, _UP, _ECHO = b"D", b"U", b"E"
_INTACT, _DAMAGED = b"Y", b"N"
_PIECE_SIZE = 32 * 1024
#: Seconds between two pieces of bulk, two messages of a dialogue, two short connections.
_BULK_INTERVAL = 0.02
_MESSAGE_INTERVAL = 0.05
_CONNECTION_INTERVAL = 0.2
MAX_BULK = 8_000_000
_MAX_MESSAGE = 4000
#: Seconds without a byte after which a connection counts as stuck. No fault lasts nearly as long.
PATIENCE = 120.0


class Damage(Exception):
    """
    Not exactly the bytes that were sent arrived.
    """


class Target:
    """
    What the tunnel leads to: sends, checks or echoes, as each connection says.

    :ivar port: where it listens on the loopback interface.
    """

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                opening = connection.recv(_OPENING.size, socket.MSG_WAITALL)
                kind, seed, size = _OPENING.unpack(opening)
                if kind == _DOWN:
                    _send(connection, seed, size)
                elif kind == _UP:
                    connection.sendall(_INTACT if _is_intact(connection, seed, size) else _DAMAGED)
                else:
                    while data := connection.recv(_PIECE_SIZE):
                        connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            except (OSError, struct.error):
                return  # the other end tells


class Traffic:
    """
    Bulk both ways, a dialogue on one connection, and many short connections, at the same time.

    :ivar carried: bytes that arrived and were right.
    :ivar connections: how many ended as they should.
    :ivar problems: what went wrong, in words.

    :param address: where the tunnel begins.
    :param seed: decides what is sent.
    """

    def __init__(self, address: tuple[str, int], *, seed: int) -> None:
        self._address = address
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self.carried = 0
        self.connections = 0
        self.problems: list[str] = []
        kinds = (self._download, self._upload, self._dialogue, self._short)
        self._threads = [
            threading.Thread(target=self._repeat, args=(kind, Random(seed + number)), daemon=True)
            for number, kind in enumerate(kinds)
        ]

    def start(self) -> None:
        """
        Begin with all kinds.
        """
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """
        Begin nothing new, and wait for what is under way.
        """
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                self.problems.append(f"{thread.name} does not come to its end")

    def _repeat(self, kind: Callable[[Random], int], dice: Random) -> None:
        name = kind.__name__.strip("_")
        is_first = True
        while is_first or not self._is_over.is_set():
            is_first = False
            start = time.monotonic()
            try:
                count = kind(dice)
            except (OSError, Damage) as problem:
                seconds = time.monotonic() - start
                self.problems.append(f"{name}: {problem!r} after {seconds:.1f} s")
                self._is_over.wait(1.0)
            else:
                with self._lock:
                    self.carried += count
                    self.connections += 1

    def _connect(self, kind: bytes, seed: int = 0, size: int = 0) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(_OPENING.pack(kind, seed, size))
        return connection

    def _download(self, dice: Random) -> int:
        seed, size = dice.getrandbits(32), dice.randrange(MAX_BULK)
        with self._connect(_DOWN, seed, size) as connection:
            if not _is_intact(connection, seed, size):
                raise Damage(f"seed {seed}, {size} bytes")
        return size

    def _upload(self, dice: Random) -> int:
        seed, size = dice.getrandbits(32), dice.randrange(MAX_BULK)
        with self._connect(_UP, seed, size) as connection:
            _send(connection, seed, size)
            connection.shutdown(socket.SHUT_WR)
            if connection.recv(1) != _INTACT:
                raise Damage(f"seed {seed}, {size} bytes")
        return size

    def _dialogue(self, dice: Random) -> int:
        # One connection for all the time.
        total = 0
        with self._connect(_ECHO) as connection:
            while not total or not self._is_over.is_set():
                message = dice.randbytes(dice.randrange(1, _MAX_MESSAGE))
                connection.sendall(message)
                if _read(connection, len(message)) != message:
                    raise Damage(f"after {total} bytes")
                total += len(message)
                self._is_over.wait(_MESSAGE_INTERVAL)
        return total

    def _short(self, dice: Random) -> int:
        message = dice.randbytes(dice.randrange(1, _MAX_MESSAGE))
        with self._connect(_ECHO) as connection:
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            if b"".join(_pieces(connection)) != message:
                raise Damage(f"{len(message)} bytes")
        self._is_over.wait(_CONNECTION_INTERVAL)
        return len(message)


def _read(connection: socket.socket, size: int) -> bytes:
    # MSG_WAITALL does not wait on a socket with a timeout.
    read = b""
    while len(read) < size and (data := connection.recv(size - len(read))):
        read += data
    return read


def _pieces(connection: socket.socket) -> Iterator[bytes]:
    while data := connection.recv(_PIECE_SIZE):
        yield data


def _send(connection: socket.socket, seed: int, size: int) -> None:
    source = SeededBytes(seed)
    while size:
        piece = source.read(min(size, _PIECE_SIZE))
        connection.sendall(piece)
        size -= len(piece)
        time.sleep(_BULK_INTERVAL)


def _is_intact(connection: socket.socket, seed: int, size: int) -> bool:
    # Exactly those bytes, and then the end.
    source = SeededBytes(seed)
    for piece in _pieces(connection):
        size -= len(piece)
        if size < 0 or piece != source.read(len(piece)):
            return False
    return size == 0
