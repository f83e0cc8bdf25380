"""
The ids that packets carry in front: those that we gave to the peer, and those it gave to us.

An id says which session a packet belongs to, so each side chooses the ids of the packets that
it receives. A path is used with an id of its own, lest an observer link two addresses of one
client (M-38). NEW_ID and RETIRE_ID are bytes elsewhere; here they are arguments and results.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

from resip.core.errors import ProtocolError
from resip.core.rangeset import RangeSet
from resip.core.types import Path

#: Ids of one side that the other holds at a time, the one in use included (M-38).
MAX_ACTIVE_IDS = 6
#: Ids that are kept for paths to come, when there are so many.
SPARE_IDS = 2

#: Bytes of the reset token that comes with an id.
TOKEN_SIZE = 16


@dataclass(frozen=True, slots=True)
class IssuedId:
    """
    What a NEW_ID frame says.

    :ivar sequence: counts the ids of one side; that of the handshake is 0.
    :ivar session_id: u32.
    :ivar token: 16 bytes, see :mod:`resip.core.modern.reset`.
    """

    sequence: int
    session_id: int
    token: bytes = field(repr=False)


class IdPool:
    """
    The ids under which we receive.

    :param first_id: the one of our hello or welcome.
    :param allocate: gives a new id, not that of another session of the endpoint, and routes its
        packets here from then on.
    :param release: is told each id whose packets need not come here any longer.
    :param token: the reset token of an id; a client, which sends no resets, gives random bytes.
    """

    __slots__ = ("_allocate", "_ids", "_next_sequence", "_release", "_sequences", "_token")

    def __init__(
        self,
        first_id: int,
        *,
        allocate: Callable[[], int],
        release: Callable[[int], None],
        token: Callable[[int], bytes],
    ) -> None:
        # Those that the peer may use. Arrays, since every idle session keeps these: a dictionary
        # of six takes 350 bytes.
        self._sequences = array("I", (0,))
        self._ids = array("I", (first_id,))
        self._next_sequence = 1
        self._allocate = allocate
        self._release = release
        self._token = token

    @property
    def active(self) -> tuple[int, ...]:
        """
        The ids that the peer may use now.
        """
        return tuple(self._ids)

    def is_active(self, sequence: int) -> bool:
        """
        Whether a lost NEW_ID of ``sequence`` still needs saying.
        """
        return sequence in self._sequences

    def replenish(self) -> list[IssuedId]:
        """
        Make new ids until the peer holds :data:`MAX_ACTIVE_IDS`; each goes out in a NEW_ID.
        """
        issued = []
        while len(self._ids) < MAX_ACTIVE_IDS:
            session_id = self._allocate()
            if not session_id or session_id in self._ids:
                continue  # drawn at random: the peer would take it for a broken protocol
            issued.append(IssuedId(self._next_sequence, session_id, self._token(session_id)))
            self._sequences.append(self._next_sequence)
            self._ids.append(session_id)
            self._next_sequence += 1
        return issued

    def on_retired(self, sequence: int) -> None:
        """
        The peer returned an id with RETIRE_ID; saying so again changes nothing.

        :raises ProtocolError: for a sequence number that was never issued.
        """
        if sequence >= self._next_sequence:
            raise ProtocolError(f"RETIRE_ID {sequence}, but only {self._next_sequence} were issued")
        if sequence in self._sequences:
            at = self._sequences.index(sequence)
            del self._sequences[at]
            self._release(self._ids.pop(at))

    def close(self) -> None:
        """
        The session is over: release every id.
        """
        for session_id in self._ids:
            self._release(session_id)
        del self._sequences[:], self._ids[:]


class PeerIds:
    """
    The ids under which the peer receives: one for each path, lest an observer link two paths of
    one session (M-38).

    :param first_id: the one of its hello or welcome.
    :param token: the token that came with it, 16 bytes; ``None`` where the peer gave none.
    """

    __slots__ = ("_current", "_of_path", "_retired", "_stock", "_unsaid")

    def __init__(self, first_id: int, token: bytes | None) -> None:
        self._stock = [IssuedId(0, first_id, token or b"")]
        #: Those in use, the path used last at the end.
        self._of_path: dict[Path, IssuedId] = {}
        self._current: Path | None = None
        self._retired: RangeSet | None = None  # most sessions never do
        self._unsaid: list[int] = []

    @property
    def spares(self) -> int:
        """
        How many ids are in stock that were not used yet.
        """
        return len(self._stock)

    @property
    def tokens(self) -> tuple[bytes, ...]:
        """
        The reset tokens of the ids that are not retired.
        """
        return tuple(issued.token for issued in self._active if issued.token)

    def add(self, issued: IssuedId) -> None:
        """
        The peer provided an id with NEW_ID; a repeated one changes nothing.

        :raises ProtocolError: when the peer provides more than :data:`MAX_ACTIVE_IDS`, or gives
            one sequence number two ids, or one id two numbers.
        """
        if self._retired is not None and issued.sequence in self._retired:
            return
        for known in self._active:
            if known.sequence == issued.sequence:
                if known.session_id != issued.session_id:
                    raise ProtocolError(f"NEW_ID {issued.sequence} came with two ids")
                return
            if known.session_id == issued.session_id:
                raise ProtocolError(f"NEW_ID {issued.sequence} repeats the id of {known.sequence}")
        if issued.sequence >= self._retired_count + MAX_ACTIVE_IDS:
            raise ProtocolError(f"NEW_ID {issued.sequence} makes more than {MAX_ACTIVE_IDS} ids")
        self._stock.append(issued)

    def use(self, path: Path) -> int:
        """
        Packets take ``path`` from now on.

        :return: the id to put in front of them; see :meth:`id_for`.
        """
        self._current = path
        return self.id_for(path)

    def id_for(self, path: Path) -> int:
        """
        The id of packets on ``path``: its own, or while the stock is empty that of another path.

        Two ids are kept in stock: the path that was not used for longest gives its own back.
        """
        issued = self._of_path.pop(path, None)
        if issued is None:
            if not self._stock:
                return next(reversed(self._of_path.values())).session_id
            issued = min(self._stock, key=attrgetter("sequence"))
            self._stock.remove(issued)
        self._of_path[path] = issued
        if len(self._of_path) > MAX_ACTIVE_IDS - SPARE_IDS:
            oldest = next(other for other in self._of_path if other not in (self._current, path))
            self._retire(self._of_path.pop(oldest))
        return issued.session_id

    def release(self, path: Path) -> None:
        """
        The path is gone, or should not be known by its id any more.
        """
        issued = self._of_path.pop(path, None)
        if issued is None:
            return
        if self._of_path or self._stock:
            self._retire(issued)
        else:
            self._stock.append(issued)  # the last one: better linked than lost

    def take_retired(self) -> list[int]:
        """
        The sequence numbers of ids given back since the last call, each to go out in a RETIRE_ID.
        """
        retired, self._unsaid = self._unsaid, []
        return retired

    def _retire(self, issued: IssuedId) -> None:
        if self._retired is None:
            self._retired = RangeSet()
        self._retired.add(issued.sequence)
        self._unsaid.append(issued.sequence)

    @property
    def _active(self) -> tuple[IssuedId, ...]:
        return (*self._of_path.values(), *self._stock)

    @property
    def _retired_count(self) -> int:
        # With the limit in add() at most four numbers are missing between the retired ones,
        # so these are a handful of ranges however long the session lives.
        return sum(last - first + 1 for first, last in self._retired or ())
