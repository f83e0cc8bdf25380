"""
Imports run one way, and the core knows neither Twisted nor the system.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "resip"

#: What each part may import of the others, besides itself.
ALLOWED = {
    "core": set[str](),
    "carriers": {"core"},
    "bootstrap": {"carriers", "core"},
    "tunnel": {"carriers", "core"},
    "direct": {"bootstrap", "core"},
    "services": {"direct", "bootstrap", "tunnel", "carriers", "core"},
    "taps": {"services", "bootstrap", "tunnel", "carriers", "core"},
    "cli": {"services", "direct", "bootstrap", "tunnel", "core"},
    "lab": {"services", "taps", "cli", "bootstrap", "tunnel", "carriers", "core"},
}

#: What would give the core a socket, a clock or dice.
FORBIDDEN_IN_CORE = {
    "asyncio",
    "concurrent",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "uuid",
}


def find_imports(source: str) -> Iterator[str]:
    """
    The dotted names of all modules that a source imports, wherever in it.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, "imports are absolute"
            yield node.module
            # "from resip import tunnel" imports a part as well.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_wrong_arrows(part: str, source: str) -> list[str]:
    """
    The imports of a source of ``part`` that its place does not allow.
    """
    wrong = []
    for name in find_imports(source):
        first, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if first == "resip" and target in ALLOWED and target not in ALLOWED[part] | {part}:
            wrong.append(name)
        if first == "tests" or first == "bench":
            wrong.append(name)
        if part == "core" and not is_allowed_in_core(first):
            wrong.append(name)
    return wrong


def is_allowed_in_core(module: str) -> bool:
    """
    Whether the core may use a top-level module.
    """
    if module in FORBIDDEN_IN_CORE:
        return False
    return module in sys.stdlib_module_names or module in ("resip", "cryptography")


def core_modules() -> list[str]:
    """
    The dotted names of all modules of the core.
    """
    paths = sorted((PACKAGE / "core").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


class ImportTests(SynchronousTestCase):
    """
    The arrows between the parts.
    """

    def test_every_part_has_its_place(self) -> None:
        """
        A new package in resip must be given one.
        """
        packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
        self.assertEqual(packages, set(ALLOWED))

    def test_imports_run_one_way(self) -> None:
        """
        No part imports one that stands above or beside it.
        """
        wrong = [
            f"{path.relative_to(ROOT)} imports {name}"
            for path in sorted(PACKAGE.rglob("*.py"))
            if path.parent != PACKAGE
            for name in find_wrong_arrows(path.relative_to(PACKAGE).parts[0], path.read_text())
        ]
        self.assertEqual(wrong, [])

    def test_the_search_finds_wrong_arrows(self) -> None:
        """
        Each kind of wrong import is found, also inside of functions.
        """
        for part, source in (
            ("core", "import socket"),
            ("core", "from os import urandom"),
            ("core", "import twisted.internet"),
            ("core", "def f():\n    from resip.carriers import udp"),
            ("carriers", "from resip import tunnel"),
            ("tunnel", "from resip.bootstrap.errors import BootstrapError"),
            ("services", "import resip.lab.pair"),
            ("direct", "from resip.services.client import ClientService"),
            ("cli", "from resip.taps.client import Options"),
            ("lab", "from tests.support.pair import PLAIN"),
        ):
            self.assertEqual(len(set(find_wrong_arrows(part, source)) - {""}) > 0, True, source)
        self.assertEqual(find_wrong_arrows("tunnel", "from resip.core.types import Target"), [])


class PurityTests(SynchronousTestCase):
    """
    The core alone, in a process of its own.
    """

    def test_the_core_loads_no_twisted(self) -> None:
        """
        After every module of the core was imported, nothing of Twisted is loaded.
        """
        modules = core_modules()
        self.assertGreater(len(modules), 20)
        script = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
            f"for name in {modules!r}: __import__(name)\n"
            "print([name for name in sys.modules if name.split('.')[0] == 'twisted'])"
        )
        result = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        self.assertEqual(result.stdout.strip(), "[]")
