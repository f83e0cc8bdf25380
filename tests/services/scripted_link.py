"""
A link for tests.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from resip.core.types import Path
from resip.services.links import LinkUser
from tests.carriers.fixture import ListCarrier


class ScriptedLink:
    """
    A :class:`~resip.services.links.Link` that does nothing by itself, only what the test says.

    :ivar carrier: of all its paths.
    """

    def __init__(self) -> None:
        self.carrier = ListCarrier()
        self.user: LinkUser | None = None
        self.renewals = self.stops = 0

    def start(self, user: LinkUser) -> None:
        """
        Note the user.
        """
        self.user = user

    def renew(self) -> None:
        """
        Count it.
        """
        self.renewals += 1

    def stop(self) -> Deferred[None]:
        """
        Count it.
        """
        self.stops += 1
        return succeed(None)

    def open(self, path: Path) -> None:
        """
        Offer a path.
        """
        assert self.user is not None, "it was started"
        self.user.path_open(path, self.carrier)

    def close(self, path: Path) -> None:
        """
        Take it back.
        """
        assert self.user is not None, "it was started"
        self.user.path_closed(path)
