"""The stage contract: shapes, options, ports."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from inspect import signature
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.context import RunContext
from bwpipe.core.fingerprint import Fingerprint
from bwpipe.core.frame import Broken, Skipped, Unit
from bwpipe.core.ports import Ports, ScanCache, ShotFinder, item_of
from bwpipe.core.registry import Registry
from bwpipe.core.segments import fragment_path
from bwpipe.core.summary import Summary
from bwpipe.errors import MediaError


class Needs(NamedTuple):
    """What a stage requires, in terms of `Stage.provides`: of the stages upstream, and downstream on every path to a sink."""

    above: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()


T = TypeVar("T")
S = TypeVar("S", bound="Stage")

_NO_EFFECT = "does not affect the result"
NoEffect = Annotated[T, _NO_EFFECT]
"""Marks an option that does not affect the result, such as `batch: NoEffect[int]`: changing it causes no reprocessing."""
FILMS_ONLY, PICTURES_ONLY = "affects films only", "affects pictures only"
FilmsOnly = Annotated[T, FILMS_ONLY]
"""Marks an option that affects films only, such as `crf: FilmsOnly[int]`: changing it does not redo pictures."""
PicturesOnly = Annotated[T, PICTURES_ONLY]
"""Marks an option that affects pictures only: changing it does not redo films."""
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class AddedLater:
    """Marks an option that a stage did not have in a version that others use: `Annotated[bool, AddedLater(without=False)]`.

    Attributes:
        without: The value with which results are as without the option: with it, what earlier versions finished stays finished.
    """

    without: Any


class Stage(BaseModel):
    """A step of a graph: its fields are its options, one typed method does the work, and its type hints are the ports.

    Implement one of the shapes below; implement `stream` only for work that fits none of them. The docstring and the fields'
    descriptions are its documentation. Constructing a stage only validates its options. One object may be used by several
    threads, so methods keep no per-call state on `self`; `setup` opens lasting resources and keeps them in private attributes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    registered: ClassVar[str] = ""
    """Its registered name, set by `stage`."""
    revision: ClassVar[int] = 1
    """Increase it when the same input and options give a different output than before: existing results are then redone."""
    changes_only: ClassVar[str | None] = None
    """The kind of media that it changes, "film" or "picture", if it passes the other on as it is; None for both kinds."""
    works_in: ClassVar[str] = "stream"
    """The method whose type hints are the ports."""
    correctable: ClassVar[frozenset[str]] = frozenset()
    """Options that `overrides.yaml` of the folder of corrections may override, for some files or shots."""
    correction_folders: ClassVar[Mapping[str, str]] = {}
    """Options that are by default a subfolder of the folder of corrections, with the names of these."""
    provides: ClassVar[frozenset[str]] = frozenset()
    """What it adds to frames that other stages rely on, in a word or a few each, such as "motion"."""

    @property
    def needs(self) -> Needs:
        """What other stages on its items' path must provide; a graph in which they do not is rejected."""
        return Needs()

    def recall(self, facts: Mapping[str, str | int | float | bool]) -> None:
        """Called before planning, with what earlier runs into the output folders remembered; see `RunContext.remember`."""

    def placed(self, above: Sequence["Stage"], below: Sequence[Sequence["Stage"]]) -> None:
        """Called once a graph is read, for what its result depends on besides its own options; called before `recipe`.

        Args:
            above: The stages from the source to the one above it.
            below: The stages below it, on each path to an end of the graph.
        """

    def shots_by(self, finder: ShotFinder) -> None:
        """Called before planning, with what finds shots, for stages of whose options some concern single shots only."""

    def unmatched(self, names: Mapping[PurePosixPath, str]) -> Iterator[str]:
        """Sentences on what its options hold for inputs by name, as hints do, but for none of these (and their kinds)."""
        yield from ()

    def setup(self, run: RunContext) -> None:
        """Open lasting resources: weights, devices. Raises UsageError for what the user can fix; nothing is written yet."""

    def stream(self, items: Iterator[Any]) -> Iterator[Any]:
        """Turn the input stream into the output stream; pass each `End` on after all items of its unit."""
        raise TypeError(f"stage {self.registered!r} has no method {self.works_in!r}")

    def finish(self) -> None:
        """Called after a stream that ended successfully."""

    def close(self) -> None:
        """Always called, last."""

    def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
        """What its result for a unit depends on, JSON-serialisable: name, revision, and the options that can affect this unit.

        Args:
            unit: The unit; None for what its results for units of any kind depend on, together.

        Returns:
            It leaves out options that are marked `NoEffect`, or `AddedLater` with the value that changes nothing, or for the
            other kind of media. Empty if the stage passes the unit on as it is.
        """
        kind = unit.media.kind if unit else None
        other = {"film": PICTURES_ONLY, "picture": FILMS_ONLY}.get(kind or "")
        if self.changes_only and other and self.changes_only != kind:
            return {}
        without_effect, added_later = _marked(type(self), other)
        unused = {name for name, without in added_later if getattr(self, name) == without}
        options = self.model_dump(mode="json", exclude={*without_effect, *unused})
        return {"stage": self.registered, "revision": self.revision_for(unit), **options}

    def revision_for(self, unit: Unit | None) -> int:
        """The revision that its result for a unit depends on.

        Override it if a new revision changes the results of some units only, such as JPEG pictures, and give the earlier number
        for the others: then only those it concerns are announced as written differently. None asks for the latest.
        """
        return self.revision

    def shipped(self) -> Mapping[str, str]:
        """The keys of `recipe` for files that come with a package, such as the weights of a network, and the files' names.

        If such a value differs and its name does not, the package has changed, not the user's graph.
        """
        return {}

    def provenance(self, unit: Unit | None = None) -> dict[str, Any]:
        """Its entry in the metadata of a unit's output: its recipe, with keys of `core.provenance` if it changes the image."""
        return ask(self.recipe, unit)

    @classmethod
    def ports(cls) -> Ports:
        """The types of its items, from the type hints of its method. Raises TypeError if these are missing."""
        hints = get_type_hints(getattr(cls, cls.works_in))
        gives, takes = hints.pop("return", None), next(iter(hints.values()), None)
        if takes is None or gives is None:
            raise TypeError(f"{cls.__name__}.{cls.works_in} needs type hints for what it takes and gives: they are the ports")
        return Ports(item_of(takes), item_of(gives))


