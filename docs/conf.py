"""Settings of Sphinx; ``make docs`` builds."""

from __future__ import annotations

import re
from pathlib import Path

project = "resip"
copyright = "the resip authors"
_package = Path(__file__).resolve().parent.parent / "resip" / "__init__.py"
_found = re.search(r'^__version__ = "(.+)"', _package.read_text(), re.MULTILINE)
release = _found[1] if _found else ""

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
# Links to headings of other pages, written as on any forge: page.md#the-heading.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"resip {release}"
html_copy_source = False
