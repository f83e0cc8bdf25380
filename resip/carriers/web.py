"""
What the carriers over HTTPS have in common: where the server takes them, and how a request names
its session. Not in the address, which logs and proxies remember, but in a cookie.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Where a server takes both, whatever the method.
CARRIER_PATH = "/resip/v2/carrier"
COOKIE_NAME = b"resip"
ID_SIZE = 4
TOKEN_SIZE = 16


@dataclass(frozen=True, slots=True)
class WebAddress:
    """
    Whom requests are for, and how they are written.

    :ivar authority: host and port, for ``Host``.
    :ivar prefix: what stands before the path: nothing, or ``http://host:port`` for a proxy that
        is asked in absolute form (RFC 9112 section 3.2.2).
    :ivar headers: further ones, such as a proxy's credentials. Secrets: never log them.
    """

    authority: str
    prefix: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __repr__(self) -> str:
        """
        Without the headers.
        """
        return f"<WebAddress {self.prefix or self.authority}>"

    def target(self, path: str) -> str:
        """
        The request target for a path.
        """
        return f"{self.prefix}{path}"


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """
    What a request says about itself.

    :ivar session_id: 4 bytes, as a packet begins.
    :ivar token: names one link of the HTTP carrier, 16 random bytes; empty for a WebSocket.
    :ivar is_short: responses are to end as soon as there is something in them.
    """

    session_id: bytes
    token: bytes = b""
    is_short: bool = False

    def encode(self) -> bytes:
        """
        The header's value.
        """
        parts = [self.session_id.hex()]
        if self.token:
            parts.append(self.token.hex())
        if self.is_short:
            parts.append("short")
        return COOKIE_NAME + b"=" + "-".join(parts).encode("ascii")


def parse_cookie(value: bytes | None) -> SessionCookie | None:
    """
    The reverse of :meth:`SessionCookie.encode`, without name; ``None`` for anything else.
    """
    parts = (value or b"").decode("latin-1").split("-")
    is_short = len(parts) == 3 and parts[2] == "short"
    if len(parts) > 2 and not is_short:
        return None
    try:
        session_id, token = bytes.fromhex(parts[0]), bytes.fromhex("".join(parts[1:2]))
    except ValueError:
        return None
    if len(session_id) != ID_SIZE or len(token) not in (0, TOKEN_SIZE):
        return None
    return SessionCookie(session_id, token, is_short)
