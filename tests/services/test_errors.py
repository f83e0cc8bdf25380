"""
Tests of :mod:`resip.services.errors`.
"""

from __future__ import annotations

from typing import cast

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from resip.services.errors import ServiceError, exit_on_user_error


class ExitTests(SynchronousTestCase):
    """
    How a service gives up.
    """

    def setUp(self) -> None:
        """
        Listen to the log.
        """
        self.events: list[LogEvent] = []
        self.log = Logger(observer=cast(ILogObserver, self.events.append))

    def give_up(self, error: Exception) -> None:
        """
        Fail with an error.
        """
        with exit_on_user_error(self.log, "program"):
            raise error

    def test_an_error_with_cause_and_cure(self) -> None:
        """
        One line with the program's name for the terminal, and the same in the log.
        """
        error = self.assertRaises(SystemExit, self.give_up, ServiceError("it is so: do that"))
        self.assertEqual(error.code, "program: it is so: do that")
        (event,) = self.events
        self.assertEqual(event["log_level"], LogLevel.critical)
        self.assertEqual(formatEvent(event), "it is so: do that")

    def test_twistd_must_notice(self) -> None:
        """
        What is raised is an ``Exception``, for ``twistd`` cleans up after nothing else.
        """
        error = self.assertRaises(SystemExit, self.give_up, ServiceError("it is so: do that"))
        self.assertIsInstance(error, Exception)

    def test_our_own_mistakes(self) -> None:
        """
        An error that nobody raised on purpose passes, with its traceback.
        """
        self.assertRaises(ZeroDivisionError, self.give_up, ZeroDivisionError())
        self.assertEqual(self.events, [])
