"""
Tests of :mod:`resip.direct.destinations` and :mod:`resip.direct.names`.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from resip.direct import destinations
from resip.direct.destinations import (
    CHECKPOINT_DISTANCE,
    FileDestination,
    StreamDestination,
    file_path,
)
from resip.direct.errors import TransferError
from resip.direct.messages import MAX_CHECKPOINTS, FailureCode, Offer
from resip.direct.names import PARTIAL_SUFFIX, safe_name
from tests.direct.test_sources import CONTENT, mark

DIGEST = hashlib.sha256(CONTENT).digest()


class FileDestinationTests(SynchronousTestCase):
    """
    Files.
    """

    def setUp(self) -> None:
        """
        A directory.
        """
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "name"
        self.partial = self.directory / f"name{PARTIAL_SUFFIX}"
        self.addCleanup(os.umask, os.umask(0o022))

    def open(
        self, *, size: int | None = len(CONTENT), mode: int = 0o666, overwrite: bool = False
    ) -> FileDestination:
        """
        A destination that has looked at what is there.
        """
        destination = FileDestination(self.path, Offer(b"name", size, mode), overwrite=overwrite)
        self.addCleanup(destination.close)
        list(destination.look())
        return destination

    def assert_fails(self, code: FailureCode, function: object, *arguments: object) -> str:
        """
        A call fails for a reason; returns what is told.
        """
        assert callable(function)
        with self.assertRaises(TransferError) as caught:
            function(*arguments)
        self.assertIs(caught.exception.code, code)
        return str(caught.exception)

    def test_a_new_file(self) -> None:
        """
        It has its name when it is complete and not before, and only then may others read it.
        """
        destination = self.open(mode=0o777)
        self.assertEqual(destination.checkpoints, ())
        destination.start(0)
        destination.write(CONTENT)
        self.assertEqual([path.name for path in self.directory.iterdir()], [self.partial.name])
        self.assertEqual(self.partial.stat().st_mode & 0o777, 0o600)
        destination.finish(DIGEST)
        self.assertEqual([path.name for path in self.directory.iterdir()], ["name"])
        self.assertEqual(self.path.read_bytes(), CONTENT)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o755)

    def test_the_rest_of_a_file(self) -> None:
        """
        What is there is told with hashes, and what follows the chosen one is thrown away (T-6).
        """
        self.partial.write_bytes(CONTENT[:3_000_000] + bytes(100_000))
        destination = self.open()
        offsets = [checkpoint.offset for checkpoint in destination.checkpoints]
        self.assertEqual(offsets, [1 << 20, 2 << 20, 3_100_000])
        self.assertEqual(destination.checkpoints[1], mark(2 << 20))
        destination.start(2 << 20)
        destination.write(CONTENT[2 << 20 :])
        destination.finish(DIGEST)
        self.assertEqual(self.path.read_bytes(), CONTENT)

    def test_checkpoints_are_few(self) -> None:
        """
        However large the file is, they fit into a message.
        """
        self.patch(destinations, "CHECKPOINT_DISTANCE", 1000)
        self.partial.write_bytes(CONTENT)
        checkpoints = self.open().checkpoints
        self.assertLessEqual(len(checkpoints), MAX_CHECKPOINTS)
        self.assertGreater(len(checkpoints), MAX_CHECKPOINTS // 2)
        self.assertEqual(checkpoints[-1].offset, len(CONTENT))
        self.assertGreater(CHECKPOINT_DISTANCE, 1000)

    def test_an_interruption_keeps_what_has_come(self) -> None:
        """
        A file that is not complete stays, unless it is empty.
        """
        destination = self.open()
        destination.start(0)
        destination.close()
        self.assertFalse(self.partial.exists())
        destination = self.open()
        destination.start(0)
        destination.write(CONTENT[:10])
        destination.close()
        self.assertEqual(self.partial.read_bytes(), CONTENT[:10])

    def test_a_wrong_hash(self) -> None:
        """
        What is not what was sent does not get the name.
        """
        destination = self.open()
        destination.start(0)
        destination.write(CONTENT[:-1] + b"?")
        self.assert_fails(FailureCode.MISMATCH, destination.finish, DIGEST)
        self.assertFalse(self.path.exists())

    def test_another_file_of_that_name(self) -> None:
        """
        It is not touched, whether it was there before or came meanwhile.
        """
        self.path.write_bytes(b"other")
        self.assert_fails(FailureCode.EXISTS, self.open)
        self.path.write_bytes(CONTENT[::-1])
        destination = self.open()
        self.assert_fails(FailureCode.EXISTS, destination.start, 0)
        self.path.unlink()
        destination = self.open()
        destination.start(0)
        destination.write(CONTENT)
        self.path.write_bytes(b"other")
        self.assert_fails(FailureCode.EXISTS, destination.finish, DIGEST)
        self.assertEqual(self.path.read_bytes(), b"other")

    def test_the_same_file(self) -> None:
        """
        A sender that did not hear that all was well hears it now.
        """
        self.path.write_bytes(CONTENT)
        destination = self.open()
        self.assertEqual(destination.checkpoints[-1], mark(len(CONTENT)))
        destination.start(len(CONTENT))
        destination.finish(DIGEST)
        self.assertEqual([path.name for path in self.directory.iterdir()], ["name"])

    def test_overwrite(self) -> None:
        """
        Where it is wanted another file goes, when the new one is complete.
        """
        self.path.write_bytes(b"other")
        destination = self.open(overwrite=True)
        destination.start(0)
        destination.write(CONTENT)
        self.assertEqual(self.path.read_bytes(), b"other")
        destination.finish(DIGEST)
        self.assertEqual(self.path.read_bytes(), CONTENT)

    def test_traps(self) -> None:
        """
        Links, pipes and directories that wait under the names lead nowhere.
        """
        victim = self.directory.resolve() / "victim"
        victim.write_bytes(b"precious")
        for trap in (
            lambda: self.partial.symlink_to(victim),
            lambda: self.partial.hardlink_to(victim),
            lambda: os.mkfifo(self.partial),
            lambda: self.partial.mkdir(),
            lambda: self.path.symlink_to(victim),
        ):
            trap()
            with self.assertRaises(TransferError):
                self.open(size=8)
            for path in (self.partial, self.path):
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
        self.assertEqual(victim.read_bytes(), b"precious")

    def test_a_full_disk(self) -> None:
        """
        What does not fit is refused before it comes, or when it does not fit any more; what has
        come stays.
        """
        told = self.assert_fails(FailureCode.NO_SPACE, lambda: self.open(size=1 << 60))
        self.assertIn("free some space", told)
        destination = self.open()
        destination.start(0)
        destination.write(CONTENT[:10])

        def write(*arguments: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(os, "pwrite", write)
        self.assert_fails(FailureCode.NO_SPACE, destination.write, b"more")
        destination.close()
        self.assertEqual(self.partial.read_bytes(), CONTENT[:10])

    def test_no_directory(self) -> None:
        """
        What cannot be written is told with its cause.
        """
        self.path = self.directory / "gone" / "name"
        told = self.assert_fails(FailureCode.WRITE_FAILED, self.open)
        self.assertIn("No such file or directory", told)


class NameTests(SynchronousTestCase):
    """
    Names that a sender chooses.
    """

    def test_good_names(self) -> None:
        """
        They are used as they are.
        """
        for name in ("a", "archive.tar.gz", "Übersicht 2.txt", "-rf", "a..b", "x" * 240):
            self.assertEqual(safe_name(os.fsencode(name)), name)

    def test_bad_names(self) -> None:
        """
        Whatever could lead out of the directory, hide or confuse is refused, by a harmless text.
        """
        for name in (
            b"", b".", b"..", b".ssh", b"a/b", b"/etc/passwd", b"../x", b"a\0b", b"a\nb",
            b"\x1b[2J", b"\xff", "a\u202eb".encode(), b"x.resip-part", b"x" * 250,
        ):  # fmt: skip
            with self.assertRaises(TransferError, msg=repr(name)) as caught:
                safe_name(name)
            self.assertIs(caught.exception.code, FailureCode.BAD_NAME)
            self.assertTrue(str(caught.exception).isprintable())

    def test_path(self) -> None:
        """
        In a directory the sender's name counts, for a file it does not.
        """
        directory = Path(self.mktemp())
        directory.mkdir()
        self.assertEqual(file_path(directory, Offer(b"x", 1, 0)), directory / "x")
        self.assertEqual(file_path(directory / "y", Offer(b"../x", 1, 0)), directory / "y")


class StreamDestinationTests(SynchronousTestCase):
    """
    Streams.
    """

    def setUp(self) -> None:
        """
        One that has taken something.
        """
        self.written: list[bytes] = []
        self.destination = StreamDestination(self.written.append)
        list(self.destination.look())
        self.destination.start(0)
        self.destination.write(CONTENT[:1000])

    def test_going_on(self) -> None:
        """
        A sender that comes anew goes on where the last one stopped, and nowhere else.
        """
        list(self.destination.look())
        self.assertEqual(self.destination.checkpoints, (mark(1000),))
        self.destination.start(1000)
        self.destination.write(CONTENT[1000:])
        self.destination.finish(DIGEST)
        self.assertEqual(b"".join(self.written), CONTENT)
        self.assertEqual(self.destination.checkpoints, ())

    def test_another_beginning(self) -> None:
        """
        What was written cannot be taken back.
        """
        with self.assertRaises(TransferError) as caught:
            self.destination.start(0)
        self.assertIs(caught.exception.code, FailureCode.CANNOT_RESUME)

    def test_a_wrong_hash(self) -> None:
        """
        It is told.
        """
        with self.assertRaises(TransferError) as caught:
            self.destination.finish(DIGEST)
        self.assertIs(caught.exception.code, FailureCode.MISMATCH)
