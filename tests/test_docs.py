"""
The documents against the code: what they quote is what the program has.
"""

from __future__ import annotations

import ast
import configparser
import contextlib
import dataclasses
import importlib
import io
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from resip.cli import main as cli
from resip.core.classic.commands import Command
from resip.core.classic.packet import Flag
from resip.services.server import DEFAULT_HTTPS_PORT, DEFAULT_PORT
from resip.taps import client, server
from resip.taps.options import CONFIG, Setting, read_settings

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
ETC = ROOT / "etc"
OPERATIONS = DOCS / "operations.md"
SETTINGS = {"server": server.Options.settings, "client": client.Options.settings}
UNITS = {"": 1, "ms": 1e-3, "s": 1, "d": 86_400, "KiB": 1024, "MiB": 1024 * 1024}


def pages() -> list[Path]:
    """
    Every document for people, the README included.
    """
    return [*ROOT.glob("*.md"), *sorted(DOCS.rglob("[a-z]*.md")), *ROOT.glob("changelog.d/*.md")]


def section(page: Path, heading: str) -> str:
    """
    What stands below a heading, up to the next of its rank or above.
    """
    rank = len(heading) - len(heading.lstrip("#"))
    found = re.search(
        rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{rank}}} |\Z)",
        page.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert found is not None, f"{page.name} has no {heading!r}"
    return found[1]


def rows(text: str) -> Iterator[list[str]]:
    """
    The cells of all table rows, without backquotes.
    """
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def code_enum(text: str) -> dict[int, str]:
    """
    The rows of a table whose first cell is a byte in hex and whose second is a name.
    """
    return {
        int(cells[0], 16): cells[1]
        for cells in rows(text)
        if re.fullmatch(r"0x[0-9a-f]{2}", cells[0]) and cells[1]
    }


class OptionTests(SynchronousTestCase):
    """
    Options and subcommands.
    """

    def test_every_option_is_named_for_its_service(self) -> None:
        """
        The tables of both services name each option, in the README and on the operations page.
        """
        for role, settings in SETTINGS.items():
            wanted = {f"--{setting.name}" for setting in (CONFIG, *settings)}
            readme = section(ROOT / "README.md", "## Options")
            table = readme.partition(f"`twistd resip-{role}`:\n\n")[2].partition("\n\n")[0]
            for text in (table, section(OPERATIONS, f"## The {role}")):
                named = {cells[0].split()[0] for cells in rows(text) if cells[0].startswith("--")}
                self.assertEqual(named, wanted, role)

    def test_every_subcommand_and_its_options_are_named(self) -> None:
        """
        Whatever ``resip --help`` lists is on the operations page.
        """
        text = section(OPERATIONS, "## The `resip` command")
        commands = list(leaf_commands(()))
        self.assertIn(("keys", "list"), commands)
        for command in commands:
            self.assertIn(f"`resip {' '.join(command)}", text)
            for option in set(re.findall(r"--[a-z][a-z-]+", help_text(command))):
                self.assertIn(f"`{option}", text, command)

    def test_every_configuration_key_is_listed(self) -> None:
        """
        The table of the configuration file has each key of each service, and no other.
        """
        text = section(OPERATIONS, "## The configuration file")
        listed = {key for cells in rows(text) for key in re.split(r"`?, `", cells[0])} - {"Key"}
        names = {setting.name for settings in SETTINGS.values() for setting in settings}
        self.assertEqual(listed, names)


def help_text(command: Sequence[str]) -> str:
    """
    What ``resip COMMAND --help`` prints.
    """
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        cli.main([*command, "--help"])
    return output.getvalue()


