"""
What the imitated prototype keeps of a channel, and the list of its faults.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from resip.core.classic.packet import (
    Flag,
    InnerPacket,
)
from resip.core.types import Target

#: Seconds until a packet is sent again for the first time; doubled each time.
FIRST_RETRANSMISSION = 3.0


class Quirk(Enum):
    """
    What it does wrong, or otherwise than described.
    """

    #: Long messages make packets of 528 bytes, and from then on it strips padding.
    OVERFLOW = "overflow"
    #: Its server loses what is created or due while it knows no address.
    LOSES_ADDRESS = "loses address"
    #: Its client delivers one message for each new packet.
    ONE_MESSAGE_PER_PACKET = "one message per packet"
    #: Its server drops data in one batch with the start.
    DROPS_DATA_WITH_START = "drops data with start"
    #: Its server drops data in one batch with the stop, after a quiet time.
    DROPS_DATA_WITH_STOP = "drops data with stop"
    #: Its server's response, sent once and unordered, gets lost.
    LOST_RESPONSE = "lost response"
    #: It answers a stop with its own at once.
    NO_HALF_CLOSE = "no half close"
    #: Its client's terminate has no channel.
    BARE_TERMINATE = "bare terminate"
    #: Its client marks IPv6 in the wrong bit.
    MISPLACED_IPV6 = "misplaced IPv6"


@dataclass
class SentByPrototype:
    """
    A packet until it is acknowledged.
    """

    packet: bytes
    due: float
    interval: float = FIRST_RETRANSMISSION


@dataclass
class ImitatedChannel:
    """
    One channel, both directions.
    """

    target: Target | None = None
    is_open: bool = False
    next_number: int = 1
    unacked: dict[int, SentByPrototype] = field(default_factory=dict)
    waiting: list[bytes] = field(default_factory=list)
    is_ended: bool = False
    stop_sent: bool = False
    received: set[int] = field(default_factory=set)
    pending: dict[int, InnerPacket] = field(default_factory=dict)
    next_delivered: int = 1
    last: int | None = None
    end_reported: bool = False
    data_time: float = 0.0


def next_message(channel: ImitatedChannel) -> list[int] | None:
    """
    The numbers of the next message, if all of its fragments are there.
    """
    numbers: list[int] = []
    number = channel.next_delivered
    while (packet := channel.pending.get(number)) is not None:
        numbers.append(number)
        if not packet.flags & Flag.MORE:
            return numbers
        number += 1
    return None
