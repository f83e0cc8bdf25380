"""
Tests of "try now": the signal, and finding the clients to send it to.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from resip.bootstrap.state import StateDirectory
from resip.services.retry import RUN_FOLDER, Pause, RetrySignal, ask_clients_to_retry

#: Larger than the kernel numbers processes.
NO_PROCESS = 2**22 + 1


class PauseTests(SynchronousTestCase):
    """
    A wait of ten seconds.
    """

    def setUp(self) -> None:
        """
        Begin it.
        """
        self.clock = Clock()
        self.pause = Pause(self.clock)
        self.over = self.pause.begin(10.0)

    def test_it_ends_by_itself(self) -> None:
        """
        When the time is over, and not before.
        """
        self.clock.advance(9.9)
        self.assertNoResult(self.over)
        self.clock.advance(0.1)
        self.successResultOf(self.over)

    def test_it_is_cut_short(self) -> None:
        """
        At once and once; nothing is left, and the next one is whole.
        """
        self.pause.end()
        self.successResultOf(self.over)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.pause.end()
        self.assertNoResult(self.pause.begin(10.0))

    def test_it_is_given_up(self) -> None:
        """
        Whoever waits no more leaves nothing behind.
        """
        self.over.cancel()
        self.failureResultOf(self.over, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.pause.end()


class RetrySignalTests(TestCase):
    """
    A service that listens for SIGUSR1.
    """

    def setUp(self) -> None:
        """
        A listening service.
        """
        self.state = StateDirectory(Path(self.mktemp()))
        self.asked: Deferred[None] = Deferred()
        self.service = RetrySignal(reactor, self.state, lambda: self.asked.callback(None))
        self.service.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """
        Stop the service, unless the test did.
        """
        if self.service.running:
            self.service.stopService()

    def test_the_signal_is_passed_on(self) -> Deferred[None]:
        """
        SIGUSR1 leads to a retry, in the reactor's turn.
        """
        os.kill(os.getpid(), signal.SIGUSR1)
        return self.asked.addTimeout(10, reactor)

    def test_it_is_found(self) -> Deferred[None]:
        """
        Who asks the clients of a state directory finds the process that runs.
        """
        self.assertEqual(ask_clients_to_retry(self.state), 1)
        return self.asked.addTimeout(10, reactor)

    def test_a_stopped_one_is_not_found(self) -> None:
        """
        After the stop nothing is left.
        """
        self.service.stopService()
        self.assertEqual(ask_clients_to_retry(self.state), 0)
        self.assertEqual(self.state.names(RUN_FOLDER), [])

    def test_what_a_killed_client_left_is_removed(self) -> None:
        """
        A file that nobody locks belongs to a process that is gone; whoever has its number now
        gets no signal.
        """
        self.service.stopService()
        self.state.write(f"{RUN_FOLDER}/{NO_PROCESS}", b"")
        self.assertEqual(ask_clients_to_retry(self.state), 0)
        self.assertEqual(self.state.names(RUN_FOLDER), [])

    def test_a_directory_that_cannot_be_written_is_no_failure(self) -> None:
        """
        The signal works all the same.
        """
        blocked = Path(self.mktemp())
        blocked.write_text("in the way")
        service = RetrySignal(reactor, StateDirectory(blocked), lambda: None)
        service.startService()
        service.stopService()
