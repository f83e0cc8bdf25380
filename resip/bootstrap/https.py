"""
What all requests to a server's HTTPS port share: how much, how long, and what to say of failures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

from OpenSSL import SSL
from twisted.internet import defer, error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from resip.bootstrap.errors import BootstrapError, NotAResipServer, Unreachable
from resip.bootstrap.pinning import ChainVerifier
from resip.carriers.failures import own_failure
from resip.carriers.proxy import ProxyRefusal

#: Seconds until a connection must stand, tried on every address of the host.
CONNECT_TIMEOUT = 10.0

#: Seconds until the whole reply must be there.
REQUEST_TIMEOUT = 20.0

#: Bytes of the longest reply that is read; the API's longest has about a thousand.
MAX_REPLY_SIZE = 64 * 1024

#: Seconds after which a request that has no answer is made once more, on another connection: at
#: half of all packets lost a single one may hang for as long as it lives. And how many at once.
ATTEMPT_INTERVAL = 1.5
MAX_ATTEMPTS = 4

_T = TypeVar("_T")


@implementer(IBodyProducer)
class BytesProducer:
    """
    A request body in one piece; Twisted's own takes turns of the global reactor for it.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Write it all.
        """
        consumer.write(self._body)
        return defer.succeed(None)

    def pauseProducing(self) -> None:
        """
        Nothing is left to be paused.
        """

    def resumeProducing(self) -> None:
        """
        Nothing was paused.
        """

    def stopProducing(self) -> None:
        """
        Nothing is left to be stopped.
        """


class _BodyReader(Protocol):
    """
    Collects a body up to :data:`MAX_REPLY_SIZE`.
    """

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._body = bytearray()
        self.finished: Deferred[bytes] = Deferred(lambda _: self._close())

    def dataReceived(self, data: bytes) -> None:
        if self.finished.called:
            return
        self._body += data
        if len(self._body) > MAX_REPLY_SIZE:
            self._body.clear()
            self._close()
            problem = not_resip(self._authority, f"more than {MAX_REPLY_SIZE} bytes of reply")
            self.finished.errback(problem)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        if isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self.finished.callback(bytes(self._body))
        else:
            self.finished.errback(own_failure(reason))

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class ParallelAttempts(Generic[_T]):
    """
    One request, made again on a fresh connection while there is no answer; the first one counts.

    For requests that may arrive more than once.

    :param attempt: makes the request.
    :param ways: attempts in a row that go to different places. A failure then only says something
        of one place: the next is tried at once.
    """

    def __init__(
        self, clock: IReactorTime, attempt: Callable[[], Deferred[_T]], *, ways: int = 1
    ) -> None:
        self._attempt = attempt
        self._ways = ways
        self._running: list[Deferred[_T]] = []
        self._made = 0
        self._is_over = False
        self._repetition = LoopingCall(self._begin)
        self._repetition.clock = clock
        self._result: Deferred[_T] = Deferred(lambda _: self._stop())

    def run(self) -> Deferred[_T]:
        """
        Begin.

        :return: fires with the first answer. It fails with the first failure that says more than
            that the network does not work, or when no attempt is left.
        """
        self._repetition.start(ATTEMPT_INTERVAL)
        return self._result

    def _begin(self) -> None:
        if self._made >= max(MAX_ATTEMPTS, self._ways):
            self._repetition.stop()
            return
        self._made += 1
        attempt = self._attempt()
        self._running.append(attempt)
        # After the list has it: it may have failed already.
        attempt.addCallbacks(self._succeeded, self._failed, errbackArgs=(attempt,))

    def _succeeded(self, answer: _T) -> None:
        if not self._is_over:
            self._stop()
            self._result.callback(answer)

    def _failed(self, failure: Failure, attempt: Deferred[_T]) -> None:
        if self._is_over:
            return
        self._running.remove(attempt)
        if self._made < self._ways:
            self._begin()
        elif not self._running or (self._ways == 1 and failure.check(Unreachable) is None):
            self._stop()
            self._result.errback(failure)

    def _stop(self) -> None:
        self._is_over = True
        if self._repetition.running:
            self._repetition.stop()
        for attempt in self._running:
            attempt.cancel()


async def read_body(response: Any, authority: str) -> bytes:
    """
    The body of a response, up to :data:`MAX_REPLY_SIZE`.

    :raises NotAResipServer: when it is longer.
    """
    reader = _BodyReader(authority)
    response.deliverBody(reader)
    return await reader.finished


async def within_deadline(work: Deferred[_T], reactor: Any, authority: str) -> _T:
    """
    Wait for ``work``, at most :data:`REQUEST_TIMEOUT`.

    :raises Unreachable: when it takes longer.
    """

    def give_up(result: Any, timeout: float) -> NoReturn:
        cause = result.value if isinstance(result, Failure) else None
        if isinstance(cause, BootstrapError) and not isinstance(cause, Unreachable):
            raise cause
        raise Unreachable(
            f"no answer from {authority} within {timeout:.0f} s: check host and port, the "
            "network and any firewall between"
        )

    work.addTimeout(REQUEST_TIMEOUT, reactor, onTimeoutCancel=give_up)
    return await work


def explain(problem: Exception, verifier: ChainVerifier, authority: str) -> Exception:
    """
    Say for the user what went wrong; cancellation is passed on as it is.
    """
    if verifier.error is not None:
        return verifier.error
    causes = [reason.value for reason in getattr(problem, "reasons", ())] or [problem]
    for cause in causes:
        if isinstance(cause, BootstrapError | defer.CancelledError):
            return cause
    cause = causes[0]
    if isinstance(cause, ProxyRefusal):
        return Unreachable(str(cause))
    if isinstance(cause, SSL.Error):
        return not_resip(authority, "no TLS 1.2 or newer")
    if isinstance(cause, error.ConnectionRefusedError):
        return Unreachable(
            f"{authority} refuses connections: check that the server runs and that the port is "
            "right"
        )
    if isinstance(cause, error.DNSLookupError):
        return Unreachable(
            f"the name in {authority} cannot be resolved: check the name and the network"
        )
    if isinstance(cause, ValueError):  # the host, for all else is checked before
        return BootstrapError(
            f"{authority} is no name that can be looked up: ask for an invitation with another "
            "host ('resip invite --host')"
        )
    if isinstance(cause, error.TimeoutError):
        return Unreachable(
            f"no connection to {authority} within {CONNECT_TIMEOUT:.0f} s: check host and port, "
            "the network and any firewall between"
        )
    if isinstance(cause, error.ConnectError):
        return Unreachable(f"{authority} cannot be reached ({cause}): check the network")
    if isinstance(cause, error.ConnectionClosed):
        return Unreachable(
            f"{authority} closed the connection without an answer: check the server's log"
        )
    return not_resip(authority, type(cause).__name__)


def not_resip(authority: str, reason: str) -> NotAResipServer:
    """
    Something else answers there.
    """
    return NotAResipServer(
        f"what answers at {authority} is no resip server ({reason}): check host and port"
    )
