"""
``twistd resip-client``: its options, and the service that they describe.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage

from resip.bootstrap.servers import find_invitation
from resip.core.errors import ResipError
from resip.services.client import ClientConfiguration, ClientService
from resip.services.clock import use_monotonic_time
from resip.services.network import NetworkWatcher
from resip.services.retry import RetrySignal
from resip.taps.options import Setting, SettingsOptions
from resip.taps.server import state_directory
from resip.tunnel.specification import ForwardError, parse_forward

CARRIERS = ("auto", "udp", "tcp")


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
        Setting("server", "name given to 'resip join', or a file that holds the invitation"),
        Setting("state", "directory of the joined servers"),
        Setting(
            "forward",
            "[tcp:|udp:][bind:]port:host:hostport, repeatable: listen on port (of this machine "
            "only, unless bind says otherwise) and lead to host and hostport from the server",
            is_repeatable=True,
        ),
        Setting("carrier", "auto, udp or tcp", default="auto", choices=CARRIERS),
        Setting("compress", "compress what the forwards carry", bool, False),
        Setting("classic", "speak the classic dialect", bool, False),
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
        try:
            self.state = state_directory(self["state"])
            self.invitation = find_invitation(self["server"], self.state)
        except ResipError as error:
            raise usage.UsageError(str(error)) from None


def makeService(options: Options) -> IService:
    """
    The client that the options describe; ``twistd`` calls this.
    """
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    configuration = ClientConfiguration(
        invitation=options.invitation,
        forwards=options.forwards,
        carrier=options["carrier"],
        compress=options["compress"],
        is_classic=options["classic"],
        qlog=options["qlog"] and Path(options["qlog"]).absolute(),
    )
    service = ClientService(reactor, configuration)
    for impulse in (
        NetworkWatcher(reactor, lambda what: service.retry()),
        RetrySignal(reactor, options.state, service.retry),
    ):
        impulse.setServiceParent(service)  # type: ignore[no-untyped-call]
    return service
