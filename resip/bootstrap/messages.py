"""
What the session API says, as values: requests, replies, errors. No input or output.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from resip.bootstrap.errors import NotAResipServer
from resip.core.classic.cipher import CipherKeys, HashName, SessionKeys

SERVER_INFO_PATH = "/resip/v1/server/info"
SESSION_START_PATH = "/resip/v1/session/start"
#: The modern dialect's handshake: message 1 up, message 2 down, both as they are.
HANDSHAKE_PATH = "/resip/v2/session"
HANDSHAKE_TYPE = "application/octet-stream"
#: Bytes of the longest message 1; ours has about two hundred, later versions may say more.
MAX_HANDSHAKE_SIZE = 2 * 1024
#: Query of ``server/info`` by which our client asks about its session; others ignore it.
SESSION_PARAMETER = "session"

#: What ``User-Agent`` and ``Server`` start with when the peer is a resip, not the prototype.
PRODUCT_PREFIX = "resip/"

#: What the prototype sends; a peer may choose others within the limits below.
DEFAULT_PACKET_SIZE = 512
DEFAULT_MAX_FRAGMENTS = 128

#: Packet sizes are multiples of the cipher's block and fit a datagram (bytes).
MIN_PACKET_SIZE = 64
MAX_PACKET_SIZE = 65_504

#: More fragments than any message needs: 65,535 packets of the smallest size.
MAX_FRAGMENTS_LIMIT = 65_535

_MAX_SESSION_ID = 2**32 - 1
_MAX_UNIX_TIME = 2**53


class ErrorCode(StrEnum):
    """
    The ``errorcode`` of a failed call.
    """

    #: 403: the API key is wrong or missing, or a handshake is not that of a known client.
    INVALID_MISSING_APIKEY = "invalid_missing_apikey"
    #: 400: this path answers to GET only.
    USE_GET_REQUEST = "use_get_request"
    #: 400: this path answers to POST only.
    USE_POST_REQUEST = "use_post_request"
    #: 400: the JSON object has no ``hash``.
    MISSING_HASH = "missing_hash"
    #: 400: ``hash`` is neither sha1 nor md5.
    INVALID_HASH = "invalid_hash"
    #: 400: the body is not a JSON object.
    INVALID_DATA = "invalid_data"
    #: 400: there is no such call.
    INVALID_API_CALL = "invalid_api_call"
    #: 400, ours: the server has as many sessions as it may have.
    TOO_MANY_SESSIONS = "too_many_sessions"
    #: 400, ours: the server speaks the modern dialect only.
    CLASSIC_IS_OFF = "classic_is_off"
    #: 413, ours: the request body is larger than any call needs.
    REQUEST_TOO_LARGE = "request_too_large"
    #: 429, ours: too many requests from one address.
    TOO_MANY_REQUESTS = "too_many_requests"
    #: 500, ours: the server failed.
    INTERNAL_ERROR = "internal_error"


_ERROR_TEXTS = {
    ErrorCode.INVALID_MISSING_APIKEY: "Invalid or missing 'apikey'.",
    ErrorCode.USE_GET_REQUEST: "Use a GET request for this call.",
    ErrorCode.USE_POST_REQUEST: "Use a POST request for this call.",
    ErrorCode.MISSING_HASH: "Missing 'hash'.",
    ErrorCode.INVALID_HASH: "Invalid 'hash': use 'sha1' or 'md5'.",
    ErrorCode.INVALID_DATA: "The request body is not a JSON object.",
    ErrorCode.INVALID_API_CALL: "No such API call.",
    ErrorCode.CLASSIC_IS_OFF: "The server does not speak the classic dialect: start it with "
    "--classic, or the client without.",
    ErrorCode.TOO_MANY_SESSIONS: "The server has as many sessions as it may have.",
    ErrorCode.REQUEST_TOO_LARGE: "The request body is too large.",
    ErrorCode.TOO_MANY_REQUESTS: "Too many requests, try again later.",
    ErrorCode.INTERNAL_ERROR: "The server failed, its log says why.",
}


class RequestError(Exception):
    """
    A request that the API answers with 400.

    :ivar code: what to answer.
    """

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.value)
        self.code = code


def error_body(code: ErrorCode) -> bytes:
    """
    The JSON body of a failed call.
    """
    return _encode({"success": False, "error": _ERROR_TEXTS[code], "errorcode": code.value})


def parse_error(body: bytes) -> tuple[str, str] | None:
    """
    The ``errorcode`` and ``error`` of a failed call, ``None`` when the body is something else.
    Both are cut to a length and an alphabet that a log line can bear.
    """
    document = _decode(body)
    if document is None or document.get("success") is not False:
        return None
    code, text = document.get("errorcode"), document.get("error")
    if not isinstance(code, str) or not isinstance(text, str):
        return None
    return _printable(code, 64), _printable(text, 200)


def session_start_body(hash_name: HashName) -> bytes:
    """
    The JSON body of a request to start a session.
    """
    return _encode({"hash": hash_name.value})


def parse_session_start(body: bytes) -> HashName:
    """
    The hash that a client asks for.

    :raises RequestError: ``INVALID_DATA``, ``MISSING_HASH`` or ``INVALID_HASH``.
    """
    document = _decode(body)
    if document is None:
        raise RequestError(ErrorCode.INVALID_DATA)
    if "hash" not in document:
        raise RequestError(ErrorCode.MISSING_HASH)
    name = document["hash"]
    try:
        return HashName(name.lower() if isinstance(name, str) else name)
    except ValueError as error:
        raise RequestError(ErrorCode.INVALID_HASH) from error


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """
    Which run of a server answers.

    :ivar started: Unix seconds; the identity of the run. Sessions die with it.
    :ivar current: the server's clock, Unix seconds.
    :ivar has_session: whether the server still knows the session that was asked about;
        ``None`` when none was, or by a server that does not say, as the prototype.
    """

    started: int
    current: int
    has_session: bool | None = None

    def to_json(self) -> bytes:
        """
        The body of a reply to ``server/info``.
        """
        reply = {"success": True, "started": self.started, "current": self.current}
        if self.has_session is not None:
            reply["has_session"] = self.has_session
        return _encode(reply)

    @classmethod
    def from_json(cls, body: bytes) -> ServerInfo:
        """
        The reverse of :meth:`to_json`.

        :raises BootstrapError: (:class:`~resip.bootstrap.errors.NotAResipServer`) for any
            other input, and with nothing else.
        """
        fields = _Fields.of_reply(body)
        return cls(
            fields.unix_time("started"),
            fields.unix_time("current"),
            fields.optional_flag("has_session"),
        )


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """
    A session that the server has started, with all keys.

    :ivar session_id: unsigned 32 bits; safe to log.
    :ivar hash_name: the hash that the client asked for.
    :ivar master: keys of the outer wrapper, the same for all sessions of one run.
    :ivar session: keys of the inner wrapper and of the HMAC.
    :ivar started: Unix seconds; see :class:`ServerInfo`.
    :ivar current: the server's clock, Unix seconds.
    :ivar packet_size: bytes of every packet, a multiple of 16 from 64 on.
    :ivar max_fragments: packets that one message may take, at least 1.
    """

    session_id: int
    hash_name: HashName
    master: CipherKeys = field(repr=False)
    session: SessionKeys = field(repr=False)
    started: int
    current: int
    packet_size: int = DEFAULT_PACKET_SIZE
    max_fragments: int = DEFAULT_MAX_FRAGMENTS

    def to_json(self) -> bytes:
        """
        The body of a reply to ``session/start``. A secret: never log it.
        """
        return _encode(
            {
                "success": True,
                "started": self.started,
                "current": self.current,
                "packet_size": self.packet_size,
                "max_fragments": self.max_fragments,
                "master": _cipher_fields(self.master),
                "session": {
                    **_cipher_fields(self.session.ciphers),
                    "sign": self.session.sign.hex(),
                },
                "session_id": self.session_id,
            }
        )

    @classmethod
    def from_json(cls, body: bytes, hash_name: HashName) -> SessionGrant:
        """
        The reverse of :meth:`to_json`.

        :param hash_name: what was asked for; the reply does not repeat it.
        :raises BootstrapError: (:class:`~resip.bootstrap.errors.NotAResipServer`) for any
            other input, and with nothing else. The message never holds a key.
        """
        fields = _Fields.of_reply(body)
        packet_size = fields.integer("packet_size", MIN_PACKET_SIZE, MAX_PACKET_SIZE)
        if packet_size % 16:
            raise _invalid("'packet_size' is not a multiple of 16")
        session = fields.object("session")
        return cls(
            session_id=fields.integer("session_id", 0, _MAX_SESSION_ID),
            hash_name=hash_name,
            master=_cipher_keys(fields.object("master")),
            session=SessionKeys(
                ciphers=_cipher_keys(session), sign=session.key("sign", hash_name.digest_size)
            ),
            started=fields.unix_time("started"),
            current=fields.unix_time("current"),
            packet_size=packet_size,
            max_fragments=fields.integer("max_fragments", 1, MAX_FRAGMENTS_LIMIT),
        )


class _Fields:
    """
    A JSON object whose fields are asked for by type and range.
    """

    def __init__(self, document: dict[str, Any], prefix: str = "") -> None:
        self._document = document
        self._prefix = prefix

    @classmethod
    def of_reply(cls, body: bytes) -> _Fields:
        document = _decode(body)
        if document is None:
            raise _invalid("it is not a JSON object")
        if document.get("success") is not True:
            raise _invalid("'success' is not true")
        return cls(document)

    def integer(self, name: str, lowest: int, highest: int) -> int:
        value = self._document.get(name)
        if type(value) is not int or not lowest <= value <= highest:  # a bool is an int, too
            raise _invalid(f"'{self._prefix}{name}' is not an integer in {lowest} to {highest}")
        return value

    def unix_time(self, name: str) -> int:
        return self.integer(name, 0, _MAX_UNIX_TIME)

    def optional_flag(self, name: str) -> bool | None:
        value = self._document.get(name)
        return value if isinstance(value, bool) else None

    def object(self, name: str) -> _Fields:
        value = self._document.get(name)
        if not isinstance(value, dict):
            raise _invalid(f"'{self._prefix}{name}' is not an object")
        return _Fields(value, f"{self._prefix}{name}.")

    def key(self, name: str, size: int) -> bytes:
        value = self._document.get(name)
        try:
            key = bytes.fromhex(value) if isinstance(value, str) else b""
        except ValueError:
            key = b""
        if len(key) != size or not isinstance(value, str) or len(value) != 2 * size:
            raise _invalid(f"'{self._prefix}{name}' is not {size} bytes in hex")
        return key


def _cipher_fields(keys: CipherKeys) -> dict[str, str]:
    return {
        "key1": keys.key1.hex(),
        "iv1": keys.iv1.hex(),
        "key2": keys.key2.hex(),
        "iv2": keys.iv2.hex(),
    }


def _cipher_keys(fields: _Fields) -> CipherKeys:
    return CipherKeys(
        key1=fields.key("key1", 32),
        iv1=fields.key("iv1", 16),
        key2=fields.key("key2", 32),
        iv2=fields.key("iv2", 16),
    )


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _decode(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested beyond measure
        return None
    return document if isinstance(document, dict) else None


def _printable(text: str, length: int) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:length])


def _invalid(reason: str) -> NotAResipServer:
    return NotAResipServer(
        f"the reply is not one of the session API ({reason}): check host and port; if they are "
        "right, the server runs an incompatible version"
    )
