"""
The client, assembled: an invitation, a session that is started again when the server lost it,
and the forwards that use it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from resip.bootstrap.client import BootstrapClient
from resip.bootstrap.errors import BootstrapError, KeyRefused, RateLimited
from resip.bootstrap.invitation import Invitation
from resip.carriers.driver import SessionDriver
from resip.carriers.opener import SessionOpener
from resip.core.types import Path, RandomBytes
from resip.services.clock import Clocks
from resip.services.errors import exit_on_user_error
from resip.services.links import Link, TCPLink, UDPLink
from resip.services.starters import ClassicStarter, ModernStarter, NewSession, Starter
from resip.tunnel.listener import ForwardService
from resip.tunnel.specification import Forward

#: Seconds between attempts to start a session: at first, at most, and when only the operator
#: can help (a refused key, another server's certificate).
FIRST_RETRY = 0.5
MAX_RETRY = 10.0
HOPELESS_RETRY = 60.0
PROGRAM = "resip-client"


@dataclass(frozen=True, slots=True)
class ClientConfiguration:
    """
    What the user decides.

    :ivar invitation: whose server, with which key.
    :ivar forwards: where to listen and where that leads.
    :ivar carrier: ``udp`` or ``tcp``; ``auto`` prefers UDP.
    :ivar compress: ask for compressed channels.
    :ivar is_classic: speak the classic dialect.
    """

    invitation: Invitation
    forwards: Sequence[Forward] = ()
    carrier: str = "auto"
    compress: bool = False
    is_classic: bool = False


class ClientService(MultiService):
    """
    Listens at once; connects as soon as the server can be reached, and again whenever it has
    forgotten the session.

    :ivar forwards: the forwards at work.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: ClientConfiguration,
        *,
        clocks: Clocks | None = None,
        random_bytes: RandomBytes = os.urandom,
        bootstrap: BootstrapClient | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._configuration = configuration
        self._clocks = clocks or Clocks()
        self._bootstrap = bootstrap or BootstrapClient(reactor, configuration.invitation)
        make_starter = ClassicStarter if configuration.is_classic else ModernStarter
        self._starter: Starter = make_starter(
            self._bootstrap, clocks=self._clocks, random_bytes=random_bytes
        )
        self._opener = SessionOpener(resolves_names=self._starter.resolves_names)
        self._server_run: int | None = None
        self._driver: SessionDriver | None = None
        self._link: Link | None = None
        self._task: Deferred[None] | None = None
        self._stopping: list[Deferred[None]] = []
        self._told: set[str] = set()
        self._told_path: Path | None = None
        self.forwards = [
            ForwardService(reactor, forward, self._opener, compress=configuration.compress)
            for forward in configuration.forwards
        ]
        for forward in self.forwards:
            forward.setServiceParent(self)  # type: ignore[no-untyped-call]

    @property
    def session_id(self) -> int | None:
        """
        The session in use; safe to log.
        """
        return None if self._driver is None else self._driver.session.session_id

    @property
    def path(self) -> Path | None:
        """
        Where its packets go.
        """
        return None if self._driver is None else self._driver.session.path

    def privilegedStartService(self) -> None:
        """
        Open the listening ports; Twisted calls this before it gives up privileges.

        :raises SystemExit: after one line that says what is wrong, and what helps.
        """
        with exit_on_user_error(self._log, PROGRAM):
            super().privilegedStartService()  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """
        Begin to connect; Twisted calls this.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._begin(self._connect())

    def stopService(self) -> Deferred[None]:
        """
        End the session and close everything; fires when all is quiet.
        """
        stopping = super().stopService()  # type: ignore[no-untyped-call]
        if self._task is not None:
            self._task.cancel()
        self._drop_session()
        self._opener.close()
        waiting = [*self._stopping, stopping] if isinstance(stopping, Deferred) else self._stopping
        return gatherResults(list(waiting)).addCallback(lambda _: None)

    def retry(self) -> None:
        """
        Something changed outside: try now.
        """
        if self._driver is not None:
            self._driver.retry()

    # Starting a session.

    def _begin(self, work: Any) -> None:
        task = self._task = Deferred.fromCoroutine(work)
        task.addErrback(self._failed)
        task.addBoth(self._ended, task)

    def _failed(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("connecting failed", failure)

    def _ended(self, _: object, task: Deferred[None]) -> None:
        if self._task is task:
            self._task = None

    async def _connect(self) -> None:
        delay = FIRST_RETRY
        while True:
            try:
                new = await self._starter.start()
            except BootstrapError as error:
                if not self.running:
                    return
                self._report_trouble(error)
                await deferLater(self._reactor, _retry_delay(error, delay))
                delay = min(2 * delay, MAX_RETRY)
            else:
                self._told.clear()
                self._use(new)
                return

    def _report_trouble(self, error: BootstrapError) -> None:
        if error.is_retryable:
            self._tell(f"{error}; trying again until it works")
        else:
            self._tell(f"{error}; trying again every {HOPELESS_RETRY:.0f} s", is_hopeless=True)

    def _tell(self, trouble: str, *, is_hopeless: bool = False) -> None:
        # An outage of days must not fill the log: each trouble is told once, until it is over.
        if trouble in self._told:
            return
        self._told.add(trouble)
        if is_hopeless:
            self._log.error("{trouble}", trouble=trouble)
        else:
            self._log.warn("{trouble}", trouble=trouble)

    def _use(self, new: NewSession) -> None:
        invitation = self._configuration.invitation
        link = self._link = self._make_link(new)
        self._server_run = new.server_run
        self._driver = SessionDriver(
            new.session,
            link.carriers,
            clock=self._reactor,
            now=self._clocks.monotonic,
            on_path=self._report_path,
            on_silence=self._on_silence,
            on_answer=self._on_answer,
            on_lost=self._on_lost,
        )
        self._log.info(
            "session {session_id} started with {server}{kind}",
            session_id=new.session.session_id,
            server=invitation.authority,
            kind=new.note,
        )
        link.start(self._driver, invitation.host, invitation.port)
        self._opener.use(self._driver)

    def _make_link(self, new: NewSession) -> Link:
        if self._configuration.carrier == "tcp":
            return TCPLink(self._reactor, make_framing=new.make_framing, preamble=new.preamble)
        return UDPLink(self._reactor)

    def _report_path(self, path: Path | None) -> None:
        if path is None:
            self._tell("the connection to the server is gone; dialling again")
        elif path != self._told_path:
            self._told_path = path
            self._log.info("packets go by {path}", path=path)

    # Losing one.

    def _on_silence(self, seconds: float) -> None:
        if self._link is not None:
            self._link.renew()
        if self._task is None:
            self._begin(self._ask_for_life())

    def _on_lost(self, reason: str) -> None:
        self._log.warn("the session is over: {reason}; starting another", reason=reason)
        self._drop_session()
        if self._task is None:
            self._begin(self._connect())

    async def _ask_for_life(self) -> None:
        run, session_id = self._server_run, self.session_id
        try:
            info = await self._bootstrap.server_info(session_id)
        except KeyRefused as error:
            # The server has ended the sessions of this key, too.
            self._report_trouble(error)
            self._drop_session()
            await self._connect()
            return
        except BootstrapError as error:
            self._report_trouble(error)
            return
        if run is None:
            return
        is_same_run = info.started == run
        if is_same_run and info.has_session is not False:
            self._report_deaf_carrier()
            return
        message = (
            "the server has ended session {session_id}; starting another"
            if is_same_run
            else "the server was started anew and has lost session {session_id}; starting another"
        )
        self._log.warn(message, session_id=session_id)
        self._drop_session()
        await self._connect()

    def _report_deaf_carrier(self) -> None:
        way = self.path or "any way"
        trouble = f"the server answers over HTTPS, but not to packets by {way}"
        if isinstance(self._link, UDPLink):
            trouble += "; if this stays so, UDP is blocked: try --carrier tcp"
        self._tell(trouble)

    def _on_answer(self) -> None:
        if self._told:
            self._told.clear()
            self._log.info("the server answers again")

    def _drop_session(self) -> None:
        driver, link = self._driver, self._link
        self._opener.use(None)
        self._driver = self._link = self._server_run = self._told_path = None
        if driver is not None:
            driver.stop()
        if link is not None:
            stopping = link.stop()
            self._stopping.append(stopping)
            stopping.addBoth(lambda _: self._stopping.remove(stopping))


def _retry_delay(error: BootstrapError, delay: float) -> float:
    if isinstance(error, RateLimited):
        return max(error.retry_after, delay)
    return delay if error.is_retryable else HOPELESS_RETRY
