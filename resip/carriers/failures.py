"""
Why a connection failed, for those who wait for it.
"""

from __future__ import annotations

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure


def own_failure(reason: Failure) -> Failure:
    """
    The same reason with an exception of its own.

    Twisted has one exception for all connections that end, and one for all that break. A
    coroutine that waits raises it, and each time it keeps the frames that it passed, so what
    failed would never be forgotten. So no ``reason`` of ``connectionLost`` is waited for as it is.

    :param reason: as ``connectionLost`` is told.
    """
    for shared in (CONNECTION_DONE, CONNECTION_LOST):
        if reason.value is shared:
            return Failure(type(shared)(*shared.args))
    return reason
