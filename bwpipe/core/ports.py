"""What goes into a stage and comes out of it: the types of its items, and caches of scans of its inputs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args, get_origin

from bwpipe.core.frame import End, Media, Motion

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ports:
    """The types of a stage's input and output items; None for none."""

    takes: type | None
    gives: type | None


def item_of(hint: Any) -> type | None:
    """The item type in a type hint: Frame for `list[Frame]`, `Iterator[Frame | End]` and `Frame`; None for `None`."""
    if isinstance(hint, type) and not get_args(hint):
        return None if hint is type(None) else hint
    inner = [item for arg in get_args(hint) if (item := item_of(arg)) not in (None, End)]
    if len(inner) != 1:
        raise TypeError(f"{get_origin(hint) or hint}: a port takes or gives one type of item")
    return inner[0]


class ScanCache(Protocol):
    """Caches the results of scanning whole inputs, so that the next run need not scan them again."""

    def find(self, path: Path, what: str, look: Callable[[], bytes], read: Callable[[bytes], T]) -> T:
        """The result that an earlier run cached for a file, or else the result of `look`.

        Args:
            path: The file, absolute.
            what: Identifies the scan and its method, such as a library version: a different value causes a new scan.
            look: Scans the file. Its exceptions are propagated.
            read: Reads a result. If it fails for a cached one, that is damaged, and the file is scanned again.

        Raises:
            UsageError: The cache is corrupt.
            RunAborted: The cache can't be read.
        """
        ...


class ShotFinder(Protocol):
    """Finds the shots of films, before a run and always in the same way."""

    def all(self, media: Media) -> Sequence[range]:
        """All shots of a film. It may have to be read for it."""
        ...

    def around(self, media: Media, index: int) -> range:
        """The shot that holds a frame of a film. Some of the film may have to be read for it."""
        ...

    def motion(self, media: Media, frames: range) -> Iterator[tuple[int, Motion]]:
        """The indices and the motion of consecutive frames, which are read for it; none if there is nothing that finds it."""
        ...
