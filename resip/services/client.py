"""
The client, assembled: an invitation, a session that is started again when the server lost it,
and the forwards that use it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from resip.bootstrap.client import BootstrapClient
from resip.bootstrap.errors import BootstrapError, KeyRefused, LoginNeeded, RateLimited
from resip.bootstrap.invitation import Invitation
from resip.bootstrap.portal import find_login_page
from resip.carriers.driver import SessionDriver
from resip.carriers.framing import Framing, PrefixFraming
from resip.carriers.opener import SessionOpener
from resip.carriers.proxy import Proxy
from resip.core.types import Path, RandomBytes
from resip.services.clock import Clocks
from resip.services.errors import exit_on_user_error
from resip.services.hello import NOT_THE_SERVER
from resip.services.link_kinds import AUTO, Destination, LinkKind, endpoints, link_kinds_for
from resip.services.links import Link
from resip.services.qlog import trace_maker
from resip.services.retry import Pause
from resip.services.selection import CarrierSelection
from resip.services.starters import ClassicStarter, ModernStarter, NewSession, Starter
from resip.tunnel.listener import ForwardService
from resip.tunnel.specification import Forward

#: Seconds between attempts to start a session: at first, at most, and when only the operator
#: can help (a refused key, another server's certificate).
FIRST_RETRY = 0.5
MAX_RETRY = 10.0
HOPELESS_RETRY = 60.0
#: Seconds between handshakes that only ask whether the server was started anew.
QUESTION_INTERVAL = 60.0
#: Seconds between questions whether the network wants a login first.
LOGIN_INTERVAL = 20.0
PROGRAM = "resip-client"

_LOST_BY_RESTART = "the server was started anew and has lost session {session_id}; starting another"


@dataclass(frozen=True, slots=True)
class ClientConfiguration:
    """
    What the user decides.

    :ivar invitation: whose server, with which key.
    :ivar others: the same, with other hosts and ports of this server.
    :ivar forwards: where to listen and where that leads.
    :ivar carrier: one of :data:`resip.services.link_kinds.CARRIER_NAMES`.
    :ivar compress: ask for compressed channels.
    :ivar is_classic: speak the classic dialect.
    :ivar qlog: a directory for traces of the modern sessions.
    :ivar proxies: for all that goes over HTTPS and HTTP, by host; others are reached directly.
    :ivar http_port: where the server takes plain HTTP; ``None`` where it does not.
    """

    invitation: Invitation
    others: Sequence[Invitation] = ()
    forwards: Sequence[Forward] = ()
    carrier: str = AUTO
    compress: bool = False
    is_classic: bool = False
    qlog: FilePath | None = None
    proxies: Mapping[str, Proxy | None] = field(default_factory=dict)
    http_port: int | None = None


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
        self._bootstrap = bootstrap or self._make_bootstrap()
        self._starter = self._make_starter(random_bytes)
        self._opener = SessionOpener(resolves_names=self._starter.resolves_names)
        self._server_run: int | None = None
        self._next_question = self._next_login_question = float("-inf")
        self._login_page: str | None = None
        self._pause = Pause(reactor)
        self._driver: SessionDriver | None = None
        self._selection: CarrierSelection | None = None
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

    def _make_bootstrap(self) -> BootstrapClient:
        configuration = self._configuration
        return BootstrapClient(
            self._reactor,
            configuration.invitation,
            others=configuration.others,
            make_endpoint=self._endpoint,
        )

    def _proxy(self, host: str) -> Proxy | None:
        return self._configuration.proxies.get(host)

    def _endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        return endpoints(self._reactor, self._proxy(host))(host, port)

    def _make_starter(self, random_bytes: RandomBytes) -> Starter:
        bootstrap, clocks = self._bootstrap, self._clocks
        if self._configuration.is_classic:
            return ClassicStarter(bootstrap, clocks=clocks, random_bytes=random_bytes)
        make_trace = trace_maker(self._configuration.qlog, role="client", clocks=clocks)
        return ModernStarter(
            bootstrap,
            clocks=clocks,
            random_bytes=random_bytes,
            make_trace=make_trace,
            clock=self._reactor,
            make_links=self._make_hello_links,
        )

    def _make_hello_links(self) -> list[Link]:
        destination = self._destination(PrefixFraming, is_quiet=True)
        # Where HTTPS gets through, the handshake itself does.
        kinds = [kind for kind in self._link_kinds(can_probe=True) if not kind.needs_https]
        return [kind.link_to(destination) for kind in kinds]

    def _link_kinds(self, *, can_probe: bool) -> tuple[LinkKind, ...]:
        configuration = self._configuration
        return link_kinds_for(
            configuration.carrier,
            can_probe=can_probe,
            has_http=configuration.http_port is not None,
        )

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
        waiting = [*self._stopping, self._starter.stop()]
        if isinstance(stopping, Deferred):
            waiting.append(stopping)
        return gatherResults(waiting).addCallback(lambda _: None)

    def retry(self) -> None:
        """
        Something changed outside: look the server up again, dial again, and ask by every way
        at once.
        """
        self._pause.end()
        if self._driver is not None:
            self._driver.retry()
        if self._selection is not None:
            self._selection.retry()

    # Starting a session.

    def _begin(self, work: Any) -> None:
        if not self.running:  # the last words of a session that this service ends itself
            work.close()
            return
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
                trouble = await self._look_behind(error)
                self._report_trouble(trouble)
                await self._pause.begin(_retry_delay(trouble, delay))
                delay = min(2 * delay, MAX_RETRY)
            else:
                self._told.clear()
                self._use(new)
                return

    async def _look_behind(self, error: BootstrapError) -> BootstrapError:
        # Where a network wants a login, everything looks like a server that is down or is another.
        now, host = self._clocks.monotonic(), self._configuration.invitation.host
        is_strange = isinstance(error, NOT_THE_SERVER) and self._proxy(host) is None
        if not is_strange:
            return error
        if now >= self._next_login_question:
            self._next_login_question = now + LOGIN_INTERVAL
            self._login_page = await find_login_page(self._reactor, host)
        if self._login_page is None:
            return error
        return LoginNeeded(
            f"this network seems to want a login first: it answers in the name of {host} and leads "
            f"to {self._login_page}; open that in a browser and log in"
        )

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
        selection = self._selection = self._select(new)
        self._server_run = new.server_run
        self._driver = SessionDriver(
            new.session,
            selection.carriers,
            clock=self._reactor,
            now=self._clocks.monotonic,
            on_path=self._report_path,
            on_silence=self._on_silence,
            on_path_answer=selection.path_answered,
            on_path_silence=selection.path_silent,
            on_path_delivery=selection.path_delivered,
            on_answer=self._on_answer,
            on_lost=self._on_lost,
        )
        self._log.info(
            "session {session_id} started with {server}{kind}",
            session_id=new.session.session_id,
            server=invitation.authority,
            kind=new.note,
        )
        selection.start(self._driver)
        self._opener.use(self._driver)

    def _select(self, new: NewSession) -> CarrierSelection:
        return CarrierSelection(
            self._link_kinds(can_probe=new.session.can_probe_paths),
            self._destination(new.make_framing),
            now=self._clocks.monotonic,
        )

    def _destination(
        self, make_framing: Callable[[], Framing], *, is_quiet: bool = False
    ) -> Destination:
        configuration = self._configuration
        first, *others = (
            Destination(
                self._reactor,
                place.host,
                place.port,
                make_framing,
                place,
                is_quiet=is_quiet,
                proxy=self._proxy(place.host),
                http_port=configuration.http_port,
            )
            for place in (configuration.invitation, *configuration.others)
        )
        return replace(first, others=tuple(others))

    def _report_path(self, path: Path | None) -> None:
        if path is None:
            self._tell("the connection to the server is gone; dialling again")
        elif path != self._told_path:
            self._told_path = path
            self._log.info("packets go by {path}", path=path)

    # Losing one.

    def _on_silence(self, seconds: float) -> None:
        if self._selection is not None:
            self._selection.renew()
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
            self._report_trouble(await self._look_behind(error))
            if self._configuration.http_port is not None and isinstance(error, NOT_THE_SERVER):
                await self._ask_in_packets()
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
            else _LOST_BY_RESTART
        )
        self._log.warn(message, session_id=session_id)
        self._drop_session()
        await self._connect()

    async def _ask_in_packets(self) -> None:
        # Over plain HTTP nothing tells a lost session from a lost server but another handshake.
        # Each starts a session, which the server keeps for ten minutes (M-52): so not too often.
        if self._clocks.monotonic() < self._next_question:
            return
        run, session_id = self._server_run, self.session_id
        try:
            new = await self._starter.start()
        except BootstrapError:
            return
        self._next_question = self._clocks.monotonic() + QUESTION_INTERVAL
        if new.server_run != run and session_id == self.session_id:
            self._log.warn(_LOST_BY_RESTART, session_id=session_id)
            self._drop_session()
            self._use(new)

    def _report_deaf_carrier(self) -> None:
        assert self._driver is not None and self._selection is not None, "there is a session"
        if not self._driver.is_peer_silent:
            return  # the outage ended while the question was on its way
        trouble = f"the server answers over HTTPS, but not to packets by {self._selection.names}"
        if self._configuration.carrier != AUTO or self._configuration.is_classic:
            trouble += "; if this stays so, try another --carrier"
        self._tell(trouble)

    def _on_answer(self) -> None:
        if self._told:
            self._told.clear()
            self._log.info("the server answers again")

    def _drop_session(self) -> None:
        driver, selection = self._driver, self._selection
        self._opener.use(None)
        self._driver = self._selection = self._server_run = self._told_path = None
        if driver is not None:
            driver.stop()
        if selection is not None:
            stopping = selection.stop()
            self._stopping.append(stopping)
            stopping.addBoth(lambda _: self._stopping.remove(stopping))


def _retry_delay(error: BootstrapError, delay: float) -> float:
    if isinstance(error, RateLimited):
        return max(error.retry_after, delay)
    return delay if error.is_retryable else HOPELESS_RETRY
