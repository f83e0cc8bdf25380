"""
Real processes: started in a directory of the test, waited for by what they write, stopped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent.parent
#: Where programs of servers are that are not on everybody's path.
EXTRA_PATH = ("/usr/sbin", "/usr/local/sbin", "/sbin")
#: Seconds that anything may take to happen, on a machine that is busy with other things.
DEADLINE = 20.0
#: ``twistd`` without its script, which may not be on the path.
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
#: The ``resip`` command, likewise.
RESIP = (sys.executable, "-m", "resip.cli.main")

AnyResult = TypeVar("AnyResult")


def find_program(name: str) -> str | None:
    """
    Where a program is, also one that only administrators have on their path.
    """
    folders = [os.environ.get("PATH", os.defpath), *EXTRA_PATH]
    folders += map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    return shutil.which(name, path=os.pathsep.join(folders))


def missing_programs(*names: str) -> str | None:
    """
    Why a test that needs these programs is skipped; ``None`` when all are installed.
    """
    missing = [name for name in names if find_program(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def free_port(host: str = "127.0.0.1") -> int:
    """
    A port that was free a moment ago, for programs that cannot choose one themselves.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """
    The environment of our own programs: this source tree, and nobody's settings.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _heed_interrupts() -> None:
    # A shell lets its background jobs ignore SIGINT, and they would hand that on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Process:
    """
    A program that runs while a test does. What it writes goes to a file.

    :param arguments: the program and its arguments.
    :param log: the file for its output and errors.
    :param options: further ones of :class:`subprocess.Popen`.
    """

    def __init__(self, *arguments: str, log: Path, **options: Any) -> None:
        self.log = log
        self.arguments = arguments
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **{"env": environment(), "preexec_fn": _heed_interrupts, **options},
            )

    @property
    def pid(self) -> int:
        """
        Its number.
        """
        return self._process.pid

    @property
    def text(self) -> str:
        """
        What it has written so far.
        """
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str, *, count: int = 1, seconds: float = DEADLINE) -> str:
        """
        Wait until the pattern occurs so many times, and return its group, or the whole match.

        :raises AssertionError: with all the output, when it does not or the program ends.
        """

        def find() -> re.Match[str] | None:
            found = list(re.finditer(pattern, self.text))
            return found[count - 1] if len(found) >= count else None

        match = self.wait_until(find, f"{pattern!r} in its output", seconds=seconds)
        return match[match.lastindex or 0]

    def wait_until(
        self, condition: Callable[[], AnyResult | None], what: str, *, seconds: float = DEADLINE
    ) -> AnyResult:
        """
        Wait until the condition gives something, while the program runs.

        :raises AssertionError: with all the output, when it does not or the program ends.
        """
        deadline = time.monotonic() + seconds
        while (found := condition()) is None:
            self.check(time.monotonic() < deadline, f"no {what} within {seconds} s")
            try:
                status = self._process.wait(timeout=0.02)
            except subprocess.TimeoutExpired:
                continue
            found = condition()
            self.check(found is not None, f"ended with status {status} before {what}")
        return found

    def check(self, is_right: bool, problem: str) -> None:
        """
        Fail with all the output, unless all is right.
        """
        if not is_right:
            raise AssertionError(f"{' '.join(self.arguments)}: {problem}; it wrote:\n{self.text}")

    def wait(self, *, seconds: float = DEADLINE) -> int:
        """
        Wait for its end and return its exit status.
        """
        return self._process.wait(timeout=seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = DEADLINE) -> int:
        """
        Ask it to end, insist after ``seconds``; returns its exit status.
        """
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def run(
    *arguments: str,
    text: str | bytes = "",
    seconds: float = 60.0,
    **options: Any,
) -> subprocess.CompletedProcess[bytes]:
    """
    Run a program to its end.

    :param text: its input.
    """
    return subprocess.run(
        arguments,
        input=text.encode() if isinstance(text, str) else text,
        capture_output=True,
        timeout=seconds,
        check=False,
        **{"env": environment(), **options},
    )


def wait_for_file(process: Process, path: Path) -> Mapping[str, Any]:
    """
    Wait until a process has written a file of JSON.
    """

    def read() -> Mapping[str, Any] | None:
        try:
            content: Mapping[str, Any] = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return content

    return process.wait_until(read, str(path))


def command_lines() -> Iterator[bytes]:
    """
    The arguments of every process that this user may look at.
    """
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue
