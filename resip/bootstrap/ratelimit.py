"""
How often one address may do something.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

#: Addresses that a limiter remembers; beyond it the longest quiet one is forgotten.
MAX_ADDRESSES = 4096


class RateLimiter:
    """
    One token bucket per source address (IPv6: per /64, since a host may use all of one).

    :param burst: how many a quiet address may do at once, at least 1.
    :param rate: how many more per second, above 0.
    :param now: monotonic seconds.
    :param max_addresses: how many addresses are remembered.
    """

    def __init__(
        self,
        *,
        burst: int,
        rate: float,
        now: Callable[[], float],
        max_addresses: int = MAX_ADDRESSES,
    ) -> None:
        self._burst = float(burst)
        self._rate = rate
        self._now = now
        self._max_addresses = max_addresses
        # Tokens left and when that was; the address that was active last is at the end.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def address_count(self) -> int:
        """
        How many addresses are remembered.
        """
        return len(self._buckets)

    def take(self, address: str) -> float:
        """
        Take one token.

        :param address: an IP address; other texts stand for themselves.
        :return: 0 when there was one, else the seconds until there will be.
        """
        key = _network(address)
        now = self._now()
        tokens, then = self._buckets.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - then) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[key] = (tokens - 1 if tokens >= 1 else tokens, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_addresses:
            self._buckets.popitem(last=False)
        return wait


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