def leaf_commands(command: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """
    All subcommands below ``command`` that have none of their own.
    """
    names = re.findall(r"^    ([a-z]+)(?: |$)", help_text(command), re.MULTILINE)
    for name in names:
        yield from leaf_commands((*command, name))
    if not names:
        yield command


class ConfigurationFileTests(SynchronousTestCase):
    """
    What ``etc`` holds.
    """

    def test_examples_are_read_by_their_service(self) -> None:
        """
        Each example is valid as it is, and so is each key that it only shows.
        """
        files = sorted(ETC.glob("*.toml"))
        self.assertEqual([file.stem for file in files], ["client", "server"])
        for file in files:
            settings = SETTINGS[file.stem]
            read_settings(file, settings)
            full = Path(self.mktemp())
            full.write_text(re.sub(r"^#(?=\S)", "", file.read_text(), flags=re.MULTILINE))
            self.assertEqual(set(read_settings(full, settings)), {each.name for each in settings})

    def test_examples_show_the_defaults_of_the_server(self) -> None:
        """
        What the server's example shows without setting it is what holds anyway.
        """
        shown = tomllib.loads(re.sub(r"(?m)^#(?=\S)", "", (ETC / "server.toml").read_text()))
        for name in ("state", "qlog", "http-port"):  # depend on the user, and have no default
            del shown[name]
        for setting in server.Options.settings:
            if setting.name in shown:
                self.assertEqual(shown[setting.name], plain_default(setting), setting.name)

    def test_units_start_services_with_options_that_exist(self) -> None:
        """
        Each unit starts its plugin, in the foreground, and with known options only.
        """
        for role, name in (("server", "resip-server.service"), ("client", "resip-client@.service")):
            unit = configparser.RawConfigParser(strict=False, delimiters=("=",))
            unit.optionxform = str  # type: ignore[assignment,method-assign]
            unit.read_string(re.sub(r"\\\n\s+", "", (ETC / name).read_text()))
            program, _, options = unit["Service"]["ExecStart"].partition(f" resip-{role} ")
            self.assertTrue(program.endswith("/twistd -n --pidfile="), program)
            known = {f"--{setting.name}" for setting in (CONFIG, *SETTINGS[role])}
            self.assertLessEqual(set(re.findall(r"--[a-z-]+", options)), known)
            self.assertEqual(unit["Service"]["DynamicUser"], "yes")
            self.assertEqual(unit["Service"]["NoNewPrivileges"], "yes")


def plain_default(setting: Setting) -> object:
    """
    The default of a setting as a file would have it.
    """
    return list(setting.default or ()) if setting.is_repeatable else setting.default


class QuotedValueTests(SynchronousTestCase):
    """
    Numbers and names that the documents repeat.
    """

    def test_command_table_is_the_enum(self) -> None:
        """
        Codes and names of commands are those of the code.
        """
        table = code_enum(section(DOCS / "classic.md", "## Commands"))
        self.assertEqual(table, {command.value: command.name for command in Command})

    def test_flag_table_is_the_enum(self) -> None:
        """
        Bits and names of packet flags are those of the code.
        """
        table = code_enum(section(DOCS / "classic.md", "## The inner packet"))
        self.assertEqual(table, {flag.value: flag.name for flag in Flag})

    def test_ports_are_the_defaults(self) -> None:
        """
        Every port number near the defaults is one of them, and both are everywhere.
        """
        ports = {str(DEFAULT_HTTPS_PORT), str(DEFAULT_PORT)}
        self.assertEqual(
            {cli.DEFAULT_HTTPS_PORT, cli.DEFAULT_PORT}, {DEFAULT_HTTPS_PORT, DEFAULT_PORT}
        )
        files = [ROOT / "README.md", OPERATIONS, DOCS / "classic.md", ETC / "server.toml"]
        for file in files:
            self.assertEqual(set(re.findall(r"\b312\d\d\b", file.read_text())), ports, file.name)

    def test_limits_are_the_constants(self) -> None:
        """
        The table of limits has the values of the code.
        """
        _, *limits = rows(section(DOCS / "design.md", "## Limits"))
        self.assertGreater(len(limits), 60)
        for dialect in ("classic", "modern"):
            self.assertTrue(any(f"core.{dialect}." in name for name, *_ in limits), dialect)
        for name, value, _ in limits:
            found = re.fullmatch(r"([0-9]+) ?([A-Za-z]*)", value)
            assert found is not None, name
            self.assertEqual(constant(name), int(found[1]) * UNITS[found[2]], name)

    def test_log_messages_are_in_the_code(self) -> None:
        """
        Each message that the operations page explains is one that resip writes.
        """
        texts = "\n".join(string_templates(ROOT / "resip"))
        messages = [
            cells[0] for cells in rows(section(OPERATIONS, "## Logs")) if cells[0] != "Message"
        ]
        self.assertGreater(len(messages), 20)
        for message in messages:
            for piece in filter(None, (piece.strip() for piece in message.split("…"))):
                self.assertIn(piece, texts, message)


def constant(name: str) -> object:
    """
    The constant of a dotted name below ``resip``; of a dataclass, the default of a field.
    """
    parts = name.split(".")
    count = next(i for i, part in enumerate([*parts, "X"]) if part != part.lower())
    module = importlib.import_module(".".join(["resip", *parts[:count]]))
    value: object = module
    for part in parts[count:]:
        value = getattr(value, part)
        if isinstance(value, type) and dataclasses.is_dataclass(value):
            value = value()
    return value


def string_templates(folder: Path) -> Iterator[str]:
    """
    Every string of the sources, with an ellipsis for what is filled in later.
    """
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"\{[a-z_:.0-9]*\}", "…", node.value)
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )


