"""
Two modern sessions that have shaken hands, joined by a simulated network.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.congestion.rate import RateController
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.handshake import ClientHandshake, Hello, ServerHandshake, Welcome
from resip.core.modern.noise import public_key_of
from resip.core.modern.protection import Sealer
from resip.core.modern.session import Agreement, IdAllocation, ModernSession
from resip.core.types import Target
from resip.lab.link import LinkConditions, LinkModel
from resip.lab.pair import Host, SimulatedPair
from resip.lab.simulator import Simulator
from tests.support.pair import PLAIN, TCP_TARGET

CLIENT_ID = 0x11223344
SERVER_ID = 0x55667788
TOKEN = bytes(range(16))
#: A line that carries nothing.
DOWN = LinkConditions(delay=0.05, is_down=True)


def agree(seed: int) -> tuple[Agreement, Agreement]:
    """
    Shake hands; returns what client and server agreed on.
    """
    dice = random.Random(seed)
    server_key = X25519PrivateKey.from_private_bytes(dice.randbytes(32))
    client_key = X25519PrivateKey.from_private_bytes(dice.randbytes(32))
    hello = Hello(CLIENT_ID, 1, INITIAL_SESSION_WINDOW, INITIAL_CHANNEL_WINDOW)
    client = ClientHandshake(client_key, public_key_of(server_key), hello, dice.randbytes)
    server = ServerHandshake(server_key, dice.randbytes)
    _, heard = server.read(client.message1)
    welcome = Welcome(
        session_id=SERVER_ID,
        cipher=heard.choose_cipher(),
        reset_token=TOKEN,
        session_credit=INITIAL_SESSION_WINDOW,
        channel_credit=INITIAL_CHANNEL_WINDOW,
        server_run=1,
    )
    message2, server_secrets = server.answer(welcome)
    told, client_secrets = client.finish(message2)
    return (
        Agreement(
            client_secrets,
            is_client=True,
            local_id=CLIENT_ID,
            peer_id=told.session_id,
            session_credit=told.session_credit,
            channel_credit=told.channel_credit,
            peer_token=told.reset_token,
        ),
        Agreement(
            server_secrets,
            is_client=False,
            local_id=SERVER_ID,
            peer_id=heard.session_id,
            session_credit=heard.session_credit,
            channel_credit=heard.channel_credit,
        ),
    )


def make_session(
    agreement: Agreement,
    *,
    seed: int,
    now: float,
    configuration: ModernConfiguration | None = None,
    controller: RateController | None = None,
) -> ModernSession:
    """
    One side's session, its dice seeded.
    """
    dice = random.Random(seed)
    return ModernSession(
        agreement,
        controller or ErasureAwareController(datagram_size=1200, random=dice.random, now=now),
        ids=IdAllocation(
            allocate=lambda: dice.getrandbits(32),
            release=lambda session_id: None,
            token=lambda session_id: dice.randbytes(16),
        ),
        random_bytes=dice.randbytes,
        now=now,
        configuration=configuration,
    )


def make_modern_pair(
    conditions: LinkConditions,
    *,
    down: LinkConditions | None = None,
    seed: int = 1,
    keeps_events: bool = True,
    configuration: ModernConfiguration | None = None,
    make_controller: Callable[[], RateController] | None = None,
) -> SimulatedPair:
    """
    A client and a server with a session, at the simulator's first moment.
    """
    simulator = Simulator()
    client, server = (
        make_session(
            agreement,
            seed=seed + number,
            now=simulator.now,
            configuration=configuration,
            controller=None if make_controller is None else make_controller(),
        )
        for number, agreement in enumerate(agree(seed))
    )
    return SimulatedPair(
        client,
        server,
        LinkModel(conditions, seed),
        LinkModel(down or conditions, seed + 1_000_003),
        simulator,
        keeps_events=keeps_events,
    )


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
