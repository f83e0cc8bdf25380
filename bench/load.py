"""
Traffic for benchmarks: a server of endless streams and echoes, and clients that time them.

Blocking sockets and threads, so that the load costs less than what it measures. A client's
first byte says what it wants: ``D`` sends for ever, ``U`` takes all and answers with counts,
``E`` echoes, ``T`` sends a few bytes now and then, ``F`` sends a file of the size that follows,
and its hash. ``python -m bench.load`` is the server as a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BLOCK = bytes(range(256)) * 1024
#: Seconds between the counts that a ``U`` connection is answered with.
COUNT_INTERVAL = 0.1
#: Seconds between the few bytes of a ``T`` connection.
TICK_INTERVAL = 0.02
_COUNT = struct.Struct("!dQ")
_SIZE = struct.Struct("!Q")


class LoadServer:
    """
    Serves the three kinds of traffic on a port of the loopback interface.

    :ivar port: where it listens.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = socket.create_server((host, port), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            try:
                match connection.recv(1):
                    case b"D":
                        while True:
                            connection.sendall(BLOCK)
                    case b"U":
                        self._take(connection)
                    case b"E":
                        while data := connection.recv(65536):
                            connection.sendall(data)
                    case b"T":
                        while True:
                            connection.sendall(bytes(64))
                            time.sleep(TICK_INTERVAL)
                    case b"F":
                        self._send_file(connection)
            except OSError:
                return  # the client has seen enough

    def _send_file(self, connection: socket.socket) -> None:
        (left,) = _SIZE.unpack(connection.recv(_SIZE.size, socket.MSG_WAITALL))
        digest = hashlib.sha256()
        while left:
            data = os.urandom(min(left, len(BLOCK)))
            left -= len(data)
            digest.update(data)
            connection.sendall(data)
        connection.sendall(digest.digest())

    def _take(self, connection: socket.socket) -> None:
        total = 0
        reported = time.monotonic()
        while data := connection.recv(1 << 18):
            total += len(data)
            now = time.monotonic()
            if now - reported > COUNT_INTERVAL:
                reported = now
                connection.sendall(_COUNT.pack(now, total))


def connect(address: tuple[str, int], kind: bytes) -> socket.socket:
    """
    A connection that asks for one kind of traffic.
    """
    connection = socket.create_connection(address, timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(kind)
    return connection


def measure_down(address: tuple[str, int], *, warm_up: float, seconds: float) -> float:
    """
    Goodput of one stream from the server, bit/s.
    """
    with connect(address, b"D") as connection:
        start = time.monotonic() + warm_up
        total = 0
        while (now := time.monotonic()) < start + seconds:
            count = len(connection.recv(1 << 18))
            if now >= start:
                total += count
    return total * 8 / seconds


def fetch_file(address: tuple[str, int], size: int) -> float:
    """
    Seconds until a file from the server has arrived, every byte as it was.

    :raises RuntimeError: when the connection broke, or the hash is another.
    """
    digest = hashlib.sha256()
    start = time.monotonic()
    with connect(address, b"F" + _SIZE.pack(size)) as connection:
        left = size
        while left:
            data = connection.recv(min(left, 1 << 18))
            if not data:
                raise RuntimeError(f"the connection ended {left} bytes too soon")
            left -= len(data)
            digest.update(data)
        if connection.recv(digest.digest_size, socket.MSG_WAITALL) != digest.digest():
            raise RuntimeError("not what was sent")
    return time.monotonic() - start


def measure_up(address: tuple[str, int], *, warm_up: float, seconds: float) -> float:
    """
    Goodput of one stream to the server, bit/s, by what the server says has arrived.
    """
    with connect(address, b"U") as connection:
        end = time.monotonic() + warm_up + seconds
        counts: list[tuple[float, int]] = []
        reader = threading.Thread(target=_read_counts, args=(connection, counts), daemon=True)
        reader.start()
        connection.settimeout(30)
        while time.monotonic() < end:
            connection.send(BLOCK)
        start = end - seconds
        inside = [(when, total) for when, total in counts if when >= start]
    (first, before), (last, after) = inside[0], inside[-1]
    return (after - before) * 8 / (last - first)


@contextmanager
def bulk(address: tuple[str, int], kind: bytes) -> Iterator[None]:
    """
    One stream without an end, from the server (``D``) or to it (``U``), beside something else.
    """
    with connect(address, kind) as connection:
        work = _swallow if kind == b"D" else _fill
        worker = threading.Thread(target=work, args=(connection,), daemon=True)
        worker.start()
        try:
            yield
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            worker.join()


def _swallow(connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(1 << 18):
            pass


def _fill(connection: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(BLOCK)


def _read_counts(connection: socket.socket, counts: list[tuple[float, int]]) -> None:
    try:
        while len(record := connection.recv(_COUNT.size, socket.MSG_WAITALL)) == _COUNT.size:
            counts.append(_COUNT.unpack(record))
    except OSError:
        return  # the measurement is over


def measure_echo(
    address: tuple[str, int], *, count: int, interval: float, size: int = 64
) -> list[float]:
    """
    Round-trip times of small messages, seconds, sorted.
    """
    times = []
    with connect(address, b"E") as connection:
        for _ in range(count):
            start = time.monotonic()
            connection.sendall(bytes(size))
            connection.recv(size, socket.MSG_WAITALL)
            times.append(time.monotonic() - start)
            time.sleep(interval)
    return sorted(times)


def main() -> None:
    """
    Serve until killed.
    """
    parser = argparse.ArgumentParser(description="The server of the load.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    LoadServer(arguments.host, arguments.port)
    threading.Event().wait()


if __name__ == "__main__":
    main()
