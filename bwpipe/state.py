"""A training as it stands, kept on disk so that it can go on after it was stopped."""

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from torch.optim import Optimizer

from bwpipe.draft import WORK_FOLDER, Draft, clear
from bwpipe.errors import UsageError
from bwpipe.network import Network


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder. Raises UsageError where there is one already."""
    work = folder / WORK_FOLDER
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0):
            yield
    except Timeout:
        raise UsageError(
            f"{folder}: another training keeps its state here; wait for its end, or choose another folder"
        ) from None


class State:
    """All that the epochs to come depend on, kept after each epoch.

    Attributes:
        network: With its present weights.
        optimiser: Of these weights.
        history: The figures of each epoch that is over.
        best: The weights of the best one.
    """

    def __init__(self, network: Network, optimiser: Optimizer, path: Path, recipe: dict[str, Any], goal: str) -> None:
        """Begin, or go on from what the file holds.

        Args:
            network: As it is before the first epoch.
            optimiser: Of its weights.
            path: Where it is kept.
            recipe: What the training depends on; it goes on only where this is equal.
            goal: The figure that is lowest in the best epoch.

        Raises:
            UsageError: The file can't be read or is of another training.
        """
        self.network = network
        self.optimiser = optimiser
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self._path = path
        self._recipe: dict[str, Any] = json.loads(json.dumps(recipe))
        self._goal = goal
        if path.exists():
            self._resume()

    @property
    def best_epoch(self) -> int:
        """Which epoch was best, counted from 1."""
        return 1 + min(range(len(self.history)), key=lambda i: self.history[i][self._goal])

    def keep(self, figures: dict[str, float]) -> None:
        """Note the figures of an epoch and write it all to disk. Raises OSError, with what was kept before unharmed."""
        self.history.append(figures)
        if self.best_epoch == len(self.history):
            self.best = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        held = {
            "recipe": json.dumps(self._recipe),
            "history": self.history,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
        }
        packed = BytesIO()  # torch's own writer hides why a disk refuses
        torch.save(held, packed)
        clear(self._path.parent)
        draft = Draft(self._path, self._path.parent)
        try:
            draft.path.write_bytes(packed.getbuffer())
            draft.settle()
            draft.publish()
        except BaseException:
            draft.discard()
            raise

    def _resume(self) -> None:
        try:
            held = torch.load(self._path, map_location="cpu", weights_only=True)
            recipe: dict[str, Any] = json.loads(held["recipe"])
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise UsageError(f"{self._path}: can't go on from this; remove it to start over") from error
        if others := sorted(key for key in recipe | self._recipe if recipe.get(key) != self._recipe.get(key)):
            raise UsageError(
                f"{self._path} is of a training that differs in {', '.join(others)}; "
                "remove it to start over, or give `fit` another `runs` folder"
            )
        self.history, self.best = held["history"], held["best"]
        self.network.load_state_dict(held["network"])
        self.optimiser.load_state_dict(held["optimiser"])
