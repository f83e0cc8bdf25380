"""
The handshakes of a server: those in packets must cost little, and none may start two sessions.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from resip.bootstrap.ratelimit import RateLimiter
from resip.core.modern.handshake_packets import HandshakePackets
from resip.core.modern.replay import HelloFilter
from resip.core.types import Path

#: Hellos in packets that one address may have decrypted at once, and per second after that. Many
#: clients may share one.
ADDRESS_BURST, ADDRESS_RATE = 50, 20.0
#: The same for all addresses together: each takes a third of a millisecond.
TOTAL_BURST, TOTAL_RATE = 100, 100.0
#: Seconds for which an answer is repeated, and how often (M-51).
ANSWER_LIFETIME = 60.0
MAX_REPETITIONS = 64
#: Copies of an answer that is repeated by a carrier that loses packets, as it probably has. All
#: together are not larger than the hello (M-20).
LATER_COPIES = 6
#: Answers that are remembered; the oldest goes first.
MAX_ANSWERS = 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a hello was answered with.

    :ivar session_id: of the session that it started.
    :ivar client_id: the id of packets to the client.
    :ivar copies: how often to send it where packets get lost.
    """

    session_id: int
    client_id: int
    message2: bytes = field(repr=False)
    copies: int = 1


@dataclass(slots=True)
class _Remembered:
    answer: Answer
    expires: float
    repetitions: int = MAX_REPETITIONS


class Handshakes:
    """
    What a server remembers of handshakes, and the packets of those that travel in packets.

    :param public_key: the server's, which the peers know.
    :param floor_ms: hellos in packets with a TIME up to this one are refused (M-7).
    :param exists: whether a session is still there.
    :param now: monotonic seconds.
    """

    def __init__(
        self,
        public_key: bytes,
        *,
        floor_ms: int,
        exists: Callable[[int], bool],
        now: Callable[[], float],
    ) -> None:
        self._packets = HandshakePackets(public_key)
        self._filter = HelloFilter(floor_ms=floor_ms)
        self._exists = exists
        self._now = now
        self._of_address = RateLimiter(burst=ADDRESS_BURST, rate=ADDRESS_RATE, now=now)
        self._of_all = RateLimiter(burst=TOTAL_BURST, rate=TOTAL_RATE, now=now, max_addresses=1)
        self._answers: OrderedDict[bytes, _Remembered] = OrderedDict()

    @property
    def stream_id(self) -> bytes:
        """
        What a connection begins with that carries a handshake first (M-53).
        """
        return self._packets.stream_id

    def unwrap(self, packet: bytes) -> bytes | None:
        """
        The message 1 in a packet, ``None`` when there is none. Takes some microseconds.
        """
        return self._packets.unwrap_message1(packet)

    def wrap(self, answer: Answer) -> bytes:
        """
        The packet of an answer.
        """
        return self._packets.wrap_message2(answer.client_id, answer.message2)

    def admit(self, path: Path) -> bool:
        """
        Whether one more message 1 from there is worth decrypting now (M-50).
        """
        host = path.address[0] if path.address else path.carrier
        return not self._of_address.take(host) and not self._of_all.take("all")

    def is_fresh(self, public_key: bytes, time_ms: int) -> bool:
        """
        Whether the hello of a known client is its newest, as which it is remembered (M-7).
        """
        return self._filter.accept(public_key, time_ms)

    def remember(self, message1: bytes, answer: Answer) -> None:
        """
        An answer was given.
        """
        self._answers[_digest(message1)] = _Remembered(answer, self._now() + ANSWER_LIFETIME)
        if len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)

    def recall(self, message1: bytes) -> Answer | None:
        """
        The answer that was given to these very bytes, if it may be given once more (M-51).
        """
        found = self._answers.get(_digest(message1))
        if found is None or not found.repetitions or found.expires < self._now():
            return None
        if not self._exists(found.answer.session_id):
            return None
        found.repetitions -= 1
        return replace(found.answer, copies=LATER_COPIES)


def _digest(message1: bytes) -> bytes:
    return hashlib.blake2s(message1).digest()