class PageTests(SynchronousTestCase):
    """
    The documents among themselves.
    """

    def test_requirement_ids_are_unique_and_complete(self) -> None:
        """
        Each ``C-n`` is defined once, in order and without a gap; whatever is cited exists.
        """
        text = (DOCS / "classic.md").read_text()
        defined = [int(number) for number in re.findall(r"^- \*\*C-(\d+)\*\*", text, re.MULTILINE)]
        self.assertEqual(defined, list(range(1, len(defined) + 1)))
        for page in pages():
            cited = {int(number) for number in re.findall(r"\bC-(\d+)\b", page.read_text())}
            self.assertLessEqual(cited, set(defined), page.name)

    def test_modern_requirement_ids_are_unique_and_complete(self) -> None:
        """
        Each ``M-n`` is defined once and without a gap; whatever pages and code cite exists.
        """
        text = (DOCS / "protocol.md").read_text()
        defined = sorted(int(number) for number in re.findall(r"\*\*M-(\d+)\*\*", text))
        self.assertEqual(defined, list(range(1, len(defined) + 1)))
        sources = [file for part in ("resip", "tests") for file in (ROOT / part).rglob("*.py")]
        for file in [*pages(), *sources]:
            cited = {int(number) for number in re.findall(r"\bM-(\d+)\b", file.read_text())}
            self.assertLessEqual(cited, set(defined), file.name)

    def test_links_lead_somewhere(self) -> None:
        """
        Every relative link names a file, and a heading of it where it names one.
        """
        for page in pages():
            text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
            for link in re.findall(r"\]\(([^)\s]+)\)", text):
                if "://" in link:
                    continue
                name, _, heading = link.partition("#")
                target = (page.parent / name).resolve() if name else page
                self.assertTrue(target.exists(), f"{page.name}: {link}")
                if heading:
                    self.assertIn(heading, anchors(target), f"{page.name}: {link}")

    def test_changelog_fragments_have_a_kind(self) -> None:
        """
        Each fragment is named SLUG.KIND.md and says something.
        """
        for file in (ROOT / "changelog.d").glob("*.md"):
            if file.name != "README.md":
                self.assertRegex(file.name, r"^[a-z0-9-]+\.(feature|bugfix|doc|removal|misc)\.md$")
                self.assertTrue(file.read_text().strip(), file.name)


def anchors(page: Path) -> set[str]:
    """
    The anchors of a page's headings, as forges and MyST make them.
    """
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings
    }