class Source(Stage):
    """Finds units and reads them. The only shape that comes first in a graph. The engine splits videos into segments."""

    works_in = "read"

    workers: NoEffect[Count] = 1
    """Number of pictures read in parallel; a film is read by one worker."""

    def remember(self, scans: ScanCache) -> None:
        """Called before `units`, with a cache for the results of slow scans of inputs."""

    @abstractmethod
    def units(self) -> Iterator[Unit | Broken | Skipped]:
        """All units to read, in a stable order, from the files' headers alone. Raises UsageError."""

    def remarks(self) -> Iterator[str]:
        """Called after `units`: sentences on what these look like, for the user, which `check` shows."""
        yield from ()

    @abstractmethod
    def read(self, unit: Unit, context: int) -> Iterator[Any]:
        """The items of one unit, and up to `context` items before and after it, marked as context. Raises MediaError."""

    def receive(self, unit: Unit) -> None:
        """Called before a file is read in a process where another one called `units`, for what that would have kept of it."""

    def sample(self, unit: Unit, indices: Sequence[int]) -> Iterator[Any]:
        """The items of a unit at some indices, ascending, for first passes; those that can't be read are left out."""
        for index in indices:
            yield from (replace(item, unit=unit) for item in self.read(replace(unit, start=index, stop=index + 1), 0))

    @classmethod
    def ports(cls) -> Ports:
        """It takes no items from the graph."""
        return Ports(None, item_of(get_type_hints(cls.read)["return"]))


class Map(Stage):
    """Maps each item to one item."""

    works_in = "apply"

    workers: NoEffect[Count] = 1
    """Number of items processed in parallel."""

    @abstractmethod
    def apply(self, item: Any, /) -> Any:
        """Map one item. An exception fails the item's unit."""


class BatchMap(Stage):
    """Maps each item to one item, in batches."""

    works_in = "apply"

    batch: NoEffect[Count] = 1
    """Number of items processed together."""
    workers: NoEffect[Count] = 1
    """Number of batches processed in parallel."""

    @abstractmethod
    def apply(self, items: Any, /) -> Any:
        """Map a list of items to a list of the same length and order.

        If it raises, items are tried one by one: an error fails a unit. MemoryError halves the batch; RunAborted ends the run.
        """

    def key(self, item: Any, /) -> Any:
        """Batching key: items with different keys never share a batch."""
        return None


class UnitMap(Stage):
    """Maps the stream of one unit's items to a stream of items."""

    works_in = "apply"

    @property
    def context(self) -> int:
        """Number of context frames it needs before and after its unit; they are marked `Frame.context`."""
        return 0

    @abstractmethod
    def apply(self, items: Any, /) -> Any:
        """Turn the iterator of one unit's items into an iterator of items. An exception fails the unit."""


class Gather(Stage):
    """Reduces all items of all units to one result.

    If gathering is slow, cache the result under a key derived from (units, recipe); `ready` looks the key up.
    """

    works_in = "gather"

    def ready(self, units: Mapping[Unit, Fingerprint | None], recipe: Sequence[Mapping[str, Any]]) -> Any:
        """The cached result of `gather`; None, as here, if there is none.

        Called once per run, after `setup` and before anything is read; raises UsageError. If it returns a result, `gather` is
        not called, and stages that only feed this one are not started.

        Args:
            units: All units to read, in order, each with its file's fingerprint from before reading; None if the file was gone.
            recipe: `Stage.recipe` of each stage from the source to this one: with the units, all that the result depends on.
        """
        return None

    @abstractmethod
    def gather(self, items: Any, /) -> Any:
        """Reduce an iterator of all items to one result; the items may include items of units that fail later."""


