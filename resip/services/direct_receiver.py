"""
``resip receive``: takes what peers with known public keys send, and answers nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall

from resip.bootstrap.keystore import KeyRecord
from resip.carriers import tcp, udp
from resip.carriers.channels import Channel
from resip.carriers.interfaces import Carrier
from resip.carriers.tcp import TCPCarrier
from resip.carriers.udp import UDPCarrier
from resip.core.errors import ResetCode
from resip.core.types import RandomBytes
from resip.direct.destinations import Destination, FileDestination, StreamDestination, file_path
from resip.direct.errors import TransferError
from resip.direct.messages import TARGET, FailureCode, Offer
from resip.direct.names import printable
from resip.direct.progress import ProgressLine, quantity
from resip.services.clock import Clocks
from resip.services.direct_channel import Reporter
from resip.services.direct_incoming import IncomingTransfer
from resip.services.listening import Listeners
from resip.services.sessions import ServerSessions

SHOW_INTERVAL = 0.5
SILENCE_CHECK_INTERVAL = 60.0
#: Seconds for which a receiver that is to take one thing waits for its sender to leave.
FAREWELL_TIMEOUT = 10.0
_LISTEN = re.compile(r"(udp|tcp):(?:(?:\[([^\[\]]*)\]|([^:\[\]]*)):)?([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """
    Where to listen.

    :ivar carrier: ``udp`` or ``tcp``.
    :ivar host: an address of this machine; empty for all.
    :ivar port: 0 takes any.
    """

    carrier: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """
        Read ``udp:port`` or ``udp:address:port``, with brackets around an IPv6 address.

        :raises ValueError: for anything else; the message says what is wrong.
        """
        match = _LISTEN.fullmatch(text)
        if match is None or int(match[4]) > 65535:
            raise ValueError(
                f"{text!r} is nothing to listen on: write udp:port or tcp:port, or udp:address:port"
            )
        host = match[2] or match[3] or ""
        return cls(match[1], str(ip_address(host)) if host else "", int(match[4]))


@dataclass(frozen=True, slots=True)
class ReceiverConfiguration:
    """
    What the user decides.

    :ivar peers: the public keys from which things are taken.
    :ivar output: a directory or a file; ``None`` for the stream.
    :ivar overwrite: whether files may take the place of others.
    :ivar is_once: stop after the first.
    """

    listen: Sequence[ListenAddress]
    static_key: X25519PrivateKey
    peers: Sequence[bytes]
    output: FilePath | None
    overwrite: bool = False
    is_once: bool = False


class DirectReceiver(Service):
    """
    Listens while it runs. :attr:`done` fires when it has what it was to take.

    :param stream: takes what has no file, and says whether it has room.
    """

    def __init__(
        self,
        reactor: Any,
        configuration: ReceiverConfiguration,
        *,
        reporter: Reporter,
        stream: StreamDestination | None = None,
        clocks: Clocks | None = None,
        random_bytes: RandomBytes,
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._reporter = reporter
        self._stream = stream
        self._clocks = clocks or Clocks()
        self._carriers: dict[str, Carrier] = {}
        self._listeners: list[Listeners] = []
        self._transfers: dict[str, IncomingTransfer] = {}
        self._progress: dict[IncomingTransfer, ProgressLine] = {}
        self._farewell: IDelayedCall | None = None
        self.done: Deferred[None] = Deferred()
        self.sessions = ServerSessions(
            self._carriers,
            clock=reactor,
            clocks=self._clocks,
            random_bytes=random_bytes,
            on_request=self._channel_requested,
            is_classic=False,
        )
        # Nobody keeps it: another run must never have the same.
        self.sessions.started = int.from_bytes(random_bytes(7))
        self._tickers = [
            (LoopingCall(self._tick), SHOW_INTERVAL),
            (LoopingCall(self.sessions.end_silent), SILENCE_CHECK_INTERVAL),
        ]
        peers = {
            key: KeyRecord(f"peer-{number}", b"", None, 0, key)
            for number, key in enumerate(configuration.peers, 1)
        }
        self.sessions.speak_modern(configuration.static_key, peers.get)

    @property
    def ports(self) -> list[int]:
        """
        The ports in use, in the order of the configuration.
        """
        return [each.ports[0].getHost().port for each in self._listeners]  # type: ignore[attr-defined]

    def startService(self) -> None:
        """
        Open the ports.

        :raises ServiceError: when one is not to be had.
        """
        super().startService()  # type: ignore[no-untyped-call]
        for address in self._configuration.listen:
            self._listen(address)
        for ticker, interval in self._tickers:
            ticker.clock = self._reactor
            ticker.start(interval, now=False)

    def stopService(self) -> Deferred[None]:
        """
        End the sessions and close the ports; fires when it is done.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        for ticker, _ in self._tickers:
            if ticker.running:
                ticker.stop()
        if self._farewell is not None and self._farewell.active():
            self._farewell.cancel()
        self.sessions.stop()
        closing = [listeners.close() for listeners in self._listeners]
        for carrier in self._carriers.values():
            if isinstance(carrier, TCPCarrier):
                closing.append(carrier.shut_down())
        return gatherResults(closing).addCallback(lambda _: None)

    def stream_drained(self) -> None:
        """
        The stream has room again.
        """
        for transfer in self._transfers.values():
            transfer.drained()

    def _listen(self, address: ListenAddress) -> None:
        listeners = Listeners(self._reactor, (address.host,) if address.host else ())
        self._listeners.append(listeners)
        if address.carrier == udp.CARRIER_NAME:
            listeners.listen_udp(address.port, self._make_udp, "--listen")
        else:
            listeners.listen_tcp(address.port, self._make_tcp(), "--listen")

    def _make_udp(self) -> UDPCarrier:
        name = f"{udp.CARRIER_NAME}-{len(self._carriers)}"
        carrier = UDPCarrier(self.sessions.receive_datagrams, name)
        self._carriers[name] = carrier
        return carrier

    def _make_tcp(self) -> TCPCarrier:
        carrier = self._carriers.get(tcp.CARRIER_NAME)
        if not isinstance(carrier, TCPCarrier):
            carrier = self._carriers[tcp.CARRIER_NAME] = TCPCarrier(
                self.sessions.receive_datagrams,
                choose_framing=self.sessions.choose_framing,
                clock=self._reactor,
                on_closed=self.sessions.path_closed,
                on_writable=self.sessions.path_writable,
            )
        return carrier

    # Transfers.

    def _channel_requested(self, channel: Channel, key_name: str) -> None:
        if channel.target != TARGET:
            channel.refuse(ResetCode.REFUSED)
            return
        transfer = IncomingTransfer(
            self._reactor,
            channel,
            choose=self._choose,
            now=self._clocks.monotonic,
            on_over=self._over,
        )
        channel.accept(transfer)

    def _choose(self, offer: Offer, transfer: IncomingTransfer) -> Destination:
        output = self._configuration.output
        path = None if output is None else file_path(output, offer)
        key = str(path)
        before = self._transfers.get(key)
        if before is not None:
            # Its sender was killed and is there again, most of the time.
            text = "another sender has sent something of the same name"
            before.give_up(TransferError(text, FailureCode.REPLACED))
        self._transfers[key] = transfer
        self._progress[transfer] = ProgressLine(printable(offer.name), offer.size)
        if path is None:
            assert self._stream is not None, "where there is no output there is a stream"
            transfer.has_room = self._has_room
            return self._stream
        return FileDestination(path, offer, overwrite=self._configuration.overwrite)

    def _has_room(self) -> bool:
        return self._stream is None or not self._stream.is_full()

    def _over(self, transfer: IncomingTransfer, digest: bytes | None, problem: str) -> None:
        for key, each in list(self._transfers.items()):
            if each is transfer:
                del self._transfers[key]
        self._progress.pop(transfer, None)
        if digest is None:
            what = transfer.label
            if transfer.offer is not None:
                what += f" ({quantity(transfer.received)} so far)"
            self._reporter.say(f"{what}: {problem}")
            return
        kept = f", {transfer.kept} of them of before" if transfer.kept else ""
        self._reporter.say(
            f"{transfer.label}: {transfer.received} bytes{kept}, SHA-256 {digest.hex()}"
        )
        if self._configuration.is_once:
            self._wait_for_farewell()

    def _wait_for_farewell(self) -> None:
        # The sender leaves when it has heard the last word.
        deadline = self._clocks.monotonic() + FAREWELL_TIMEOUT

        def look() -> None:
            if not len(self.sessions) or self._clocks.monotonic() > deadline:
                if not self.done.called:
                    self.done.callback(None)
                return
            self._farewell = self._reactor.callLater(0.05, look)

        look()

    def _tick(self) -> None:
        now = self._clocks.monotonic()
        for transfer in self._progress:
            transfer.tell_progress()
        lines = [
            line.text(transfer.received, now=now, silence=now - transfer.last_received_time)
            for transfer, line in self._progress.items()
        ]
        if lines:
            self._reporter.show("; ".join(lines))
