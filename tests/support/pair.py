"""
What tests of sessions say often about a simulated pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from resip.core.events import DataReceived, Event
from resip.core.session import Session
from resip.core.types import Protocol, Target
from resip.lab.link import LinkConditions, LinkModel
from resip.lab.pair import Host, SimulatedPair

#: 50 ms in each direction, and nothing else wrong.
PLAIN = LinkConditions(delay=0.05)
#: Everything goes wrong, and often.
BAD = LinkConditions(delay=0.05, jitter=0.05, loss=0.2, duplicate=0.1, reorder=0.1)

TCP_TARGET = Target(Protocol.TCP, "server.example", 10_000)
UDP_TARGET = Target(Protocol.UDP, "server.example", 10_000)

AnyEvent = TypeVar("AnyEvent", bound=Event)


def make_pair(
    client: Session,
    server: Session,
    conditions: LinkConditions = PLAIN,
    *,
    down: LinkConditions | None = None,
    seed: int = 1,
    keeps_events: bool = True,
) -> SimulatedPair:
    """
    Join two sessions by two links of the same conditions, unless ``down`` gives others.
    """
    return SimulatedPair(
        client,
        server,
        LinkModel(conditions, seed),
        LinkModel(down or conditions, seed + 1_000_003),
        keeps_events=keeps_events,
    )


def run_until_true(pair: SimulatedPair, condition: Callable[[], bool], *, limit: float) -> float:
    """
    Run the pair until the condition holds.

    :param limit: virtual seconds from now.
    :return: the virtual seconds that it took.
    :raises AssertionError: when the limit is reached; the message gives the seeds.
    """
    start = pair.now
    if not pair.run_while(lambda: not condition(), start + limit):
        raise AssertionError(f"it did not happen within {limit} virtual seconds ({pair.seeds})")
    return pair.now - start


def get_events(host: Host, kind: type[AnyEvent]) -> list[AnyEvent]:
    """
    The events of one kind, in order.
    """
    return [event for event in host.events if isinstance(event, kind)]


def get_received(host: Host, channel_id: int) -> bytes:
    """
    All bytes that arrived on a channel.
    """
    events = get_events(host, DataReceived)
    return b"".join(event.data for event in events if event.channel_id == channel_id)
