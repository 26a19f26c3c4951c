"""Changes to a graph before it is checked: `--set colorize.batch=4`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from bwpipe.core.options import Loc
from bwpipe.core.registry import hint
from bwpipe.graph.document import Document
from bwpipe.graph.yaml_loader import parse

_FORM = "write STAGE.OPTION=VALUE, such as colorize.batch=4"


@dataclass(frozen=True, slots=True)
class _Change:
    key: str
    value: Any
    origin: str


def apply_changes(document: Document, changes: Mapping[str, Any] | Sequence[str]) -> None:
    """Change a document as the user says; what can't be done becomes its complaint.

    Args:
        document: The graph as it stands in its file.
        changes: A value for each key, or texts `key=value` whose values are YAML. A key is `<stage>.<option>`, where the
            stage is named by its `id` or its `use`, or one of the graph's own, such as `queue`; further dots lead into
            an option that has options of its own.
    """
    stages = document.data.get("stages") if isinstance(document.data, dict) else None
    if not isinstance(stages, list):
        return  # there is nothing to change, and this is complained of elsewhere
    entries = {i: entry for i, entry in enumerate(stages) if isinstance(entry, dict)}
    names = {i: _names(entry) for i, entry in entries.items()}
    for change in _read(document, changes):
        loc = _find(change.key, names)
        if isinstance(loc, str):
            document.complain_of(change.origin, loc)
        else:
            document.set(loc, change.value, change.origin)


def _read(document: Document, changes: Mapping[str, Any] | Sequence[str]) -> Iterator[_Change]:
    if isinstance(changes, Mapping):
        for key, value in changes.items():
            try:
                yield _Change(key, from_json(to_json(value)), f"set[{key!r}]")
            except ValueError as error:
                document.complain_of(f"set[{key!r}]", f"this is nothing that YAML can hold: {error}")
        return
    for text in changes:
        origin = f"--set {text}"
        key, given, value = text.partition("=")
        marked = parse(value.encode("utf-8", "surrogatepass"))
        if not (key and given):
            document.complain_of(origin, _FORM)
        elif marked.problems:
            document.complain_of(origin, marked.problems[0][1])
        else:
            yield _Change(key, marked.data, origin)


def _names(entry: Mapping[str, Any]) -> tuple[str, str]:
    """What an entry of `stages` can be called: by its id, which is its name if it has none, and by its name."""
    name = str(entry.get("use"))
    return str(entry.get("id", name)), name


def _find(key: str, names: Mapping[int, tuple[str, str]]) -> Loc | str:
    """The place that a key means, or what is wrong with it."""
    stage, dot, option = key.partition(".")
    found = [i for i, (own, _) in names.items() if own == stage] or [i for i, (_, name) in names.items() if name == stage]
    if not dot:
        if found or stage == "stages":
            return f"this sets a whole stage; {_FORM}"
        return (key,)
    if not found:
        return f"no stage is called {stage!r}; {hint(stage, list(dict.fromkeys(own for own, _ in names.values())))}"
    if len(found) > 1:
        return f"{len(found)} stages are called {stage!r}; give each an `id` in the graph, and name that"
    if not all(option.split(".")):
        return _FORM
    return ("stages", found[0], *option.split("."))
