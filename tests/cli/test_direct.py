"""
Tests of :mod:`resip.cli.direct` and :mod:`resip.cli.terminal`, as far as nothing is sent.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from resip.cli.main import main
from resip.cli.terminal import Terminal
from resip.direct.keys import KEY_FILE, public_text, read_key


class TTY(io.StringIO):
    """
    A stream that says it is a terminal.
    """

    def isatty(self) -> bool:
        """
        It is.
        """
        return True


class KeygenTests(SynchronousTestCase):
    """
    ``resip keygen``.
    """

    def run_resip(self, *arguments: str) -> tuple[int, str, str]:
        """
        Status, output and errors of a command.
        """
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = main(arguments)
        return status, output.getvalue(), errors.getvalue()

    def test_default_file(self) -> None:
        """
        Without ``--out`` the key is in the state directory, where send and receive look for it.
        """
        state = Path(self.mktemp())
        self.patch(os, "environ", {"STATE_DIRECTORY": str(state)})
        status, output, errors = self.run_resip("keygen")
        self.assertEqual(status, 0, errors)
        self.assertEqual(output.strip(), public_text(read_key(state / KEY_FILE)))
        self.assertEqual(state.stat().st_mode & 0o777, 0o700)
        status, output, errors = self.run_resip("keygen")
        self.assertEqual((status, output), (1, ""))
        self.assertIn("already", errors)

    def test_no_key(self) -> None:
        """
        Who has none is told how to make one.
        """
        self.patch(os, "environ", {"STATE_DIRECTORY": self.mktemp()})
        status, _, errors = self.run_resip("receive", "--listen", "udp:0", "--from", "x" * 43)
        self.assertEqual(status, 1)
        self.assertIn("resip keygen", errors)


class TerminalTests(SynchronousTestCase):
    """
    What people see.
    """

    def test_on_a_terminal(self) -> None:
        """
        What is shown takes the place of what was, and goes before a line that stays.
        """
        stream = TTY()
        terminal = Terminal(stream)
        terminal.show("one")
        terminal.show("two")
        terminal.say("three")
        terminal.clear()
        self.assertEqual(stream.getvalue(), "\rone\x1b[K\rtwo\x1b[K\r\x1b[Kresip: three\n")

    def test_elsewhere(self) -> None:
        """
        A log file gets only the lines that stay.
        """
        stream = io.StringIO()
        terminal = Terminal(stream)
        terminal.show("one")
        terminal.say("two")
        self.assertEqual(stream.getvalue(), "resip: two\n")

    def test_log(self) -> None:
        """
        Our own warnings and all tracebacks are told, and nothing else.
        """
        stream = io.StringIO()
        terminal = Terminal(stream)
        for level, namespace in (
            (LogLevel.info, "resip.services"),
            (LogLevel.warn, "resip.services"),
            (LogLevel.warn, "twisted.internet"),
        ):
            terminal.observe(
                {"log_level": level, "log_namespace": namespace, "log_format": f"{level.name}"}
            )
        self.assertEqual(stream.getvalue(), "resip: warn\n")
        terminal.observe(
            {
                "log_level": LogLevel.critical,
                "log_format": "broken",
                "log_failure": Failure(ValueError("why")),
            }
        )
        self.assertIn("ValueError", stream.getvalue())
