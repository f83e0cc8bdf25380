"""
Tests of :mod:`resip.direct.sources`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.direct.errors import TransferError
from resip.direct.messages import Checkpoint, FailureCode
from resip.direct.sources import STREAM_BUFFER, FileSource, Source, StreamSource

CONTENT = Random(1).randbytes(5_000_000)


def mark(offset: int, content: bytes = CONTENT) -> Checkpoint:
    """
    A checkpoint of somebody who has the first bytes of a content.
    """
    return Checkpoint(offset, hashlib.sha256(content[:offset]).digest())


def seek(source: Source, checkpoints: Sequence[Checkpoint]) -> int:
    """
    Where reading goes on.
    """
    return list(source.seek_common(checkpoints))[-1]


def read_all(source: Source) -> bytes:
    """
    The rest.
    """
    return b"".join(iter(lambda: source.read(100_000), b""))


class FileSourceTests(SynchronousTestCase):
    """
    Files.
    """

    def setUp(self) -> None:
        """
        Open a file.
        """
        self.path = Path(self.mktemp())
        self.path.write_bytes(CONTENT)
        self.path.chmod(0o4751)
        self.source = FileSource(os.open(self.path, os.O_RDONLY), b"name")
        self.addCleanup(self.source.close)

    def test_offer(self) -> None:
        """
        Name, size and permissions, without the bits that make others' programs of it.
        """
        offer = self.source.offer
        self.assertEqual((offer.name, offer.size, offer.mode), (b"name", len(CONTENT), 0o751))

    def test_from_the_start(self) -> None:
        """
        Everything comes, and its hash.
        """
        self.assertEqual(seek(self.source, ()), 0)
        self.assertEqual(read_all(self.source), CONTENT)
        self.assertTrue(self.source.is_at_end)
        self.assertEqual(self.source.digest, hashlib.sha256(CONTENT).digest())

    def test_from_a_checkpoint(self) -> None:
        """
        The furthest with the same bytes counts, whatever stands behind it; the hash is that of
        all.
        """
        other = CONTENT[:3_000_000] + b"torn" + CONTENT[3_000_004:]
        marks = [mark(1_000_000), mark(2_500_000), mark(4_000_000, other), mark(6_000_000, other)]
        self.assertEqual(seek(self.source, marks), 2_500_000)
        self.assertEqual(read_all(self.source), CONTENT[2_500_000:])
        self.assertEqual(self.source.digest, hashlib.sha256(CONTENT).digest())

    def test_another_beginning(self) -> None:
        """
        When nothing is the same it starts at the beginning, also the second time.
        """
        self.source.read(1000)
        self.assertEqual(seek(self.source, [mark(1_000_000, CONTENT[::-1])]), 0)
        self.assertEqual(read_all(self.source), CONTENT)

    def test_changes(self) -> None:
        """
        A file that was written to, or cut off, is not passed off as either version.
        """
        seek(self.source, ())
        read_all(self.source)
        os.utime(self.path, ns=(1, 1))
        with self.assertRaises(TransferError) as caught:
            self.source.digest  # noqa: B018
        self.assertIs(caught.exception.code, FailureCode.CHANGED)
        os.truncate(self.path, 10)
        seek(self.source, ())
        with self.assertRaises(TransferError):
            read_all(self.source)


class StreamSourceTests(SynchronousTestCase):
    """
    Streams.
    """

    def setUp(self) -> None:
        """
        A stream of which something has come.
        """
        self.source = StreamSource()
        self.source.put(CONTENT[:3_000_000])

    def test_bytes_come_as_they_are_put(self) -> None:
        """
        Nothing yet is not the end.
        """
        seek(self.source, ())
        self.assertEqual(read_all(self.source), CONTENT[:3_000_000])
        self.assertFalse(self.source.is_at_end)
        self.source.put(CONTENT[3_000_000:])
        self.source.put(b"")
        self.assertEqual(read_all(self.source), CONTENT[3_000_000:])
        self.assertTrue(self.source.is_at_end)
        self.assertEqual(self.source.digest, hashlib.sha256(CONTENT).digest())

    def test_going_back(self) -> None:
        """
        What is not confirmed can be read once more, from where the receiver is (T-8).
        """
        read_all(self.source)
        self.source.confirm(1_000_000)
        self.assertEqual(seek(self.source, [mark(500_000), mark(1_200_000)]), 1_200_000)
        self.assertEqual(read_all(self.source), CONTENT[1_200_000:3_000_000])
        self.source.confirm(3_000_000)
        self.assertEqual(seek(self.source, [mark(3_000_000)]), 3_000_000)
        self.source.put(CONTENT[3_000_000:])
        self.source.put(b"")
        read_all(self.source)
        self.assertEqual(self.source.digest, hashlib.sha256(CONTENT).digest())

    def test_too_far_back(self) -> None:
        """
        What was confirmed is gone: a receiver that lost it cannot be served.
        """
        read_all(self.source)
        self.source.confirm(1_000_000)
        for marks in ([], [mark(500_000)], [mark(2_000_000, CONTENT[::-1])]):
            with self.assertRaises(TransferError) as caught:
                seek(self.source, marks)
            self.assertIs(caught.exception.code, FailureCode.CANNOT_RESUME)

    def test_room(self) -> None:
        """
        What is kept is bounded.
        """
        self.assertEqual(self.source.room, STREAM_BUFFER - 3_000_000)
        read_all(self.source)
        self.assertEqual(self.source.room, STREAM_BUFFER - 3_000_000)
        self.source.confirm(3_000_000)
        self.assertEqual(self.source.room, STREAM_BUFFER)
