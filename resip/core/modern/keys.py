"""
The keys of a session in both directions, and when they change (section 2.2 of docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from resip.core.modern.handshake import SessionSecrets
from resip.core.modern.protection import Opener, Sealer
from resip.core.trace import Trace

#: docs/protocol.md M-16: probe timeouts for which the key of the phase before is kept.
KEY_RETENTION = 3


class Keys:
    """
    Opens and seals, and moves to new keys with the peer.

    :ivar sealer: seals what leaves. :ivar opener: opens what arrives.
    :ivar discard_time: when the key before has to go, ``None`` without one.
    """

    __slots__ = ("_has_old_key", "_is_requested", "_trace", "discard_time", "opener", "sealer")

    def __init__(self, secrets: SessionSecrets, trace: Trace) -> None:
        self.opener = Opener(secrets.cipher, secrets.receive)
        self.sealer = Sealer(secrets.cipher, secrets.send)
        self.discard_time: float | None = None
        self._trace = trace
        self._has_old_key = False
        self._is_requested = False

    @property
    def generation(self) -> int:
        """
        How often the keys of what is sent were replaced.
        """
        return self.sealer.generation

    def open(self, packets: Sequence[bytes], *, now: float) -> list[tuple[int, bytes] | None]:
        """
        Authenticate and decrypt; ``None`` for each packet that is not new and genuine.
        """
        generation = self.opener.generation
        opened = self.opener.open(packets)
        if self.opener.generation != generation:
            self._trace.keys_updated(self.opener.generation, is_ours=False, now=now)
            self.sealer.follow(self.opener.generation)
            self.discard_time = None
            self._has_old_key = True
        return opened

    def on_received(self, *, probe_timeout: float, now: float) -> None:
        """
        Authentic packets came: those that they have overtaken will not take much longer.
        """
        if self._has_old_key and self.discard_time is None:
            self.discard_time = now + KEY_RETENTION * probe_timeout

    def handle_timer(self, *, now: float) -> None:
        """
        Let the key before go when it is time.
        """
        if self.discard_time is not None and now >= self.discard_time:
            self.opener.drop_previous_key()
            self._has_old_key = False
            self.discard_time = None

    def request_update(self) -> None:
        """
        Use the next key as soon as that is allowed (M-15).
        """
        self._is_requested = True

    def update(self, *, now: float) -> None:
        """
        Use the next key if it is time or was asked for.
        """
        sealer = self.sealer
        if sealer.wants_key_update or (self._is_requested and sealer.can_update_key):
            sealer.start_key_update()
            self._trace.keys_updated(sealer.generation, is_ours=True, now=now)
            self._is_requested = False

    @property
    def has_ciphers(self) -> bool:
        """
        Whether there is anything to put away.
        """
        return self.opener.has_cipher or self.sealer.has_cipher

    def park(self) -> None:
        """
        Put the ciphers away; the next packet builds them again.
        """
        self.opener.park()
        self.sealer.park()
