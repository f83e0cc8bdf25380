"""
The server, assembled: state, HTTPS bootstrap, carriers, sessions, targets.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from resip.bootstrap import certificates
from resip.bootstrap.errors import StateError
from resip.bootstrap.keystore import KeyRecord, KeyStore
from resip.bootstrap.plain_http import CarrierResource
from resip.bootstrap.resource import BootstrapResource, Carry
from resip.bootstrap.servers import (
    ServerPorts,
    read_server_ports,
    write_local_invitation,
    write_server_ports,
)
from resip.bootstrap.site import bootstrap_factory
from resip.bootstrap.state import StateDirectory
from resip.bootstrap.static_key import load_or_create_static_key
from resip.carriers import http, tcp, udp, websocket
from resip.carriers.channels import Channel
from resip.carriers.framing import PrefixFraming
from resip.carriers.http_server import WebCarriers
from resip.carriers.interfaces import Carrier
from resip.carriers.tcp import TCPCarrier
from resip.carriers.udp import UDPCarrier
from resip.core.errors import ResetCode, ResipError
from resip.core.types import RandomBytes
from resip.services.clock import Clocks
from resip.services.errors import exit_on_user_error
from resip.services.listening import Listeners
from resip.services.qlog import trace_maker
from resip.services.sessions import ServerSessions
from resip.tunnel.policy import DEFAULT_PATTERNS, Policy, PolicyError
from resip.tunnel.targets import TargetConnector

DEFAULT_HTTPS_PORT = 31265
DEFAULT_PORT = 31266
#: Seconds in which a revoked key loses its sessions.
KEY_CHECK_INTERVAL = 1.0
SILENCE_CHECK_INTERVAL = 60.0
#: Seconds between looks for sessions that rest: one timer for all of them.
PARKING_INTERVAL = 5.0
PROGRAM = "resip-server"


@dataclass(frozen=True, slots=True)
class ServerConfiguration:
    """
    What the operator decides.

    :ivar state: keys, certificates and the ports in use.
    :ivar listen: addresses; empty means every one of this machine.
    :ivar https_port: TCP, for the bootstrap; 0 means any.
    :ivar port: UDP and TCP, for packets; 0 means any.
    :ivar http_port: TCP, for carriers over plain HTTP; 0 means any, ``None`` none.
    :ivar allow: patterns of targets for keys without a list of their own.
    :ivar is_classic: speak the classic dialect too.
    :ivar qlog: a directory for traces of the modern sessions.
    """

    state: StateDirectory
    listen: tuple[str, ...] = ()
    https_port: int = DEFAULT_HTTPS_PORT
    port: int = DEFAULT_PORT
    http_port: int | None = None
    allow: tuple[str, ...] = DEFAULT_PATTERNS
    is_classic: bool = False
    qlog: Path | None = None


class ServerService(MultiService):
    """
    Everything a server does, from start to stop.

    :ivar https_port: the port in use, once started.
    :ivar port: the port in use, once started.
    :ivar http_port: the port in use, once started; 0 without one.
    :ivar sessions: of this run.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: ServerConfiguration,
        *,
        clocks: Clocks | None = None,
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._configuration = configuration
        self._clocks = clocks or Clocks()
        self._random_bytes = random_bytes
        self._policy = Policy(configuration.allow)
        self._targets = TargetConnector(reactor)
        self._carriers: dict[str, Carrier] = {}
        self._listeners = Listeners(reactor, configuration.listen)
        self._keystore: KeyStore | None = None
        self._key_error = ""
        self.https_port = 0
        self.port = 0
        self.http_port = 0
        self.sessions = ServerSessions(
            self._carriers,
            clock=reactor,
            clocks=self._clocks,
            random_bytes=random_bytes,
            on_request=self._channel_requested,
            is_classic=configuration.is_classic,
            make_trace=trace_maker(configuration.qlog, role="server", clocks=self._clocks),
        )
        for interval, function in (
            (KEY_CHECK_INTERVAL, self._check_keys),
            (SILENCE_CHECK_INTERVAL, self.sessions.end_silent),
            (PARKING_INTERVAL, self.sessions.park_idle),
        ):
            self._every(interval, function)

    def privilegedStartService(self) -> None:
        """
        Read the state and open the ports; Twisted calls this before it gives up privileges.

        :raises SystemExit: after one line that says what is wrong, and what helps.
        """
        with exit_on_user_error(self._log, PROGRAM):
            try:
                self._open()
            except BaseException:
                self._listeners.close()
                raise
        super().privilegedStartService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """
        Say good-bye to clients and targets; fires when all sockets are closed.
        """
        stopping = super().stopService()  # type: ignore[no-untyped-call]
        self.sessions.stop()
        closing = [self._targets.stop(), self._listeners.close()]
        for carrier in self._carriers.values():
            if isinstance(carrier, TCPCarrier):
                closing.append(carrier.shut_down())
        if isinstance(stopping, Deferred):
            closing.append(stopping)
        return gatherResults(closing).addCallback(lambda _: None)

    def _open(self) -> None:
        state = self._configuration.state
        self._begin_run(state)
        identity = certificates.load_or_create(state, wall_clock=self._clocks.wall)
        server_key = self.sessions.speak_modern(
            load_or_create_static_key(state, self._random_bytes),
            self._find_key,
            hello_floor_ms=int(self._clocks.wall() * 1000),
        )
        keystore = self._keystore = KeyStore(state, wall_clock=self._clocks.wall)
        carry = self._make_web_carriers().answer
        factory = TLSMemoryBIOFactory(
            certificates.server_tls_options(identity),
            isClient=False,
            wrappedFactory=bootstrap_factory(self._make_resource(carry), self._reactor),
        )
        self.https_port = self._listeners.listen_tcp(
            self._configuration.https_port, factory, "--https-port"
        )
        self.port = self._listeners.listen_both(
            self._configuration.port, self._make_udp, self._make_tcp(), "--port"
        )
        if self._configuration.http_port is not None:
            self.http_port = self._listeners.listen_tcp(
                self._configuration.http_port,
                bootstrap_factory(CarrierResource(carry), self._reactor),
                "--http-port",
            )
        write_local_invitation(
            state,
            keystore,
            identity,
            server_key=server_key,
            https_port=self.https_port,
            port=self.port,
        )
        write_server_ports(state, ServerPorts(self.https_port, self.port, self.sessions.started))
        self._log.info(
            "listening for HTTPS on port {https_port}, for packets on UDP and TCP port {port}"
            "{plain}; state in {state}; clients reach {allow}",
            https_port=self.https_port,
            port=self.port,
            plain=f", for plain HTTP on port {self.http_port}" if self.http_port else "",
            state=state.path,
            allow=", ".join(self._configuration.allow),
        )

    def _begin_run(self, state: StateDirectory) -> None:
        # By the second of the start clients know whether their session can still exist, so two
        # runs must not share one.
        with suppress(StateError):  # damaged: it is written anew
            last = read_server_ports(state)
            if last is not None and last.started == self.sessions.started:
                self.sessions.started += 1

    def _make_web_carriers(self) -> WebCarriers:
        websockets, links = (
            TCPCarrier(
                self.sessions.receive_datagrams,
                framing=PrefixFraming,
                clock=self._reactor,
                on_closed=self.sessions.path_closed,
                on_writable=self.sessions.path_writable,
                name=name,
            )
            for name in (websocket.CARRIER_NAME, http.CARRIER_NAME)
        )
        self._carriers |= {carrier.name: carrier for carrier in (websockets, links)}
        return WebCarriers(
            websocket=websockets,
            http=links,
            knows=self.sessions.knows,
            clock=self._reactor,
        )

    def _make_resource(self, carry: Carry) -> BootstrapResource:
        return BootstrapResource(
            authenticate=self._authenticate,
            start_session=self.sessions.start_session,
            has_session=self.sessions.has_session,
            accept_handshake=self._accept_handshake,
            carry=carry,
            started=self.sessions.started,
            wall_clock=self._clocks.wall,
            now=self._clocks.monotonic,
        )

    def _make_udp(self) -> UDPCarrier:
        count = sum(isinstance(carrier, UDPCarrier) for carrier in self._carriers.values())
        name = f"{udp.CARRIER_NAME}-{count + 1}" if count else udp.CARRIER_NAME
        carrier = UDPCarrier(
            self.sessions.receive_datagrams, name, on_writable=self.sessions.path_writable
        )
        self._carriers[name] = carrier
        return carrier

    def _make_tcp(self) -> TCPCarrier:
        carrier = TCPCarrier(
            self.sessions.receive_datagrams,
            choose_framing=self.sessions.choose_framing,
            clock=self._reactor,
            on_closed=self.sessions.path_closed,
            on_writable=self.sessions.path_writable,
        )
        self._carriers[tcp.CARRIER_NAME] = carrier
        return carrier

    def _every(self, interval: float, function: Callable[[], None]) -> None:
        timer = TimerService(interval, partial(self._go_on, function))
        timer.clock = self._reactor
        timer.setServiceParent(self)

    def _go_on(self, function: Callable[[], None]) -> None:
        # One that raises would be the timer's last: no key would ever be revoked again.
        try:
            function()
        except Exception:
            self._log.failure("a mistake in resip, please report it; the server goes on")

    def _channel_requested(self, channel: Channel, key_name: str) -> None:
        record = None if self._keystore is None else self._keystore.get(key_name)
        if record is None:
            channel.refuse(ResetCode.REFUSED)
            return
        try:
            policy = self._policy if record.allow is None else Policy(record.allow)
        except PolicyError as error:  # the file was edited by hand
            self._log.error(
                "key {key}: {error}; correct it with 'resip keys allow {key}'",
                key=key_name,
                error=str(error),
            )
            channel.refuse(ResetCode.REFUSED)
            return
        self._targets.channel_requested(channel, policy, key_name)

    def _accept_handshake(self, message1: bytes) -> bytes | None:
        answer = self.sessions.accept_handshake(message1)
        return None if answer is None else answer.message2

    def _find_key(self, public_key: bytes) -> KeyRecord | None:
        if self._keystore is None:
            return None
        record = self._keystore.find_by_public_key(public_key)
        if record is None:
            # It may have been minted this very second, by a command in another process.
            self._check_keys()
            record = self._keystore.find_by_public_key(public_key)
        return record

    def _authenticate(self, api_key: str) -> KeyRecord | None:
        if self._keystore is None:
            return None
        record = self._keystore.authenticate(api_key)
        if record is None:
            # It may have been minted this very second, by a command in another process.
            self._check_keys()
            record = self._keystore.authenticate(api_key)
        return record

    def _check_keys(self) -> None:
        keystore = self._keystore
        if keystore is None:
            return
        try:
            has_changed = keystore.reload_if_changed()
        except ResipError as error:
            # The keys of before stay valid: a damaged file must not lock everybody out.
            if str(error) != self._key_error:
                self._log.error("{error}; the keys of before stay valid", error=str(error))
            self._key_error = str(error)
            return
        self._key_error = ""
        if has_changed:
            self.sessions.end_sessions_of(lambda name: keystore.get(name) is not None)
