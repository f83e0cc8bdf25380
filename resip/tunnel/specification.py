"""
The text of a forward: ``[tcp:|udp:][bind:]port:host:hostport``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from resip.core.types import Protocol, Target
from resip.tunnel.hosts import host_and_port, parse_host

#: Where a forward listens when the text does not say: only programs of this machine reach it.
#: One address, not also ``::1``, so that a forward is one socket with one port number, even
#: when the system chooses it; programs that try ``::1`` first go on to this one.
DEFAULT_BIND = "127.0.0.1"

#: Listen on all interfaces; an empty ``bind`` means the same, as for ``ssh -L``.
ALL_INTERFACES = "*"

_SYNTAX = "[tcp:|udp:][bind:]port:host:hostport"
_EXAMPLE = "4000:db.example.com:5432 or udp:[::1]:5353:10.0.0.1:53"
_COLON_OUTSIDE_BRACKETS = re.compile(r":(?![^\[]*\])")
_SCOPE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_PROTOCOLS = {"tcp": Protocol.TCP, "udp": Protocol.UDP}


class ForwardError(ValueError):
    """
    A text is not a forward. The message quotes it, says which part is wrong and shows a right one.
    """


@dataclass(frozen=True, slots=True)
class Forward:
    """
    Listen here, lead there.

    :ivar protocol: stream or datagrams.
    :ivar bind: the address to listen on, or :data:`ALL_INTERFACES`.
    :ivar port: the port to listen on, 0 to 65535; 0 lets the system choose one.
    :ivar host: the target's address or name, as seen from the server.
    :ivar host_port: the target's port, 1 to 65535.
    """

    protocol: Protocol
    bind: str
    port: int
    host: str
    host_port: int

    @property
    def target(self) -> Target:
        """
        Where the channels of this forward lead.
        """
        return Target(self.protocol, self.host, self.host_port)

    def __str__(self) -> str:
        listening = host_and_port(self.bind, self.port)
        return (
            f"{self.protocol.name.lower()}:{listening}:{host_and_port(self.host, self.host_port)}"
        )


def parse_forward(text: str) -> Forward:
    """
    Read a forward. ``str()`` of the result reads back as the same forward.

    :raises ForwardError: when any part is wrong.
    """
    try:
        return _parse(text.strip())
    except ValueError as error:
        raise ForwardError(
            f"forward {text!r}: {error}; write it as {_SYNTAX}, for example {_EXAMPLE}"
        ) from None


def _parse(text: str) -> Forward:
    fields = _COLON_OUTSIDE_BRACKETS.split(text)
    protocol = Protocol.TCP
    if len(fields) > 3 and fields[0].lower() in _PROTOCOLS:
        protocol = _PROTOCOLS[fields.pop(0).lower()]
    if len(fields) not in (3, 4):
        hint = " (IPv6 addresses stand in brackets)" if len(fields) > 4 else ""
        raise ValueError(f"it has {len(fields)} parts between colons, not 3 or 4{hint}")
    bind = _parse_bind(fields.pop(0)) if len(fields) == 4 else DEFAULT_BIND
    port, host, host_port = fields
    return Forward(
        protocol=protocol,
        bind=bind,
        port=_parse_port(port, "the listening port", lowest=0),
        host=_parse_target_host(host),
        host_port=_parse_port(host_port, "the target's port", lowest=1),
    )


def _parse_bind(text: str) -> str:
    if text in ("", ALL_INTERFACES):
        return ALL_INTERFACES
    if text == "localhost":
        return DEFAULT_BIND
    try:
        address = ip_address(_without_brackets(text))
    except ValueError:
        raise ValueError(
            f"the listening address {text!r} is not an address of this machine, '*' or 'localhost'"
        ) from None
    scope = address.scope_id if isinstance(address, IPv6Address) else None
    if scope is not None and not _SCOPE.fullmatch(scope):
        raise ValueError(f"{scope!r} in the listening address is not an interface")
    return str(address)


def _parse_target_host(text: str) -> str:
    try:
        return parse_host(_without_brackets(text))
    except ValueError as error:
        raise ValueError(f"the target host is wrong: {error}") from None


def _without_brackets(text: str) -> str:
    if not text.startswith("["):
        return text
    inner = text[1:-1]
    if not text.endswith("]") or ":" not in inner:
        raise ValueError(f"{text!r} is not an IPv6 address in brackets")
    return inner


def _parse_port(text: str, name: str, *, lowest: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and lowest <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"{name} {text!r} is not a number from {lowest} to 65535")
