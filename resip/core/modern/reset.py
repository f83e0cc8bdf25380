"""
Stateless reset: how a client learns that the server has lost its session (section 7).

The server proves that it is itself by a token that it can compute again from the id alone. To
everybody else the reset looks like any small packet.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from resip.core.modern.ids import TOKEN_SIZE
from resip.core.trains import MIN_PACKET_SIZE
from resip.core.types import RandomBytes

#: The smallest packet that is answered (M-41).
MIN_TRIGGER_SIZE = 43

#: The largest reset. It is smaller than any trigger, so two endpoints that lost each other
#: cannot keep each other busy.
MAX_RESET_SIZE = MIN_TRIGGER_SIZE - 1

#: Resets to all addresses together in any second (M-43).
MAX_RESETS_PER_SECOND = 100


#: Low bits of an id of ours by which we know it again, even after a restart.
ID_CHECK_BITS = 12
_CHECK_MASK = (1 << ID_CHECK_BITS) - 1


def derive_reset_key(static_key: X25519PrivateKey) -> bytes:
    """
    The 32 bytes from which a server computes tokens; the same after a restart.
    """
    hkdf = HKDF(SHA256(), 32, salt=None, info=b"resip reset key")
    return hkdf.derive(static_key.private_bytes_raw())


def reset_token(reset_key: bytes, session_id: int) -> bytes:
    """
    The token of an id, 16 bytes (M-41).

    :param reset_key: from :func:`derive_reset_key`.
    """
    return hashlib.blake2s(session_id.to_bytes(4), key=reset_key).digest()[:TOKEN_SIZE]


def make_id(reset_key: bytes, random_bytes: RandomBytes) -> int:
    """
    An id for packets to this server, u32 and not 0::

        | steering u8 | random, 12 bits | check, 12 bits |

    Of the ids that strangers make up one in 4,096 has the right check.
    """
    session_id = 0
    while not session_id:
        drawn = int.from_bytes(random_bytes(4)) & ~_CHECK_MASK
        session_id = drawn | _id_check(reset_key, drawn)
    return session_id


def is_own_id(reset_key: bytes, session_id: int) -> bool:
    """
    Whether a server with this key, in this run or an earlier one, seems to have made an id.
    """
    drawn = session_id & ~_CHECK_MASK
    return session_id & _CHECK_MASK == _id_check(reset_key, drawn)


def _id_check(reset_key: bytes, drawn: int) -> int:
    digest = hashlib.blake2s(drawn.to_bytes(4), key=reset_key, person=b"resip id").digest()
    return int.from_bytes(digest[:2]) & _CHECK_MASK


def is_reset(packet: bytes, tokens: Iterable[bytes]) -> bool:
    """
    Whether a packet that did not authenticate ends with one of ``tokens`` (M-42).

    Compares all of them in constant time, so that nobody can find a token byte by byte.

    :param tokens: of the ids in use, :attr:`resip.core.modern.ids.PeerIds.tokens`.
    """
    if len(packet) < MIN_PACKET_SIZE:
        return False
    end = packet[-TOKEN_SIZE:]
    found = False
    for token in tokens:
        found |= hmac.compare_digest(end, token)
    return found


class ResetSender:
    """
    Makes resets for packets of sessions that the server does not know.

    :param reset_key: from :func:`derive_reset_key`.
    """

    def __init__(self, reset_key: bytes, random_bytes: RandomBytes) -> None:
        self._reset_key = reset_key
        self._random_bytes = random_bytes
        self._sent_times: deque[float] = deque(maxlen=MAX_RESETS_PER_SECOND)

    def answer(self, packet: bytes, *, now: float) -> bytes | None:
        """
        The reset for ``packet``, or ``None`` when it is too small, its id is none of this
        server's, or there were enough (M-43).

        :param now: monotonic seconds.
        """
        if len(packet) < MIN_TRIGGER_SIZE or not self._may_send(now):
            return None
        session_id = int.from_bytes(packet[:4])
        if not is_own_id(self._reset_key, session_id):
            return None
        self._sent_times.append(now)
        spread = MAX_RESET_SIZE - MIN_PACKET_SIZE + 1
        size = MIN_PACKET_SIZE + int.from_bytes(self._random_bytes(2)) % spread
        token = reset_token(self._reset_key, session_id)
        return self._random_bytes(size - TOKEN_SIZE) + token

    def _may_send(self, now: float) -> bool:
        times = self._sent_times
        return len(times) < MAX_RESETS_PER_SECOND or now - times[0] >= 1.0
