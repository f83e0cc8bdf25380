"""
Joins a session's driver to links of all kinds, and does what a :class:`CarrierChoice` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from resip.carriers.driver import SessionDriver
from resip.carriers.interfaces import Carrier
from resip.core.events import PathDelivered
from resip.core.types import Path
from resip.services.choice import CarrierChoice
from resip.services.link_kinds import Destination, LinkKind
from resip.services.links import Link
from resip.services.path_actions import (
    Action,
    ProbePath,
    Reason,
    RenewKind,
    StartKind,
    StopKind,
    UsePath,
)


class _KindUser:
    """
    Tells a selection of which kind the link is that speaks. A
    :class:`~resip.services.links.LinkUser`.
    """

    def __init__(self, selection: CarrierSelection, kind: int) -> None:
        self._selection = selection
        self._kind = kind
        self.path_closed = selection.path_closed
        self.path_writable = selection.path_writable
        self.preamble = selection.preamble
        self.receive_datagrams = selection.receive_datagrams

    def path_open(self, path: Path, carrier: Carrier) -> None:
        self._selection.path_open(self._kind, path, carrier)


class CarrierSelection:
    """
    All links of one session.

    :param kinds: to choose among, best first.
    :param now: monotonic seconds.
    :ivar carriers: what the session's driver sends with, by name.
    """

    _log = Logger()

    def __init__(
        self, kinds: Sequence[LinkKind], destination: Destination, *, now: Callable[[], float]
    ) -> None:
        self._kinds = kinds
        self._destination = destination
        self._reactor = destination.reactor
        self._now = now
        self._driver: SessionDriver | None = None
        self._choice: CarrierChoice | None = None
        self._links: dict[int, Link] = {}
        self._stopping: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None
        self._is_acting = False
        self._carriers: dict[str, Carrier] = {}
        self.carriers: Mapping[str, Carrier] = self._carriers

    @property
    def names(self) -> str:
        """
        The kinds, for a sentence.
        """
        return " or ".join(kind.name for kind in self._kinds)

    def start(self, driver: SessionDriver) -> None:
        """
        Find a way for a session, and better ones, from now on.
        """
        self._driver = driver
        self._choice = CarrierChoice(
            [kind.head_start for kind in self._kinds],
            can_probe=driver.session.can_probe_paths,
            now=self._now(),
        )
        self._act()

    def renew(self) -> None:
        """
        The server does not answer: look it up again, and dial again what was dialled.
        """
        for link in list(self._links.values()):
            link.renew()

    def retry(self) -> None:
        """
        Something changed outside: look the server up, dial, and probe everything now.
        """
        if self._choice is not None:
            self.renew()
            self._choice.retry(now=self._now())
            self._act()

    def stop(self) -> Deferred[None]:
        """
        Close all links; fires when it is done.
        """
        self._driver = self._choice = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for kind in list(self._links):
            self._stop_link(kind)
        return gatherResults(list(self._stopping)).addCallback(lambda _: None)

    def _stop_link(self, kind: int) -> None:
        stopping = self._links.pop(kind).stop()
        self._stopping.append(stopping)
        stopping.addBoth(lambda _: self._stopping.remove(stopping))

    # What the session tells.

    def path_answered(self, path: Path) -> None:
        """
        The server answered by a path.
        """
        if self._choice is not None:
            self._choice.path_answered(path, now=self._now())
            self._act()

    def path_silent(self, path: Path) -> None:
        """
        The server does not answer by the path in use.
        """
        if self._choice is not None:
            self._choice.path_silent(path, now=self._now())
            self._act()

    def path_delivered(self, delivery: PathDelivered) -> None:
        """
        The path in use carried something.
        """
        if self._choice is not None:
            self._choice.path_delivered(delivery, now=self._now())
            self._act()

    # What the links tell; see LinkUser.

    def path_open(self, kind: int, path: Path, carrier: Carrier) -> None:
        """
        Packets may go by a path of ``carrier``'s, of the kind with this index.
        """
        self._carriers[path.carrier] = carrier
        if self._choice is not None:
            self._choice.path_open(kind, path, now=self._now())
            self._act()

    def path_closed(self, path: Path) -> None:
        """
        No packet goes there any more.
        """
        if self._driver is not None and self._choice is not None:
            self._driver.path_closed(path)
            self._choice.path_closed(path, now=self._now())
            self._act()

    def path_writable(self, path: Path) -> None:
        """
        A path that was full takes more.
        """
        if self._driver is not None:
            self._driver.turn_soon()

    def preamble(self, path: Path) -> bytes:
        """
        What a connection begins with.
        """
        return b"" if self._driver is None else self._driver.session.preamble(path)

    def receive_datagrams(self, packets: Sequence[bytes], path: Path) -> bool:
        """
        Packets arrived; returns whether any was authentic.
        """
        driver, choice = self._driver, self._choice
        if driver is None or choice is None or not driver.receive_datagrams(packets, path):
            return False
        if not driver.session.can_probe_paths and choice.is_doubted:
            # A session without probes does not tell by which path the server answers.
            self.path_answered(path)
        return True

    # What was decided.

    def _act(self) -> None:
        if self._is_acting:
            return  # links may report while they are told something; the loop below goes on
        self._is_acting = True
        try:
            while self._choice is not None and (actions := self._choice.take_actions()):
                for action in actions:
                    self._do(action)
        finally:
            self._is_acting = False
        self._arm()

    def _do(self, action: Action) -> None:
        driver = self._driver
        if driver is None:
            return
        match action:
            case StartKind(kind):
                link = self._links[kind] = self._kinds[kind].link_to(self._destination)
                link.start(_KindUser(self, kind))
            case RenewKind(kind):
                self._links[kind].renew()
            case StopKind(kind, paths):
                for path in paths:
                    driver.path_closed(path)
                self._stop_link(kind)
            case ProbePath(path):
                driver.probe_path(path)
            case UsePath(path, reason, before):
                self._tell(path, reason, before)
                driver.use_path(path)

    def _tell(self, path: Path, reason: Reason, before: Path | None) -> None:
        if reason is Reason.SILENT and self._driver is not None:
            self._log.info("{before} gives no answers; trying {path}", before=before, path=path)
        elif reason is Reason.BETTER:
            self._log.info("{path} answers and is better than {before}", path=path, before=before)
        elif reason is Reason.TRIAL:
            self._log.info("does {path} carry more than {before}?", path=path, before=before)
        elif reason is Reason.SLOWER:
            self._log.info("{before} does not carry more than {path}", path=path, before=before)

    def _arm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        deadline = None if self._choice is None else self._choice.get_timer()
        if deadline is not None:
            delay = max(0.0, deadline - self._now())
            self._timer = self._reactor.callLater(delay, self._on_timer)

    def _on_timer(self) -> None:
        if self._choice is not None:
            self._choice.handle_timer(now=self._now())
            self._act()
