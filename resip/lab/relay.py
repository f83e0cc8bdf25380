"""
Bad links for real programs: relays that stand between a client's and a server's sockets.
"""

from __future__ import annotations

from resip.lab.tcp_relay import TCPRelay
from resip.lab.udp_relay import UDPRelay

__all__ = ["TCPRelay", "UDPRelay"]
