"""
``python -m bench.relay HOST PORT TARGET``: a TCP proxy that resets its connections regularly.

Listens on ``HOST`` and ``PORT`` and leads to the same port of ``TARGET``, until it is ended.
"""

from __future__ import annotations

import argparse
from typing import Any, cast

from twisted.internet import reactor

from resip.lab.tcp_relay import TCPRelay


def main() -> None:
    """
    Relay until a signal comes.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("target")
    parser.add_argument("--cut-every", type=float, metavar="SECONDS")
    options = parser.parse_args()
    listen, target = (options.host, options.port), (options.target, options.port)
    loop = cast(Any, reactor)
    TCPRelay(loop, listen, target, cut_every=options.cut_every).startService()
    loop.run()


if __name__ == "__main__":
    main()
