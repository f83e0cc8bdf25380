"""
Two modern sessions that have shaken hands, joined by simulated links: one seed, virtual time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from resip.core.congestion.erasure_aware import ErasureAwareController
from resip.core.congestion.rate import RateController
from resip.core.modern.configuration import ModernConfiguration
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.handshake import ClientHandshake, Hello, ServerHandshake, Welcome
from resip.core.modern.noise import public_key_of
from resip.core.modern.parts import Agreement, IdAllocation
from resip.core.modern.session import ModernSession
from resip.core.trace import NULL_TRACE, Trace
from resip.lab.link import LinkConditions, LinkModel
from resip.lab.pair import SimulatedPair
from resip.lab.simulator import Simulator

CLIENT_ID = 0x11223344
SERVER_ID = 0x55667788
TOKEN = bytes(range(16))


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
    trace: Trace = NULL_TRACE,
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
        trace=trace,
    )


def make_modern_pair(
    up: LinkConditions | LinkModel,
    *,
    down: LinkConditions | LinkModel | None = None,
    simulator: Simulator | None = None,
    seed: int = 1,
    keeps_events: bool = True,
    configuration: ModernConfiguration | None = None,
    make_controller: Callable[[], RateController] | None = None,
    traces: tuple[Trace, Trace] = (NULL_TRACE, NULL_TRACE),
) -> SimulatedPair:
    """
    A client and a server that have just shaken hands.

    :param up: the link from the client, or the model of one that others use as well.
    :param down: the link to the client; like ``up`` when left out.
    :param simulator: the clock of all who share a link.
    :param traces: of the client and of the server.
    """
    simulator = simulator or Simulator()
    client, server = (
        make_session(
            agreement,
            seed=seed + number,
            now=simulator.now,
            configuration=configuration,
            controller=None if make_controller is None else make_controller(),
            trace=traces[number],
        )
        for number, agreement in enumerate(agree(seed))
    )
    return SimulatedPair(
        client,
        server,
        _link(up, seed),
        _link(down or (up.conditions if isinstance(up, LinkModel) else up), seed + 1_000_003),
        simulator,
        keeps_events=keeps_events,
    )


def _link(link: LinkConditions | LinkModel, seed: int) -> LinkModel:
    return link if isinstance(link, LinkModel) else LinkModel(link, seed)
