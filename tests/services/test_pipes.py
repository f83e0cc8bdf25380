"""
Tests of :mod:`resip.services.pipes`, with real pipes.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from resip.direct import sources
from resip.direct.errors import TransferError
from resip.direct.messages import FailureCode
from resip.direct.sources import StreamSource
from resip.services.pipes import FULL, PipeReader, PipeWriter
from tests.tunnel.programs import eventually, the_reactor


class PipeTestCase(TestCase):
    """
    A pipe.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.reactor = the_reactor()
        self.reading_end, self.writing_end = os.pipe()
        self.open = {self.reading_end, self.writing_end}
        self.addCleanup(self.close_all)

    def close_all(self) -> None:
        """
        Close what is open.
        """
        while self.open:
            os.close(self.open.pop())

    def close(self, descriptor: int) -> None:
        """
        Close one end.
        """
        self.open.discard(descriptor)
        os.close(descriptor)


class PipeReaderTests(PipeTestCase):
    """
    Standard input.
    """

    def read(self) -> PipeReader:
        """
        Begin to read.
        """
        self.source = StreamSource()
        self.calls = 0
        reader = PipeReader(self.reactor, self.reading_end, self.source, self.count)
        self.addCleanup(reader.stop)
        reader.resume()
        return reader

    def count(self) -> None:
        """
        Something has come.
        """
        self.calls += 1

    async def test_bytes_and_end(self) -> None:
        """
        What comes goes into the source, and so does the end.
        """
        self.read()
        os.write(self.writing_end, b"hello")
        await eventually(lambda: self.calls)
        self.assertEqual(self.source.read(10), b"hello")
        self.assertFalse(self.source.is_at_end)
        self.close(self.writing_end)
        await eventually(lambda: self.source.is_at_end)

    async def test_no_room(self) -> None:
        """
        A source that is full is spared, until it is told to go on.
        """
        self.patch(sources, "STREAM_BUFFER", 5)
        reader = self.read()
        os.write(self.writing_end, b"hello")
        await eventually(lambda: self.calls)
        os.write(self.writing_end, b"world")
        await deferLater(self.reactor, 0.05, lambda: None)
        self.assertEqual(self.source.read(10), b"hello")
        self.source.confirm(5)
        reader.resume()
        await eventually(lambda: self.source.read(10) == b"world")

    async def test_an_error(self) -> None:
        """
        What cannot be read ends the transfer.
        """
        self.close(self.reading_end)
        self.reading_end = os.open(self.mktemp(), os.O_CREAT | os.O_WRONLY)
        self.open.add(self.reading_end)
        self.read()
        await eventually(lambda: self.calls)
        with self.assertRaises(TransferError) as caught:
            self.source.read(1)
        self.assertIs(caught.exception.code, FailureCode.READ_FAILED)


class PipeWriterTests(PipeTestCase):
    """
    Standard output.
    """

    def write_on(self, descriptor: int) -> PipeWriter:
        """
        A writer on a descriptor.
        """
        self.drained: list[bool] = []
        self.lost: list[OSError] = []
        writer = PipeWriter(
            self.reactor, descriptor, lambda: self.drained.append(True), self.lost.append
        )
        self.addCleanup(writer.stop)
        return writer

    async def test_a_slow_reader(self) -> None:
        """
        The writer is full, says so, and says when it is not; every byte comes, in order.
        """
        writer = self.write_on(self.writing_end)
        content = os.urandom(2 * FULL)
        writer.write(content)
        self.assertTrue(writer.is_full())
        flushed = writer.flushed()
        await deferLater(self.reactor, 0.05, lambda: None)
        self.assertEqual(self.drained, [])
        received = bytearray()
        os.set_blocking(self.reading_end, False)

        def read() -> bool:
            try:
                while piece := os.read(self.reading_end, 1 << 20):
                    received.extend(piece)
            except BlockingIOError:
                return len(received) == len(content)
            return True

        await eventually(read)
        await flushed
        self.assertEqual(received, content)
        self.assertEqual(self.drained, [True])
        self.assertEqual(self.lost, [])

    async def test_a_reader_that_leaves(self) -> None:
        """
        It is told once.
        """
        writer = self.write_on(self.writing_end)
        self.close(self.reading_end)
        writer.write(b"hello")
        await eventually(lambda: self.lost)
        self.assertEqual(len(self.lost), 1)

    async def test_a_file(self) -> None:
        """
        A file takes everything at once.
        """
        path = Path(self.mktemp())
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        self.open.add(descriptor)
        writer = self.write_on(descriptor)
        writer.write(b"x" * (2 * FULL))
        self.assertEqual(path.stat().st_size, 2 * FULL)
        await writer.flushed()
