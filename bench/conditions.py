"""
The links and the programs of the benchmarks of whole sessions.
"""

from __future__ import annotations

from resip.core.modern.session import ModernSession
from resip.core.types import Protocol, Target
from resip.lab.applications import BulkReceiver, BulkSender
from resip.lab.link import LinkConditions
from resip.lab.pair import Host, SimulatedPair

RATE = 20e6
#: 20 Mbit/s, a round trip of 100 ms, a queue of 0.85 products, Ethernet.
LINK = LinkConditions(rate=RATE, delay=0.05, queue_limit=170, mtu=1500, keeps_order=False)
#: Share of the link that headers take, at the MTU of :data:`LINK`.
HEADERS = 0.04
BULK = Target(Protocol.TCP, "bulk.example", 1)
ECHO = Target(Protocol.TCP, "echo.example", 2)
#: More than any link here carries in the time.
ENDLESS = 1 << 30


def start_bulk(
    pair: SimulatedPair, *, is_up: bool, size: int = ENDLESS, target: Target = BULK
) -> BulkReceiver:
    """
    A stream in one direction; the client opens its channel.
    """
    sender = BulkSender(target, size=size)
    receiver = BulkReceiver(target, size=size)
    if is_up:
        receiver.serve(pair.server)
        sender.start(pair.client)
    else:
        sender.serve(pair.server)
        receiver.start(pair.client)
    return receiver


def session_of(host: Host) -> ModernSession:
    """
    The session with all its readings.
    """
    assert isinstance(host.session, ModernSession)
    return host.session


def way(is_up: bool) -> str:
    """
    A direction, for names.
    """
    return "up" if is_up else "down"
