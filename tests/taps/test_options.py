"""
Tests of :mod:`resip.taps.options`.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from resip.taps.options import Setting, SettingsOptions


class Options(SettingsOptions):
    """
    One setting of each kind.
    """

    settings: ClassVar = (
        Setting("name", "a word", default="nobody"),
        Setting("count", "a number", int, 3),
        Setting("fast", "a flag", bool, False),
        Setting("color", "one of three", choices=("red", "green", "blue")),
        Setting("add-item", "repeatable", default=("first",), is_repeatable=True),
    )


class SettingsTests(SynchronousTestCase):
    """
    Options, file and defaults.
    """

    def parse(self, *arguments: str, file: str | bytes | None = None) -> Options:
        """
        Parse a command line, with a configuration file of that content.
        """
        self.path = Path(self.mktemp())
        if file is not None:
            self.path.write_bytes(file if isinstance(file, bytes) else file.encode())
            arguments = ("--config", str(self.path), *arguments)
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def refuse(self, *arguments: str, file: str | bytes | None = None) -> str:
        """
        Parse what is wrong and return the message, which is one line.
        """
        error = self.assertRaises(UsageError, self.parse, *arguments, file=file)
        message = str(error)
        self.assertNotIn("\n", message)
        return message

    def test_defaults(self) -> None:
        """
        What nobody sets has its default.
        """
        options = self.parse()
        self.assertEqual(
            [options[setting.name] for setting in Options.settings],
            ["nobody", 3, False, None, ["first"]],
        )

    def test_options(self) -> None:
        """
        Each kind of option is read; a repeatable one replaces its default and adds up.
        """
        options = self.parse(
            "--name", "me", "--count=7", "--fast", "--color=red", "--add-item=a", "--add-item=b"
        )
        self.assertEqual(
            [options[setting.name] for setting in Options.settings],
            ["me", 7, True, "red", ["a", "b"]],
        )

    def test_file(self) -> None:
        """
        The file says the same in TOML.
        """
        options = self.parse(
            file='name = "me"\ncount = 7\nfast = true\ncolor = "red"\nadd-item = ["a", "b"]\n'
        )
        self.assertEqual(
            [options[setting.name] for setting in Options.settings],
            ["me", 7, True, "red", ["a", "b"]],
        )

    def test_options_win_over_the_file(self) -> None:
        """
        What the command line says holds, wherever it names the file.
        """
        options = self.parse("--name=me", "--add-item=b", file='name = "you"\nadd-item = ["a"]')
        self.assertEqual((options["name"], options["add-item"]), ("me", ["b"]))

    def test_unknown_key(self) -> None:
        """
        A key that is none is named, with the file and all that are.
        """
        message = self.refuse(file='nmae = "me"')
        for part in (str(self.path), "'nmae'", "add-item, color, count, fast, name"):
            self.assertIn(part, message)

    def test_ill_typed_values(self) -> None:
        """
        A value of the wrong type is refused with file, key and what it must be.
        """
        for text, allowed in (
            ("name = 1", "a string"),
            ('count = "7"', "a number"),
            ("count = true", "a number"),
            ("count = 7.5", "a number"),
            ("fast = 1", "true or false"),
            ('color = "pink"', '"red", "green", "blue"'),
            ("add-item = 1", "a list, each item a string"),
            ("add-item = [1]", "a list, each item a string"),
        ):
            message = self.refuse(file=text)
            for part in (str(self.path), text.split()[0], allowed):
                self.assertIn(part, message)

    def test_a_list_of_one(self) -> None:
        """
        Where a list may stand a single value is one.
        """
        self.assertEqual(self.parse(file='add-item = "a"')["add-item"], ["a"])

    def test_not_toml(self) -> None:
        """
        A file that is no TOML, or no text at all, is named.
        """
        for content in (b"name: me", b"name = \xff", b"\x00"):
            message = self.refuse(file=content)
            self.assertIn(f"{self.path} is not TOML", message)

    def test_missing_file(self) -> None:
        """
        A file that cannot be read is named with the reason and the option that names it.
        """
        missing = Path(self.mktemp())
        message = self.refuse("--config", str(missing))
        for part in (str(missing), "No such file", "--config"):
            self.assertIn(part, message)

    def test_bad_options(self) -> None:
        """
        A bad value on the command line is refused with its option and what is allowed.
        """
        for argument, allowed in (
            ("--count=many", "a number"),
            ("--count=-1", "a number"),
            ("--count=٣", "a number"),
            ("--color=pink", "red, green, blue"),
        ):
            message = self.refuse(argument)
            self.assertIn(argument.partition("=")[0], message)
            self.assertIn(allowed, message)

    def test_two_parsers_share_nothing(self) -> None:
        """
        What one command line adds to a list, the next does not find there.
        """
        self.parse("--add-item=a")
        self.assertEqual(self.parse()["add-item"], ["first"])
