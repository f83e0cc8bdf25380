"""
Tests of :mod:`resip.carriers.udp_socket`: how packets become trains, and trains packets.
"""

from __future__ import annotations

from random import Random
from struct import pack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.udp_socket import (
    MAX_DATAGRAM,
    MAX_TRAIN,
    MAX_TRAIN_BYTES,
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
    make_trains,
    read_size,
)


class CutTests(SynchronousTestCase):
    """
    From packets to trains.
    """

    def cut(self, *sizes: int) -> list[list[int]]:
        """
        The sizes of the packets of each train.
        """
        trains = make_trains([bytes(size) for size in sizes])
        return [list(map(len, train.datagrams())) for train in trains]

    def test_equal_packets_leave_together(self) -> None:
        """
        The last of a train may be shorter, nothing else.
        """
        self.assertEqual(self.cut(9, 9, 9), [[9, 9, 9]])
        self.assertEqual(self.cut(9, 9, 4, 9, 9), [[9, 9, 4], [9, 9]])
        self.assertEqual(self.cut(4, 9, 9, 4, 4), [[4], [9, 9, 4], [4]])

    def test_limits(self) -> None:
        """
        A train has no more packets and bytes than the kernel takes at once.
        """
        self.assertEqual(list(map(len, self.cut(*[9] * 130))), [MAX_TRAIN, MAX_TRAIN, 2])
        self.assertEqual(list(map(len, self.cut(*[1472] * 100))), [44, 44, 12])
        self.assertEqual(self.cut(65_507, 65_507, 9), [[65_507], [65_507], [9]])

    def test_nothing_and_empty_ones(self) -> None:
        """
        An empty packet is never in a train, which would hide it.
        """
        self.assertEqual(self.cut(), [])
        self.assertEqual(self.cut(9, 0, 0, 9), [[9], [0], [0], [9]])

    @given(
        st.lists(st.sampled_from([0, 1, 40, 1200, 1200, 1200, 1472, 30_000, 65_507]), max_size=90)
    )
    def test_any_mixture(self, sizes: list[int]) -> None:
        """
        Nothing is lost or moved, and every train is one that can be sent.
        """
        packets = [Random(number).randbytes(size) for number, size in enumerate(sizes)]
        trains = list(make_trains(packets))
        self.assertEqual([packet for train in trains for packet in train.datagrams()], packets)
        for train in trains:
            sizes = list(map(len, train.datagrams()))
            self.assertEqual(set(sizes[:-1]) - {train.size}, set())
            self.assertLessEqual(sizes[-1], train.size)
            self.assertLessEqual(len(sizes), MAX_TRAIN)
            self.assertLessEqual(sum(sizes), MAX_TRAIN_BYTES)


class SizeTests(SynchronousTestCase):
    """
    How large the packets are that were glued together.
    """

    def test_the_size_is_told(self) -> None:
        """
        All pieces have the size that the kernel tells.
        """
        self.assertEqual(read_size([(SOL_UDP, UDP_GRO, pack("=i", 3))]), 3)

    def test_nothing_usable_is_told(self) -> None:
        """
        Truncated, foreign and senseless words beside the data leave it one packet.
        """
        size = pack("=i", 3)
        for ancillary in (
            [],
            [(SOL_UDP, UDP_GRO, size[:2])],
            [(SOL_UDP, UDP_GRO, b"")],
            [(SOL_UDP + 1, UDP_GRO, size)],
            [(SOL_UDP, UDP_SEGMENT, size)],
            [(SOL_UDP, UDP_GRO, pack("=i", 0))],
            [(SOL_UDP, UDP_GRO, pack("=i", -3))],
            [(SOL_UDP, UDP_GRO, pack("=i", 1 << 20))],
        ):
            self.assertEqual(read_size(ancillary), MAX_DATAGRAM)
