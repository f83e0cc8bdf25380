"""
What may be tuned about a modern session. Each limit bounds memory that the peer can fill.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModernConfiguration:
    """
    Limits and times of a session.
    """

    #: Channels open at once; more are refused.
    max_channels: int = 1024
    #: Bytes of a stream that its writer may have ahead of delivery. An outage of any length
    #: stops the writer here. 4 MiB fill 100 Mbit/s at a round trip of 300 ms.
    send_buffer: int = 4 * 1024 * 1024
    #: The same for all channels of a session.
    session_send_buffer: int = 32 * 1024 * 1024
    #: What each channel may have even so, lest a few uploads silence all others.
    send_reserve: int = 16 * 1024
    #: Bytes handed to the application and not yet taken, for each channel. Of a compressed one
    #: no more are inflated.
    receive_buffer: int = 256 * 1024
    #: Datagrams of one channel that wait to be sent, or for the owner to accept the channel;
    #: the oldest goes first.
    datagram_queue: int = 256
    #: Seconds for which a datagram may wait (M-29), unless the round trip is longer.
    datagram_lifetime: float = 0.25
    #: Seconds of silence, with channels and without, after which the client shows that it is
    #: there: NATs forget a UDP flow after 30 s at the earliest (RFC 4787 says 2 minutes).
    keep_alive_interval: float = 20.0
    idle_keep_alive_interval: float = 60.0
