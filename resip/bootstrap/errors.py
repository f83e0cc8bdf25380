"""
Every error that keys, state and the session API raise. Messages are written for users:
they name the cause and the cure, and never a key.
"""

from __future__ import annotations

from resip.core.errors import ResipError


class StateError(ResipError):
    """
    A file of the state directory cannot be read or written, or is not what it should be.
    """


class KeyStoreError(ResipError):
    """
    The key store is unreadable, or was asked for something that it cannot do.
    """


class InvitationError(ResipError):
    """
    A text is not an invitation, or no invitation could be found.
    """


class BootstrapError(ResipError):
    """
    A session could not be started, or a server not be asked, over HTTPS.

    :cvar is_retryable: whether the same attempt may succeed later without anybody doing
        anything about it.
    """

    is_retryable: bool = False


class Unreachable(BootstrapError):
    """
    No connection, or the connection ended or fell silent before there was an answer.
    """

    is_retryable = True


class LoginNeeded(BootstrapError):
    """
    The network lets nobody through before he has logged in.
    """

    is_retryable = True


class PinMismatch(BootstrapError):
    """
    The certificate is not the one that the invitation names: another server, or an attacker.
    """


class CertificateExpired(BootstrapError):
    """
    A certificate is outside its dates, seen from this machine's clock.
    """


class KeyRefused(BootstrapError):
    """
    The server does not know the API key (403).
    """


class RateLimited(BootstrapError):
    """
    The server wants to be asked less often (429).

    :ivar retry_after: seconds to wait, at least 1.
    """

    is_retryable = True

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestRefused(BootstrapError):
    """
    The server understood the request and said no (400).

    :ivar error_code: what the API calls the reason.
    """

    def __init__(self, message: str, error_code: str, *, is_retryable: bool = False) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.is_retryable = is_retryable


class ServerFailed(BootstrapError):
    """
    The server failed while it answered (5xx).
    """

    is_retryable = True


class NotAResipServer(BootstrapError):
    """
    Whatever answers at the address does not speak the session API.
    """
