"""Overrides of options, applied before validation: `--set colorize.batch=4`."""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic_core import from_json, to_json

from bwpipe.core import plugins
from bwpipe.core.options import Loc
from bwpipe.core.registry import UnknownNameError, hint
from bwpipe.core.stage import stages
from bwpipe.graph.document import Document, Override
from bwpipe.graph.yaml_loader import parse

_USAGE = "write STAGE.OPTION=VALUE, such as colorize.batch=4"

Overrides: TypeAlias = Mapping[str, Any] | Sequence[str | Override]
"""A value for each key, or strings `key=value` with YAML values, or overrides that name what the user wrote."""


def apply_changes(document: Document, changes: Overrides, known: Container[str]) -> None:
    """Apply overrides to a document; those that can't be applied are recorded as its errors.

    Args:
        document: The graph as in its file.
        changes: The overrides. A key is `<stage>.<option>`, where the stage is named by its `id` or its `use`, or a key of the
            graph itself, such as `queue`; further dots lead into nested options.
        known: The keys of the graph itself.
    """
    listed = document.data.get("stages") if isinstance(document.data, dict) else None
    if not isinstance(listed, list):
        return  # reported elsewhere
    entries = {i: entry for i, entry in enumerate(listed) if isinstance(entry, dict)}
    names = {i: _names(entry) for i, entry in entries.items()}
    for change in _read(document, changes):
        loc = _find(change.key, names, known)
        if isinstance(loc, str):
            document.add_override_error(change.origin, loc)
        else:
            document.set(loc, change.value, change.origin)


def _read(document: Document, changes: Overrides) -> Iterator[Override]:
    if isinstance(changes, Mapping):
        for key, value in changes.items():
            try:
                yield Override(key, from_json(to_json(value)), f"set[{key!r}]")
            except ValueError as error:
                document.add_override_error(f"set[{key!r}]", f"YAML can't represent this value: {error}")
        return
    for text in changes:
        if isinstance(text, Override):
            yield text
            continue
        origin = f"--set {text}"
        key, equals, value = text.partition("=")
        marked = parse(value.encode("utf-8", "surrogatepass"))
        if not (key and equals):
            document.add_override_error(origin, _USAGE)
        elif marked.problems:
            document.add_override_error(origin, marked.problems[0][1])
        else:
            yield Override(key, marked.data, origin)


def _names(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The names by which an entry of `stages` can be addressed: its id, which defaults to its name, and its name."""
    name = str(entry.get("use"))
    return str(entry.get("id", name)), name


def _find(key: str, names: Mapping[int, tuple[str, str]], known: Container[str]) -> Loc | str:
    """The location that a key addresses, or an error message."""
    stage, dot, option = key.partition(".")
    found = [i for i, (id_, _) in names.items() if id_ == stage] or [i for i, (_, name) in names.items() if name == stage]
    if not dot:
        if found or stage == "stages":
            return f"this sets a whole stage; {_USAGE}"
        return (key,) if key in known or not (hinted := _hint(key, names)) else f"{key!r} is an option of a stage; {hinted}"
    if len(found) != 1:
        ids = list(dict.fromkeys(id_ for id_, _ in names.values()))
        unknown = f"no stage is called {stage!r}; {hint(stage, ids)}"
        return f"{len(found)} stages are called {stage!r}; give each an `id` in the graph, and use that" if found else unknown
    if not all(option.split(".")):
        return _USAGE
    id_, name = names[found[0]]
    own = _options(name)
    if own and option.partition(".")[0] not in own and (hinted := _hint(option, names)):
        return f"{option!r} is no option of {id_!r}; {hinted}"
    return ("stages", found[0], *option.split("."))


def _hint(option: str, names: Mapping[int, tuple[str, str]]) -> str:
    """A question for the stages that have an option; empty if none has."""
    owners = [id_ for id_, name in names.values() if option.partition(".")[0] in _options(name)]
    return f"did you mean {' or '.join(repr(f'{owner}.{option}') for owner in owners)}?" if owners else ""


def _options(name: str) -> set[str]:
    """The options of a stage; none if it is not known, as those in plug-in folders are not before the graph is read."""
    plugins.load()
    try:
        fields = stages[name].model_fields
    except UnknownNameError:
        return set()
    return {field.alias or key for key, field in fields.items()}
