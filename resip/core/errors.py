"""
Every error the core raises, and the codes with which channels end early.
"""

from __future__ import annotations

from enum import IntEnum


class ResetCode(IntEnum):
    """
    Why a channel ended before both ends were done with it.
    """

    #: The application on one side aborted its connection.
    CANCELLED = 0x00
    #: The far side's policy, or its dialect, does not allow the target.
    REFUSED = 0x01
    #: The far side could not connect to the target.
    CONNECT_FAILED = 0x02
    #: The session that carried the channel is gone, on either side.
    SESSION_LOST = 0x03
    #: The peer broke the protocol on this channel.
    PROTOCOL = 0x04


class ResipError(Exception):
    """
    The root of all errors that resip raises on purpose.
    """


class ProtocolError(ResipError):
    """
    The peer sent something that the dialect does not allow.

    Parsers raise it, and nothing else, for any input. The message names the value and the
    limit that it broke, never a key or a payload.
    """


class ChannelError(ResipError):
    """
    The caller used a channel that is not there, or in a way its state does not allow.
    """


class LimitError(ResipError):
    """
    The caller asked for more than a named limit of the configuration allows.
    """
