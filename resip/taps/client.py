"""
``twistd resip-client``: its options, and the service that they describe.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage

from resip.bootstrap.servers import find_invitation
from resip.carriers.http import PLAIN_CARRIER_NAME
from resip.carriers.proxy import Proxy, parse_proxy, proxy_from_environment
from resip.core.errors import ResipError
from resip.services.client import ClientConfiguration, ClientService
from resip.services.clock import use_monotonic_time
from resip.services.link_kinds import AUTO, CARRIER_NAMES, MODERN_CARRIERS
from resip.services.memory import keep_freed_memory
from resip.services.network import NetworkWatcher
from resip.services.retry import RetrySignal
from resip.taps.options import Setting, SettingsOptions
from resip.taps.server import state_directory
from resip.tunnel.specification import ForwardError, parse_forward

#: For ``--proxy``, whatever the environment says.
NO_PROXY = "none"


class Options(SettingsOptions):
    """
    Options of the client.
    """

    synopsis = "--forward PORT:HOST:HOSTPORT [options]"
    longdesc = (
        "The near end of the tunnel: programs connect to its forwards as if to the targets. "
        "Without --server it uses the server of the same user on this machine, or the only one "
        "that was joined (see 'resip join')."
    )

    settings: ClassVar = (
        Setting(
            "server",
            "name given to 'resip join', or a file that holds the invitation; repeatable, for "
            "several addresses of one server",
            is_repeatable=True,
        ),
        Setting("state", "directory of the joined servers"),
        Setting(
            "forward",
            "[tcp:|udp:][bind:]port:host:hostport, repeatable: listen on port (of this machine "
            "only, unless bind says otherwise) and lead to host and hostport from the server",
            is_repeatable=True,
        ),
        Setting("carrier", "how packets travel", default=AUTO, choices=CARRIER_NAMES),
        Setting("compress", "compress what the forwards carry", bool, False),
        Setting("classic", "speak the classic dialect", bool, False),
        Setting(
            "proxy",
            "http://[user:password@]host[:port] for all that goes over HTTPS, or none; default: "
            "what HTTPS_PROXY says. A password belongs into the variable or the file",
        ),
        Setting(
            "http-port",
            "the server's --http-port: packets go there when nothing else works, through the "
            "proxy even where that does not connect",
            int,
        ),
        Setting("qlog", "write a trace of each modern session into this directory"),
    )

    def postOptions(self) -> None:
        """
        Check what can be checked before anything is opened.
        """
        super().postOptions()
        try:
            self.forwards = [parse_forward(text) for text in self["forward"]]
        except ForwardError as error:
            raise usage.UsageError(f"--forward: {error}") from None
        if not self.forwards:
            raise usage.UsageError(
                "nothing to do: give at least one --forward, such as --forward 4000:localhost:22"
            )
        if self["classic"] and self["carrier"] in MODERN_CARRIERS:
            raise usage.UsageError(
                f"--carrier {self['carrier']} is for the modern dialect: leave out --classic, or "
                "take another carrier"
            )
        self._check_http_port()
        try:
            self.state = state_directory(self["state"])
            first, *others = self["server"] or [None]
            self.invitation = find_invitation(first, self.state)
            self.others = [
                self.invitation.at(find_invitation(other, self.state)) for other in others
            ]
            places = (self.invitation, *self.others)
            self.proxies = {place.host: self._find_proxy(place.host) for place in places}
        except ResipError as error:
            raise usage.UsageError(str(error)) from None

    def _check_http_port(self) -> None:
        port = self["http-port"]
        if port is None:
            if self["carrier"] == PLAIN_CARRIER_NAME:
                raise usage.UsageError(
                    f"--carrier {PLAIN_CARRIER_NAME} needs --http-port with the server's number"
                )
        elif not 1 <= port <= 0xFFFF:
            raise usage.UsageError(f"--http-port is a port, 1 to 65535, not {port}")
        elif self["classic"]:
            raise usage.UsageError("--http-port is for the modern dialect: leave out --classic")

    def _find_proxy(self, host: str) -> Proxy | None:
        if self["proxy"] == NO_PROXY:
            return None
        if self["proxy"] is None:
            return proxy_from_environment(host)
        proxy = parse_proxy(self["proxy"])
        if proxy.credentials and "proxy" in self._given:
            raise usage.UsageError(
                "--proxy with a password shows it to everybody on this machine: put it into the "
                "configuration file or the variable HTTPS_PROXY"
            )
        return proxy


def makeService(options: Options) -> IService:
    """
    The client that the options describe; ``twistd`` calls this.
    """
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    keep_freed_memory()
    configuration = ClientConfiguration(
        invitation=options.invitation,
        others=options.others,
        forwards=options.forwards,
        carrier=options["carrier"],
        compress=options["compress"],
        is_classic=options["classic"],
        proxies=options.proxies,
        http_port=options["http-port"],
        qlog=options["qlog"] and Path(options["qlog"]).absolute(),
    )
    service = ClientService(reactor, configuration)
    for impulse in (
        NetworkWatcher(reactor, lambda what: service.retry()),
        RetrySignal(reactor, options.state, service.retry),
    ):
        impulse.setServiceParent(service)  # type: ignore[no-untyped-call]
    return service
