"""A training as it stands, kept on disk so that it goes on exactly where it was."""

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout

from bwpipe.core.atomic_file import WORK_FOLDER, remove_leftovers, write_atomically
from bwpipe.errors import UsageError

KEPT = 2
"""How many states stay on disk: the last, and one more in case that it is damaged."""
_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError)


class Part(Protocol):
    """What a state is made of: a network, an optimiser, ..."""

    def state_dict(self) -> dict[str, Any]:
        """All that it holds."""

    def load_state_dict(self, held: dict[str, Any], /) -> Any:
        """Take it back."""


@dataclass
class Counters:
    """What a training counts.

    Attributes:
        step: How many steps are over.
        loss: The sum of the losses of the steps since the last validation.
        history: The figures of each validation.
    """

    step: int = 0
    loss: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Make a folder and keep other trainings out of it. Raises UsageError where there is one already, or it can't be made."""
    work = folder / WORK_FOLDER
    lock = FileLock(work / "lock")
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"{folder}: another training keeps its state here; wait for its end, or choose another folder"
        ) from None
    except OSError as error:
        raise UsageError(f"{folder}: a training can't keep its state here ({error.strerror}); choose another folder") from error
    try:
        yield
    finally:
        lock.release()


class States:
    """The states of a training in its folder, `state-00001200.pt` after 1200 steps."""

    def __init__(self, folder: Path, recipe: dict[str, Any], parts: dict[str, Part]) -> None:
        """Find them.

        Args:
            folder: Where they are kept.
            recipe: What the training depends on; it goes on only where this is equal.
            parts: What a state is made of, by name.
        """
        self._folder = folder
        self._recipe: dict[str, Any] = json.loads(json.dumps(recipe))
        self._parts = parts

    def keep(self, tally: Counters) -> None:
        """Write a state, and let go of those that are too many. Raises OSError, with the earlier ones unharmed."""
        held = {"recipe": json.dumps(self._recipe), "tally": vars(tally)}
        held |= {name: part.state_dict() for name, part in self._parts.items()}
        packed = BytesIO()  # torch's own writer hides why a disk refuses
        torch.save(held, packed)
        remove_leftovers(self._folder)
        write_atomically(self._path(tally.step), packed.getbuffer())
        for path in states_in(self._folder)[KEPT:]:
            path.unlink()

    def drop(self, step: int) -> None:
        """Let go of the state after so many steps, if it is there: it turned out to be of no use."""
        self._path(step).unlink(missing_ok=True)

    def check(self) -> None:
        """Raise UsageError where what is kept is of another training; quickly, since only its recipe is read."""
        for path in states_in(self._folder):
            with suppress(*_UNREADABLE):  # told of when it is resumed
                held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                self._check(path, json.loads(held["recipe"]))
                return

    def resume(self, warn: Callable[[str], None]) -> Counters:
        """Go on from the last state, or from the one before where that is damaged; without any, from the beginning.

        Raises:
            UsageError: All are damaged, or they are of another training.
        """
        paths = states_in(self._folder)
        for path in paths:
            try:
                held = torch.load(path, map_location="cpu", weights_only=True)
                recipe: dict[str, Any] = json.loads(held.pop("recipe"))
                tally = Counters(**held.pop("tally"))
                self._check(path, recipe)
                for name, part in self._parts.items():
                    part.load_state_dict(held[name])
            except _UNREADABLE:
                warn(f"{path}: damaged, so the training goes on from an earlier state")
            else:
                return tally
        if paths:
            raise UsageError(f"{paths[0]}: can't go on from this; `bwpipe train --restart` starts over")
        return Counters()

    def _path(self, step: int) -> Path:
        return self._folder / f"state-{step:08}.pt"

    def _check(self, path: Path, recipe: dict[str, Any]) -> None:
        if others := sorted(key for key in recipe | self._recipe if recipe.get(key) != self._recipe.get(key)):
            raise UsageError(
                f"{path} is of a training that differs in {', '.join(others)}; "
                "`bwpipe train --restart` starts over, or give `fit` another `runs` folder"
            )


def forget(folder: Path) -> None:
    """Remove all states of a folder."""
    for path in states_in(folder):
        path.unlink()


def states_in(folder: Path) -> list[Path]:
    """The states in a folder, the last one first."""
    return sorted(folder.glob("state-*.pt"), reverse=True)
