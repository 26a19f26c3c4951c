"""Every code block in the README and the docs is run or checked, or preceded by a reason: `<!-- not run: reason -->`.

Python is executed, graphs are read and checked, and bwpipe commands, with their `--set`, are parsed by the real command line.
The blocks of a page share names, and a block that starts with a file name is written to that file. Commands of bwpipe in
marked blocks are parsed, too.
"""

import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from bwpipe import read_graph
from bwpipe.cli.main import app
from bwpipe.core import plugins
from bwpipe.core.options import build
from bwpipe.core.stage import stages
from bwpipe.graph.templates import template
from tests.support.made_photos import write_photos

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "packaging/description.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(?P<kind>[\w{}-]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^<!-- not run: \S.* -->$", re.MULTILINE)
DRAWINGS = ("flowchart", "sequenceDiagram", "stateDiagram-v2")
COMMANDS: Any = typer.main.get_command(app)


class Block(NamedTuple):
    """A code block: its language, its text, and its position."""

    kind: str
    text: str
    place: str
    marked: bool


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        above = text[: found.start()].removesuffix("\n").rpartition("\n")[2]
        place = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}"
        yield Block(found["kind"], found["text"], place, bool(MARK.fullmatch(above)))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_registries: None) -> Path:
    """The working folder of a page: two photographs, and the graph files of the repository."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", 2)
    for path in ROOT.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_blocks_of_a_page_work(page: Path, place: Path) -> None:
    found = [block for block in blocks(page) if not block.marked or block.kind == "sh"]
    check: Any = {"python": run_python, "yaml": check_yaml, "sh": check_commands, "mermaid": check_drawing}
    check |= dict.fromkeys(("{toctree}", "{eval-rst}"), lambda *_: None)  # the site's: a test builds it
    names: dict[str, Any] = {"__name__": "page"}

    for block in sorted(found, key=lambda block: list(check).index(block.kind) if block.kind in check else -1):
        assert block.kind in check, f"{block.place}: mark it with `<!-- not run: reason -->`"
        check[block.kind](block, place, names)


def test_every_mark_precedes_a_block() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert all(text[mark.end() :].startswith("\n```") for mark in MARK.finditer(text)), page


def run_python(block: Block, place: Path, names: dict[str, Any]) -> None:
    """Execute a block and its tests; a plug-in is loaded from the file named in its first line, as by a graph."""
    before = set(names)
    named = re.match(r"# (\w+/\w+\.py)\n", block.text)
    if named:
        path = place / named[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        plugins.load([path.parent])
        module = next(each for each in list(sys.modules.values()) if getattr(each, "__file__", None) == str(path))
        names.update(vars(module))
    else:
        names["__file__"] = str(place / "page.py")
        exec(compile(block.text, block.place, "exec"), names)
    for name in [name for name in names.keys() - before if name.startswith("test_")]:
        names[name]()


def check_yaml(block: Block, place: Path, names: dict[str, Any]) -> None:
    """Read a graph with the page's own plug-ins; check the options of partial graphs."""
    text = textwrap.dedent(block.text)
    named = re.match(r"# (\S+\.yaml)", text)
    if "stages:" in text:
        path = place / (named[1] if named else "graph.yaml")
        path.write_text(text, encoding="utf-8")
        read_graph(path)
        return
    for entry in yaml.safe_load(text):
        options = build(stages[entry.pop("use")], entry, of=block.place)
        assert not isinstance(options, list), [complaint.text for complaint in options]


def check_commands(block: Block, place: Path, names: dict[str, Any]) -> None:
    """Parse each command line; graph files are read with their `--set` options."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        match words:
            case []:
                continue
            case ["bwpipe", name, *arguments] if not name.startswith("-"):
                parse(name, arguments, place, block.place)
            case _ if block.marked:
                continue
            case ["make", target]:
                assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), f"{block.place}: {line}"
            case _:
                pytest.fail(f"{block.place}: cannot check {line!r}; mark the block with `<!-- not run: reason -->`")


def parse(name: str, arguments: list[str], place: Path, where: str) -> None:
    try:
        values = COMMANDS.commands[name].make_context(name, arguments).params
    except Exception as error:
        pytest.fail(f"{where}: bwpipe {shlex.join([name, *arguments])}: {error}")
    if name == "colorize":
        read_graph(template("pipeline.yaml"), values["options"] or [])
    elif name in ("run", "train", "check"):
        assert (place / values["graph"]).exists(), f"{where}: {values['graph']} is not a file of the page or the repository"
        read_graph(place / values["graph"], values["options"] or [])


def check_drawing(block: Block, place: Path, names: dict[str, Any]) -> None:
    """Check that GitHub can render a drawing."""
    assert block.text.split()[0] in DRAWINGS, block.place
