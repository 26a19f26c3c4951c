"""Stages that look at a whole file before its first unit: the shape, and what it asks for."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from bwpipe.core.frame import Media, Unit
from bwpipe.core.stage import UnitMap

INSTANCE = "instance"
"""The note on a frame that an instance of a stage with overridden options has processed: the key of that instance."""
HINTED = "hinted"
"""The note on a frame that is to be coloured with hints, in a first pass: these, (3, h, w), of the upright frame."""
HOLDS_HINTS = "hints held through their shot"
"""What a stage provides that takes the colours of hinted frames to the others of their shot."""


@dataclass(frozen=True, slots=True, eq=False)
class FirstPass:
    """What a stage wants to see before the first unit of a file.

    Attributes:
        indices: Indices of the file's frames, ascending.
        further: Items that the file does not hold, such as reference pictures, for the stages above: of any unit, after the
            file's frames.
        name: What distinguishes it from other first passes of the stage over the file.
        instance: The instance of stages with overridden options that processes the items; empty for the stages themselves.
        again: Gives notes by index: the frames with these indices are passed on a second time, with them. Asked for only if the
            pass is not recorded.
        recipe: What it depends on besides the recipes of the stages, JSON-serialisable.
    """

    indices: Sequence[int]
    further: Sequence[Any] = ()
    name: str = ""
    instance: str = ""
    again: Callable[[], Mapping[int, Mapping[str, Any]]] = dict
    recipe: Mapping[str, Any] = field(default_factory=dict)


class TwoPassMap(UnitMap):
    """A `UnitMap` that first looks at some frames of the whole file, wherever its units begin and end.

    Before the first unit of a file is read, the engine takes the frames that `first_passes` names through the stages above,
    except for those that look at neighbours. What `collect` makes of them is recorded in the ledger, by the recipe of the
    stages down to this one, and kept in the output folder, so that it is made once, however often a run is resumed. It must be
    a function of the items and the options alone.
    """

    @abstractmethod
    def first_passes(self, unit: Unit, instances: Mapping[str, Sequence[range]]) -> Sequence[FirstPass]:
        """What to see of a whole file; none if nothing. Raises MediaError.

        Args:
            unit: The whole file.
            instances: The instances of stages above that this run needs for the file, by their keys, with the frames that each
                processes; the empty key stands for the stages themselves.
        """

    def corrected(self, unit: Unit) -> Collection[int]:
        """The frames of a file, by index, for each of which a person has given something to this stage. Raises UsageError."""
        return ()

    @abstractmethod
    def collect(self, unit: Unit, wanted: FirstPass, items: Iterator[Any]) -> bytes:
        """What to keep of the items of a first pass; those that could not be read are missing. Raises MediaError."""

    def is_whole(self, name: str, kept: bytes) -> bool:
        """Whether what an earlier run kept of the pass of this name is undamaged; if not, it is made again."""
        return True

    @abstractmethod
    def use(self, unit: Unit, kept: Mapping[str, bytes], units: int) -> None:
        """Called with what `collect` returned, in this run or an earlier one, before the first item of the file arrives.

        Other files' items may arrive before and after that.

        Args:
            unit: The whole file.
            kept: What `collect` returned, by the names of the first passes.
            units: How many units of the file this run takes through the stage; after that many it may forget the file.
        """


@runtime_checkable
class Hinting(Protocol):
    """A stage that colours frames of films with what a person says about them."""

    def hinted(self, unit: Unit) -> Mapping[int, str]:
        """The frames of a film for which there are hints, by index, ascending, with hashes of these. Raises UsageError."""
        ...

    def hints_of(self, media: Media, index: int, size: tuple[int, int]) -> Any:
        """The hints for a frame of a film, (3, h, w) of this size: Cb and Cr in -0.5..0.5, and how far they are known, 0..1.

        The frame is turned upright. Raises MediaError.
        """
        ...
