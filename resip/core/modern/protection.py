"""
Packet protection: whole packets from plaintexts and back, a batch at a time.

    0        4                8                                    n-16          n
    +--------+----------------+------------------------------------+------------+
    | id u32 | phase, number  | frames, encrypted                  | tag        |
    +--------+----------------+------------------------------------+------------+
               masked

Sections 1.1, 2.1 and 2.2 of docs/protocol.md. What depends on the number of packets is kept
flat on purpose: one block cipher call masks a whole batch, and a packet in its turn costs one
AEAD call and little else.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import chain
from operator import xor
from struct import Struct

from cryptography.exceptions import InvalidTag

from resip.core.errors import LimitError
from resip.core.modern import fragments
from resip.core.modern.packet_keys import CipherSuite, HeaderMask, PacketKeys
from resip.core.modern.pieces import LEAST_VIEW_SIZE
from resip.core.modern.replay import NUMBER_BITS, ReplayWindow, decode_number
from resip.core.trains import HEADER_SIZE, MIN_PACKET_SIZE, TAG_SIZE, Train, Trains

#: Bytes that a packet is longer than its frames.
OVERHEAD = HEADER_SIZE + TAG_SIZE

#: Packets under one key after which a sender should move on (M-15).
KEY_UPDATE_AT = 1 << 22
#: Packets that may be sealed under one key, RFC 9001 section 6.6 (M-15).
MAX_PACKETS_PER_KEY = 1 << 23

_NUMBER_MASK = (1 << NUMBER_BITS) - 1

_HEADER = Struct("!II")


class DropTrigger(StrEnum):
    """
    Why a packet was dropped, in the words of qlog.
    """

    #: Shorter than any packet (M-14).
    TOO_SHORT = "too_short"
    #: Forged, damaged, or of another session (M-14).
    UNDECRYPTABLE = "payload_decrypt_error"
    #: Its number was accepted before (M-13).
    DUPLICATE = "duplicate"
    #: Its number is so old that nobody remembers whether it came (M-13).
    TOO_OLD = "too_old"
    #: Of the previous phase, whose key is gone (M-16).
    KEY_UNAVAILABLE = "key_unavailable"


class Sealer:
    """
    Makes the packets of one direction.

    It never seals two packets under one number (M-8), nor more than :data:`MAX_PACKETS_PER_KEY`
    under one key (M-15): both are errors of the caller, and nothing is sealed.

    :param secret: the direction's secret from the handshake, 32 bytes.
    :ivar generation: how often the key was updated; its lowest bit is the phase.
    """

    __slots__ = ("_generation_first", "_is_acked", "_keys", "_mask", "_next_number", "generation")

    def __init__(self, suite: CipherSuite, secret: bytes) -> None:
        self._keys = PacketKeys(suite, secret)
        self._mask = HeaderMask(suite, secret)
        self.generation = 0
        self._next_number = 0
        self._generation_first = 0
        self._is_acked = False

    @property
    def next_number(self) -> int:
        """
        The lowest number that was not used yet.
        """
        return self._next_number

    @property
    def room(self) -> int:
        """
        How many more packets the present key may seal.
        """
        return MAX_PACKETS_PER_KEY - (self._next_number - self._generation_first)

    @property
    def can_update_key(self) -> bool:
        """
        Whether the peer acknowledged a packet of this phase (M-15).
        """
        return self._is_acked

    @property
    def wants_key_update(self) -> bool:
        """
        Whether it is time for :meth:`start_key_update`, and allowed (M-15).
        """
        return self._is_acked and self.room <= MAX_PACKETS_PER_KEY - KEY_UPDATE_AT

    def seal(self, session_id: int, plaintexts: Sequence[bytes], first_number: int) -> list[bytes]:
        """
        Whole packets with consecutive numbers.

        :param session_id: the id that the peer chose, a u32.
        :param plaintexts: the frames of each packet, at least one byte.
        :param first_number: of the first packet, at least :attr:`next_number`.
        :raises ValueError: when a number was used before, or a plaintext is empty.
        :raises LimitError: when the key has no room for so many; update it first.
        """
        words, bodies = self._encrypt(session_id, plaintexts, first_number)
        masked = map(xor, words, self._mask.masks([body[-TAG_SIZE:] for body in bodies]))
        pack = _HEADER.pack
        return [pack(session_id, word) + body for word, body in zip(masked, bodies, strict=True)]

    def seal_in_trains(
        self, session_id: int, plaintexts: Sequence[bytes], first_number: int, *, largest: int
    ) -> Trains:
        """
        The same, a train for each packet: in fragments where it is too large.

        :param largest: bytes of a datagram.
        """
        words, bodies = self._encrypt(session_id, plaintexts, first_number)
        trains = []
        for word, body in zip(words, bodies, strict=True):
            parts, layout = fragments.cut(word, len(body), largest - HEADER_SIZE)
            masks = self._mask.masks(layout.content_tails.unpack(body))
            fields: list[int | bytes] = [session_id] * (3 * len(parts))
            fields[1::3] = map(xor, parts, masks)
            fields[2::3] = layout.contents.unpack(body)
            trains.append(Train(layout.packets.pack(*fields), layout.size))
        return Trains(trains)

    def _encrypt(
        self, session_id: int, plaintexts: Sequence[bytes], first_number: int
    ) -> tuple[list[int], list[bytes]]:
        """
        The second word of each packet, unmasked, and what follows its header.
        """
        self._claim(plaintexts, first_number)
        aead, iv = self._keys.contexts()
        encrypt, pack = aead.encrypt, _HEADER.pack
        phase = (self.generation & 1) << 31
        numbers = range(first_number, first_number + len(plaintexts))
        words = [phase | number & _NUMBER_MASK for number in numbers]
        return words, [
            encrypt((iv ^ number).to_bytes(12), plaintext, pack(session_id, word))
            for number, word, plaintext in zip(numbers, words, plaintexts, strict=True)
        ]

    def on_acked(self, number: int) -> None:
        """
        The peer acknowledged ``number``, at best the largest one: it may allow a key update.
        """
        if number >= self._generation_first:
            self._is_acked = True

    def start_key_update(self) -> None:
        """
        Move to the next secret, beginning with the next packet.

        :raises ValueError: before :attr:`can_update_key`.
        """
        if not self._is_acked:
            raise ValueError("no packet of this key phase was acknowledged yet")
        self._advance()

    def follow(self, generation: int) -> None:
        """
        Catch up with the peer, whose packets are of ``generation`` now (M-16).

        To be called with :attr:`Opener.generation` before sealing; does nothing most times.
        """
        while self.generation < generation:
            self._advance()

    @property
    def has_cipher(self) -> bool:
        """
        Whether there is anything to put away.
        """
        return self._mask.has_cipher

    def park(self) -> None:
        """
        Put the ciphers away; the next packet builds them again.
        """
        self._keys.park()
        self._mask.park()

    def _claim(self, plaintexts: Sequence[bytes], first_number: int) -> None:
        if first_number < self._next_number:
            raise ValueError(f"packet number {first_number} was used before")
        if not all(plaintexts):
            raise ValueError("a packet without frames")
        end = first_number + len(plaintexts)
        if end - self._generation_first > MAX_PACKETS_PER_KEY:
            raise LimitError(f"{MAX_PACKETS_PER_KEY} packets under one key; update it first")
        self._next_number = end

    def _advance(self) -> None:
        self._keys = self._keys.following()
        self.generation += 1
        self._generation_first = self._next_number
        self._is_acked = False


class Opener:
    """
    Opens the packets of one direction, each number once.

    Nothing changes before a packet's tag was verified (M-12), but for fragments that are kept until
    the others of their packet come. Whether its number came before is asked after that too, so that
    the time taken tells a forger nothing about numbers (RFC 9001 section 9.5). A bad packet costs
    only itself.

    :param secret: the direction's secret from the handshake, 32 bytes.
    :param drops: where dropped packets are counted by trigger; all sessions may share one.
    :ivar generation: how often the peer updated its key; see :meth:`Sealer.follow`.
    :ivar window: the numbers accepted.
    """

    __slots__ = (
        "_fragments",
        "_generation_first",
        "_keys",
        "_mask",
        "_next_keys",
        "_previous_keys",
        "drops",
        "generation",
        "window",
    )

    def __init__(
        self, suite: CipherSuite, secret: bytes, drops: dict[DropTrigger, int] | None = None
    ) -> None:
        self._keys = PacketKeys(suite, secret)
        self._mask = HeaderMask(suite, secret)
        self._previous_keys: PacketKeys | None = None
        self._next_keys: PacketKeys | None = None
        self._fragments: fragments.FragmentStore | None = None
        self._generation_first = 0
        self.generation = 0
        self.window = ReplayWindow()
        self.drops: dict[DropTrigger, int] = {} if drops is None else drops

    def open(self, packets: Sequence[bytes]) -> list[tuple[int, bytes] | None]:
        """
        Number and plaintext of each packet, ``None`` for those that were dropped. A packet in
        fragments stands in the place of the last one that arrived, ``None`` in that of the others.
        """
        if isinstance(packets, Trains):
            return [one for train in packets.trains for one in self._open_train(train)]
        if packets and min(map(len, packets)) < MIN_PACKET_SIZE:
            return self._open_around_short_ones(packets)
        joined = b"".join([packet[:HEADER_SIZE] for packet in packets])
        heads = list(chain.from_iterable(_HEADER.iter_unpack(joined)))
        tails = [packet[-TAG_SIZE:] for packet in packets]
        bodies = [_skip_header(packet) for packet in packets]
        return self._open_bodies(heads[::2], heads[1::2], tails, bodies)

    def drop_previous_key(self) -> None:
        """
        Three probe timeouts after :attr:`generation` changed: late packets open no more (M-16).
        """
        self._previous_keys = None

    @property
    def has_cipher(self) -> bool:
        """
        Whether there is anything to put away.
        """
        # Whatever arrives is unmasked first, and may be dropped before a key is needed.
        return self._mask.has_cipher

    def park(self) -> None:
        """
        Put the ciphers away; the next packet builds them again.
        """
        self._mask.park()
        self._keys.park()
        self._fragments = self._next_keys = None
        if self._previous_keys is not None:
            self._previous_keys.park()

    def _expect(self) -> tuple[int, int, int]:
        # The number to come, twice, and the word that it has in this phase.
        number = self.window.next_number
        return number, number, (self.generation & 1) << 31 | number & _NUMBER_MASK

    def _open_around_short_ones(self, packets: Sequence[bytes]) -> list[tuple[int, bytes] | None]:
        opened = iter(self.open([p for p in packets if len(p) >= MIN_PACKET_SIZE]))
        return [
            next(opened) if len(packet) >= MIN_PACKET_SIZE else self._dropped(DropTrigger.TOO_SHORT)
            for packet in packets
        ]

    def _open_train(self, train: Train) -> Sequence[tuple[int, bytes] | None]:
        layout = train.layout
        if layout is None:
            return self.open(train.datagrams())
        fields, tails = layout.packets.unpack(train.data), layout.tails.unpack(train.data)
        return self._open_bodies(fields[::3], fields[1::3], tails, fields[2::3])

    def _open_bodies(
        self,
        ids: Sequence[int],
        masked: Sequence[int],
        tails: Sequence[bytes],
        bodies: Sequence[bytes | memoryview],
    ) -> list[tuple[int, bytes] | None]:
        """
        Open packets whose session ids, masked words, last 16 bytes and contents these are.
        """
        words = list(map(xor, masked, self._mask.masks(tails)))
        if words and (words[0] | words[-1]) & fragments.FRAGMENT_BIT:
            return self._open_fragments(ids, words, bodies)
        opened: list[tuple[int, bytes] | None] = []
        first, number, expected = self._expect()
        aead, iv = self._keys.contexts()
        decrypt, pack = aead.decrypt, _HEADER.pack
        for session_id, word, body in zip(ids, words, bodies, strict=True):
            if word == expected:  # the packet whose turn it is, as in a burst without loss
                try:
                    plaintext = decrypt((iv ^ number).to_bytes(12), body, pack(session_id, word))
                except InvalidTag:
                    pass  # once more below, where every case is looked at
                else:
                    opened.append((number, plaintext))
                    number += 1
                    expected += 1
                    continue
            if first < number:
                self.window.accept_run(first, number)
            opened.append(self._open_one(session_id, word, body))
            first, number, expected = self._expect()
            aead, iv = self._keys.contexts()
            decrypt = aead.decrypt
        if first < number:
            self.window.accept_run(first, number)
        return opened

    def _open_fragments(
        self, ids: Sequence[int], words: Sequence[int], bodies: Sequence[bytes | memoryview]
    ) -> list[tuple[int, bytes] | None]:
        """
        Open a batch with fragments in it: most come in order, and all of a packet at once.
        """
        opened: list[tuple[int, bytes] | None] = []
        at = 0
        while at < len(words):
            word, body = words[at], bodies[at]
            is_fragment = fragments.is_fragment(word, HEADER_SIZE + len(body))
            count = fragments.count_train(words, at) if is_fragment else 0
            if count:
                joined = b"".join(bodies[at : at + count])
                opened += [None] * (count - 1)
                opened.append(self._open_joined(ids[at], word, joined))
            else:
                opened.append(self._open_one(ids[at], word, body))
            at += count or 1
        return opened

    def _open_one(
        self, session_id: int, word: int, body: bytes | memoryview
    ) -> tuple[int, bytes] | None:
        if not fragments.is_fragment(word, HEADER_SIZE + len(body)):
            number = decode_number(word & _NUMBER_MASK, self.window.next_number)
            return self._open_body(session_id, word >> 31, number, body)
        if self._fragments is None:
            self._fragments = fragments.FragmentStore()
        joined = self._fragments.add(word, body)
        return None if joined is None else self._open_joined(session_id, word, joined)

    def _open_joined(self, session_id: int, word: int, body: bytes) -> tuple[int, bytes] | None:
        if len(body) > fragments.MAX_JOINED_SIZE:
            return None  # M-70
        low, following = fragments.read_number(word), self.window.next_number
        number = decode_number(low, following, bits=fragments.NUMBER_BITS)
        return self._open_body(session_id, word >> 31, number, body)

    def _open_body(
        self, session_id: int, phase: int, number: int, body: bytes | memoryview
    ) -> tuple[int, bytes] | None:
        keys = self._keys_for(phase, number)
        if keys is None:
            return self._dropped(DropTrigger.KEY_UNAVAILABLE)
        aead, iv = keys.contexts()
        header = _HEADER.pack(session_id, phase << 31 | number & _NUMBER_MASK)
        try:
            plaintext = aead.decrypt((iv ^ number).to_bytes(12), body, header)
        except InvalidTag:
            return self._dropped(DropTrigger.UNDECRYPTABLE)
        if not self.window.accept(number):
            too_old = self.window.is_too_old(number)
            return self._dropped(DropTrigger.TOO_OLD if too_old else DropTrigger.DUPLICATE)
        if keys is self._next_keys:
            self._advance(number)
        return number, plaintext

    def _keys_for(self, phase: int, number: int) -> PacketKeys | None:
        # RFC 9001 section 6.5: a flipped bit means the next phase, unless the number is from
        # before this one. The next keys are kept, so that a forged bit costs no derivation.
        if phase == self.generation & 1:
            return self._keys
        if number < self._generation_first:
            return self._previous_keys
        if self._next_keys is None:
            self._next_keys = self._keys.following()
        return self._next_keys

    def _advance(self, number: int) -> None:
        assert self._next_keys is not None, "a packet opened with the next keys"
        self._previous_keys = self._keys
        self._keys = self._next_keys
        self._next_keys = None
        self.generation += 1
        self._generation_first = number

    def _dropped(self, trigger: DropTrigger) -> tuple[int, bytes] | None:
        self.drops[trigger] = self.drops.get(trigger, 0) + 1
        return None


def _skip_header(packet: bytes) -> bytes | memoryview:
    is_large = len(packet) >= LEAST_VIEW_SIZE  # then a copy costs more than a view
    return (memoryview(packet) if is_large else packet)[HEADER_SIZE:]
