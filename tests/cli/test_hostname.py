"""
Tests for :mod:`resip.cli.hostname`.
"""

from __future__ import annotations

from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from resip.bootstrap.invitation import is_valid_host
from resip.cli.hostname import guess_host


class GuessHostTests(SynchronousTestCase):
    """
    The guess is always something that an invitation can hold.
    """

    def test_guess_is_a_valid_host(self) -> None:
        """
        Whatever this machine is called, the guess can be written.
        """
        self.assertTrue(is_valid_host(guess_host()))

    def test_full_name_wins(self) -> None:
        """
        A name with a domain is taken; localhost with one is not.
        """
        with patch("socket.gethostname", return_value="box.example.org"):
            self.assertEqual(guess_host(), "box.example.org")
        with patch("socket.gethostname", return_value="localhost.localdomain"):
            self.assertNotEqual(guess_host(), "localhost.localdomain")

    def test_machine_without_network_has_its_name(self) -> None:
        """
        Without any route the short name remains.
        """
        with (
            patch("socket.gethostname", return_value="box"),
            patch("socket.socket", side_effect=OSError),
        ):
            self.assertEqual(guess_host(), "box")
