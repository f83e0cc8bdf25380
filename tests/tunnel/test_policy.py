"""
Tests for :mod:`resip.tunnel.policy`.
"""

from __future__ import annotations

import contextlib
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from resip.core.types import Protocol, Target
from resip.tunnel.hosts import parse_address
from resip.tunnel.policy import Policy, PolicyError, is_internet, parse_pattern


def permits(pattern: str, address: str, port: int = 80) -> bool:
    """
    Whether a policy of one pattern permits an address.
    """
    return Policy([pattern]).permits_address(ip_address(address), port)


class AddressTests(SynchronousTestCase):
    """
    Which addresses a pattern covers.
    """

    def test_default_is_loopback_only(self) -> None:
        """
        Without patterns from the operator only the server's own loopback can be reached.
        """
        policy = Policy()
        allowed = ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")
        denied = ("0.0.0.0", "10.0.0.1", "::", "::2", "8.8.8.8", "::127.0.0.1", "fe80::1")
        self.assertTrue(all(policy.permits_address(ip_address(each), 1) for each in allowed))
        self.assertFalse(any(policy.permits_address(ip_address(each), 1) for each in denied))
        self.assertFalse(policy.permits_name("localhost", 1))

    def test_addresses_and_networks(self) -> None:
        """
        An address covers itself, a network what is in it.
        """
        self.assertTrue(permits("10.0.0.5", "10.0.0.5"))
        self.assertFalse(permits("10.0.0.5", "10.0.0.6"))
        self.assertTrue(permits("10.0.0.0/8", "10.255.0.6"))
        self.assertTrue(permits("2001:db8::/32", "2001:db8:1::1"))
        self.assertFalse(permits("0.0.0.0/0", "2001:db8:1::1"))

    def test_ports(self) -> None:
        """
        A pattern with a port covers this port only.
        """
        for pattern in ("10.0.0.5:22", "10.0.0.0/24:22", "*:22"):
            self.assertTrue(permits(pattern, "10.0.0.5", 22))
            self.assertFalse(permits(pattern, "10.0.0.5", 23))
        self.assertTrue(permits("[2001:db8::5]:22", "2001:db8::5", 22))
        self.assertFalse(permits("[2001:db8::/32]:22", "2001:db8::5", 23))

    def test_mapped_addresses_are_ipv4_on_both_sides(self) -> None:
        """
        An IPv4-mapped address is its IPv4 address, in a target as well as in a pattern.
        """
        self.assertTrue(permits("10.0.0.0/8", "::ffff:10.1.2.3"))
        self.assertTrue(permits("::ffff:10.0.0.0/104", "10.1.2.3"))
        self.assertTrue(permits("::ffff:10.0.0.1", "10.0.0.1"))
        self.assertFalse(permits("::/0", "::ffff:10.0.0.1"))

    def test_internet_is_global_unicast(self) -> None:
        """
        ``internet`` covers public addresses of both families.
        """
        for address in ("8.8.8.8", "1.1.1.1", "223.255.255.255", "2606:4700::1", "2a00::1"):
            self.assertTrue(permits("internet", address), address)

    def test_internet_is_nobodys_private_network(self) -> None:
        """
        ``internet`` covers no special address, also when it hides in an IPv6 address.
        """
        special = """
            0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 169.254.169.254 172.31.0.1 192.0.0.8
            192.0.2.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1
            255.255.255.255 :: ::1 ::8.8.8.8 ::ffff:10.0.0.1 fc00::1 fd12::1 fe80::1 fec0::1 ff02::1
            100::1 2001:db8::1 2001:2::1 2001:20::1 3fff::1 5f00::1 64:ff9b:1::808:808
            64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 2002:a00:1::1 2002:7f00:1::1
            2001:0:808:808:0:0:f5ff:fffe 2001:0:a00:1:0:0:f7f7:f7f7
        """
        for address in special.split():
            self.assertFalse(is_internet(ip_address(address)), address)

    def test_internet_judges_the_embedded_address(self) -> None:
        """
        NAT64, 6to4 and Teredo addresses with public addresses inside are on the internet.
        """
        for address in ("64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808:0:0:f7f7:f7f7"):
            self.assertTrue(permits("internet", address), address)

    @given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{}", "64:ff9b::{}"]))
    def test_internet_never_changes_by_embedding(self, address: object, form: str) -> None:
        """
        What IPv4 denies no IPv6 spelling of the same address allows.
        """
        embedded = parse_address(form.format(address))
        assert embedded is not None
        self.assertEqual(is_internet(embedded), is_internet(ip_address(str(address))))


