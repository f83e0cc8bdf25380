"""
Why a transfer does not succeed. Messages name cause and cure.
"""

from __future__ import annotations

from resip.core.errors import ResipError
from resip.direct.messages import FailureCode


class TransferError(ResipError):
    """
    A transfer has failed for good.

    :ivar code: what the other end is told.
    """

    def __init__(self, message: str, code: FailureCode) -> None:
        super().__init__(message)
        self.code = code


class KeyFileError(ResipError):
    """
    A key, or a file of one, is not what it should be.
    """
