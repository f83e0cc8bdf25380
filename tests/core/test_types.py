"""
Tests of :mod:`resip.core.types`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from resip.core.types import Path, Protocol, Target


class TextTests(SynchronousTestCase):
    """
    How targets and paths read in logs.
    """

    def test_targets(self) -> None:
        """
        Protocol, host and port, with brackets around an IPv6 address.
        """
        self.assertEqual(str(Target(Protocol.TCP, "192.0.2.1", 80)), "tcp:192.0.2.1:80")
        self.assertEqual(str(Target(Protocol.UDP, "2001:db8::1", 53)), "udp:[2001:db8::1]:53")

    def test_paths(self) -> None:
        """
        The carrier, and the peer's address where the carrier has many peers.
        """
        self.assertEqual(str(Path("udp", ("192.0.2.1", 9))), "udp 192.0.2.1:9")
        self.assertEqual(str(Path("udp", ("::1", 9))), "udp [::1]:9")
        self.assertEqual(str(Path("tcp 3")), "tcp 3")
