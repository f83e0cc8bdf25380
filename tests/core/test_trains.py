"""
Tests of :mod:`resip.core.trains`.
"""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.trains import (
    HEADER_SIZE,
    MAX_DATAGRAMS,
    MIN_PACKET_SIZE,
    TAG_SIZE,
    Train,
    Trains,
    collect_ids,
    count_bytes,
    find_longest,
)

SIZES = st.integers(1, 200)


def make(count: int, size: int, last: int) -> Train:
    """
    A train of random bytes.
    """
    seed = count << 32 | size << 16 | last
    return Train(Random(seed).randbytes((count - 1) * size + min(size, last)), size)


class LayoutTests(SynchronousTestCase):
    """
    Fields of all datagrams at once.
    """

    @given(st.integers(1, 60), SIZES, SIZES)
    def test_every_field(self, count: int, size: int, last: int) -> None:
        """
        They are those of each datagram; what is read can be written back.
        """
        train = make(count, size, last)
        datagrams = train.datagrams()
        self.assertEqual(len(train), len(datagrams))
        self.assertEqual(b"".join(datagrams), train.data)
        layout = train.layout
        if count == 1 or min(map(len, datagrams)) < MIN_PACKET_SIZE:
            self.assertIsNone(layout)
            return
        assert layout is not None
        fields = layout.packets.unpack(train.data)
        heads = [int.from_bytes(each[at : at + 4]) for each in datagrams for at in (0, 4)]
        contents = [each[HEADER_SIZE:] for each in datagrams]
        tails = tuple(each[-TAG_SIZE:] for each in datagrams)
        self.assertEqual([*fields[::3], *fields[1::3]], [*heads[::2], *heads[1::2]])
        self.assertEqual(list(fields[2::3]), contents)
        self.assertEqual(layout.packets.pack(*fields), train.data)
        self.assertEqual(layout.tails.unpack(train.data), tails)
        self.assertEqual(list(layout.contents.unpack(b"".join(contents))), contents)
        if min(map(len, contents)) >= TAG_SIZE:
            self.assertEqual(layout.content_tails.unpack(b"".join(contents)), tails)

    def test_more_than_a_system_glues(self) -> None:
        """
        Nobody makes us build something for thousands of tiny datagrams.
        """
        self.assertIsNotNone(make(MAX_DATAGRAMS, MIN_PACKET_SIZE, MIN_PACKET_SIZE).layout)
        self.assertIsNone(make(MAX_DATAGRAMS + 1, MIN_PACKET_SIZE, MIN_PACKET_SIZE).layout)

    def test_nothing(self) -> None:
        """
        An empty datagram is one, too.
        """
        self.assertEqual((len(Train(b"", 1)), *Train(b"", 1).datagrams()), (1, b""))


class TrainsTests(SynchronousTestCase):
    """
    A sequence of datagrams.
    """

    @given(st.lists(st.builds(make, st.integers(1, 9), SIZES, SIZES), min_size=1, max_size=6))
    def test_like_a_list(self, trains: list[Train]) -> None:
        """
        Whatever is asked of them all, the answer is that of the datagrams one by one.
        """
        packets = Trains(trains)
        datagrams = [each for train in trains for each in train.datagrams()]
        self.assertEqual(list(packets), datagrams)
        self.assertEqual(len(packets), len(datagrams))
        self.assertEqual(
            (packets[0], packets[-1], packets[1:3]), (datagrams[0], datagrams[-1], datagrams[1:3])
        )
        self.assertEqual(count_bytes(packets), count_bytes(datagrams))
        self.assertEqual(collect_ids(packets), collect_ids(datagrams))
        self.assertEqual(len(find_longest(packets)), max(map(len, datagrams)))
        self.assertIn(find_longest(packets), datagrams)
