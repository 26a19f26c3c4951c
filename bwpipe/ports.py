"""Ports: the types of the items that a stage takes and gives, and what stages count on beyond that."""

from dataclasses import dataclass
from typing import Any, NamedTuple, get_args, get_origin

from bwpipe.frame import End


@dataclass(frozen=True, slots=True)
class Ports:
    """The types of the items that a stage takes and gives; None for none."""

    takes: type | None
    gives: type | None


class Needs(NamedTuple):
    """What a stage counts on, in the words of `Stage.provides`: of stages above it, and below it on every way to a sink."""

    above: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()


def item_of(hint: Any) -> type | None:
    """The item in a hint: `list[Frame]`, `Iterator[Frame | End]` and `Frame` are all Frame; `None` is none."""
    if isinstance(hint, type) and not get_args(hint):
        return None if hint is type(None) else hint
    inner = [item for arg in get_args(hint) if (item := item_of(arg)) not in (None, End)]
    if len(inner) != 1:
        raise TypeError(f"{get_origin(hint) or hint}: a port takes or gives one type of item")
    return inner[0]
