"""
The set of attachments that someone is responsible for until the last of them is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from twisted.internet.defer import Deferred


class Attachment(Protocol):
    """
    Something that joins a channel with a socket.
    """

    def abort(self) -> None:
        """
        Give up both at once. Harmless when it is over already.
        """


class Attachments:
    """
    Knows the live attachments, and when there are none left.
    """

    def __init__(self) -> None:
        self._live: set[Attachment] = set()
        self._quiet: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Attachment]:
        return iter(tuple(self._live))

    def add(self, attachment: Attachment) -> None:
        """
        Be responsible for one more.
        """
        self._live.add(attachment)

    def discard(self, attachment: Attachment) -> None:
        """
        It is over.
        """
        self._live.discard(attachment)
        if not self._live:
            quiet, self._quiet = self._quiet, []
            for waiting in quiet:
                waiting.callback(None)

    def abort_all(self) -> Deferred[None]:
        """
        End all of them.

        :return: fires when the last one is over.
        """
        quiet: Deferred[None] = Deferred()
        for attachment in self:
            attachment.abort()
        if self._live:
            self._quiet.append(quiet)
        else:
            quiet.callback(None)
        return quiet
