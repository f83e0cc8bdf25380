"""
Tests of :mod:`resip.carriers.tcp_control`.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import cast
from unittest import skipUnless

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.tcp_control import (
    CLEAN_CONTROL,
    DECISION_SEGMENTS,
    LOOK_INTERVAL,
    LOSS_CONTROL,
    LOSSY_SEGMENTS,
    KernelControl,
)

TCP_CONGESTION = 13


class LossySocket:
    """
    A socket that says how many segments it sent, and how many of them again, and may refuse to
    change its control.
    """

    def __init__(self, *, refuses: bool = False) -> None:
        self.repeated = self.sent = 0
        self.controls: list[str] = []
        self._refuses = refuses

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """
        Remember the control.
        """
        assert (level, option) == (socket.IPPROTO_TCP, TCP_CONGESTION)
        if self._refuses:
            raise PermissionError
        self.controls.append(value.decode())

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """
        What the kernel tells of a connection, as far as it is asked for.
        """
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        counts = struct.pack("=I32xI", self.repeated, self.sent)
        return (bytes(100) + counts + bytes(100))[:size]


@skipUnless(sys.platform == "linux", "only Linux lets programs choose")
class KernelControlTests(SynchronousTestCase):
    """
    BBR at first, and where packets are lost; CUBIC where none are.
    """

    def setUp(self) -> None:
        """
        A connection that sent nothing.
        """
        self.clock = Clock()
        self.handle = LossySocket()
        self.control = KernelControl(cast(socket.socket, self.handle), self.clock.seconds)

    def send(self, segments: int, *, lost: int) -> None:
        """
        Send segments in some time, and so many of them again.
        """
        self.clock.advance(LOOK_INTERVAL)
        self.handle.sent += segments
        self.handle.repeated += lost
        self.control.look()

    def test_a_lossy_path(self) -> None:
        """
        Losses all the time: nothing changes.
        """
        for _ in range(10):
            self.send(DECISION_SEGMENTS, lost=LOSSY_SEGMENTS)
        self.assertEqual(self.handle.controls, [LOSS_CONTROL])

    def test_a_clean_path(self) -> None:
        """
        Once enough was sent without losses, the control is another, whatever a start has lost.
        """
        self.send(DECISION_SEGMENTS, lost=100)
        self.send(DECISION_SEGMENTS - 1, lost=0)
        self.assertEqual(self.handle.controls, [LOSS_CONTROL])
        for _ in range(10):
            self.send(DECISION_SEGMENTS, lost=LOSSY_SEGMENTS - 1)
        self.assertEqual(self.handle.controls, [LOSS_CONTROL, CLEAN_CONTROL])

    def test_a_path_that_becomes_lossy(self) -> None:
        """
        The first control comes back.
        """
        self.send(DECISION_SEGMENTS, lost=0)
        for _ in range(10):
            self.send(DECISION_SEGMENTS // 10, lost=1)
        self.assertEqual(self.handle.controls, [LOSS_CONTROL, CLEAN_CONTROL, LOSS_CONTROL])

    def test_it_does_not_look_all_the_time(self) -> None:
        """
        However much is sent within an interval.
        """
        self.handle.sent = DECISION_SEGMENTS
        self.control.look()
        self.assertEqual(self.handle.controls, [LOSS_CONTROL])

    def test_a_kernel_that_refuses(self) -> None:
        """
        Who may not choose keeps what there is.
        """
        handle = LossySocket(refuses=True)
        self.control = KernelControl(cast(socket.socket, handle), self.clock.seconds)
        handle.sent = DECISION_SEGMENTS
        self.clock.advance(LOOK_INTERVAL)
        self.control.look()
        self.assertEqual(handle.controls, [])

    def test_a_real_socket(self) -> None:
        """
        The kernel knows the options: BBR is set, segments are counted, and CUBIC follows.
        """
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as handle,
        ):
            try:
                for name in (LOSS_CONTROL, CLEAN_CONTROL, "reno"):
                    handle.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, name.encode())
            except OSError as error:
                self.skipTest(f"this kernel does not offer {name}: {error}")
            self.control = KernelControl(handle, self.clock.seconds)
            self.assertEqual(self.control_of(handle), LOSS_CONTROL)
            peer, _ = server.accept()
            with peer:
                for _ in range(DECISION_SEGMENTS):
                    handle.send(b"!")
                    peer.recv(1)
            self.clock.advance(LOOK_INTERVAL)
            self.control.look()
            self.assertEqual(self.control_of(handle), CLEAN_CONTROL)

    def control_of(self, handle: socket.socket) -> str:
        """
        What the kernel says.
        """
        chosen = handle.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16)
        return chosen.rstrip(b"\0").decode()
