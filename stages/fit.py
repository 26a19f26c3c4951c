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
from bwpipe.core.extras import install_command
from bwpipe.core.fingerprint import digest
from bwpipe.core.inputs import expand_user
from bwpipe.data.dataset import Dataset
from bwpipe.errors import format_error
from bwpipe.losses.combined import check
from bwpipe.nn.checkpoint import Checkpoint, load, locate
from bwpipe.nn.device import EMULATED, available, describe, find_device, slowness
from bwpipe.nn.network import Network
from bwpipe.training.builders import build, build_untrained, check_hints, check_sizes, network_class, network_options
from bwpipe.training.job import BEST, ChecksTraining, FittedNetwork, UpcomingTraining
from bwpipe.training.options import TrainingOptions
from bwpipe.training.schedule import check_batch
from bwpipe.training.training_state import States, lock_folder, states_in
from bwpipe.training.validation import GOALS, best

_NO_FIGURE = "fit.goal: {goal!r} is not a validation figure of {model}; choose one of {names}"


@stage("fit")
class Fit(TrainingOptions, Stage):
    """Fits a network to a dataset and outputs it with the best weights by validation.

    A training that is interrupted at any moment resumes where it stopped; on a CPU it ends with the same weights, byte for
    byte, as long as the number of threads is the same. Its folder holds a live progress page, `progress.html`, TensorBoard
    event files and the best checkpoint so far.
    """

    revision = 2

    runs: NoEffect[Path | None] = None
    """Folder for the training's state and live view; `runs/` plus the graph's name by default."""

    _run: RunContext = PrivateAttr()
    _device: torch.device = PrivateAttr()
    _start: str | None = PrivateAttr(None)
    _pair_size: int | None = PrivateAttr(None)

    def setup(self, run: RunContext) -> None:
        """Check everything that can be checked before an image is read. Raises UsageError."""
        self._run = run
        for package in ("lightning_fabric", "tensorboard"):
            if not find_spec(package):
                raise UsageError(f"fit: {package} is not installed; run: {install_command('train')}")
        network = network_class(self)
        check(self.losses, network)
        if self.start:
            if locate(self.start).resolve() == (self._folder / BEST).resolve():
                raise UsageError(f"fit.start: {self.start} would be overwritten by this training; copy it and use the copy")
            build(self)  # refuse now, not after all images were read
            self._start = digest(locate(self.start))
        if self._pair_size is not None:
            check_sizes(net := build_untrained(self), self._pair_size, self)
            check_hints(net, self)
        names = [name for name in GOALS if name != "own_rgb_mse" or network.produces == "rgb"]
        if self.goal not in names:
            raise UsageError(_NO_FIGURE.format(goal=self.goal, model=self.model, names=", ".join(names)))
        if self.patience and self.goal == "epoch":
            raise UsageError("fit.patience: with `goal: epoch` every epoch is the best so far; omit one of the two")
        if self.batch % (self.accumulate * self.devices):
            raise UsageError(
                f"fit.batch: {self.batch} images cannot be split among {self.devices} devices in {self.accumulate} parts each; "
                f"use a multiple of {self.accumulate * self.devices}"
            )
        self._device = find_device(self.device)
        count = sum(name.startswith(self._device.type) for name in available())
        if self._device.type != "cpu" and self.devices > count:
            raise UsageError(
                f"fit.devices: this machine has {count} {self._device.type} devices, not {self.devices}; use fewer"
            )
        run.claim(str(self._folder), "give each `fit` a `runs` folder of its own")
        run.claim(str((self._folder / BEST).resolve()), "give each `fit` a `runs` folder of its own")
        if reason := unwritable_reason(self._folder):
            raise UsageError(f"fit.runs: {reason}; choose another folder")

    def expect_size(self, size: int) -> None:
        """Keep the size of the pairs for `setup`, which refuses what the network does not accept."""
        self._pair_size = size

    def expect_images(self, count: int) -> None:
        """Refuse, before an image is read, a batch of more images than there are. Raises UsageError."""
        check_batch(count, self)

    def stream(self, items: Iterator[Dataset]) -> Iterator[FittedNetwork]:
        """Fit the network to the dataset."""
        return map(self._fit, items)

    @property
    def _folder(self) -> Path:
        return expand_user(self.runs or Path("runs", self._run.name))

    def _fit(self, data: Dataset) -> FittedNetwork:
        from bwpipe.training.job import Task
        from bwpipe.training.launcher import train

        options = TrainingOptions.model_validate(self.model_dump(include=set(TrainingOptions.model_fields)))
        recipe = self._recipe(data)
        run = self._run
        task = Task(options, recipe, data, self._folder, run.name, run.text, run.quiet, run.restart)
        with _exclusive(self._run), lock_folder(self._folder):
            if not run.restart:  # report changed options first, before `save` would complain about them
                States(self._folder, recipe, {}).check()
            network = build_untrained(self).eval()
            self._check_downstream(network, recipe, data)
            if run.restart or not states_in(self._folder):  # on resuming, another precision would be refused
                self._warn_of_emulation(network)
            try:
                history = train(task, self._device, self._run)
            except OSError as error:
                reason = error.strerror or format_error(error)
                raise RunAborted(f"{self._folder}: {reason}; fix that and start again to resume the training") from error
            net = self._load(self._folder / BEST, recipe, history)
        return FittedNetwork(net.to(self._device), data, self._training_record(data, recipe, history))

    def _check_downstream(self, network: Network, recipe: dict[str, Any], data: Dataset) -> None:
        """Let downstream stages refuse now what they would refuse after the training. Raises UsageError."""
        upcoming = UpcomingTraining(network, _hash(recipe), data)
        for each in self._run.downstream(self):
            if isinstance(each, ChecksTraining):
                each.expect(upcoming)

    def _warn_of_emulation(self, network: Network) -> None:
        """Warn if the device is a CPU that has no instructions for the precision and emulates it."""
        if self._device.type != "cpu" or self.precision == "float32":
            return
        times = slowness(network, getattr(torch, self.precision))
        if times > EMULATED:
            self._run.warn(
                f"fit.precision: {self.precision} takes about {times:.0f} times as long as float32 on this CPU; "
                "set `precision: float32`, which gives equally good weights"
            )

    def _load(self, path: Path, recipe: dict[str, Any], history: list[dict[str, float]]) -> Network:
        """The best weights, if the file is from this training and the validation that selected it. Raises UsageError."""
        if not path.exists():
            raise UsageError(f"{path}: the best weights are missing; `bwpipe train --restart` starts over")
        net, found = load(path)
        training = {"recipe": recipe, "history": history[: best(history, self.goal)]}
        wanted = found.model_copy(update={"training": training})
        if found != Checkpoint.model_validate_json(wanted.model_dump_json()):
            raise UsageError(
                f"{path} does not hold the best weights of this training; restore the original file, "
                "or start over with `bwpipe train --restart`"
            )
        return net

    def _recipe(self, data: Dataset) -> dict[str, Any]:
        """The options, resolved, and the images."""
        network = network_class(self)
        return {
            **self.recipe(),
            "model_options": network.Options.model_validate(network_options(self)).model_dump(mode="json"),
            "losses": {name: options.model_dump(mode="json") for name, options in check(self.losses, network).items()},
            "start": self._start,
            "pictures": [data.digest, blake2b(data.weights.tobytes(), digest_size=8).hexdigest()],
        }

    def _training_record(self, data: Dataset, recipe: dict[str, Any], history: list[dict[str, float]]) -> dict[str, Any]:
        """How the network was made."""
        excluded = {"model", "model_options", "device", "devices", "threads", "keep", "runs", "patience"}
        options = self.model_dump(mode="json", exclude=excluded, exclude_defaults=True)
        basics = self.model_dump(mode="json", include={"losses", "optimiser", "rate", "batch", "epochs", "seed", "precision"})
        best_epoch = best(history, self.goal)
        return {
            "recipe": _hash(recipe),
            "pictures": len(data.grey),
            "trained_on": len(data.training),
            "size": data.size,
            "options": basics | options,
            "best_epoch": best_epoch,
            "steps": history[best_epoch - 1]["step"],
            "hardware": describe(self._device, self.threads) + (f" x {self.devices}" if self.devices > 1 else ""),
            "history": history,
        }


def _hash(recipe: dict[str, Any]) -> str:
    return blake2b(json.dumps(recipe, sort_keys=True).encode(), digest_size=16).hexdigest()


_lock = Lock()


@contextmanager
def _exclusive(run: RunContext) -> Iterator[None]:
    """Run one training at a time in this process: torch's random state and number of threads are global."""
    while not _lock.acquire(timeout=0.5):
        run.raise_if_stopped()
    try:
        yield
    finally:
        _lock.release()
