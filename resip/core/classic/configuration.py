"""
What may be tuned about a classic session, and what must be known about its peer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeerTraits:
    """
    How the far end deviates from the published description. The defaults are another resip's.

    The prototype's ways were observed by running it; see docs/classic.md, "The prototype".
    """

    #: Seconds it may hold an acknowledgement back.
    ack_delay: float = 0.025
    #: Its server drops data that arrives together with the start: wait for the response.
    needs_response_before_data: bool = False
    #: Its server sends the response once, unordered: an acknowledged start that is not
    #: refused within this many seconds counts as open. ``None``: the response always comes.
    lost_response_timeout: float | None = None
    #: Its server drops data that arrives together with the stop: stop when all is acknowledged.
    needs_acknowledged_stop: bool = False
    #: Its client delivers one message for each new packet: after a loss, push with empty ones.
    delivers_message_per_packet: bool = False
    #: It answers a stop with its own at once: a stop without data is then a plain end.
    closes_both_directions: bool = False
    #: After its first overflow it strips block padding from what it decrypts: end every packet
    #: with 0x01 from the first one on, since those on their way then could not be mended.
    strips_padding: bool = False
    #: Seconds of silence on a session with channels after which to show that we are there.
    keep_alive_interval: float = 20.0


#: Another resip, or any peer that follows the description.
PUBLISHED = PeerTraits()
#: The one other implementation, in either role.
PROTOTYPE = PeerTraits(
    ack_delay=0.5,
    needs_response_before_data=True,
    lost_response_timeout=1.0,
    needs_acknowledged_stop=True,
    delivers_message_per_packet=True,
    closes_both_directions=True,
    strips_padding=True,
    keep_alive_interval=15.0,
)


@dataclass(frozen=True, slots=True)
class ClassicConfiguration:
    """
    Limits and times of a classic session. Each limit bounds memory that the peer can fill.
    """

    #: How the peer behaves.
    peer: PeerTraits = PUBLISHED
    #: Most fragments of one message, as granted by the server. 1 to 128.
    max_fragments: int = 128
    #: Channels open at once; more are refused. Each costs about 2 KB while idle.
    max_channels: int = 1024
    #: Bytes of a stream waiting to be sent, for each channel. An interactive program
    #: notices a full pipe sooner when it is small; bulk needs a few round trips' worth of packets.
    send_buffer: int = 256 * 1024
    #: Bytes handed to the application and not yet taken, for each channel.
    receive_buffer: int = 128 * 1024
    #: How far ahead of the oldest missing packet a number may be, for each channel.
    #: 8192 packets are 4 MB: at 30 % loss a packet may need six round trips to get through,
    #: which leaves 50 Mbit/s at a round trip of 100 ms.
    reorder_window: int = 8192
    #: Packets held back by all channels of the session; beyond it only the next in order enter.
    session_reorder_limit: int = 16384
    #: Bytes that one compressed message may inflate to.
    max_message: int = 1024 * 1024
    #: Seconds to hold an acknowledgement back, unless enough of them wait.
    ack_delay: float = 0.005
    #: Numbers waiting for acknowledgement that make it go at once.
    ack_threshold: int = 16
    #: Seconds after which the server forgets a client's address that shows no sign of life.
    address_lifetime: float = 60.0
    #: Seconds of silence, on a session without channels, before the client asks for life.
    idle_keep_alive_interval: float = 60.0