class Sink(Stage):
    """Writes units. It can only come last; the engine keeps its ledger and renames finished files to their final names.

    With a method `assemble` it writes videos in segments: `commit` then returns a fragment of a video, at the path given by
    `fragment`, and `assemble` joins the fragments once all are done. Without it a video is one unit.
    """

    works_in = "write"

    workers: NoEffect[Count] = 1
    """Number of pictures written in parallel, and of a film's frames that are prepared in parallel (`prepare`)."""
    overwrite: NoEffect[bool] = False
    """Also overwrite files that bwpipe did not write."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The output folder: absolute, links resolved."""

    @abstractmethod
    def target(self, unit: Unit) -> Path:
        """The output file of a unit, somewhere in `folder`. Must not require reading the unit. Raises MediaError."""

    def open(self, unit: Unit) -> None:
        """Called before the first item of a unit. Raises MediaError."""

    def prepare(self, item: Any, /) -> Any:
        """Optional: the part of the work on an item that needs no other item, such as computing samples from planes.

        For the frames of a film it is done in `workers` threads, ahead of `write`, which gets the result. Raises MediaError.
        """
        return item

    @abstractmethod
    def write(self, item: Any, /) -> None:
        """Write one item, as `prepare` returned it, of the unit `item.unit`. Raises MediaError."""

    @abstractmethod
    def commit(self, unit: Unit) -> AtomicFile:
        """Called after the last item: close the file and return it under its temporary name. Raises MediaError."""

    def summary(self, unit: Unit, notes: Sequence[str]) -> Summary:
        """Optional: what to report about a finished file.

        Args:
            unit: The file, or the whole video.
            notes: `AtomicFile.notes` as set by `commit`, of each segment in order; empty where it set none.
        """
        return Summary()

    def abandon(self, unit: Unit) -> None:
        """The unit failed or the run is ending: remove any partial output."""

    def assemble(self, unit: Unit, fragments: Sequence[Path]) -> AtomicFile:
        """Optional: join the committed fragments of a video, in order, and return the file. Raises MediaError."""
        raise TypeError(f"stage {self.registered!r} has no method 'assemble'")

    @property
    def assembles(self) -> bool:
        """Whether it writes videos in segments."""
        return type(self).assemble is not Sink.assemble

    def keeps_fragments(self, unit: Unit) -> bool:
        """Whether the fragments of a video stay when it is finished, since they say which files it consists of."""
        return False

    def is_intact(self, unit: Unit, path: Path) -> bool:
        """Whether what a unit's recorded file stands for is there, too, such as frames that are files."""
        return True

    def outlines(self, unit: Unit, fragments: Sequence[Path]) -> Iterator[bytes]:
        """Optional: what to keep in place of the fragments of a finished video, in order, for `assemble` to take later.

        So that a segment can be done again without the others. Raises MediaError if the fragments are to be removed.
        """
        raise MediaError("it keeps none")

    def outlined(self, unit: Unit, fragments: Sequence[Path]) -> bool:
        """Whether all that `outlines` gives for a finished video has taken the fragments' place."""
        return False

    def in_the_way(self, unit: Unit) -> Path | None:
        """A file, besides `target`, in the place of one that it would write for a unit, and not written by bwpipe."""
        return None

    def fragment(self, unit: Unit) -> Path:
        """The path of a segment's fragment until its video is joined."""
        return fragment_path(self.folder, self.target(unit), unit.part)


def ask(method: Callable[..., dict[str, Any]], unit: Unit | None) -> dict[str, Any]:
    """The result of a stage's `recipe` or `provenance` for a unit; plug-ins for bwpipe 0.1 override them without `unit`."""
    return method(unit) if _takes_unit(getattr(method, "__func__", method)) else method()


@cache
def _marked(cls: type[Stage], other: str | None) -> tuple[frozenset[str], tuple[tuple[str, Any], ...]]:
    """The options without effect on units, those for the `other` kind included; and those `AddedLater`, with `without`."""
    marks = [(name, mark) for name, field in cls.model_fields.items() for mark in field.metadata]
    excluded = frozenset(name for name, mark in marks if isinstance(mark, str) and mark in (_NO_EFFECT, other))
    return excluded, tuple((name, mark.without) for name, mark in marks if isinstance(mark, AddedLater))


@cache
def _takes_unit(function: Callable[..., Any]) -> bool:
    return len(signature(function).parameters) > 1


stages: Registry[Stage] = Registry("stage", "bwpipe.stages")


def stage(name: str) -> Callable[[type[S]], type[S]]:
    """Decorate a stage class to register it under the name that graph files `use`. Raises ValueError, TypeError."""

    def add(cls: type[S]) -> type[S]:
        if missing := sorted(cls.__abstractmethods__):
            raise TypeError(f"stage {name!r} has no method {missing[0]!r}")
        if words := {"use", "id", "from"} & cls.model_fields.keys():
            raise TypeError(f"stage {name!r} has an option {min(words)!r}, which is a reserved word of graph files")
        cls.ports()  # reports missing type hints here, not when a graph uses the stage
        cls.registered = name
        return stages.register(name)(cls)

    return add
