"""
``twistd resip-server``: its options, and the service that they describe.
"""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage

from resip.bootstrap.state import StateDirectory, default_state_directory
from resip.core.errors import ResipError
from resip.services.clock import use_monotonic_time
from resip.services.memory import keep_freed_memory
from resip.services.server import (
    DEFAULT_HTTPS_PORT,
    DEFAULT_PORT,
    ServerConfiguration,
    ServerService,
)
from resip.taps.options import Setting, SettingsOptions
from resip.tunnel.policy import DEFAULT_PATTERNS, PolicyError, parse_pattern


class Options(SettingsOptions):
    """
    Options of the server. Without any it is reachable from everywhere and reaches only itself.
    """

    synopsis = "[options]"
    longdesc = (
        "The far end of the tunnel: clients with an invitation (see 'resip invite') connect to it, "
        "and it connects on to the targets that --allow names."
    )

    settings: ClassVar = (
        Setting("state", "directory of keys and certificates"),
        Setting("listen", "address to listen on, repeatable; default: all", is_repeatable=True),
        Setting("https-port", "TCP port of the bootstrap", int, DEFAULT_HTTPS_PORT),
        Setting("port", "UDP and TCP port of the packets", int, DEFAULT_PORT),
        Setting(
            "http-port",
            "TCP port of the carrier over plain HTTP, for clients behind proxies that do not "
            "connect; default: none",
            int,
        ),
        Setting(
            "allow",
            "target that clients may reach, repeatable: host, address, CIDR, *.domain, each with "
            "or without :port; * or internet; default: loopback only",
            default=DEFAULT_PATTERNS,
            is_repeatable=True,
        ),
        Setting("classic", "speak the classic dialect, too", bool, False),
        Setting("qlog", "write a trace of each modern session into this directory"),
    )

    def postOptions(self) -> None:
        """
        Check what can be checked before anything is opened.
        """
        super().postOptions()
        for name in ("https-port", "port", "http-port"):
            if self[name] is not None and not 0 <= self[name] <= 0xFFFF:
                raise usage.UsageError(f"--{name} is a port, 0 to 65535, not {self[name]}")
        for one, other in combinations(("port", "https-port", "http-port"), 2):
            if self[one] and self[one] == self[other]:
                raise usage.UsageError(
                    f"--{one} and --{other} are both {self[one]}: both use TCP, give two numbers"
                )
        for pattern in self["allow"]:
            try:
                parse_pattern(pattern)
            except PolicyError as error:
                raise usage.UsageError(f"--allow: {error}") from None
        try:
            self.state = state_directory(self["state"])
        except ResipError as error:
            raise usage.UsageError(str(error)) from None


def state_directory(option: str | None) -> StateDirectory:
    """
    The state directory that an option names, or the default one of this user.
    """
    if option is not None:
        return StateDirectory(Path(option))
    return StateDirectory(default_state_directory(os.environ, os.getuid()))


def makeService(options: Options) -> IService:
    """
    The server that the options describe; ``twistd`` calls this.
    """
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    keep_freed_memory()
    configuration = ServerConfiguration(
        state=options.state,
        listen=tuple(options["listen"]),
        https_port=options["https-port"],
        port=options["port"],
        http_port=options["http-port"],
        allow=tuple(options["allow"]),
        is_classic=options["classic"],
        qlog=options["qlog"] and Path(options["qlog"]).absolute(),
    )
    return ServerService(reactor, configuration)
