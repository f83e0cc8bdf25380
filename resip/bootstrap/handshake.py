"""
The client's side of the modern handshake, from keys to what both sides agree on. Ignorant of
what carries the two messages.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from resip.bootstrap.errors import BootstrapError
from resip.bootstrap.invitation import Invitation
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.handshake import ClientHandshake, Hello, Welcome, derive_static_key
from resip.core.modern.noise import HandshakeError
from resip.core.modern.parts import Agreement
from resip.core.types import RandomBytes

_ID_SIZE = 4


class OutgoingHandshake:
    """
    One handshake with a server whose public key is known. It may be said again, by any carrier,
    until it is answered; after that another one is needed.

    :param static_key: ours.
    :param server_key: the server's public key, 32 bytes.
    :param wall_clock: Unix seconds, for the hello's TIME.
    :ivar local_id: the id of packets to us.
    :ivar message1: to be sent.
    :raises HandshakeError: when the server's key cannot be one.
    """

    def __init__(
        self,
        static_key: X25519PrivateKey,
        server_key: bytes,
        *,
        random_bytes: RandomBytes,
        wall_clock: Callable[[], float],
    ) -> None:
        self.local_id = _random_id(random_bytes)
        hello = Hello(
            session_id=self.local_id,
            time_ms=int(wall_clock() * 1000),
            session_credit=INITIAL_SESSION_WINDOW,
            channel_credit=INITIAL_CHANNEL_WINDOW,
        )
        self._noise = ClientHandshake(static_key, server_key, hello, random_bytes)
        self.message1 = self._noise.message1

    def finish(self, message2: bytes) -> tuple[Agreement, Welcome]:
        """
        Take the server's answer. A forged one raises and the genuine one may still come.

        :raises HandshakeError: when the answer is not the server's.
        """
        welcome, secrets = self._noise.finish(message2)
        agreement = Agreement(
            secrets,
            is_client=True,
            local_id=self.local_id,
            peer_id=welcome.session_id,
            session_credit=welcome.session_credit,
            channel_credit=welcome.channel_credit,
            peer_token=welcome.reset_token,
        )
        return agreement, welcome


class InvitedHandshake(OutgoingHandshake):
    """
    The same with the server of an invitation.

    :raises BootstrapError: when the invitation has not both keys, or a server key that is none.
    """

    def __init__(
        self,
        invitation: Invitation,
        *,
        random_bytes: RandomBytes,
        wall_clock: Callable[[], float],
    ) -> None:
        if invitation.secret is None or invitation.server_key is None:
            raise BootstrapError(
                f"the invitation to the server at {invitation.authority} is for the classic "
                "dialect only: use --classic, or ask whoever runs the server for a new one "
                "('resip invite')"
            )
        try:
            super().__init__(
                derive_static_key(invitation.secret),
                invitation.server_key,
                random_bytes=random_bytes,
                wall_clock=wall_clock,
            )
        except HandshakeError as error:  # a point of low order
            raise BootstrapError(
                f"the invitation to the server at {invitation.authority} has a server key that "
                "cannot be one: ask whoever runs the server for a new one ('resip invite')"
            ) from error


def _random_id(random_bytes: RandomBytes) -> int:
    session_id = 0
    while not session_id:  # the protocol has no id 0
        session_id = int.from_bytes(random_bytes(_ID_SIZE))
    return session_id
