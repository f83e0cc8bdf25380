"""
Tests of :mod:`resip.carriers.failures`.
"""

from __future__ import annotations

import traceback

from twisted.internet.defer import Deferred, fail
from twisted.internet.main import CONNECTION_LOST
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from resip.carriers.failures import own_failure


async def wait_for(failure: Failure) -> None:
    """
    Wait for what has failed.
    """
    await fail(failure)


class OwnFailureTests(SynchronousTestCase):
    """
    :func:`own_failure` is for coroutines.
    """

    def test_the_reason_stays(self) -> None:
        """
        It says what the other one says.
        """
        failure = own_failure(Failure(CONNECTION_LOST))
        self.assertIs(failure.type, type(CONNECTION_LOST))
        self.assertEqual(failure.getErrorMessage(), str(CONNECTION_LOST))

    def test_nothing_is_kept(self) -> None:
        """
        Twisted's exception for all lost connections does not collect those that waited.
        """
        before = len(list(traceback.walk_tb(CONNECTION_LOST.__traceback__)))
        for _ in range(10):
            waiting = Deferred.fromCoroutine(wait_for(own_failure(Failure(CONNECTION_LOST))))
            self.failureResultOf(waiting).trap(type(CONNECTION_LOST))
        after = len(list(traceback.walk_tb(CONNECTION_LOST.__traceback__)))
        self.assertEqual(after, before)
