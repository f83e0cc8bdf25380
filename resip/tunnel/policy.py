"""
Which targets a server lets its clients reach.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)

from resip.core.types import Target
from resip.tunnel.hosts import (
    IPAddress,
    host_and_port,
    parse_address,
    parse_host,
    parse_name,
    unmapped,
)

#: The server's own loopback interface and nothing else.
DEFAULT_PATTERNS = ("127.0.0.0/8", "::1")

ANYTHING = "*"
INTERNET = "internet"

_EXAMPLES = "10.0.0.5:22, 10.0.0.0/8, [2001:db8::5]:443, db.example.com:5432, *.example.com"

# IANA IPv4 special-purpose address registry, multicast (RFC 5771) and class E (RFC 1112).
_NOT_INTERNET_4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Only this was ever handed out as global unicast (RFC 4291 section 2.4, IANA); the rest of the
# space is loopback, ULA, link-local, multicast, or has no meaning yet.
_GLOBAL_UNICAST_6 = IPv6Network("2000::/3")
_NOT_INTERNET_6 = (
    IPv6Network("2001::/23"),  # IETF protocol assignments, RFC 2928; Teredo is judged before
    IPv6Network("2001:db8::/32"),  # documentation, RFC 3849
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_MAPPED = IPv6Network("::ffff:0:0/96")


class PolicyError(ValueError):
    """
    A text is not a pattern. The message quotes it, says what is wrong and shows right ones.
    """


@dataclass(frozen=True, slots=True)
class Pattern:
    """
    One ``--allow``: a set of targets.

    :ivar host: a network (one address is a network of one), or a host name, ``*.`` and a host
        name, ``*`` for everything, ``internet`` for every global unicast address.
    :ivar port: the only port it covers, ``None`` for all.
    """

    host: IPv4Network | IPv6Network | str
    port: int | None = None

    def covers_address(self, address: IPAddress, port: int) -> bool:
        """
        Whether ``address``, already unmapped, is in the set.
        """
        if self.port not in (None, port):
            return False
        if isinstance(self.host, str):
            return self.host == ANYTHING or (self.host == INTERNET and is_internet(address))
        return address in self.host

    def covers_name(self, name: str, port: int) -> bool:
        """
        Whether ``name``, in its one spelling, is in the set whatever address it has.
        """
        if self.port not in (None, port) or not isinstance(self.host, str):
            return False
        if self.host.startswith("*."):
            return name.endswith(self.host[1:])
        return self.host == ANYTHING or (self.host == name and self.host != INTERNET)

    @property
    def name(self) -> str | None:
        """
        The one host name that the pattern consists of, if it does.
        """
        if not isinstance(self.host, str) or self.host == INTERNET or "*" in self.host:
            return None
        return self.host

    def __str__(self) -> str:
        host = self.host
        if isinstance(host, str):
            text = host
        elif host.prefixlen == host.max_prefixlen:
            text = str(host.network_address)
        else:
            text = str(host)
        return text if self.port is None else host_and_port(text, self.port)


class Policy:
    """
    The targets that at least one pattern covers. Decides only; it never asks a name server.

    :param patterns: texts for :func:`parse_pattern`, or patterns. None at all forbids everything.
    :raises PolicyError: when a text is not a pattern.
    """

    def __init__(self, patterns: Iterable[str | Pattern] = DEFAULT_PATTERNS) -> None:
        self._patterns = tuple(
            parse_pattern(pattern) if isinstance(pattern, str) else pattern for pattern in patterns
        )

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """
        What the policy was made of.
        """
        return self._patterns

    def permits_address(self, address: IPAddress, port: int) -> bool:
        """
        Whether a connection to this very address may be made.
        """
        address = unmapped(address)
        return any(pattern.covers_address(address, port) for pattern in self._patterns)

    def permits_name(self, name: str, port: int) -> bool:
        """
        Whether this host may be reached by its name, whatever address it has.
        """
        try:
            name = parse_name(name)
        except ValueError:
            return False
        return any(pattern.covers_name(name, port) for pattern in self._patterns)

    def names(self, port: int) -> tuple[str, ...]:
        """
        The hosts allowed by name at ``port``.

        An address that :meth:`permits_address` denies may still belong to one of them.
        """
        return tuple(
            pattern.name
            for pattern in self._patterns
            if pattern.name is not None and pattern.port in (None, port)
        )

    @staticmethod
    def cure(target: Target) -> str:
        """
        The shortest option of the server that allows ``target``, such as ``--allow 10.0.0.5:22``.

        :raises ValueError: when its host is neither an address nor a host name.
        """
        return f"--allow {host_and_port(parse_host(target.host), target.port)}"

    def __repr__(self) -> str:
        return f"Policy({[str(pattern) for pattern in self._patterns]})"


def parse_pattern(text: str) -> Pattern:
    """
    Read one pattern.

    :raises PolicyError: when it is none.
    """
    try:
        host, port = _split_port(text.strip())
        return Pattern(_parse_pattern_host(host), port)
    except ValueError as error:
        raise PolicyError(f"pattern {text!r}: {error}; right ones are {_EXAMPLES}") from None


def is_internet(address: IPAddress) -> bool:
    """
    Whether ``address`` is a global unicast address, thus nobody's private network.

    IPv6 addresses that carry an IPv4 address are judged by it, since packets to them may come
    out of a translator or a tunnel as packets to that address.

    Source: IANA special-purpose address registries (RFC 6890), as of 2025.
    """
    address = unmapped(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_INTERNET_4)
    embedded = _embedded(address)
    if embedded:
        return all(is_internet(each) for each in embedded)
    if any(address in network for network in _NOT_INTERNET_6):
        return False
    return address in _GLOBAL_UNICAST_6


def _embedded(address: IPv6Address) -> tuple[IPv4Address, ...]:
    if address.teredo is not None:  # server and client, RFC 4380
        return address.teredo
    if address.sixtofour is not None:  # RFC 3056
        return (address.sixtofour,)
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def _split_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host:
            raise ValueError("the brackets do not enclose an IPv6 address")
        if not rest:
            return host, None
        if not rest.startswith(":"):
            raise ValueError(f"{rest!r} after the brackets is not a port")
        return host, _parse_port(rest[1:])
    if text.count(":") != 1:  # no port, or an IPv6 address without one
        return text, None
    host, _, port = text.partition(":")
    return host, _parse_port(port)


def _parse_port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"the port {text!r} is not a number from 1 to 65535")


def _parse_pattern_host(text: str) -> IPv4Network | IPv6Network | str:
    if text in (ANYTHING, INTERNET):
        return text
    if "/" in text:
        return _parse_network(text)
    address = parse_address(text)
    if address is not None:
        return ip_network(address)
    if text.startswith("*."):
        return "*." + parse_name(text[2:])
    return parse_name(text)


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network in CIDR notation") from None
    if isinstance(network, IPv6Network) and network.network_address.scope_id is not None:
        raise ValueError(f"the network {text!r} has a scope")
    if str(network.network_address) != str(ip_network(text.partition("/")[0]).network_address):
        raise ValueError(f"the network {text!r} has bits beyond its prefix, {network} has not")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        low = IPv4Address(int(network.network_address) & 0xFFFFFFFF)
        return IPv4Network((low, network.prefixlen - 96))
    return network
