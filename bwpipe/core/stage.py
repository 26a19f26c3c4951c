"""What a stage is: its shapes, its options, its ports."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.context import RunContext
from bwpipe.core.fingerprint import Fingerprint
from bwpipe.core.frame import Broken, End, Unit
from bwpipe.core.registry import Registry
from bwpipe.core.segments import fragment_path


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


T = TypeVar("T")
S = TypeVar("S", bound="Stage")

_NO_EFFECT = "does not affect the result"
NoEffect = Annotated[T, _NO_EFFECT]
"""Marks the type of an option that a result does not depend on, such as `batch: NoEffect[int]`: changing it redoes nothing."""
Count = Annotated[int, Field(ge=1)]


class ScanCache(Protocol):
    """Keeps what was found in an input by reading it through, so that the next start need not read it again."""

    def find(self, path: Path, what: str, look: Callable[[], bytes]) -> bytes:
        """What an earlier execution found in a file, or else what `look` finds now.

        Args:
            path: The file, absolute.
            what: What is found and by which way, such as another version of a library: another one makes it look again.
            look: Finds it. What it raises is raised.

        Raises:
            UsageError: What was kept is damaged.
            RunAborted: What was kept can't be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Summary:
    """What a sink reports of a finished file.

    Attributes:
        lines: For the end of the run, in a line each.
        warnings: In a sentence each, without the file's name.
        events: For `report.jsonl`: what each is called, and its fields as JSON can hold them.
    """

    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    events: tuple[tuple[str, Mapping[str, Any]], ...] = ()


class Stage(BaseModel):
    """A step of a graph: its fields are its options, one typed method is its work, and that method's hints are its ports.

    Write one of the shapes below; write `stream` only for work that has none of these shapes. Its docstring and the fields'
    descriptions are its documentation. Constructing a stage only checks its options. One object may work in several threads,
    so a method keeps no state of a call on `self`; what lasts is opened by `setup` and kept in private attributes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    registered: ClassVar[str] = ""
    """The name it was registered under, set by `stage`."""
    revision: ClassVar[int] = 1
    """Raise it when the same input and options give another output than before: what it made is then done again."""
    works_in: ClassVar[str] = "stream"
    """The method whose type hints are the ports."""
    provides: ClassVar[frozenset[str]] = frozenset()
    """What it does to frames that other stages count on, in a word or a few each, such as "motion"."""

    @property
    def needs(self) -> Needs:
        """What other stages on the way of its items have to provide: a graph in which they do not is refused."""
        return Needs()

    def setup(self, run: RunContext) -> None:
        """Open what lasts: weights, devices. Raises UsageError for what the user can mend; nothing has been written yet."""

    def stream(self, items: Iterator[Any]) -> Iterator[Any]:
        """Turn all items into others; an `End` that comes in goes out, after all items of its unit."""
        raise TypeError(f"stage {self.registered!r} has no method {self.works_in!r}")

    def finish(self) -> None:
        """Called after a stream that ended well."""

    def close(self) -> None:
        """Called at the very end, always."""

    def recipe(self) -> dict[str, Any]:
        """What its results depend on, as JSON can hold it: name, revision, and every option not marked `NoEffect`."""
        harmless = {name for name, field in type(self).model_fields.items() if _NO_EFFECT in field.metadata}
        return {"stage": self.registered, "revision": self.revision, **self.model_dump(mode="json", exclude=harmless)}

    def provenance(self) -> dict[str, Any]:
        """What outputs say of it: its recipe; a stage that adds colour or changes luma adds a word, see `bwpipe.provenance`."""
        return self.recipe()

    @classmethod
    def ports(cls) -> Ports:
        """The types of its items, read from the hints of its method. Raises TypeError where these are missing."""
        hints = get_type_hints(getattr(cls, cls.works_in))
        gives, takes = hints.pop("return", None), next(iter(hints.values()), None)
        if takes is None or gives is None:
            raise TypeError(f"{cls.__name__}.{cls.works_in} needs type hints for what it takes and gives: they are the ports")
        return Ports(item_of(takes), item_of(gives))


class Source(Stage):
    """Finds units and reads them. The only shape that comes first in a graph. The engine cuts films into segments."""

    works_in = "read"

    workers: NoEffect[Count] = 1
    """How many pictures are read at a time; a film is read by one."""

    def remember(self, scans: ScanCache) -> None:
        """Called before `units`: where what takes long to be found in an input can be kept for the next start."""

    @abstractmethod
    def units(self) -> Iterator[Unit | Broken]:
        """All there is to read, in a lasting order, from the files' headers alone. Raises UsageError."""

    @abstractmethod
    def read(self, unit: Unit, context: int) -> Iterator[Any]:
        """The items of one unit, and up to `context` marked ones before and after it. Raises MediaError."""

    @classmethod
    def ports(cls) -> Ports:
        """It takes nothing from the graph."""
        return Ports(None, item_of(get_type_hints(cls.read)["return"]))


