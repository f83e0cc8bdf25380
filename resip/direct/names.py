"""
Names of files that somebody else has chosen.
"""

from __future__ import annotations

import os

from resip.direct.errors import TransferError
from resip.direct.messages import MAX_NAME, FailureCode

#: What the file of an unfinished transfer has behind its name.
PARTIAL_SUFFIX = ".resip-part"


def safe_name(name: bytes) -> str:
    """
    The name as one component of a path, unchanged.

    :raises TransferError: when it could lead elsewhere, hide, or confuse a terminal.
    """
    text = os.fsdecode(name)
    if not text or "/" in text or "\0" in text or not text.isprintable():
        problem = "is no plain file name"
    elif text.startswith("."):
        problem = "begins with a dot"
    elif text.endswith(PARTIAL_SUFFIX):
        problem = "is one of those that resip keeps for itself"
    elif len(name) > MAX_NAME - len(PARTIAL_SUFFIX):
        problem = "is too long"
    else:
        return text
    raise TransferError(
        f"the name {printable(name)} {problem}: send it with another --name, or receive it "
        "with --output FILE",
        FailureCode.BAD_NAME,
    )


def printable(name: bytes) -> str:
    """
    The name in quotes, with nothing in it that a terminal would act on.
    """
    return (
        ascii(os.fsdecode(name)) if not os.fsdecode(name).isprintable() else repr(os.fsdecode(name))
    )
