"""
The client's side of handshakes in packets (section 2.4 of docs/protocol.md): one that says its
hello by every carrier there is, until the server answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from resip.bootstrap.errors import CertificateExpired, NotAResipServer, PinMismatch, Unreachable
from resip.bootstrap.handshake import OutgoingHandshake
from resip.carriers.interfaces import Carrier
from resip.core.modern.handshake import Welcome
from resip.core.modern.handshake_packets import HandshakePackets
from resip.core.modern.noise import HandshakeError
from resip.core.modern.parts import Agreement
from resip.core.types import Path, RandomBytes
from resip.services.links import Link

#: Seconds between two hellos on a path that may lose them, the first :data:`QUICK_HELLOS` times
#: and later. Where half of all packets are lost two in five are answered: nineteen in twenty are
#: through within 2 s. Where nine of ten are, one in twenty-five is.
QUICK_INTERVAL = 0.25
QUICK_HELLOS = 20
SLOW_INTERVAL = 0.5
#: Seconds after which the server's name is looked up again, and connections are dialled again.
RENEWAL_INTERVAL = 5.0
#: Seconds for which the carriers before have the word alone.
NEXT_CARRIER_DELAY = 1.0
#: Seconds for which HTTPS has the word alone: enough for it where a round trip takes 100 ms and
#: nothing gets lost.
HTTPS_HEAD_START = 0.5
#: Seconds for which packets are tried after HTTPS has failed; then HTTPS is tried again. As many
#: more for each carrier beyond the second: the later it starts, the later it can answer.
LAST_CHANCE = 3.0
#: What HTTPS says when it did not get through to the server itself. Somebody in between can make
#: it say so, but cannot answer the hello.
NOT_THE_SERVER = (Unreachable, PinMismatch, CertificateExpired, NotAResipServer)

Agreed: TypeAlias = tuple[Agreement, Welcome]
#: Makes the links to one server, the preferred first.
MakeLinks: TypeAlias = Callable[[], Sequence[Link]]


class PacketHandshake:
    """
    One handshake; hears from its links as their :class:`~resip.services.links.LinkUser`.

    :param handshake: what to say.
    :param server_key: the server's public key.
    :param links: by which, the preferred first; they are stopped at the end.
    """

    def __init__(
        self,
        clock: IReactorTime,
        handshake: OutgoingHandshake,
        server_key: bytes,
        links: Sequence[Link],
        *,
        random_bytes: RandomBytes,
    ) -> None:
        self._clock = clock
        self._handshake = handshake
        self._packets = HandshakePackets(server_key)
        self._packet = self._packets.wrap_message1(handshake.message1, random_bytes)
        self._links = links
        self._carriers: dict[Path, Carrier] = {}
        self._starts: list[IDelayedCall] = []
        self._repetition: IDelayedCall | None = None
        self._renewal: IDelayedCall | None = None
        self._said = 0
        self._closing: Deferred[None] | None = None
        self._answered: Deferred[Agreed] = Deferred()

    @property
    def carrier_count(self) -> int:
        """
        By how many carriers it goes.
        """
        return len(self._links)

    def start(self) -> Deferred[Agreed]:
        """
        Begin; fires when the server has answered, and never if it does not.
        """
        for number, link in enumerate(self._links):
            if number:
                delay = number * NEXT_CARRIER_DELAY
                self._starts.append(self._clock.callLater(delay, link.start, self))
            else:
                link.start(self)
        self._renewal = self._clock.callLater(RENEWAL_INTERVAL, self._renew)
        return self._answered

    def stop(self) -> Deferred[None]:
        """
        Say nothing any more; fires when every socket is closed. Harmless when repeated.
        """
        for call in (*self._starts, self._repetition, self._renewal):
            if call is not None and call.active():
                call.cancel()
        self._carriers.clear()
        if self._closing is None:
            stopping = [link.stop() for link in self._links]
            self._closing = gatherResults(stopping).addCallback(lambda _: None)
        closing: Deferred[None] = Deferred()
        self._closing.addBoth(lambda _: closing.callback(None))
        return closing

    # What the links tell.

    def path_open(self, path: Path, carrier: Carrier) -> None:
        """
        Say it there, too.
        """
        if self._is_over:
            return
        carrier.send(path, [self._packet])
        if path.is_reliable:
            return
        self._carriers[path] = carrier
        if self._repetition is None:
            self._repeat_later()

    def path_closed(self, path: Path) -> None:
        """
        Not there any more.
        """
        self._carriers.pop(path, None)

    def path_writable(self, path: Path) -> None:
        """
        One hello is all that a connection is given.
        """

    def preamble(self, path: Path) -> bytes:
        """
        What tells the server that a handshake comes first (M-53).
        """
        return self._packets.stream_id

    def receive_datagrams(self, packets: Sequence[bytes], path: Path) -> bool:
        """
        Take the answer; whatever else comes is ignored.
        """
        return any([self._receive(packet) for packet in packets])

    def _receive(self, data: bytes) -> bool:
        if self._is_over:
            return False
        found = self._packets.unwrap_message2(data)
        if found is None or found[0] != self._handshake.local_id:
            return False
        try:
            agreed = self._handshake.finish(found[1])
        except HandshakeError:  # forged: the genuine one may still come
            return False
        self._answered.callback(agreed)
        return True

    @property
    def _is_over(self) -> bool:
        return self._closing is not None or self._answered.called

    def _repeat_later(self) -> None:
        self._said += 1
        interval = QUICK_INTERVAL if self._said < QUICK_HELLOS else SLOW_INTERVAL
        self._repetition = self._clock.callLater(interval, self._repeat)

    def _renew(self) -> None:
        if self._is_over:
            return
        for link in self._links:
            link.renew()
        self._renewal = self._clock.callLater(RENEWAL_INTERVAL, self._renew)

    def _repeat(self) -> None:
        if self._is_over:
            return
        for path, carrier in self._carriers.items():
            carrier.send(path, [self._packet])
        self._repeat_later()


class HandshakeRace:
    """
    A handshake over HTTPS, and in packets as well when that does not succeed at once.

    :param ask: asks over HTTPS.
    :param make_links: to where packets go.
    :ivar note: what the log should say of a handshake in packets.
    """

    def __init__(
        self,
        clock: IReactorTime,
        handshake: OutgoingHandshake,
        *,
        ask: Callable[[], Deferred[Agreed]],
        server_key: bytes,
        make_links: MakeLinks,
        random_bytes: RandomBytes,
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._make_packets: Callable[[], PacketHandshake] = lambda: PacketHandshake(
            clock, handshake, server_key, make_links(), random_bytes=random_bytes
        )
        self._packets: PacketHandshake | None = None
        self._calls: list[IDelayedCall] = []
        self._result: Deferred[Agreed] = Deferred()
        self._problem = "no answer yet"
        self.note = ""

    async def run(self) -> Agreed:
        """
        Wait for the first answer.

        :raises BootstrapError: what HTTPS says; unless it is the server's own word, not before
            packets had their chance.
        """
        self._calls.append(self._clock.callLater(HTTPS_HEAD_START, self._start_packets))
        asking = self._ask()
        asking.addCallbacks(self._answered, self._failed)
        try:
            return await self._result
        finally:
            asking.cancel()
            self.stop()

    def stop(self) -> Deferred[None]:
        """
        Stop what is left of it; fires when every socket is closed.
        """
        for call in self._calls:
            if call.active():
                call.cancel()
        return succeed(None) if self._packets is None else self._packets.stop()

    def _answered(self, agreed: Agreed) -> None:
        if not self._result.called:
            self._result.callback(agreed)

    def _failed(self, failure: Failure) -> None:
        if self._result.called:
            return
        if failure.check(*NOT_THE_SERVER) is None:
            self._result.errback(failure)
            return
        self._problem = str(failure.value)
        packets = self._start_packets()
        if not packets.carrier_count:
            self._give_up(failure)
            return
        patience = LAST_CHANCE * max(1, packets.carrier_count - 1)
        self._calls.append(self._clock.callLater(patience, self._give_up, failure))

    def _give_up(self, failure: Failure) -> None:
        if not self._result.called:
            self._result.errback(failure)

    def _start_packets(self) -> PacketHandshake:
        if self._packets is None:
            self._packets = self._make_packets()
            self._packets.start().addCallback(self._answered_in_packets)
        return self._packets

    def _answered_in_packets(self, agreed: Agreed) -> None:
        self.note = f" (in packets; HTTPS: {self._problem})"
        self._answered(agreed)
