"""The import rules: dependencies point downwards; the rooms of the engine and of the domain meet only in `core`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# `review` is planned: its place is fixed here before it exists.
DOMAIN = (
    "cli",
    "review",
    "tools",
    "training evaluation verify",
    "losses",
    "data",
    "metrics",
    "memory sequence",
    "image video motion nn",
    "pixels",
    "core",
    "errors version",
)
ENGINE = ("cli", "review", "tools", "cluster", "engine", "graph", "core", "errors version")
EXEMPT = {"bwpipe", "bwpipe.__main__", "bwpipe.testing"}
"""The package's public modules, which re-export from several rooms."""


def modules() -> dict[str, Path]:
    """All modules by name; stages and networks as `stages.read` and `models.unet`."""
    found = {}
    for folder in ("bwpipe", "stages", "models"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imported(name: str) -> Iterator[str]:
    """The modules of bwpipe that a module imports anywhere, including for type checkers only."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [module if module in MODULES else node.module for module in inner]
        else:
            continue
        yield from (target for target in dict.fromkeys(targets) if target in MODULES and target != name)


def room(name: str) -> str:
    """The room of a module: `image` for `bwpipe.image.formats.png`."""
    return name.split(".")[1] if "." in name else ""


def below(rooms: tuple[str, ...], upper: str) -> set[str] | None:
    """The rooms that a room may import from, including itself; None if it is in the other wing."""
    for i, floor in enumerate(rooms):
        if upper in floor.split():
            return {upper, *(each for lower in rooms[i + 1 :] for each in lower.split())}
    return None


INSIDE = [name for name in MODULES if name.startswith("bwpipe.") and name not in EXEMPT]


@pytest.mark.parametrize("name", INSIDE)
def test_a_module_imports_only_from_the_rooms_below_its_own(name: str) -> None:
    allowed = [found for rooms in (DOMAIN, ENGINE) if (found := below(rooms, room(name))) is not None]

    assert allowed, f"{name} is in no room of the plan"
    wrong = [target for target in imported(name) if not any(room(target) in rooms for rooms in allowed)]
    assert wrong == []


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(("stages", "models"))])
def test_stages_and_networks_see_the_domain_and_core(name: str) -> None:
    hidden = {"engine", "graph", "cluster", "tools", "review", "cli"}

    assert [target for target in imported(name) if room(target) in hidden] == []


def test_there_are_no_import_cycles() -> None:
    done: set[str] = set()

    def follow(name: str, chain: tuple[str, ...]) -> None:
        if name in chain:
            pytest.fail(" -> ".join([*chain[chain.index(name) :], name]))
        if name not in done:
            for target in imported(name):
                follow(target, (*chain, name))
            done.add(name)

    for name in MODULES:
        follow(name, ())