class Map(Stage):
    """Makes one item of each."""

    works_in = "apply"

    workers: NoEffect[Count] = 1
    """How many items are worked on at a time."""

    @abstractmethod
    def apply(self, item: Any, /) -> Any:
        """Make an item of another. What it raises fails the item's unit."""


class BatchMap(Stage):
    """Makes one item of each, many at a time."""

    works_in = "apply"

    batch: NoEffect[Count] = 1
    """How many items are worked on together."""
    workers: NoEffect[Count] = 1
    """How many batches are worked on at a time."""

    @abstractmethod
    def apply(self, items: Any, /) -> Any:
        """Make a list of as many items, in the same order.

        If it raises, items are tried singly: one's error fails its unit. MemoryError halves the batch; RunAborted ends the run.
        """

    def key(self, item: Any, /) -> Any:
        """Items of different keys never share a batch."""
        return None


class UnitMap(Stage):
    """Makes items of the items of one unit, seeing them in a row."""

    works_in = "apply"

    @property
    def context(self) -> int:
        """How many frames of its neighbours it wants before and after its unit; they come marked `Frame.context`."""
        return 0

    @abstractmethod
    def apply(self, items: Any, /) -> Any:
        """Make an iterator of items from the iterator of one unit's items. What it raises fails the unit."""


class Gather(Stage):
    """Makes one thing of all items of all units.

    Where that takes long, `gather` keeps what it made under a name that follows from what `ready` is asked, which looks there.
    """

    works_in = "gather"

    def ready(self, units: Mapping[Unit, Fingerprint | None], recipe: Sequence[Mapping[str, Any]]) -> Any:
        """What `gather` would make, if it is known already; None, as here, if it is to be gathered.

        Asked once in a run, after `setup` and before anything is read; raises UsageError. Where it gives a thing, `gather` is
        not called, and the stages that only feed this one are not started.

        Args:
            units: All that would be read, in order, each with its file's stamp from before; None if that was gone by then.
            recipe: What `Stage.recipe` says of each stage from the source to this one: with the units, all it depends on.
        """
        return None

    @abstractmethod
    def gather(self, items: Any, /) -> Any:
        """Make one thing of an iterator of all items; those of a unit that fails later may be among them."""


class Sink(Stage):
    """Writes units. It can come last only; the engine keeps its ledger and gives finished files their names.

    With a method `assemble` it writes films in segments: `commit` then gives a fragment of a film, under the name that
    `fragment` says, and `assemble` joins these once all are there. Without it a film comes as one unit.
    """

    works_in = "write"

    workers: NoEffect[Count] = 1
    """How many pictures are written at a time; a film is written by one."""
    overwrite: NoEffect[bool] = False
    """Write over files that bwpipe did not write, too."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where everything goes that it makes: absolute, links resolved."""

    @abstractmethod
    def target(self, unit: Unit) -> Path:
        """The file, somewhere in `folder`, that a unit becomes. Known without reading the unit. Raises MediaError."""

    def open(self, unit: Unit) -> None:
        """Called before the first item of a unit. Raises MediaError."""

    @abstractmethod
    def write(self, item: Any, /) -> None:
        """Take one item of the unit that `item.unit` names. Raises MediaError."""

    @abstractmethod
    def commit(self, unit: Unit) -> AtomicFile:
        """All items came: close the file and hand it over under its temporary name. Raises MediaError."""

    def summary(self, unit: Unit, notes: Sequence[str]) -> Summary:
        """Optional: what is to be reported of a finished file.

        Args:
            unit: The file, or the whole film.
            notes: What `commit` put into `Draft.notes`, of each segment in order; empty texts where it put nothing.
        """
        return Summary()

    def abandon(self, unit: Unit) -> None:
        """The unit failed or the run ends: remove what there is of it, if anything."""

    def assemble(self, unit: Unit, fragments: Sequence[Path]) -> AtomicFile:
        """Optional: join what was committed of a film's segments, in order, and hand the file over. Raises MediaError."""
        raise TypeError(f"stage {self.registered!r} has no method 'assemble'")

    @property
    def assembles(self) -> bool:
        """Whether it writes films in segments."""
        return type(self).assemble is not Sink.assemble

    def fragment(self, unit: Unit) -> Path:
        """Where the fragment of a segment waits until its film is joined."""
        return fragment_path(self.folder, self.target(unit), unit.part)


stages: Registry[Stage] = Registry("stage")


def stage(name: str) -> Callable[[type[S]], type[S]]:
    """Decorate a stage's class to give it the name that graph files `use`. Raises ValueError, TypeError."""

    def add(cls: type[S]) -> type[S]:
        if missing := sorted(cls.__abstractmethods__):
            raise TypeError(f"stage {name!r} has no method {missing[0]!r}")
        if words := {"use", "id", "from"} & cls.model_fields.keys():
            raise TypeError(f"stage {name!r} has an option {min(words)!r}, which is a word of graph files")
        cls.ports()  # refused here where hints are missing, not when a graph uses it
        cls.registered = name
        return stages.register(name)(cls)

    return add
