"""
"Try now", said by the user: SIGUSR1, and ``resip retry``, which finds the clients to send it to.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from resip.bootstrap.errors import StateError
from resip.bootstrap.state import StateDirectory

#: Folder of the state directory with an empty file for each client that runs. Its name is the
#: process's number, and the process keeps it locked, so a left-over is told from a living one.
RUN_FOLDER = "run"
#: twistd would turn its log over at this signal; its log files turn over by size anyway.
SIGNAL = signal.SIGUSR1


class Pause:
    """
    A wait that "try now" cuts short.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._call: IDelayedCall | None = None
        self._over: Deferred[None] | None = None

    def begin(self, seconds: float) -> Deferred[None]:
        """
        Fires after so many seconds, or at :meth:`end`.
        """
        self._call = self._clock.callLater(seconds, self.end)
        self._over = Deferred(lambda _: self._forget())
        return self._over

    def end(self) -> None:
        """
        Do not wait any longer, if anybody does.
        """
        over = self._over
        self._forget()
        if over is not None:
            over.callback(None)

    def _forget(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = self._over = None


class RetrySignal(Service):
    """
    Calls ``retry`` at each SIGUSR1, and lets ``resip retry`` find this process.
    """

    _log = Logger()

    def __init__(self, reactor: Any, state: StateDirectory, retry: Callable[[], None]) -> None:
        self._reactor = reactor
        self._state = state
        self._retry = retry
        self._previous: Any = None
        self._lock: int | None = None

    def startService(self) -> None:
        """
        Begin to listen; the process has its final number now.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._previous = signal.signal(SIGNAL, self._on_signal)
        try:
            self._lock = _write_run_file(self._state)
        except (OSError, StateError) as error:
            self._log.info(
                "'resip retry' will not find this client ({error}); use 'kill -USR1 {pid}'",
                error=str(error),
                pid=os.getpid(),
            )

    def stopService(self) -> None:
        """
        Listen no more.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._previous is not None:
            signal.signal(SIGNAL, self._previous)
            self._previous = None
        if self._lock is not None:
            _run_file(self._state, os.getpid()).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # A signal may come in the middle of anything.
        self._reactor.callFromThread(self._retry)


def ask_clients_to_retry(state: StateDirectory) -> int:
    """
    Send the signal to every client that runs with this state directory.

    :return: to how many.
    :raises StateError: when the folder cannot be read, or a client belongs to another user.
    """
    asked = 0
    for name in state.names(RUN_FOLDER):
        if not (name.isascii() and name.isdigit()):
            continue
        path = _run_file(state, int(name))
        try:
            if _is_left_over(path):
                path.unlink(missing_ok=True)
                continue
            os.kill(int(name), SIGNAL)
        except ProcessLookupError:
            continue
        except OSError as error:
            raise StateError(
                f"cannot reach client {name} ({error.strerror}): run 'resip retry' as its user"
            ) from error
        asked += 1
    return asked


def _run_file(state: StateDirectory, pid: int) -> Path:
    return state.path_of(f"{RUN_FOLDER}/{pid}")


def _write_run_file(state: StateDirectory) -> int:
    # Locked before anybody can see it under its name.
    name = f"{RUN_FOLDER}/.{os.getpid()}"
    state.write(name, b"")
    hidden = state.path_of(name)
    descriptor = os.open(hidden, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(_run_file(state, os.getpid()))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_left_over(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
