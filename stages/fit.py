"""The `fit` stage."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from pydantic import PrivateAttr

from bwpipe import NoEffect, RunAborted, RunContext, Stage, UsageError, stage
from bwpipe.core.atomic_file import unwritable_reason
from bwpipe.core.fingerprint import digest
from bwpipe.data.dataset import Dataset
from bwpipe.errors import format_error
from bwpipe.losses.combined import check
from bwpipe.nn.checkpoint import Checkpoint, load, locate
from bwpipe.nn.device import EMULATED, available, describe, find_device, slowness
from bwpipe.nn.network import Network
from bwpipe.training.builders import build, build_untrained, network_class
from bwpipe.training.job import BEST, ChecksTraining, FittedNetwork, UpcomingTraining
from bwpipe.training.options import TrainingOptions
from bwpipe.training.training_state import States, lock_folder, states_in
from bwpipe.training.validation import GOALS, best

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

    _run: RunContext = PrivateAttr()
    _device: torch.device = PrivateAttr()
    _start: str | None = PrivateAttr(None)

    def setup(self, run: RunContext) -> None:
        """Check what can be known before a picture is read. Raises UsageError."""
        self._run = run
        for package in ("lightning_fabric", "tensorboard"):
            if not find_spec(package):
                raise UsageError(f"fit: {package} is missing; pip install 'bwpipe[train]'")
        network = network_class(self)
        check(self.losses, network)
        if self.start:
            if locate(self.start).resolve() == (self._folder / BEST).resolve():
                raise UsageError(f"fit.start: {self.start} is what this training writes over; copy it first, and give the copy")
            build(self)  # refused now, not when all pictures were read
            self._start = digest(locate(self.start))
        names = [name for name in GOALS if name != "own_rgb_mse" or network.produces == "rgb"]
        if self.goal not in names:
            raise UsageError(_NO_FIGURE.format(goal=self.goal, model=self.model, names=", ".join(names)))
        if self.patience and self.goal == "epoch":
            raise UsageError("fit.patience: with `goal: epoch` every epoch is the best so far; leave one of the two out")
        if self.batch % (self.accumulate * self.devices):
            raise UsageError(
                f"fit.batch: {self.batch} pictures can't be shared by {self.devices} devices in {self.accumulate} parts each; "
                f"take a multiple of {self.accumulate * self.devices}"
            )
        self._device = find_device(self.device)
        there = sum(name.startswith(self._device.type) for name in available())
        if self._device.type != "cpu" and self.devices > there:
            raise UsageError(f"fit.devices: this machine has {there} of {self._device.type}, not {self.devices}")
        run.claim(str(self._folder), "give each `fit` a `runs` folder of its own")
        run.claim(str((self._folder / BEST).resolve()), "give each `fit` a `runs` folder of its own")
        if reason := unwritable_reason(self._folder):
            raise UsageError(f"fit.runs: {reason}; choose another folder")

    def stream(self, items: Iterator[Dataset]) -> Iterator[FittedNetwork]:
        """Fit the network to the dataset."""
        return map(self._fit, items)

    @property
    def _folder(self) -> Path:
        return (self.runs or Path("runs", self._run.name)).expanduser()

    def _fit(self, data: Dataset) -> FittedNetwork:
        from bwpipe.training.job import Task
        from bwpipe.training.launcher import train

        options = TrainingOptions.model_validate(self.model_dump(include=set(TrainingOptions.model_fields)))
        recipe = self._what_it_depends_on(data)
        run = self._run
        task = Task(options, recipe, data, self._folder, run.name, run.text, run.quiet, run.restart)
        with _taking_turns(self._run), lock_folder(self._folder):
            if not run.restart:  # other options are the first thing to be told, also where `save` would complain of them
                States(self._folder, recipe, {}).check()
            network = build_untrained(self).eval()
            self._announce(network, recipe, data)
            if run.restart or not states_in(self._folder):  # later, another precision would be refused
                self._warn_of_emulation(network)
            try:
                history = train(task, self._device, self._run)
            except OSError as error:
                reason = error.strerror or format_error(error)
                raise RunAborted(f"{self._folder}: {reason}; mend that and start again, the training goes on") from error
            net = self._load(self._folder / BEST, recipe, history)
        return FittedNetwork(net.to(self._device), data, self._story(data, recipe, history))

    def _announce(self, network: Network, recipe: dict[str, Any], data: Dataset) -> None:
        """Let the stages to come refuse now what they would refuse when all is fitted. Raises UsageError."""
        coming = UpcomingTraining(network, _hash(recipe), data)
        for each in self._run.downstream(self):
            if isinstance(each, ChecksTraining):
                each.expect(coming)

    def _warn_of_emulation(self, network: Network) -> None:
        """Say so where the device is a CPU without instructions for the precision, and makes its numbers of others."""
        if self._device.type != "cpu" or self.precision == "float32":
            return
        times = slowness(network, getattr(torch, self.precision), mixed=True)
        if times > EMULATED:
            self._run.warn(
                f"fit.precision: {self.precision} takes this CPU about {times:.0f} times as long as float32; "
                "set `precision: float32`, whose weights are as good"
            )

    def _load(self, path: Path, recipe: dict[str, Any], history: list[dict[str, float]]) -> Network:
        """The best weights, if the file is of this training, and of the validation that chose it. Raises UsageError."""
        if not path.exists():
            raise UsageError(f"{path}: the best weights are gone; `bwpipe train --restart` starts over")
        net, found = load(path)
        told = {"recipe": recipe, "history": history[: best(history, self.goal)]}
        wanted = found.model_copy(update={"training": told})
        if found != Checkpoint.model_validate_json(wanted.model_dump_json()):
            raise UsageError(
                f"{path} does not hold the best weights of this training; put the file back that it wrote, "
                "or start over with `bwpipe train --restart`"
            )
        return net

    def _what_it_depends_on(self, data: Dataset) -> dict[str, Any]:
        """The options, as they are meant, and the pictures."""
        network = network_class(self)
        return {
            **self.recipe(),
            "model_options": network.Options.model_validate(self.model_options).model_dump(mode="json"),
            "losses": {name: options.model_dump(mode="json") for name, options in check(self.losses, network).items()},
            "start": self._start,
            "pictures": [data.digest, blake2b(data.weights.tobytes(), digest_size=8).hexdigest()],
        }

    def _story(self, data: Dataset, recipe: dict[str, Any], history: list[dict[str, float]]) -> dict[str, Any]:
        """How the network was made."""
        seen = {"model", "model_options", "device", "devices", "threads", "keep", "runs", "patience"}
        options = self.model_dump(mode="json", exclude=seen, exclude_defaults=True)
        always = self.model_dump(mode="json", include={"losses", "optimiser", "rate", "batch", "epochs", "seed", "precision"})
        chosen = best(history, self.goal)
        return {
            "recipe": _hash(recipe),
            "pictures": len(data.grey),
            "trained_on": len(data.training),
            "size": data.size,
            "options": always | options,
            "best_epoch": chosen,
            "steps": history[chosen - 1]["step"],
            "hardware": describe(self._device, self.threads) + (f" x {self.devices}" if self.devices > 1 else ""),
            "history": history,
        }


def _hash(recipe: dict[str, Any]) -> str:
    return blake2b(json.dumps(recipe, sort_keys=True).encode(), digest_size=16).hexdigest()


_turn = Lock()


@contextmanager
def _taking_turns(run: RunContext) -> Iterator[None]:
    """One training after another in this process: torch's random state and its number of threads are for all of it."""
    while not _turn.acquire(timeout=0.5):
        run.raise_if_stopped()
    try:
        yield
    finally:
        _turn.release()
