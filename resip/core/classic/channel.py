"""
One channel of a classic session: its two halves and where it stands.
"""

from __future__ import annotations

from enum import Enum

from resip.core.classic.configuration import ClassicConfiguration
from resip.core.classic.outbound import Flow
from resip.core.classic.receiver import ChannelReceiver
from resip.core.classic.sender import ChannelSender
from resip.core.types import Protocol, Target


class ChannelState(Enum):
    """
    ::

        client   OPENING   -- response, or start acknowledged and not refused --> OPEN
        server   REQUESTED -- accepted by its owner                           --> OPEN

    A channel that is refused, reset or done is not in the session any more.
    """

    #: The server's owner has not answered the request yet.
    REQUESTED = "requested"
    #: The client waits for the server's answer.
    OPENING = "opening"
    #: Each direction ends by itself.
    OPEN = "open"


class Channel:
    """
    Holds what belongs to one channel.

    :ivar end_reported: the owner knows that the peer sends no more.
    :ivar start_number: number of the command that asked for the channel; client only.
    """

    __slots__ = (
        "end_reported",
        "flow",
        "opened_by",
        "receiver",
        "start_number",
        "state",
        "target",
    )

    def __init__(
        self,
        target: Target,
        state: ChannelState,
        flow: Flow,
        *,
        compress: bool,
        configuration: ClassicConfiguration,
    ) -> None:
        self.target = target
        self.state = state
        self.flow = flow
        self.receiver = ChannelReceiver(
            configuration, is_datagram=target.protocol is Protocol.UDP, compress=compress
        )
        self.end_reported = False
        self.start_number = 0
        #: When an acknowledged start counts as answered, if the response got lost.
        self.opened_by: float | None = None

    @property
    def channel_id(self) -> int:
        """
        Its id within the session.
        """
        return self.flow.channel_id

    @property
    def sender(self) -> ChannelSender:
        """
        Its sending half.
        """
        return self.flow.sender
