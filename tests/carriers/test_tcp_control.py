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
    FIRST_CONTROL,
    LOOK_INTERVAL,
    LOSS_CONTROL,
    LOSSY_LOOKS,
    KernelControl,
)

TCP_CONGESTION = 13


class LossySocket:
    """
    A socket that says how many segments it sent again, and may refuse to change its control.
    """

    def __init__(self, *, refuses: bool = False) -> None:
        self.retransmitted = 0
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
        return (bytes(100) + struct.pack("=I", self.retransmitted) + bytes(128))[:size]


@skipUnless(sys.platform == "linux", "only Linux lets programs choose")
class KernelControlTests(SynchronousTestCase):
    """
    CUBIC at first, BBR where packets are lost all the time.
    """

    def setUp(self) -> None:
        """
        A connection that lost nothing.
        """
        self.clock = Clock()
        self.handle = LossySocket()
        self.control = KernelControl(cast(socket.socket, self.handle), self.clock.seconds)

    def pass_time(self, looks: int, *, lost: int) -> None:
        """
        Send for some time, and lose as many segments in each interval.
        """
        for _ in range(looks):
            self.clock.advance(LOOK_INTERVAL)
            self.handle.retransmitted += lost
            self.control.look()

    def test_a_clean_path(self) -> None:
        """
        Nothing is lost: nothing changes.
        """
        self.pass_time(100, lost=0)
        self.assertEqual(self.handle.controls, [FIRST_CONTROL])

    def test_lasting_loss(self) -> None:
        """
        Losses in look after look change the control, once.
        """
        self.pass_time(LOSSY_LOOKS - 1, lost=1)
        self.assertEqual(self.handle.controls, [FIRST_CONTROL])
        self.pass_time(10, lost=1)
        self.assertEqual(self.handle.controls, [FIRST_CONTROL, LOSS_CONTROL])

    def test_a_burst_of_losses_is_no_reason(self) -> None:
        """
        A start that overflows a queue, and one more loss every other second, change nothing.
        """
        self.pass_time(1, lost=100)
        for _ in range(50):
            self.pass_time(1, lost=0)
            self.pass_time(1, lost=1)
        self.assertEqual(self.handle.controls, [FIRST_CONTROL])

    def test_it_does_not_look_all_the_time(self) -> None:
        """
        However much is sent within an interval, it is one look.
        """
        self.clock.advance(LOOK_INTERVAL)
        for _ in range(10 * LOSSY_LOOKS):
            self.handle.retransmitted += 1
            self.control.look()
        self.assertEqual(self.handle.controls, [FIRST_CONTROL])

    def test_a_kernel_that_refuses(self) -> None:
        """
        Who may not choose keeps what there is.
        """
        handle = LossySocket(refuses=True)
        self.control = KernelControl(cast(socket.socket, handle), self.clock.seconds)
        handle.retransmitted = 1
        self.clock.advance(LOOK_INTERVAL)
        self.control.look()
        self.assertEqual(handle.controls, [])

    def test_a_real_socket(self) -> None:
        """
        The kernel knows the options: CUBIC is set, and the number of retransmissions can be read.
        """
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as handle,
        ):
            try:
                for name in ("reno", FIRST_CONTROL, "reno"):
                    handle.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, name.encode())
            except OSError as error:
                self.skipTest(f"this kernel does not offer {FIRST_CONTROL}: {error}")
            self.control = KernelControl(handle, self.clock.seconds)
            self.pass_time(2, lost=0)
            chosen = handle.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16)
            self.assertEqual(chosen.rstrip(b"\0").decode(), FIRST_CONTROL)
