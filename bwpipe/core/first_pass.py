"""Stages that look at a whole file before its first unit: the shape, and what it asks for."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bwpipe.core.frame import Unit
from bwpipe.core.stage import UnitMap


@dataclass(frozen=True, slots=True, eq=False)
class FirstPass:
    """What a stage wants to see before the first unit of a file.

    Attributes:
        indices: Indices of the file's frames, ascending.
        further: Items that the file does not hold, such as reference pictures, for the stages above: of any unit, after the
            file's frames.
    """

    indices: Sequence[int]
    further: Sequence[Any] = ()


class TwoPassMap(UnitMap):
    """A `UnitMap` that first looks at some frames of the whole file, wherever its units begin and end.

    Before the first unit of a file is read, the engine takes the frames that `first_pass` names through the stages above,
    except for those that look at neighbours. What `collect` makes of them is recorded in the ledger, by the recipe of the
    stages down to this one, and kept in the output folder until the file is finished, so that it is made once, however often
    a run is resumed. It must be a function of the items and the options alone.
    """

    @abstractmethod
    def first_pass(self, unit: Unit) -> FirstPass | None:
        """What to see of a whole file; None to see nothing: then neither `collect` nor `use` is called. Raises MediaError."""

    @abstractmethod
    def collect(self, unit: Unit, items: Iterator[Any]) -> bytes:
        """What to keep of the items; those that could not be read are missing. Raises MediaError."""

    @abstractmethod
    def use(self, unit: Unit, kept: bytes, units: int) -> None:
        """Called with what `collect` returned, in this run or an earlier one, before the first item of the file arrives.

        Other files' items may arrive before and after that.

        Args:
            unit: The whole file.
            kept: What `collect` returned.
            units: How many units of the file this run takes through the stage; after that many it may forget the file.
        """
