"""
Tests for :mod:`resip.tunnel.specification`.
"""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.types import Protocol, Target
from resip.tunnel.specification import Forward, ForwardError, parse_forward

_PORTS = st.integers(1, 65535)
_ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6, network="2000::/3"))
_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,5})?(\.[a-z]{2,8}){0,3}", fullmatch=True)


class ParseForwardTests(SynchronousTestCase):
    """
    Reading forwards.
    """

    def test_the_shortest_form_is_tcp_on_loopback(self) -> None:
        """
        Without protocol and address a forward listens for TCP on 127.0.0.1.
        """
        self.assertEqual(
            parse_forward("4000:db.example.com:5432"),
            Forward(Protocol.TCP, "127.0.0.1", 4000, "db.example.com", 5432),
        )

    def test_every_part_can_be_given(self) -> None:
        """
        Protocol, listening address and an IPv6 target are read from their places.
        """
        forward = parse_forward("udp:[::1]:5353:[2001:DB8::0:1]:53")
        self.assertEqual(forward, Forward(Protocol.UDP, "::1", 5353, "2001:db8::1", 53))
        self.assertEqual(forward.target, Target(Protocol.UDP, "2001:db8::1", 53))
        self.assertEqual(str(forward), "udp:[::1]:5353:[2001:db8::1]:53")

    def test_listening_addresses_follow_ssh(self) -> None:
        """
        An empty address and ``*`` mean all interfaces, ``localhost`` means loopback.
        """
        binds = [parse_forward(f"{bind}:1:h:2").bind for bind in ("", "*", "localhost", "tcp:")]
        self.assertEqual(binds, ["*", "*", "127.0.0.1", "*"])

    def test_the_listening_port_may_be_left_to_the_system(self) -> None:
        """
        Port 0 is allowed for listening, and only there.
        """
        self.assertEqual(parse_forward("0:host:1").port, 0)
        self.assertRaises(ForwardError, parse_forward, "1:host:0")

    def test_hosts_have_one_spelling(self) -> None:
        """
        Upper case, the root's dot and IPv4-mapped addresses are normalised away.
        """
        hosts = [parse_forward(f"1:{host}:2").host for host in ("A.Example.", "[::ffff:10.0.0.1]")]
        self.assertEqual(hosts, ["a.example", "10.0.0.1"])

    def test_an_error_names_the_part_and_shows_a_right_one(self) -> None:
        """
        The message quotes the text, says which part is wrong and gives an example.
        """
        wrong = {
            "4000:host": "2 parts",
            "::1:4000:host:80": "brackets",
            "70000:host:80": "the listening port '70000'",
            "4000:host:http": "the target's port 'http'",
            "4000:10.0.0.256:80": "'10.0.0.256' ends in a number",
            "4000:ho st:80": "the target host is wrong",
            "4000:b\u00fccher.example:80": "xn--",
            "eth0:4000:host:80": "the listening address 'eth0'",
            "4000:[host]:80": "in brackets",
            "4000:fe80::1%eth0:80": "parts",
            "4000:[fe80::1%eth0]:80": "neither a host name nor an address",
        }
        for text, part in wrong.items():
            error = self.assertRaises(ForwardError, parse_forward, text)
            self.assertIn(part, str(error))
            self.assertIn(repr(text), str(error))
            self.assertIn("for example 4000:db.example.com:5432", str(error))

    @given(st.one_of(st.text(), st.from_regex(r"[tcpud:0-9.\[\]*a-f%/ ]{0,40}", fullmatch=True)))
    def test_any_text_is_a_forward_or_an_error(self, text: str) -> None:
        """
        No text raises anything but :class:`ForwardError`, and what is read reads back.
        """
        with contextlib.suppress(ForwardError):
            forward = parse_forward(text)
            self.assertEqual(parse_forward(str(forward)), forward)

    @given(
        st.sampled_from(Protocol),
        st.one_of(st.just("*"), _ADDRESSES.map(str)),
        st.integers(0, 65535),
        st.one_of(_NAMES, _ADDRESSES.map(str)),
        _PORTS,
    )
    def test_str_reads_back(
        self, protocol: Protocol, bind: str, port: int, host: str, host_port: int
    ) -> None:
        """
        Every forward reads back from its own text.
        """
        forward = Forward(protocol, bind, port, host, host_port)
        self.assertEqual(parse_forward(str(forward)), forward)
