"""The state of a training on disk, from which it resumes exactly."""

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import torch

from bwpipe.core.atomic_file import WORK_FOLDER, remove_leftovers, write_atomically
from bwpipe.core.folder_lock import FolderLock
from bwpipe.errors import UsageError

MAX_STATES = 2
"""Number of states kept on disk: the last one, and one more in case it is damaged."""
_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError)


class Part(Protocol):
    """A component of a state that can be saved and restored: a network, an optimiser, ..."""

    def state_dict(self) -> dict[str, Any]:
        """All of its state."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Restore its state."""


@dataclass
class Counters:
    """The counters of a training.

    Attributes:
        step: Number of steps done.
        loss: Sum of the losses of the steps since the last validation.
        history: The figures of each validation.
    """

    step: int = 0
    loss: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Create a folder and lock it against other trainings. Raises UsageError if it is locked or cannot be created."""
    work = folder / WORK_FOLDER
    lock = FolderLock(work / "lock")
    try:
        work.mkdir(parents=True, exist_ok=True)
        if not lock.try_acquire():
            raise UsageError(
                f"{folder}: another training is using this folder; wait for it to end, or choose another folder{lock.hint}"
            )
    except OSError as error:
        raise UsageError(
            f"{folder}: the training's state cannot be saved here ({error.strerror}); choose another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


class States:
    """The states of a training in its folder, `state-00001200.pt` after 1200 steps."""

    def __init__(self, folder: Path, recipe: dict[str, Any], parts: dict[str, Part]) -> None:
        """Open them.

        Args:
            folder: The folder of the training.
            recipe: What the training depends on; it resumes only from states with an equal recipe.
            parts: The components of a state, by name.
        """
        self._folder = folder
        self._recipe: dict[str, Any] = json.loads(json.dumps(recipe))
        self._parts = parts

    def save(self, counters: Counters) -> None:
        """Write a state atomically and remove the oldest ones. Raises OSError, with the earlier states intact."""
        state = {"recipe": json.dumps(self._recipe), "tally": vars(counters)}
        state |= {name: part.state_dict() for name, part in self._parts.items()}
        buffer = BytesIO()  # torch's own writer hides the reason for a write error
        torch.save(state, buffer)
        remove_leftovers(self._folder)
        write_atomically(self._path(counters.step), buffer.getbuffer())
        for path in states_in(self._folder)[MAX_STATES:]:
            path.unlink()

    def remove(self, step: int) -> None:
        """Remove the state after `step` steps, if any: its weights turned out not to be finite."""
        self._path(step).unlink(missing_ok=True)

    def check(self) -> None:
        """Raise UsageError if the saved states belong to another training; fast, since only a recipe is read."""
        for path in states_in(self._folder):
            with suppress(*_UNREADABLE):  # reported by `resume`
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                self._check(path, json.loads(state["recipe"]))
                return

    def resume(self, warn: Callable[[str], None]) -> Counters:
        """Restore the last state, or the one before if that is damaged; without any, start from the beginning.

        Raises:
            UsageError: All are damaged, or they belong to another training.
        """
        paths = states_in(self._folder)
        for path in paths:
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
                recipe: dict[str, Any] = json.loads(state.pop("recipe"))
                counters = Counters(**state.pop("tally"))
                self._check(path, recipe)
                for name, part in self._parts.items():
                    part.load_state_dict(state[name])
            except _UNREADABLE:
                warn(f"{path}: damaged; the training resumes from an earlier state")
            else:
                return counters
        if paths:
            raise UsageError(f"{paths[0]}: cannot resume from this state; `bwpipe train --restart` starts over")
        return Counters()

    def _path(self, step: int) -> Path:
        return self._folder / f"state-{step:08}.pt"

    def _check(self, path: Path, recipe: dict[str, Any]) -> None:
        if differing := sorted(key for key in recipe | self._recipe if recipe.get(key) != self._recipe.get(key)):
            raise UsageError(
                f"{path} is from a training that differs in {', '.join(differing)}; "
                "`bwpipe train --restart` starts over, or set another folder in `fit.runs`"
            )


def remove_states(folder: Path) -> None:
    """Remove all states in a folder."""
    for path in states_in(folder):
        path.unlink()


def states_in(folder: Path) -> list[Path]:
    """The states in a folder, newest first."""
    return sorted(folder.glob("state-*.pt"), reverse=True)
