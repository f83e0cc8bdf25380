"""
Tests of :mod:`resip.direct.keys` and :mod:`resip.direct.progress`.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.noise import public_key_of
from resip.direct.errors import KeyFileError
from resip.direct.keys import make_key, parse_public_key, public_text, read_key, write_key
from resip.direct.progress import ProgressLine, duration, quantity


class KeyTests(SynchronousTestCase):
    """
    Key files and public keys.
    """

    def setUp(self) -> None:
        """
        A key and a path.
        """
        self.key = make_key(Random(1).randbytes)
        self.path = Path(self.mktemp())

    def test_round_trip(self) -> None:
        """
        A key that was written is read, and its user alone may read it.
        """
        write_key(self.path, self.key)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(public_text(read_key(self.path)), public_text(self.key))
        self.assertEqual(parse_public_key(public_text(self.key)), public_key_of(self.key))

    def test_nothing_is_overwritten(self) -> None:
        """
        A second key says which is there, and never its private half; a link is not followed.
        """
        write_key(self.path, self.key)
        before = self.path.read_bytes()
        with self.assertRaises(KeyFileError) as caught:
            write_key(self.path, make_key(Random(2).randbytes))
        self.assertIn(public_text(self.key), str(caught.exception))
        self.assertNotIn(before.decode().strip(), str(caught.exception))
        self.assertEqual(self.path.read_bytes(), before)
        link = Path(self.mktemp())
        link.symlink_to(self.path.parent / "elsewhere")
        self.assertRaises(KeyFileError, write_key, link, self.key)

    def test_public_keys_are_no_options(self) -> None:
        """
        None begins with a dash, which a command line would misunderstand.
        """
        dice = Random(3)
        texts = [public_text(make_key(dice.randbytes)) for _ in range(300)]
        self.assertFalse(any(text.startswith("-") for text in texts))

    def test_damage(self) -> None:
        """
        What is no key, or not private, is not used.
        """
        self.assertRaises(KeyFileError, read_key, self.path)
        write_key(self.path, self.key)
        self.path.chmod(0o640)
        with self.assertRaisesRegex(KeyFileError, "chmod 600"):
            read_key(self.path)
        self.path.chmod(0o600)
        self.path.write_bytes(b"0123")
        self.assertRaises(KeyFileError, read_key, self.path)
        for text in ("", "abc", "!" * 43, public_text(self.key)[:-1], "a" * 44):
            self.assertRaises(KeyFileError, parse_public_key, text)


class ProgressTests(SynchronousTestCase):
    """
    The line for people.
    """

    def test_rate_and_time(self) -> None:
        """
        The rate of the last seconds, and what is left by it.
        """
        line = ProgressLine("x", 100_000_000)
        line.text(0, now=0.0)
        line.text(10_000_000, now=5.0)
        text = line.text(50_000_000, now=10.0)
        self.assertEqual(text, "x   50 %  50.0 MB of 100 MB  8.00 MB/s  0:06 left")

    def test_unknown_size(self) -> None:
        """
        A stream has no share and no end.
        """
        line = ProgressLine("x", None)
        line.text(0, now=0.0)
        self.assertEqual(line.text(2000, now=1.0), "x  2.00 kB  2.00 kB/s")
        self.assertEqual(ProgressLine("x", 0).text(0, now=0.0), "x  0 B")

    def test_silence(self) -> None:
        """
        Whoever waits is told for how long.
        """
        text = ProgressLine("x", None).text(5, now=0.0, silence=12.4)
        self.assertEqual(text, "x  5 B  waiting for the peer: no answer for 12 s")

    def test_quantities(self) -> None:
        """
        Three digits, and the unit that goes with them.
        """
        for count, text in (
            (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (9994, "9.99 kB"), (9996, "10.0 kB"),
            (99_949, "99.9 kB"), (99_951, "100 kB"), (999_600, "1.00 MB"), (2.5e15, "2.50 PB"),
            (5e18, "5000 PB"),
        ):  # fmt: skip
            self.assertEqual(quantity(count), text)
        for seconds, text in ((41.6, "0:42"), (7384, "2:03:04"), (1e99, "99:59:59")):
            self.assertEqual(duration(seconds), text)
