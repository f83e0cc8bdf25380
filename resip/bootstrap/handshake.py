"""
The client's side of the modern handshake, from an invitation to what both sides agree on.
Ignorant of what carries the two messages.
"""

from __future__ import annotations

from collections.abc import Callable

from resip.bootstrap.errors import BootstrapError
from resip.bootstrap.invitation import Invitation
from resip.core.modern.flow_control import INITIAL_CHANNEL_WINDOW, INITIAL_SESSION_WINDOW
from resip.core.modern.handshake import ClientHandshake, Hello, Welcome, derive_static_key
from resip.core.modern.noise import HandshakeError
from resip.core.modern.session import Agreement
from resip.core.types import RandomBytes

_ID_SIZE = 4


class InvitedHandshake:
    """
    One handshake with the server of an invitation. Every attempt takes a new one.

    :param wall_clock: Unix seconds, for the hello's TIME.
    :ivar message1: to be sent.
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
        self._local_id = _random_id(random_bytes)
        hello = Hello(
            session_id=self._local_id,
            time_ms=int(wall_clock() * 1000),
            session_credit=INITIAL_SESSION_WINDOW,
            channel_credit=INITIAL_CHANNEL_WINDOW,
        )
        static_key = derive_static_key(invitation.secret)
        try:
            self._noise = ClientHandshake(static_key, invitation.server_key, hello, random_bytes)
        except HandshakeError as error:  # a point of low order
            raise BootstrapError(
                f"the invitation to the server at {invitation.authority} has a server key that "
                "cannot be one: ask whoever runs the server for a new one ('resip invite')"
            ) from error
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
            local_id=self._local_id,
            peer_id=welcome.session_id,
            session_credit=welcome.session_credit,
            channel_credit=welcome.channel_credit,
            peer_token=welcome.reset_token,
        )
        return agreement, welcome


def _random_id(random_bytes: RandomBytes) -> int:
    session_id = 0
    while not session_id:  # 0 means a handshake packet
        session_id = int.from_bytes(random_bytes(_ID_SIZE))
    return session_id
