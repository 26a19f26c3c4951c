"""Validation of a graph's topology: unique names, one source, matching ports, no unused output."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bwpipe.core.registry import hint
from bwpipe.core.stage import BatchMap, Map, Source, Stage, UnitMap, stages
from bwpipe.graph.document import Document


@dataclass(frozen=True, slots=True, eq=False)
class ParsedEntry:
    """An entry of `stages`, as far as it could be parsed.

    Attributes:
        id: Its id.
        cls: The stage's class; None if the name is unknown.
        follows: The id that its `from` names; None for the entry directly above.
        stage: The stage with its options, if these are valid.
    """

    id: str
    cls: type[Stage] | None = None
    follows: str | None = None
    stage: Stage | None = None


def check_topology(document: Document, entries: Sequence[ParsedEntry]) -> None:
    """Record the errors in the topology of a graph."""
    complete = all(entry.cls for entry in entries)
    for i, entry in enumerate(entries):
        for text, *key in _errors(entry, entries[:i], entries[i + 1 :]):
            document.add_error(text, "stages", i, *key)
            complete = False
    for i, text in _unmet(entries) if complete and all(entry.stage for entry in entries) else ():
        document.add_error(text, "stages", i)
    for i in _without_consumer(entries) if complete else ():  # otherwise it may be followed once the other errors are fixed
        text = f"no stage takes the output of {entries[i].id!r}, so it would be lost; add a stage that writes it"
        document.add_error(text, "stages", i)


def upstream(entry: ParsedEntry, above: Sequence[ParsedEntry]) -> ParsedEntry | None:
    """The entry above that an entry follows; None if there is none."""
    if entry.follows is None:
        return above[-1] if above else None
    return next((other for other in above if other.id == entry.follows), None)


def _errors(entry: ParsedEntry, above: Sequence[ParsedEntry], below: Sequence[ParsedEntry]) -> Iterator[tuple[str, ...]]:
    """Error messages for an entry, each with the key that it concerns, if any."""
    if any(other.id == entry.id for other in above):
        yield f"a second stage is called {entry.id!r}; give it an `id` of its own", "id"
    if _is_source(entry):
        yield from _misplaced_source(entry, above)
    elif (other := upstream(entry, above)) is not None:
        if entry.cls and other.cls and (text := _port_mismatch(entry.id, entry.cls, other.id, other.cls)):
            yield (text,)
    elif entry.follows is not None:
        yield _unknown(entry.follows, above, below), "from"
    elif entry.cls:
        yield (f"{entry.id!r} takes {_name(entry.cls.ports().takes)}, so it can't come first; start with a stage that reads",)


def _misplaced_source(entry: ParsedEntry, above: Sequence[ParsedEntry]) -> Iterator[tuple[str, ...]]:
    if any(map(_is_source, above)):
        yield (f"{entry.id!r} is a second source, and a graph can have only one; put it into another graph",)
    elif above:
        yield (f"{entry.id!r} is the source, so it must come first; move it to the top",)
    if entry.follows is not None:
        yield f"{entry.id!r} is a source and can't follow another stage; remove `from`", "from"


def _unknown(name: str, above: Sequence[ParsedEntry], below: Sequence[ParsedEntry]) -> str:
    if any(other.id == name for other in below):
        return f"{name!r} is defined below; move it above the stages that follow it"
    return f"no stage above is called {name!r}; " + (hint(name, [other.id for other in above]) if above else "remove `from`")


def _port_mismatch(name: str, cls: type[Stage], upstream_name: str, upstream_cls: type[Stage]) -> str | None:
    takes, gives = cls.ports().takes, upstream_cls.ports().gives
    if gives is None:
        return f"{name!r} can't follow {upstream_name!r}, which has no output; name another stage above with `from`"
    if takes is None or not issubclass(gives, takes):
        return (
            f"{name!r} takes {_name(takes)}, but {upstream_name!r} gives {_name(gives)}; "
            "put a stage between them that converts one to the other, or name another stage above with `from`"
        )
    return None


def _without_consumer(entries: Sequence[ParsedEntry]) -> Iterator[int]:
    """Indices of entries whose output items no stage takes; stages with one result per run may come last."""
    consumed = [upstream(entry, entries[:i]) for i, entry in enumerate(entries)]
    for i, entry in enumerate(entries):
        if entry not in consumed and entry.cls and issubclass(entry.cls, Source | Map | BatchMap | UnitMap):
            yield i


def _unmet(entries: Sequence[ParsedEntry]) -> Iterator[tuple[int, str]]:
    """Unmet needs of entries, with the entries' indices."""
    upstreams = [upstream(entry, entries[:i]) for i, entry in enumerate(entries)]
    for i, entry in enumerate(entries):
        assert entry.stage
        above = _path(i, upstreams, entries)
        for need in sorted(entry.stage.needs.above - _provided(above)):
            yield i, f"{entry.id!r} needs {need}, which no stage above it provides; {_remedy(need, 'above it')}"
        ends = [j for j, other in enumerate(entries) if entry in _path(j, upstreams, entries) and other not in upstreams]
        for need in sorted(entry.stage.needs.below):
            paths = [[other for other in (*_path(j, upstreams, entries), entries[j]) if entries.index(other) > i] for j in ends]
            if not paths or any(need not in _provided(path) for path in paths):
                yield i, f"with these options {entry.id!r} leaves {need} to a stage below it; {_remedy(need, 'below it')}"


def _path(i: int, upstreams: Sequence[ParsedEntry | None], entries: Sequence[ParsedEntry]) -> list[ParsedEntry]:
    """The entries from the source to the one above an entry."""
    path: list[ParsedEntry] = []
    other = upstreams[i]
    while other is not None:
        path.insert(0, other)
        other = upstreams[entries.index(other)]
    return path


def _provided(path: Iterable[ParsedEntry]) -> frozenset[str]:
    return frozenset().union(*(entry.stage.provides for entry in path if entry.stage))


def _remedy(need: str, where: str) -> str:
    names = [repr(name) for name in stages if need in stages[name].provides]
    return f"add {' or '.join(names)} {where}" if names else "no known stage does; add the folder of one that does to `plugins`"


def _is_source(entry: ParsedEntry) -> bool:
    return entry.cls is not None and issubclass(entry.cls, Source)


def _name(port: type | None) -> str:
    return port.__name__ if port else "nothing"
