"""
What tests of modern sessions say often about a simulated pair.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.protection import Sealer
from resip.core.modern.session import ModernSession
from resip.core.types import Target
from resip.lab.link import LinkConditions
from resip.lab.modern import CLIENT_ID, SERVER_ID, TOKEN, agree, make_modern_pair, make_session
from resip.lab.pair import Host, SimulatedPair
from tests.support.pair import PLAIN, TCP_TARGET

__all__ = [
    "CLIENT_ID",
    "DOWN",
    "SERVER_ID",
    "TOKEN",
    "Insider",
    "ModernCase",
    "agree",
    "available",
    "make_modern_pair",
    "make_session",
    "modern",
    "open_accepted",
    "send_as_client",
]

#: A line that carries nothing.
DOWN = LinkConditions(delay=0.05, is_down=True)


class Insider:
    """
    Seals packets with the real keys of one side: whatever a hostile but authentic peer may send.

    :param seed: that of the pair.
    :param is_client: in whose name it speaks.
    """

    def __init__(self, seed: int = 1, *, is_client: bool = True) -> None:
        client, server = agree(seed)
        own = client if is_client else server
        self._sealer = Sealer(own.secrets.cipher, own.secrets.send)
        self._peer_id = own.peer_id
        #: Far from the numbers that the side itself uses.
        self._number = 10_000

    def seal(self, *frames: bytes) -> bytes:
        """
        One packet with these frames.
        """
        self._number += 1
        return self._sealer.seal(self._peer_id, [b"".join(frames)], self._number)[0]


def send_as_client(pair: SimulatedPair, insider: Insider, *frames: bytes) -> None:
    """
    Let the server hear a packet in its client's name.
    """
    pair.server.receive(insider.seal(*frames), pair.client_path)


def open_accepted(pair: SimulatedPair, target: Target, *, compress: bool = False) -> int:
    """
    A channel from the client to the server that both sides know.
    """
    channel_id = pair.client.session.open_channel(target, now=pair.now, compress=compress)
    pair.run_for(0.2)
    pair.server.session.accept_channel(channel_id, now=pair.now)
    pair.run_for(0.2)
    return channel_id


def modern(host: Host) -> ModernSession:
    """
    The session with all its readings.
    """
    assert isinstance(host.session, ModernSession)
    return host.session


def available(host: Host) -> int:
    """
    What the session's credit lets a side send now.
    """
    return modern(host).connection.outbound.session_credit.available


class ModernCase(SynchronousTestCase):
    """
    A pair, and short names for what is done to it.
    """

    def setUp(self) -> None:
        """
        A plain line.
        """
        self.make()

    def make(
        self, conditions: LinkConditions = PLAIN, configuration: ModernConfiguration | None = None
    ) -> None:
        """
        Take a new pair.
        """
        self.pair = make_modern_pair(conditions, configuration=configuration)
        self.client, self.server = self.pair.client, self.pair.server

    def open(self, target: Target = TCP_TARGET, *, compress: bool = False) -> int:
        """
        A channel that both sides know.
        """
        return open_accepted(self.pair, target, compress=compress)

    def write(self, host: Host, channel_id: int, data: bytes) -> int:
        """
        Write, and let the line work for a while.
        """
        count = host.session.write(channel_id, data, now=self.pair.now)
        self.pair.run_for(0.3)
        return count
