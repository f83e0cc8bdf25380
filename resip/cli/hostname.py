"""
Under which name or address other machines may know this one.
"""

from __future__ import annotations

import ipaddress
import socket

from resip.bootstrap.invitation import is_valid_host

#: Documentation addresses (RFC 5737, RFC 3849): the route to them is the default route.
_FAR_AWAY = (
    (socket.AF_INET, ("192.0.2.1", 9)),
    (socket.AF_INET6, ("2001:db8::1", 9)),
)


def guess_host() -> str:
    """
    A full name if the machine has one, else its address towards the default route, a global one
    first, else whatever name it has. No packet is sent, so nothing tells whether it is right.
    """
    name = socket.gethostname()
    is_full = "." in name.strip(".") and not name.startswith("localhost")
    if is_full and is_valid_host(name):
        return name
    addresses = _source_addresses()
    for address in addresses:
        if ipaddress.ip_address(address).is_global:
            return address
    if addresses:
        return addresses[0]
    return name if is_valid_host(name) else "localhost"


def _source_addresses() -> list[str]:
    addresses = []
    for family, far_away in _FAR_AWAY:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(far_away)  # of a UDP socket: only looks the route up
                address = probe.getsockname()[0].partition("%")[0]
        except OSError:
            continue
        if not ipaddress.ip_address(address).is_loopback:
            addresses.append(address)
    return addresses
