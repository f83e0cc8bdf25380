"""
The tables of the benchmarks, what counts as met, and what is printed; and what they let pass.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase

from bench import load, session, stolen
from bench.matrix import Case, Reading, Table, add_arguments, count_missed, run


def by_seed(seed: int) -> Sequence[float]:
    """
    A measurement that is easy to foresee.
    """
    return [seed, 10 * seed]


CASE = Case((Reading("small", "s", high=2), Reading("large", "Mbit/s", low=20)), by_seed)


class ReadingTests(SynchronousTestCase):
    """
    Targets.
    """

    def test_a_target_has_an_upper_and_a_lower_bound(self) -> None:
        """
        Both count, and neither is needed.
        """
        both = Reading("share", "ratio", 0.4, 2.5)
        self.assertEqual([both.is_met(x) for x in (0.3, 0.4, 2.5, 3)], [False, True, True, False])
        self.assertTrue(Reading("for information", "s").is_met(1e9))

    def test_the_worst_is_on_the_wrong_side(self) -> None:
        """
        The largest where less is better, the smallest where more is, of ratios the farther one.
        """
        values = [0.1, 1.0, 3.0]
        self.assertEqual(Reading("", "", high=1).worst(values), 3.0)
        self.assertEqual(Reading("", "", low=1).worst(values), 0.1)
        self.assertEqual(Reading("", "", 0.4, 2.5).worst(values), 0.1)


class TableTests(SynchronousTestCase):
    """
    Running and printing.
    """

    def run_table(self, *arguments: str) -> tuple[str, int]:
        """
        What is printed, and how many targets are missed.
        """
        parser = argparse.ArgumentParser()
        add_arguments(parser, seeds=3, first_seed=1)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            tables = {"one": Table("A table", [CASE])}
            results = run(tables, parser.parse_args(arguments))
        return output.getvalue(), count_missed(results)

    def test_each_reading_has_a_line(self) -> None:
        """
        Mean, worst, target, and how many seeds met it; what is missed is marked.
        """
        text, missed = self.run_table()
        lines = [line.split() for line in text.splitlines() if line[:5] in ("small", "large")]
        self.assertEqual(lines[0], ["small", "2", "3", "s", "<=", "2", "2/3"])
        self.assertEqual(lines[1], ["large", "20", "10", "Mbit/s", ">=", "20", "2/3"])
        self.assertEqual(missed, 0)
        text, missed = self.run_table("--first-seed", "3", "--seeds", "1")
        self.assertIn("1/1\n", text)
        self.assertIn("0/1 MISSED", text)
        self.assertEqual(missed, 1)

    def test_a_table_for_the_documents(self) -> None:
        """
        The same in Markdown.
        """
        text, _ = self.run_table("--markdown")
        self.assertIn("| small, s | 2 | 3 | ≤ 2 | 2/3 |", text)

    def test_lines_are_chosen_by_name(self) -> None:
        """
        ``--only`` leaves out the cases that have no such reading, ``--quick`` those that take long.
        """
        for arguments in (("--only", "medium"), ("--quick",)):
            self.assertNotIn("small", self.run_table(*arguments)[0])

    def test_every_table_of_sessions_has_lines(self) -> None:
        """
        No two readings have one name, and each table has something for a short look.
        """
        for name, table in session.tables().items():
            names = [reading.name for case in table.cases for reading in case.readings]
            self.assertEqual(len(names), len(set(names)), name)
            self.assertTrue(any(case.is_quick for case in table.cases), name)

    def test_an_unknown_table_is_refused(self) -> None:
        """
        The command says which it does not know.
        """
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            self.assertRaises(SystemExit, session.main, ["goodputt"])
        self.assertIn("goodputt", errors.getvalue())


class ComparedFileTests(SynchronousTestCase):
    """
    A transfer that is compared with what was sent.
    """

    SIZE = 300_000

    def fetch_through(self, spoil: Callable[[bytes], bytes]) -> float:
        """
        Fetch a file, over a connection that does something to it.
        """
        server = load.LoadServer()
        fetched = b""
        with load.connect(("127.0.0.1", server.port), b"F" + self.SIZE.to_bytes(8)) as source:
            while data := source.recv(1 << 18):
                fetched += data
        with socket.create_server(("127.0.0.1", 0)) as spoiling:
            sender = threading.Thread(target=self.send, args=(spoiling, spoil(fetched)))
            sender.start()
            self.addCleanup(sender.join)
            return load.fetch_file(spoiling.getsockname(), self.SIZE)

    def send(self, server: socket.socket, data: bytes) -> None:
        """
        Give one client some data, whatever it asks for.
        """
        connection, _ = server.accept()
        with connection:
            connection.recv(9, socket.MSG_WAITALL)
            connection.sendall(data)

    def test_what_was_sent(self) -> None:
        """
        The time is told.
        """
        self.assertGreater(self.fetch_through(lambda data: data), 0)

    def test_another_byte(self) -> None:
        """
        A byte that was changed on the way is noticed.
        """
        spoiled = self.assertRaises(
            RuntimeError, self.fetch_through, lambda data: bytes([data[0] ^ 1]) + data[1:]
        )
        self.assertIn("not what was sent", str(spoiled))

    def test_a_connection_that_breaks(self) -> None:
        """
        So is the end of the connection.
        """
        broken = self.assertRaises(RuntimeError, self.fetch_through, lambda data: data[:1000])
        self.assertIn("too soon", str(broken))


class StolenTimeTests(SynchronousTestCase):
    """
    What the host took.
    """

    def share_between(self, *readings: str) -> float:
        """
        The share of time between two readings of a kernel.
        """
        path = FilePath(self.mktemp())
        self.patch(stolen, "_STAT", Path(path.path))
        path.setContent(readings[0].encode())
        watch = stolen.StolenTime()
        path.setContent(readings[1].encode())
        return watch.share

    def test_of_the_time_that_was_wanted(self) -> None:
        """
        Idle time, and waiting for disks, do not count.
        """
        before = "cpu  100 0 50 9000 7 0 5 10 0 0\ncpu0 1 2 3\n"
        after = "cpu  160 0 70 9900 90 0 5 30 0 0\ncpu0 1 2 3\n"
        self.assertAlmostEqual(self.share_between(before, after), 20 / 100)

    def test_kernels_that_do_not_tell(self) -> None:
        """
        Nothing is known to be stolen, and a machine that did nothing lost nothing.
        """
        for reading in ("", "cpu 1 2 3\n", "cpu  1 0 1 5 0 0 0 9 0 0\n"):
            self.assertEqual(self.share_between(reading, reading), 0)
