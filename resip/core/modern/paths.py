"""
The ways to one peer: which of them are proven, and on which to answer (docs/protocol.md 6.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from resip.core.types import Path, RandomBytes

#: RFC 9000 section 8: bytes to an address that is not validated, for each byte from it.
AMPLIFICATION_LIMIT = 3
#: RFC 9000 section 8.2: bytes of a challenge.
CHALLENGE_SIZE = 8
#: The smallest packet that carries one: header, frame, tag.
CHALLENGE_PACKET_SIZE = 8 + 1 + CHALLENGE_SIZE + 16
#: Challenges that may still be answered. They go out a probe timeout apart, so an answer to an
#: older one is later than any round trip the timeout knows of.
OUTSTANDING_CHALLENGES = 4
#: RFC 9000 section 8.2.4: a validation is given up after three probe timeouts, not before three
#: of an unknown path. Seconds.
VALIDATION_TIMEOUTS = 3
MINIMUM_VALIDATION_TIME = 3.0
#: Paths of one peer that are remembered. A laptop has about two; whoever replays captured packets
#: from many addresses gets no more.
MAX_PATHS = 4
#: Packets to an address that is not validated whose acknowledgement would validate it.
REMEMBERED_NUMBERS = 64
#: Bytes kept back for the next challenge.
CHALLENGE_RESERVE = 48
#: What a validated path may be sent.
UNLIMITED = 1 << 62


class Validation(Enum):
    """
    Whether the peer is known to receive at an address.
    """

    #: Nobody asked.
    UNTRIED = auto()
    #: Challenges were sent, or are about to be.
    PENDING = auto()
    VALIDATED = auto()
    #: No challenge was answered in time.
    FAILED = auto()


class PathState:
    """
    One address of the peer.

    A carrier that keeps a connection has proven the address by opening it.

    :param is_same_host: the peer has proven another port of the host.
    :ivar path: the carrier and the address.
    :ivar validation: whether the peer receives there.
    :ivar rtt: seconds between the last challenge and its answer, ``None`` before; at least the
        round trip, and more when an answer to an earlier one arrives after it.
    :ivar last_received_time: when an authentic packet came from there.
    """

    __slots__ = (
        "_challenges",
        "_deadline",
        "_interval",
        "_is_same_host",
        "_next_challenge_time",
        "_numbers",
        "_received_bytes",
        "_sent_bytes",
        "last_received_time",
        "path",
        "rtt",
        "validation",
    )

    def __init__(
        self, path: Path, *, is_validated: bool = False, is_same_host: bool = False
    ) -> None:
        self.path = path
        self._is_same_host = is_same_host
        self.validation = Validation.UNTRIED
        if is_validated or path.is_reliable:
            self.validation = Validation.VALIDATED
        self.rtt: float | None = None
        self.last_received_time = 0.0
        self._received_bytes = 0
        self._sent_bytes = 0
        self._numbers: list[int] = []
        #: What was sent and when.
        self._challenges: dict[bytes, float] = {}
        self._interval = 0.0
        self._next_challenge_time: float | None = None
        self._deadline = 0.0

    @property
    def is_validated(self) -> bool:
        """
        Whether the peer proved that it receives here, or at this host and is being asked (M-67).
        """
        if self.validation is Validation.VALIDATED:
            return True
        return self._is_same_host and self.validation is Validation.PENDING

    @property
    def budget(self) -> int:
        """
        Bytes that may be sent now, 0 or more (M-20).
        """
        if self.is_validated:
            return UNLIMITED
        return max(0, AMPLIFICATION_LIMIT * self._received_bytes - self._sent_bytes)

    def on_received(self, size: int, *, now: float) -> None:
        """
        Authentic packets of ``size`` bytes in all came from here.
        """
        self._received_bytes += size
        self.last_received_time = now

    def on_sent(self, size: int, *, number: int, count: int = 1) -> None:
        """
        Packets of ``size`` bytes in all were sent here, challenges included.

        :param number: of the first of them. :param count: how many they are.
        """
        self._sent_bytes += size
        if not self.is_validated:
            self._numbers.extend(range(number, number + count))
            del self._numbers[:-REMEMBERED_NUMBERS]

    def on_acked(self, ranges: Sequence[tuple[int, int]]) -> bool:
        """
        The peer acknowledged packets.

        One that was sent here, and only here, proves as much as the answer to a challenge.

        :param ranges: (first, last) of their numbers.
        :return: whether that validated the path.
        """
        if self.is_validated or not any(
            first <= number <= last for first, last in ranges for number in self._numbers
        ):
            return False
        self._stop(Validation.VALIDATED)
        return True

    def start_validation(self, *, probe_timeout: float, now: float) -> None:
        """
        Ask the peer to prove that it receives here, unless it did or is being asked.

        :param probe_timeout: seconds, without backoff; challenges are repeated so far apart.
        """
        if self.validation in (Validation.PENDING, Validation.VALIDATED):
            return
        self.validation = Validation.PENDING
        self._interval = probe_timeout
        self._next_challenge_time = now
        self._deadline = now + max(VALIDATION_TIMEOUTS * probe_timeout, MINIMUM_VALIDATION_TIME)

    def get_challenge(self, random_bytes: RandomBytes, *, now: float) -> bytes | None:
        """
        The content of a PATH_CHALLENGE to send here now, ``None`` when none is due or the
        budget does not allow it.
        """
        if self._next_challenge_time is None or now < self._next_challenge_time:
            return None
        self._next_challenge_time = now + self._interval
        if self.budget < CHALLENGE_PACKET_SIZE:
            return None
        challenge = random_bytes(CHALLENGE_SIZE)
        self._challenges[challenge] = now
        if len(self._challenges) > OUTSTANDING_CHALLENGES:
            del self._challenges[next(iter(self._challenges))]
        return challenge

    def on_response(self, response: bytes, *, now: float) -> bool:
        """
        A PATH_RESPONSE arrived, on whatever path (RFC 9000 section 8.2.3).

        :return: whether it answers a challenge that was sent here.
        """
        sent_at = self._challenges.get(response)
        if sent_at is None:
            return False
        self.rtt = now - sent_at
        self._stop(Validation.VALIDATED)
        return True

    def get_timer(self) -> float | None:
        """
        When a challenge is due or validation is given up; ``None`` when neither is pending.
        """
        if self._next_challenge_time is None:
            return None
        return min(self._next_challenge_time, self._deadline)

    def handle_timer(self, *, now: float) -> None:
        """
        Give up when the time is over.
        """
        if self._next_challenge_time is not None and now >= self._deadline:
            self._stop(Validation.FAILED)

    def _stop(self, result: Validation) -> None:
        self.validation = result
        self._challenges.clear()
        if self.is_validated:
            self._numbers.clear()
        self._next_challenge_time = None


class PathSelector:
    """
    The server's choice: the path of the newest packet, once it is validated (M-37).

    A path that is not validated is used only when there is no other, within its budget. So a
    captured packet that arrives first from a foreign address moves nothing: that address never
    answers the challenge. A second validation is not needed to come back to a path.

    :ivar current: where to send, ``None`` before the first packet and after the last carrier.

    :param random_bytes: where challenges come from.
    """

    __slots__ = ("_highest_number", "_newest", "_random_bytes", "_states", "current")

    def __init__(self, random_bytes: RandomBytes) -> None:
        self.current: PathState | None = None
        self._random_bytes = random_bytes
        self._states: dict[Path, PathState] = {}
        self._newest: PathState | None = None
        self._highest_number = -1

    def __len__(self) -> int:
        """
        How many paths are remembered, at most :data:`MAX_PATHS`.
        """
        return len(self._states)

    @property
    def pending(self) -> PathState | None:
        """
        Where the newest packet came from, while that is not validated and another path is.
        """
        newest = self._newest
        is_pending = newest is not None and newest is not self.current and not newest.is_validated
        return newest if is_pending else None

    def get(self, path: Path) -> PathState | None:
        """
        What is known of ``path``.
        """
        return self._states.get(path)

    def on_received(
        self, path: Path, *, number: int, size: int, probe_timeout: float, now: float
    ) -> bool:
        """
        Authentic packets arrived that had not arrived before.

        :param number: the highest of their numbers, probes of the path left out (M-65); -1 when
            all were.
        :param size: bytes of all of them.
        :param probe_timeout: seconds, without backoff.
        :return: whether :attr:`current` is another path now.
        """
        state = self._states.get(path)
        if state is None:
            state = self._add(path)
        state.on_received(size, now=now)
        if 0 <= number < self._highest_number:
            return False
        # Who only asks may want to move here soon: then there should be nothing left to prove.
        state.start_validation(probe_timeout=probe_timeout, now=now)
        if number < 0:
            return False
        self._highest_number = number
        self._newest = state
        return self._choose()

    def on_response(self, response: bytes, *, now: float) -> bool:
        """
        A PATH_RESPONSE arrived.

        :return: whether :attr:`current` is another path now.
        """
        for state in self._states.values():
            if state.on_response(response, now=now):
                return self._choose()
        return False

    def path_closed(self, path: Path) -> bool:
        """
        The carrier of ``path`` is gone.

        :return: whether :attr:`current` is another path now, or none.
        """
        state = self._states.pop(path, None)
        if state is None:
            return False
        if state is self._newest:
            self._newest = None
        if state is not self.current:
            return False
        validated = [other for other in self._states.values() if other.is_validated]
        self.current = max(validated, key=_last_received_time, default=None)
        return True

    def get_challenges(self, *, now: float) -> list[tuple[PathState, bytes]]:
        """
        The challenges to send now, and where. The caller keeps to the budget of each.
        """
        due = []
        for state in self._states.values():
            challenge = state.get_challenge(self._random_bytes, now=now)
            if challenge is not None:
                due.append((state, challenge))
        return due

    def get_timer(self) -> float | None:
        """
        When :meth:`handle_timer` and :meth:`get_challenges` have something to do.
        """
        timers = [state.get_timer() for state in self._states.values()]
        return min([timer for timer in timers if timer is not None], default=None)

    def handle_timer(self, *, now: float) -> bool:
        """
        Give up the validations whose time is over.

        :return: whether :attr:`current` is another path now.
        """
        current = self.current
        was_validated = current is not None and current.is_validated
        for state in self._states.values():
            state.handle_timer(now=now)
        if current is None or current.is_validated or not was_validated:
            return False
        return self._fall_back()

    def _fall_back(self) -> bool:
        validated = [other for other in self._states.values() if other.is_validated]
        before = self.current
        self.current = max(validated, key=_last_received_time, default=before)
        return self.current is not before

    def _choose(self) -> bool:
        newest = self._newest
        if newest is None or newest is self.current:
            return False
        if self.current is not None and not newest.is_validated:
            return False
        self.current = newest
        return True

    def _add(self, path: Path) -> PathState:
        if len(self._states) >= MAX_PATHS:
            kept = (self.current, self._newest)
            others = [state for state in self._states.values() if state not in kept]
            # Those nobody proved first, of each kind the one silent for longest.
            victim = min(others, key=lambda state: (state.is_validated, state.last_received_time))
            del self._states[victim.path]
        state = PathState(
            path, is_same_host=any(_is_proven_host(o, path) for o in self._states.values())
        )
        self._states[path] = state
        return state


class ChosenPath:
    """
    The client's choice: whatever its carriers say. It owes the server proofs, and needs none.

    :ivar current: where to send, ``None`` without any carrier.
    """

    __slots__ = ("current",)

    def __init__(self) -> None:
        self.current: PathState | None = None

    def use(self, path: Path) -> bool:
        """
        Send on ``path`` from now on.

        :return: whether that is another path than before.
        """
        if self.current is not None and self.current.path == path:
            return False
        self.current = PathState(path, is_validated=True)
        return True

    def path_closed(self, path: Path) -> bool:
        """
        The carrier of ``path`` is gone.

        :return: whether there is no path now, and was one before.
        """
        if self.current is None or self.current.path != path:
            return False
        self.current = None
        return True


def _is_proven_host(state: PathState, path: Path) -> bool:
    known = state.path
    if known.carrier != path.carrier or known.address is None or path.address is None:
        return False
    return state.validation is Validation.VALIDATED and known.address[0] == path.address[0]


def _last_received_time(state: PathState) -> float:
    return state.last_received_time
