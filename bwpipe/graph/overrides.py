"""Overrides of options, applied before validation: `--set colorize.batch=4`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from bwpipe.core.options import Loc
from bwpipe.core.registry import hint
from bwpipe.graph.document import Document
from bwpipe.graph.yaml_loader import parse

_USAGE = "write STAGE.OPTION=VALUE, such as colorize.batch=4"


@dataclass(frozen=True, slots=True)
class _Change:
    key: str
    value: Any
    origin: str


def apply_changes(document: Document, changes: Mapping[str, Any] | Sequence[str]) -> None:
    """Apply overrides to a document; those that can't be applied are recorded as its errors.

    Args:
        document: The graph as in its file.
        changes: A value for each key, or strings `key=value` with YAML values. A key is `<stage>.<option>`, where the stage
            is named by its `id` or its `use`, or a key of the graph itself, such as `queue`; further dots lead into nested
            options.
    """
    stages = document.data.get("stages") if isinstance(document.data, dict) else None
    if not isinstance(stages, list):
        return  # reported elsewhere
    entries = {i: entry for i, entry in enumerate(stages) if isinstance(entry, dict)}
    names = {i: _names(entry) for i, entry in entries.items()}
    for change in _read(document, changes):
        loc = _find(change.key, names)
        if isinstance(loc, str):
            document.add_override_error(change.origin, loc)
        else:
            document.set(loc, change.value, change.origin)


def _read(document: Document, changes: Mapping[str, Any] | Sequence[str]) -> Iterator[_Change]:
    if isinstance(changes, Mapping):
        for key, value in changes.items():
            try:
                yield _Change(key, from_json(to_json(value)), f"set[{key!r}]")
            except ValueError as error:
                document.add_override_error(f"set[{key!r}]", f"YAML can't represent this value: {error}")
        return
    for text in changes:
        origin = f"--set {text}"
        key, equals, value = text.partition("=")
        marked = parse(value.encode("utf-8", "surrogatepass"))
        if not (key and equals):
            document.add_override_error(origin, _USAGE)
        elif marked.problems:
            document.add_override_error(origin, marked.problems[0][1])
        else:
            yield _Change(key, marked.data, origin)


def _names(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The names by which an entry of `stages` can be addressed: its id, which defaults to its name, and its name."""
    name = str(entry.get("use"))
    return str(entry.get("id", name)), name


def _find(key: str, names: Mapping[int, tuple[str, str]]) -> Loc | str:
    """The location that a key addresses, or an error message."""
    stage, dot, option = key.partition(".")
    found = [i for i, (id_, _) in names.items() if id_ == stage] or [i for i, (_, name) in names.items() if name == stage]
    if not dot:
        if found or stage == "stages":
            return f"this sets a whole stage; {_USAGE}"
        return (key,)
    if not found:
        return f"no stage is called {stage!r}; {hint(stage, list(dict.fromkeys(id_ for id_, _ in names.values())))}"
    if len(found) > 1:
        return f"{len(found)} stages are called {stage!r}; give each an `id` in the graph, and use that"
    if not all(option.split(".")):
        return _USAGE
    return ("stages", found[0], *option.split("."))
