"""Sphinx's settings for the documentation as a web site: `make site`. It needs no network."""

import re
import sys
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bwpipe.version import __version__  # noqa: E402 (from the checkout)

project = "bwpipe"
author = "the authors of bwpipe"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["README.md"]  # `index.md` is the site's index
html_theme = "furo"
html_title = f"bwpipe {__version__}"
html_static_path: list[str] = []
html_show_sphinx = False
html_show_copyright = False
myst_heading_anchors = 3
myst_links_external_new_tab = True
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False
suppress_warnings = ["myst.header"]  # the gallery and the reference begin sections as they need them
language = "en"

_LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)([^)]*)\)")


def _links(app: Any, name: str, content: list[str]) -> None:
    """Turn links to files outside `docs` into text: the site has no such pages, and the repository's address is not known."""
    depth = name.count("/")

    def text(found: re.Match[str]) -> str:
        label, ups, target = found.groups()
        if ups.count("../") <= depth:
            return found[0]
        return label if f"`{target}" in label or target in label else f"{label} (`{target.partition('#')[0]}`)"

    content[0] = _LINK.sub(text, content[0])
    if name == "decisions/README":  # below it in the menu; GitHub would show this as text
        content[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"


def _docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Turn the code spans of docstrings, which are Markdown's, into reStructuredText's."""

    def literal(found: re.Match[str]) -> str:
        return f"``{found[1]}``" + ("\\ " if found[2] else "")

    lines[:] = [re.sub(r"`([^`]+)`(?=(\w?))", literal, line) for line in lines]


def setup(app: Any) -> None:
    """Register what this site needs."""
    app.connect("autodoc-process-docstring", _docstring)
    app.add_lexer("mermaid", TextLexer)
    app.connect("source-read", _links)
