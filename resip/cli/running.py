"""
Runs the reactor for a command that takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, globalLogBeginner
from twisted.python.failure import Failure

from resip.cli.terminal import Terminal
from resip.services.clock import use_monotonic_time
from resip.services.memory import keep_freed_memory

_T = TypeVar("_T")


def run_to_end(work: Callable[[Any], Coroutine[Any, Any, _T]], terminal: Terminal) -> _T:
    """
    Run the reactor for as long as some work takes. Works once in a process.

    :param work: given the reactor; cancelled when somebody ends the process by a signal.
    :raises KeyboardInterrupt: in that case, when the work has ended in order.
    """
    from twisted.internet import reactor as global_reactor

    reactor = cast(Any, global_reactor)
    globalLogBeginner.beginLoggingTo(
        [cast(ILogObserver, terminal.observe)], redirectStandardIO=False
    )
    use_monotonic_time(reactor)
    keep_freed_memory()
    run = _Run(reactor, work)
    reactor.callWhenRunning(run.start)
    reactor.addSystemEventTrigger("before", "shutdown", run.stop)
    reactor.run()
    terminal.clear()
    result = run.result
    if not isinstance(result, Failure):
        return cast(_T, result)
    if result.check(CancelledError) is not None:
        raise KeyboardInterrupt
    result.raiseException()
    raise AssertionError("it has raised")


class _Run:
    def __init__(self, reactor: Any, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
        self._reactor = reactor
        self._work = work
        self._task: Deferred[None] | None = None
        self._is_stopping = False
        self._over: Deferred[None] = Deferred()
        self.result: object = Failure(CancelledError())

    def start(self) -> None:
        task = self._task = Deferred.fromCoroutine(self._work(self._reactor))
        task.addBoth(self._ended)

    def stop(self) -> Deferred[None] | None:
        self._is_stopping = True
        if self._task is None:
            return None
        self._task.cancel()
        return self._over

    def _ended(self, result: object) -> None:
        self.result = result
        self._over.callback(None)
        if not self._is_stopping:
            self._reactor.stop()
