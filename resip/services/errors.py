"""
How a service tells its operator that it cannot go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import Logger

from resip.core.errors import ResipError


class ServiceError(ResipError):
    """
    A service cannot start. The message names cause and cure.
    """


class StartFailure(SystemExit, Exception):
    """
    Ends the process with one line on standard error and status 1.

    It is an :class:`Exception`, too: ``twistd`` catches nothing else to remove its PID file and
    to tell the shell that waits for a process in the background, which otherwise waits for ever.
    """


@contextmanager
def exit_on_user_error(log: Logger, program: str) -> Iterator[None]:
    """
    Turn an error with cause and cure into one line on standard error and in the log, and exit 1.

    A traceback would hide the line that helps. Errors of other kinds are ours and pass.
    """
    try:
        yield
    except ResipError as error:
        log.critical("{error}", error=str(error))
        raise StartFailure(f"{program}: {error}") from None
