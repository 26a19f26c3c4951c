"""What must be the same on all machines beside the version and the output folders: plug-ins, inputs, and recipes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from bwpipe.core.frame import Unit
from bwpipe.core.stage import Sink
from bwpipe.engine.recipes import path_to, recipes
from bwpipe.errors import UsageError
from bwpipe.graph.graph import Graph

_RUNTIME = "runtime"
"""The key of a recipe that says what computes a network; its last bits depend on it."""


def plugin_digests(folders: Sequence[Path]) -> dict[str, str]:
    """What is in plug-in folders: a hash (BLAKE2b) of the names and bytes of the Python files of each."""
    found = {}
    for folder in folders:
        state = blake2b(digest_size=16)
        for path in sorted(folder.rglob("*.py")):
            state.update(f"{path.relative_to(folder)}\0".encode(errors="surrogateescape") + path.read_bytes() + b"\0")
        found[str(folder)] = state.hexdigest()
    return found


def some_inputs(units: Sequence[Unit]) -> dict[str, int]:
    """One input on each file system, and its size in bytes; no inputs that are in no file."""
    found: dict[int, dict[str, int]] = {}
    folders = set()
    for unit in units:
        folder = unit.path.parent
        if folder in folders:
            continue
        folders.add(folder)
        if unit.path.is_file():
            status = unit.path.stat()
            found.setdefault(status.st_dev, {str(unit.path): status.st_size})
    return {path: size for one in found.values() for path, size in one.items()}


def described(graph: Graph) -> dict[str, str]:
    """The recipe of each stage that leads to an output, by its id, as JSON: options, revisions, and digests of weights."""
    found = {}
    for sink in (node for node in graph.nodes if isinstance(node.stage, Sink)):
        for node, recipe in zip(path_to(graph, sink.id), recipes(graph, sink.id), strict=True):
            found[node.id] = json.dumps(recipe, sort_keys=True, default=str)
    return found


def check_plugins(wanted: Mapping[str, str]) -> None:
    """Check that plug-in folders hold what they do elsewhere. Raises UsageError."""
    here = plugin_digests([Path(folder) for folder in wanted])
    for folder, digest in wanted.items():
        if Path(folder).is_dir() and here[folder] != digest:  # reading the graph says that it is missing
            raise UsageError(
                f"the plug-in folder {folder} holds something else here; mount the same folder under the same path"
            )


def check_inputs(wanted: Mapping[str, int]) -> None:
    """Check that inputs are seen. Raises UsageError."""
    for name, size in wanted.items():
        try:
            found = Path(name).stat().st_size
        except OSError as error:
            raise UsageError(
                f"the input {name} can't be read here ({error.strerror}); mount its folder under the same path"
            ) from error
        if found != size:
            raise UsageError(f"the input {name} is another file here; mount the same folder under the same path")


def check_recipes(graph: Graph, wanted: Mapping[str, str]) -> Iterator[str]:
    """Check that stages would do the same as elsewhere; another run time is but a warning. Raises UsageError."""
    for name, recipe in described(graph).items():
        here, there = json.loads(recipe), json.loads(wanted[name])
        keys = [key for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)]
        if keys == [_RUNTIME]:
            runtimes = " and not ".join(each.get(_RUNTIME, "torch") for each in (here, there))
            yield f"a worker computes {name} with {runtimes}, so that last bits of outputs may depend on who made them"
        elif keys:
            raise UsageError(f"{name} would do something else here ({', '.join(keys)}); mount the same weights and other files")
