"""
What a :class:`~resip.services.choice.CarrierChoice` wants done.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from resip.core.types import Path


class Reason(Enum):
    """
    Why a path is used.
    """

    #: There was none.
    NEEDED = auto()
    #: The one before is gone.
    CLOSED = auto()
    #: The one before gives no answers.
    SILENT = auto()
    #: It answers, and is of a better kind than the one before.
    BETTER = auto()
    #: It may deliver more than the one before.
    TRIAL = auto()
    #: It was tried for a moment, and does not deliver enough.
    SLOWER = auto()


@dataclass(frozen=True, slots=True)
class Action:
    """
    Something that the owner of a choice has to do.
    """


@dataclass(frozen=True, slots=True)
class StartKind(Action):
    """
    Open the paths of a kind, by its index.
    """

    kind: int


@dataclass(frozen=True, slots=True)
class RenewKind(Action):
    """
    Dial again what a kind keeps open.
    """

    kind: int


@dataclass(frozen=True, slots=True)
class StopKind(Action):
    """
    Close all that a kind keeps open, ``paths`` among it.
    """

    kind: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ProbePath(Action):
    """
    Ask whether the server answers by a path.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class UsePath(Action):
    """
    Send by a path from now on.

    :ivar before: the path that was in use.
    """

    path: Path
    reason: Reason
    before: Path | None
