"""
Host names and addresses as texts: one spelling for each, so that they can be compared.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

IPAddress = IPv4Address | IPv6Address

#: RFC 1035 section 2.3.4.
MAX_NAME_LENGTH = 253

# RFC 1123 section 2.1, and the underscore that real networks use.
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# System resolvers read "127.1", "0x7f.1" and "2130706433" as addresses: never call them names.
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")


def unmapped(address: IPAddress) -> IPAddress:
    """
    The IPv4 address inside an IPv4-mapped IPv6 address, any other address as it is.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_address(text: str) -> IPAddress | None:
    """
    The address that ``text`` spells, unmapped; ``None`` when it is none or has a scope.

    A scope (``fe80::1%eth0``) means something on one machine only, so it never is a target.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return None
    return unmapped(address)


def parse_name(text: str) -> str:
    """
    The host name in ``text``: lower case, without the dot of the root.

    :raises ValueError: when it is no host name; the message says why.
    """
    name = text.lower().removesuffix(".")
    if not name.isascii():
        raise ValueError(f"{text!r} is not ASCII: write its xn-- form")
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        raise ValueError(f"a host name has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}")
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{text!r} is neither a host name nor an address")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        raise ValueError(f"{text!r} ends in a number but is not an IPv4 address")
    return name


def parse_host(text: str) -> str:
    """
    The one spelling of an address or a host name.

    :raises ValueError: when it is neither; the message says why.
    """
    address = parse_address(text)
    return parse_name(text) if address is None else str(address)


def host_and_port(host: str, port: int) -> str:
    """
    ``host:port``, with brackets around an IPv6 address.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