class NameTests(SynchronousTestCase):
    """
    Which names a pattern covers.
    """

    def test_a_name_covers_itself(self) -> None:
        """
        Names are compared without case and without the root's dot.
        """
        policy = Policy(["DB.example.com.:5432"])
        self.assertTrue(policy.permits_name("db.EXAMPLE.com.", 5432))
        self.assertFalse(policy.permits_name("db.example.com", 22))
        self.assertFalse(policy.permits_name("xdb.example.com", 5432))

    def test_a_wildcard_covers_what_is_below(self) -> None:
        """
        ``*.example.com`` covers names below the domain, not the domain or look-alikes.
        """
        policy = Policy(["*.example.com"])
        self.assertTrue(policy.permits_name("a.b.example.com", 1))
        self.assertFalse(policy.permits_name("example.com", 1))
        self.assertFalse(policy.permits_name("badexample.com", 1))
        self.assertFalse(policy.permits_name("a.example.com.evil.org", 1))

    def test_the_star_covers_everything(self) -> None:
        """
        ``*`` permits every name and every address.
        """
        policy = Policy(["*"])
        self.assertTrue(policy.permits_name("any.example", 1))
        self.assertTrue(policy.permits_address(ip_address("0.0.0.0"), 1))

    def test_internet_and_networks_cover_no_names(self) -> None:
        """
        A name is not covered before somebody knows its address, even the name ``internet``.
        """
        policy = Policy(["internet", "0.0.0.0/0"])
        self.assertFalse(policy.permits_name("any.example", 1))
        self.assertFalse(policy.permits_name("internet", 1))

    def test_what_is_no_name_is_not_permitted(self) -> None:
        """
        Texts that a system resolver might read as an address are no names.
        """
        for text in ("127.1", "0x7f.1", "2130706433", "", "a b", "a\nb"):
            self.assertFalse(Policy(["*"]).permits_name(text, 1), text)

    def test_names_lists_hosts_to_compare_addresses_with(self) -> None:
        """
        Single hosts are listed for the ports they cover; wildcards cannot be looked up.
        """
        policy = Policy(["a.example", "b.example:22", "*.example", "*", "internet", "10.0.0.1"])
        self.assertEqual(policy.names(22), ("a.example", "b.example"))
        self.assertEqual(policy.names(80), ("a.example",))


class PatternTests(SynchronousTestCase):
    """
    Reading patterns, and proposing them.
    """

    def test_an_error_names_the_part_and_shows_right_ones(self) -> None:
        """
        The message quotes the text and says what is wrong.
        """
        wrong = {
            "10.0.0.5/8": "10.0.0.0/8",
            "10.0.0.5:": "the port ''",
            "10.0.0.5:0": "the port '0'",
            "host:ssh": "the port 'ssh'",
            "[10.0.0.1]:22": "brackets",
            "[::1]22": "not a port",
            "10.0.0.0/33": "CIDR",
            "a.*.example": "neither a host name",
            "fe80::1%eth0": "neither a host name",
            "": "1 to 253",
        }
        for text, part in wrong.items():
            error = self.assertRaises(PolicyError, parse_pattern, text)
            self.assertIn(part, str(error))
            self.assertIn(f"pattern {text!r}", str(error))

    def test_the_cure_allows_exactly_the_target(self) -> None:
        """
        The option proposed for a denied target is a pattern that covers it.
        """
        cures = {
            "10.0.0.5": "--allow 10.0.0.5:22",
            "::ffff:10.0.0.5": "--allow 10.0.0.5:22",
            "2001:db8::5": "--allow [2001:db8::5]:22",
            "Db.example": "--allow db.example:22",
        }
        for host, cure in cures.items():
            self.assertEqual(Policy.cure(Target(Protocol.TCP, host, 22)), cure)
            self.assertEqual(str(parse_pattern(cure.split()[1])), cure.split()[1])

    @given(st.one_of(st.text(), st.from_regex(r"[a-c0-9:.\[\]*/%-]{0,30}", fullmatch=True)))
    def test_any_text_is_a_pattern_or_an_error(self, text: str) -> None:
        """
        No text raises anything but :class:`PolicyError`, and what is read reads back.
        """
        with contextlib.suppress(PolicyError):
            pattern = parse_pattern(text)
            self.assertEqual(parse_pattern(str(pattern)), pattern)
