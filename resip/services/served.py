"""
One session of a server, as its driver reports on it. There are thousands, so it is small.
"""

from __future__ import annotations

from typing import Protocol

from resip.carriers.channels import Channel
from resip.carriers.driver import SessionDriver
from resip.core.modern.frames import CloseCode
from resip.core.session import Session
from resip.core.types import Path


class SessionKeeper(Protocol):
    """
    Who acts on the reports of all sessions.
    """

    def channel_requested(self, channel: Channel, owner: str) -> None:
        """
        A client asks for a channel.

        :param owner: the name of its key.
        """

    def report_path(self, session_id: int, path: Path | None) -> None:
        """
        Packets of a session go elsewhere, or nowhere.
        """

    def end(self, session_id: int, reason: str, *, code: CloseCode = CloseCode.NONE) -> None:
        """
        End a session, if it is there.
        """


class Served:
    """
    One session: whose it is, since when, and what its driver reports.

    :ivar driver: ends with the session.
    """

    __slots__ = ("_keeper", "driver", "owner", "session_id", "start_time")

    driver: SessionDriver

    def __init__(self, keeper: SessionKeeper, session: Session, owner: str) -> None:
        self._keeper = keeper
        self.session_id = session.session_id
        self.owner = owner
        self.start_time = session.last_received_time

    @property
    def last_received_time(self) -> float:
        """
        When its client last showed life.
        """
        return self.driver.session.last_received_time

    @property
    def has_arrived(self) -> bool:
        """
        Whether a packet of its client ever came.
        """
        return self.last_received_time > self.start_time

    def requested(self, channel: Channel) -> None:
        """
        The client asks for a channel.
        """
        self._keeper.channel_requested(channel, self.owner)

    def path_changed(self, path: Path | None) -> None:
        """
        Packets go elsewhere.
        """
        self._keeper.report_path(self.session_id, path)

    def lost(self, reason: str) -> None:
        """
        The client has ended the session.
        """
        self._keeper.end(self.session_id, reason)
