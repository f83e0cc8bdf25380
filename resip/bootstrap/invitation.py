"""
Invitations: one line that holds all a client needs to find a server, to be sure that it is
the right one, and to be let in.

::

    resip://SECRET@HOST:HTTPSPORT?port=PORT&name=NAME&key=KEY&pin=PIN
    resip+classic://APIKEY@HOST:HTTPSPORT?port=PORT&name=NAME&pin=PIN&leaf=FINGERPRINT

SECRET, KEY, PIN and FINGERPRINT are 32 bytes in base64url without padding; an IPv6 address stands
in brackets. Without KEY an invitation is for the classic dialect only. What must not be missing
comes last, so that a line that was cut off is noticed. The second form is how a client stores a
server that it joined with an API key.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from resip.bootstrap.credentials import (
    SECRET_SIZE,
    decode_base64url,
    derive_api_key,
    encode_base64url,
)
from resip.bootstrap.errors import InvitationError
from resip.bootstrap.keystore import is_valid_name
from resip.core.modern.noise import KEY_SIZE

SCHEME = "resip"
CLASSIC_SCHEME = "resip+classic"

#: Bytes of a pin and of a leaf fingerprint, both SHA-256.
PIN_SIZE = 32

#: Characters of the longest invitation; a longer text is something else.
MAX_LENGTH = 2048

#: Characters of the longest API key that a classic server may hand out.
MAX_API_KEY_LENGTH = 512

_ASK_AGAIN = "ask whoever runs the server for a new one ('resip invite')"
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?"
)
_LINE = re.compile(
    r"(?P<scheme>[a-z+]+)://(?P<user>[^@/?#\[\]]*)@"
    r"(?:\[(?P<address>[^\[\]@/?#]*)\]|(?P<host>[^:@/?#\[\]]*)):(?P<port>[0-9]*)\?(?P<query>[^#]*)"
)


@dataclass(frozen=True, slots=True)
class Invitation:
    """
    One server, and one key for it: either a ``secret``, or a ``classic_api_key`` together with a
    ``leaf_fingerprint``.

    :ivar host: a name or an IP address, without brackets.
    :ivar https_port: where the session API listens.
    :ivar port: where the carriers listen, UDP and TCP.
    :ivar name: what the server calls the key.
    :ivar pin: SHA-256 of the SubjectPublicKeyInfo of the server's root certificate.
    :ivar secret: 32 bytes; everything that lets the client in is derived from it.
    :ivar classic_api_key: the API key of a server that knows no invitations.
    :ivar leaf_fingerprint: SHA-256 of the server's certificate, which must then stay the same
        byte for byte; ``None`` where the root vouches for it.
    :ivar server_key: the server's X25519 public key, 32 bytes; ``None`` where it speaks the
        classic dialect only.
    :raises InvitationError: when a field is not what it should be.
    """

    host: str
    https_port: int
    port: int
    name: str
    pin: bytes
    secret: bytes | None = field(default=None, repr=False)
    classic_api_key: str | None = field(default=None, repr=False)
    leaf_fingerprint: bytes | None = None
    server_key: bytes | None = None

    def __post_init__(self) -> None:
        if not is_valid_host(self.host):
            raise InvitationError(
                f"{self.host!r} is neither a host name nor an address: write an international "
                "name in its xn-- form"
            )
        for port in (self.https_port, self.port):
            if not 1 <= port <= 65535:
                raise InvitationError(f"port {port} is not in 1 to 65535: check the line")
        if not is_valid_name(self.name):
            raise InvitationError(f"{self.name!r} is not a key name: {_ASK_AGAIN}")
        _require_size("pin", self.pin, PIN_SIZE)
        if self.server_key is not None:
            _require_size("server key", self.server_key, KEY_SIZE)
        if self.classic_api_key is None and self.leaf_fingerprint is None:
            _require_size("secret", self.secret or b"", SECRET_SIZE)
        elif self.secret is not None:
            raise InvitationError(f"a secret and an API key at once: {_ASK_AGAIN}")
        else:
            _require_api_key(self.classic_api_key or "")
            _require_size("leaf fingerprint", self.leaf_fingerprint or b"", PIN_SIZE)

    @property
    def api_key(self) -> str:
        """
        The key that the session API asks for. A secret: never log it.
        """
        if self.classic_api_key is not None:
            return self.classic_api_key
        assert self.secret is not None
        return derive_api_key(self.secret)

    @property
    def authority(self) -> str:
        """
        ``host:port`` of the session API, with brackets around an IPv6 address; for messages.
        """
        return f"{bracketed(self.host)}:{self.https_port}"

    def at(self, other: Invitation) -> Invitation:
        """
        The key of this invitation, at the place that another one for the same server names.

        :raises InvitationError: when the other one is for another server.
        """
        if (other.pin, other.server_key) != (self.pin, self.server_key):
            raise InvitationError(
                f"{other.authority} is another server than {self.authority}: a client uses one "
                "server, at several addresses if need be; start another client for the other"
            )
        return replace(self, host=other.host, https_port=other.https_port, port=other.port)

    def to_text(self) -> str:
        """
        The line, without line end. A secret: never log it.
        """
        if self.classic_api_key is None:
            scheme, user = SCHEME, encode_base64url(self.secret or b"")
        else:
            scheme, user = CLASSIC_SCHEME, quote(self.classic_api_key, safe="")
        line = f"{scheme}://{user}@{self.authority}?port={self.port}&name={self.name}"
        if self.server_key is not None:
            line += f"&key={encode_base64url(self.server_key)}"
        line += f"&pin={encode_base64url(self.pin)}"
        if self.leaf_fingerprint is not None:
            line += f"&leaf={encode_base64url(self.leaf_fingerprint)}"
        return line


def parse_invitation(text: str) -> Invitation:
    """
    The reverse of :meth:`Invitation.to_text`. White space around the line is ignored, and so
    are parameters that a later version may add.

    :raises InvitationError: for anything else, and with nothing else. The message never holds
        the secret.
    """
    line = text.strip()
    if not line:
        raise InvitationError(
            f"no invitation, the text is empty: paste the line that starts with {SCHEME}://"
        )
    if len(line) > MAX_LENGTH or len(line.split()) > 1:
        raise InvitationError(
            f"an invitation is one line that starts with {SCHEME}://, and this is more: paste "
            "that line alone"
        )
    scheme = line.partition("://")[0]
    if scheme not in (SCHEME, CLASSIC_SCHEME):
        raise InvitationError(f"an invitation starts with {SCHEME}://: paste the whole line")
    match = _LINE.fullmatch(line)
    if match is None:
        raise InvitationError(
            "the invitation is cut off or damaged, it should read "
            f"{SCHEME}://SECRET@HOST:PORT?port=PORT&name=NAME&pin=PIN: paste the whole line, or "
            f"{_ASK_AGAIN}"
        )
    parameters = _parse_query(match["query"])
    is_classic = scheme == CLASSIC_SCHEME
    return Invitation(
        host=match["host"] if match["address"] is None else _parse_ipv6(match["address"]),
        https_port=_parse_port(match["port"]),
        port=_parse_port(_require(parameters, "port")),
        name=_require(parameters, "name"),
        pin=_parse_bytes("pin", _require(parameters, "pin")),
        secret=None if is_classic else _parse_bytes("secret", match["user"]),
        classic_api_key=_parse_api_key(match["user"]) if is_classic else None,
        leaf_fingerprint=(
            _parse_bytes("leaf", _require(parameters, "leaf")) if is_classic else None
        ),
        server_key=_parse_bytes("server key", parameters["key"]) if "key" in parameters else None,
    )


def bracketed(host: str) -> str:
    """
    ``host`` as it stands before a port: an IPv6 address gets brackets.
    """
    return f"[{host}]" if ":" in host else host


def is_valid_host(host: str) -> bool:
    """
    Whether ``host`` is an IP address without brackets, or could be a host name in ASCII.
    """
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host).scope_id is None
        except ValueError:
            return False
    return _HOST_NAME.fullmatch(host) is not None


def _parse_api_key(user: str) -> str:
    try:
        return unquote(user, errors="strict")
    except UnicodeDecodeError as error:
        raise InvitationError(f"the API key in the line is damaged: {_ASK_AGAIN}") from error


def _parse_query(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key in parameters:
            raise InvitationError(f"the invitation says {key!r} twice: {_ASK_AGAIN}")
        parameters[key] = value
    return parameters


def _require(parameters: dict[str, str], key: str) -> str:
    value = parameters.get(key, "")
    if not value:
        raise InvitationError(
            f"the invitation has no {key!r}, it is cut off: paste the whole line, or {_ASK_AGAIN}"
        )
    return value


def _parse_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise InvitationError(
            f"the invitation has a port that is no number in 1 to 65535: {_ASK_AGAIN}"
        )
    return int(text)


def _parse_ipv6(text: str) -> str:
    if ":" not in text:
        raise InvitationError(f"only an IPv6 address stands in brackets: {_ASK_AGAIN}")
    return text


def _parse_bytes(what: str, text: str) -> bytes:
    try:
        return decode_base64url(text)
    except ValueError as error:
        raise InvitationError(
            f"the {what} of the invitation is cut off or damaged: paste the whole line, or "
            f"{_ASK_AGAIN}"
        ) from error


def _require_size(what: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise InvitationError(
            f"the {what} of the invitation has {len(value)} bytes, not {size}, it is cut off: "
            f"paste the whole line, or {_ASK_AGAIN}"
        )


def _require_api_key(api_key: str) -> None:
    is_plain = api_key.isascii() and api_key.isprintable() and " " not in api_key
    if not is_plain or not 1 <= len(api_key) <= MAX_API_KEY_LENGTH:
        raise InvitationError(
            f"an API key is 1 to {MAX_API_KEY_LENGTH} printable ASCII characters without spaces: "
            "copy it again from the server's configuration"
        )
