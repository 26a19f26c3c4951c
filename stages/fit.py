"""The `fit` stage."""

from collections.abc import Iterator
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pydantic import PrivateAttr

from bwpipe import NoEffect, Run, RunAborted, Stage, UsageError, stage
from bwpipe.dataset import Dataset
from bwpipe.device import available, describe, find_device
from bwpipe.ledger import digest
from bwpipe.losses.combined import check
from bwpipe.network import load, locate
from bwpipe.training import Fitted
from bwpipe.training.goals import GOALS, best
from bwpipe.training.options import TrainingOptions
from bwpipe.training.prepare import first_weights, network_class
from bwpipe.training.state import forget, hold

_NO_FIGURE = "fit.goal: {goal!r} is no figure of a validation of {model}; choose one of {names}"


@stage("fit")
class Fit(TrainingOptions, Stage):
    """Fits a network to a dataset and gives it with the weights that were best in validation.

    A training that was stopped, at any moment, goes on where it was; on a CPU it ends with the same weights, byte for byte,
    as long as the number of threads is the same. While it goes on, its folder holds a page to look at, `progress.html`, the
    event files of TensorBoard, and the best checkpoint so far.
    """

    revision = 2

    runs: NoEffect[Path | None] = None
    """The folder that keeps the state and the live view of the training; `runs/` and the graph's name by default."""

    _run: Run = PrivateAttr()
    _device: torch.device = PrivateAttr()
    _start: str | None = PrivateAttr(None)

    def setup(self, run: Run) -> None:
        """Check what can be known before a picture is read. Raises UsageError."""
        for package in ("lightning_fabric", "tensorboard"):
            if not find_spec(package):
                raise UsageError(f"fit: {package} is missing; pip install 'bwpipe[train]'")
        network = network_class(self)
        check(self.losses, network)
        if self.start:
            first_weights(self)  # refused now, not when all pictures were read
            self._start = digest(locate(self.start))
        names = [name for name in GOALS if name != "rgb_mse" or network.produces == "rgb"]
        if self.goal not in names:
            raise UsageError(_NO_FIGURE.format(goal=self.goal, model=self.model, names=", ".join(names)))
        if self.batch % (self.accumulate * self.devices):
            raise UsageError(
                f"fit.batch: {self.batch} pictures can't be shared by {self.devices} devices in {self.accumulate} parts each; "
                f"take a multiple of {self.accumulate * self.devices}"
            )
        self._device = find_device(self.device)
        there = sum(name.startswith(self._device.type) for name in available())
        if self._device.type != "cpu" and self.devices > there:
            raise UsageError(f"fit.devices: this machine has {there} of {self._device.type}, not {self.devices}")
        self._run = run

    def stream(self, items: Iterator[Dataset]) -> Iterator[Fitted]:
        """Fit the network to the dataset."""
        return map(self._fit, items)

    def _fit(self, data: Dataset) -> Fitted:
        from bwpipe.training.processes import train
        from bwpipe.training.trainer import BEST, Task

        folder = (self.runs or Path("runs", self._run.name)).expanduser()
        options = TrainingOptions.model_validate(self.model_dump(include=set(TrainingOptions.model_fields)))
        weights = blake2b(data.weights.tobytes(), digest_size=8).hexdigest()
        recipe = {**self.recipe(), "data": data.digest, "weights": weights, "start": self._start}
        task = Task(options, recipe, data, folder, self._run.name, self._run.text, self._run.quiet)
        with hold(folder):
            if self._run.restart:
                forget(folder)
            try:
                history = train(task, self._device, self._run)
            except OSError as error:
                raise RunAborted(f"{folder}: {error.strerror or error}; make room and start again, it goes on") from error
            net, _ = load(folder / BEST)
        net.requires_grad_(True)
        return Fitted(net, data, self._story(data, history, best(history, self.goal)))

    def _story(self, data: Dataset, history: list[dict[str, float]], best: int) -> dict[str, Any]:
        """How the network was made."""
        seen = {"model", "model_options", "device", "devices", "threads", "keep", "runs", "patience"}
        options = self.model_dump(mode="json", exclude=seen, exclude_defaults=True)
        always = self.model_dump(mode="json", include={"losses", "optimiser", "rate", "batch", "epochs", "seed", "precision"})
        return {
            "pictures": len(data.grey),
            "trained_on": len(data.training),
            "size": data.size,
            "options": always | options,
            "best_epoch": best,
            "steps": history[best - 1]["step"],
            "hardware": describe(self._device) + (f" x {self.devices}" if self.devices > 1 else ""),
            "history": history,
        }
