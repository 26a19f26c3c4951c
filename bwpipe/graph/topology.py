"""Whether stages can stand where they stand: names, one source, ports that fit, nothing lost."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bwpipe.core.registry import hint
from bwpipe.core.stage import BatchMap, Map, Source, Stage, UnitMap, stages
from bwpipe.graph.document import Document


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """An entry of `stages`, as far as it could be read.

    Attributes:
        id: What it is called.
        cls: The stage; None if there is none of that name.
        follows: The stage that its `from` names; None for the one right above.
        stage: It with its options, if these are right.
    """

    id: str
    cls: type[Stage] | None = None
    follows: str | None = None
    stage: Stage | None = None


def check_places(document: Document, places: Sequence[Place]) -> None:
    """Complain of what stands in a wrong place."""
    complete = all(place.cls for place in places)
    for i, place in enumerate(places):
        for text, *key in _complaints(place, places[:i], places[i + 1 :]):
            document.complain(text, "stages", i, *key)
            complete = False
    for i, text in _unmet(places) if complete and all(place.stage for place in places) else ():
        document.complain(text, "stages", i)
    for i in _unfinished(places) if complete else ():  # else it may be followed once the rest is mended
        text = f"nothing takes what {places[i].id!r} gives, so it would be lost; add a stage that writes it"
        document.complain(text, "stages", i)


def upstream(place: Place, above: Sequence[Place]) -> Place | None:
    """The one of the places above it that a place follows; None if there is none."""
    if place.follows is None:
        return above[-1] if above else None
    return next((other for other in above if other.id == place.follows), None)


def _complaints(place: Place, above: Sequence[Place], below: Sequence[Place]) -> Iterator[tuple[str, ...]]:
    """What is wrong with a place, each with the word that it stands at, if it stands at one."""
    if any(other.id == place.id for other in above):
        yield f"a second stage is called {place.id!r}; give it an `id` of its own", "id"
    if _is_source(place):
        yield from _misplaced_source(place, above)
    elif (other := upstream(place, above)) is not None:
        if place.cls and other.cls and (text := _misfit(place.id, place.cls, other.id, other.cls)):
            yield (text,)
    elif place.follows is not None:
        yield _unknown(place.follows, above, below), "from"
    elif place.cls:
        yield (f"{place.id!r} takes {_name(place.cls.ports().takes)}, so it can't come first; begin with a stage that reads",)


def _misplaced_source(place: Place, above: Sequence[Place]) -> Iterator[tuple[str, ...]]:
    if any(map(_is_source, above)):
        yield (f"{place.id!r} is a second source, and a graph has one; make another graph of it",)
    elif above:
        yield (f"{place.id!r} is the source, so it comes first; move it to the top",)
    if place.follows is not None:
        yield f"{place.id!r} is a source and follows nothing; remove `from`", "from"


def _unknown(name: str, above: Sequence[Place], below: Sequence[Place]) -> str:
    if any(other.id == name for other in below):
        return f"{name!r} stands below; move it above the stages that follow it"
    return f"no stage above is called {name!r}; " + (hint(name, [other.id for other in above]) if above else "remove `from`")


def _misfit(name: str, cls: type[Stage], upstream_name: str, upstream_cls: type[Stage]) -> str | None:
    takes, gives = cls.ports().takes, upstream_cls.ports().gives
    if gives is None:
        return f"{name!r} can't follow {upstream_name!r}, which gives nothing on; name another stage above with `from`"
    if takes is None or not issubclass(gives, takes):
        return (
            f"{name!r} takes {_name(takes)}, but {upstream_name!r} gives {_name(gives)}; "
            "put a stage between them that makes one of the other, or name another above with `from`"
        )
    return None


def _unfinished(places: Sequence[Place]) -> Iterator[int]:
    """Those that make items one by one, and whose items nobody takes."""
    taken = [upstream(place, places[:i]) for i, place in enumerate(places)]
    for i, place in enumerate(places):
        if place not in taken and place.cls and issubclass(place.cls, Source | Map | BatchMap | UnitMap):
            yield i


def _unmet(places: Sequence[Place]) -> Iterator[tuple[int, str]]:
    """What places need that no other stage on the way of their items provides, with the numbers of those places."""
    before = [upstream(place, places[:i]) for i, place in enumerate(places)]
    for i, place in enumerate(places):
        assert place.stage
        above = _way(i, before, places)
        for need in sorted(place.stage.needs.above - _provided(above)):
            yield i, f"{place.id!r} needs {need}, which no stage above it provides; {_remedy(need, 'above it')}"
        ends = [j for j, other in enumerate(places) if place in _way(j, before, places) and other not in before]
        for need in sorted(place.stage.needs.below):
            ways = [[other for other in (*_way(j, before, places), places[j]) if places.index(other) > i] for j in ends]
            if not ways or any(need not in _provided(way) for way in ways):
                yield i, f"with these options {place.id!r} leaves {need} to a stage below it; {_remedy(need, 'below it')}"


def _way(i: int, before: Sequence[Place | None], places: Sequence[Place]) -> list[Place]:
    """The places from the source to the one above a place."""
    way: list[Place] = []
    other = before[i]
    while other is not None:
        way.insert(0, other)
        other = before[places.index(other)]
    return way


def _provided(way: Iterable[Place]) -> frozenset[str]:
    return frozenset().union(*(place.stage.provides for place in way if place.stage))


def _remedy(need: str, where: str) -> str:
    names = [repr(name) for name in stages if need in stages[name].provides]
    return f"add {' or '.join(names)} {where}" if names else "no stage that is known does so; name its plug-in folder"


def _is_source(place: Place) -> bool:
    return place.cls is not None and issubclass(place.cls, Source)


def _name(port: type | None) -> str:
    return port.__name__ if port else "nothing"
